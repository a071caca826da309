//! Every call to the proxy, and nothing else.
//!
//! The imports are declared here instead of taken from the SDK, because the SDK's wrappers panic on a status that they
//! do not expect and on bytes that are not UTF-8, and a panic ends the VM with every request in it. Here each call
//! returns a [`Result`], and whatever a client may have sent is bytes.
#![expect(
    unsafe_code,
    reason = "calls the imports of the proxy-wasm ABI 0.2.1 and takes over the buffers that they return"
)]

use crate::pairs::{self, Lines};
use crate::protobuf;
use portcullis_engine::host::{Signature, Signed};
use std::ptr::{null, null_mut};
use std::time::Duration;

/// The proxy refused a call, or answered what the ABI does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostError;

/// Which header map a call is about; the values are the ABI's.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Map {
    /// Request headers, pseudo headers included. Only in the request phase.
    RequestHeaders = 0,
    /// Request trailers.
    RequestTrailers = 1,
    /// Response headers.
    ResponseHeaders = 2,
    /// The headers of what another server answered to a call of this filter.
    CallResponseHeaders = 6,
}

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const REQUEST_STREAM: u32 = 0;
const CALL_RESPONSE_BODY: u32 = 4;
const PLUGIN_CONFIGURATION: u32 = 7;
const METRIC_COUNTER: u32 = 0;
const METRIC_GAUGE: u32 = 1;
/// Lets the proxy choose the gRPC status that fits the HTTP status.
const NO_GRPC_STATUS: i32 = -1;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_len: usize,
        value: *const u8,
        value_len: usize,
    ) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_len: usize,
        arguments: *const u8,
        arguments_len: usize,
        result: *mut *mut u8,
        result_len: *mut usize,
    ) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_len: usize, id: *mut u32) -> u32;
    fn proxy_get_buffer_bytes(buffer: u32, start: usize, max: usize, data: *mut *mut u8, len: *mut usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_get_header_map_pairs(map: u32, pairs: *mut *mut u8, len: *mut usize) -> u32;
    fn proxy_get_property(path: *const u8, path_len: usize, value: *mut *mut u8, value_len: *mut usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_len: usize,
        value: *mut *mut u8,
        value_len: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_len: usize) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_len: usize,
        value: *const u8,
        value_len: usize,
    ) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_len: usize,
        body: *const u8,
        body_len: usize,
        headers: *const u8,
        headers_len: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_set_property(path: *const u8, path_len: usize, value: *const u8, value_len: usize) -> u32;
    fn proxy_set_shared_data(key: *const u8, key_len: usize, value: *const u8, value_len: usize, cas: u32) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn random_get(buffer: *mut u8, buffer_len: usize) -> u16;
}

/// Reads a property; its path's parts are separated by NUL.
pub(crate) fn property(path: &[u8]) -> Result<Option<Vec<u8>>, HostError> {
    let mut returned = Returned::new();
    // SAFETY: both pointers lead to live locals, and the path is read only.
    let status =
        unsafe { proxy_get_property(path.as_ptr(), path.len(), &raw mut returned.data, &raw mut returned.len) };
    match status {
        OK => Ok(Some(returned.take())),
        NOT_FOUND => Ok(None),
        _ => Err(HostError),
    }
}

/// Writes filter state: `name` becomes `wasm.<name>`.
pub(crate) fn set_property(name: &str, value: &[u8]) -> Result<(), HostError> {
    // SAFETY: the proxy reads both slices during the call.
    done(unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Reads a whole header map in wire order, repeated lines separate.
pub(crate) fn headers(map: Map) -> Result<Lines, HostError> {
    let mut returned = Returned::new();
    // SAFETY: both pointers lead to live locals.
    done(unsafe { proxy_get_header_map_pairs(map as u32, &raw mut returned.data, &raw mut returned.len) })?;
    pairs::decode(&returned.take()).ok_or(HostError)
}

/// Adds one line.
pub(crate) fn add_header(map: Map, name: &[u8], value: &[u8]) -> Result<(), HostError> {
    // SAFETY: the proxy reads both slices during the call.
    done(unsafe { proxy_add_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Replaces every line of a name by one.
pub(crate) fn set_header(map: Map, name: &[u8], value: &[u8]) -> Result<(), HostError> {
    // SAFETY: the proxy reads both slices during the call.
    done(unsafe { proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Removes every line of a name; succeeds if there is none.
pub(crate) fn remove_header(map: Map, name: &[u8]) -> Result<(), HostError> {
    // SAFETY: the proxy reads the slice during the call.
    done(unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// Answers the request; the proxy does so after the callback has returned, so no other callback runs inside this call.
pub(crate) fn reply(status: u16, details: &str, headers: &[(Vec<u8>, Vec<u8>)], body: &[u8]) -> Result<(), HostError> {
    let headers = pairs::encode(headers).ok_or(HostError)?;
    // SAFETY: the proxy copies all four slices during the call.
    done(unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            NO_GRPC_STATUS,
        )
    })
}

/// Defines a counter and returns its id. The proxy makes a new id at each call, even for the same name.
pub(crate) fn define_counter(name: &str) -> Result<u32, HostError> {
    define(METRIC_COUNTER, name)
}

/// Defines a gauge and returns its id, as [`define_counter`] does.
pub(crate) fn define_gauge(name: &str) -> Result<u32, HostError> {
    define(METRIC_GAUGE, name)
}

fn define(kind: u32, name: &str) -> Result<u32, HostError> {
    let mut id = 0;
    // SAFETY: the id leads to a live local, and the name is read only.
    done(unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut id) })?;
    Ok(id)
}

/// Sets a gauge.
pub(crate) fn record(id: u32, value: u64) -> Result<(), HostError> {
    // SAFETY: no pointer is passed.
    done(unsafe { proxy_record_metric(id, value) })
}

/// Adds one to a counter.
pub(crate) fn increment(id: u32) -> Result<(), HostError> {
    // SAFETY: no pointer is passed.
    done(unsafe { proxy_increment_metric(id, 1) })
}

/// The time in nanoseconds since 1970.
pub(crate) fn now() -> Result<u64, HostError> {
    let mut time = 0;
    // SAFETY: the pointer leads to a live local.
    done(unsafe { proxy_get_current_time_nanoseconds(&raw mut time) })?;
    Ok(time)
}

/// A number that nobody can predict.
pub(crate) fn random() -> Result<u64, HostError> {
    let mut bytes = [0; 8];
    // SAFETY: the buffer is a live local of the given length.
    match unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) } {
        0 => Ok(u64::from_le_bytes(bytes)),
        _ => Err(HostError),
    }
}

/// Has the route selected again when it is next needed.
pub(crate) fn clear_route_cache() -> Result<(), HostError> {
    call_foreign_function("clear_route_cache", &[]).map(drop)
}

/// Declares filter state as a string that lives as long as one request's filter chain.
///
/// Without it filter state is of type bytes, and no comparison with a string in an Envoy expression can hold.
pub(crate) fn declare_string_property(name: &str) -> Result<(), HostError> {
    // envoy.source.extensions.common.wasm.DeclarePropertyArguments: name = 1, type = 3 (1: String). The fields left out
    // are readonly = 2 (no), schema = 4 (none) and span = 5 (0: FilterChain).
    let len = u8::try_from(name.len())
        .ok()
        .filter(|len| *len < 0x80)
        .ok_or(HostError)?;
    let mut arguments = vec![0x0a, len];
    arguments.extend_from_slice(name.as_bytes());
    arguments.extend_from_slice(&[0x18, 0x01]);
    call_foreign_function("declare_property", &arguments).map(drop)
}

/// Has Envoy verify a signature by a key in DER.
pub(crate) fn verify_signature(signed: &Signed<'_>) -> Result<bool, HostError> {
    let hash = match signed.algorithm {
        Signature::Es256 | Signature::Rs256 => "sha256",
        Signature::Es384 | Signature::Rs384 => "sha384",
        Signature::Es512 | Signature::Rs512 => "sha512",
    };
    // envoy.source.extensions.common.wasm.VerifySignatureArguments: hash_function = 1, public_key = 2, signature = 3,
    // clear_text = 4.
    let arguments = protobuf::message(&[
        (1, hash.as_bytes()),
        (2, signed.key),
        (3, signed.signature),
        (4, signed.message),
    ]);
    let result = call_foreign_function("verify_signature", &arguments.ok_or(HostError)?)?;
    protobuf::verdict(&result).ok_or(HostError)
}

fn call_foreign_function(name: &str, arguments: &[u8]) -> Result<Vec<u8>, HostError> {
    let mut returned = Returned::new();
    // SAFETY: the pointers lead to live locals, and the slices are read only.
    let status = unsafe {
        proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            if arguments.is_empty() {
                null()
            } else {
                arguments.as_ptr()
            },
            arguments.len(),
            &raw mut returned.data,
            &raw mut returned.len,
        )
    };
    let result = returned.take();
    done(status).map(|()| result)
}

/// A value that every VM of the process shares, and the number by which the proxy knows this state of it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) value: Vec<u8>,
    pub(crate) cas: u32,
}

impl Default for Shared {
    /// What stands for a value that is not there: no value ever has this number, so that two VMs cannot both create it. With 0
    /// the second would replace what the first wrote.
    fn default() -> Self {
        Self {
            value: Vec::new(),
            cas: u32::MAX,
        }
    }
}

/// Reads a value shared by every VM of the process.
pub(crate) fn shared_data(key: &str) -> Result<Option<Shared>, HostError> {
    let mut returned = Returned::new();
    let mut cas = 0;
    // SAFETY: the pointers lead to live locals, and the key is read only.
    let status = unsafe {
        proxy_get_shared_data(
            key.as_ptr(),
            key.len(),
            &raw mut returned.data,
            &raw mut returned.len,
            &raw mut cas,
        )
    };
    match status {
        OK => Ok(Some(Shared {
            value: returned.take(),
            cas,
        })),
        NOT_FOUND => Ok(None),
        _ => Err(HostError),
    }
}

/// Writes a value shared by every VM of the process, if its state is still that of the number; 0 for whatever it is.
pub(crate) fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<(), HostError> {
    // SAFETY: the proxy copies both slices during the call.
    done(unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) })
}

/// Has the root context of this VM called so often, in milliseconds; 0 for never.
pub(crate) fn set_tick_period(milliseconds: u32) -> Result<(), HostError> {
    // SAFETY: no pointer.
    done(unsafe { proxy_set_tick_period_milliseconds(milliseconds) })
}

/// Makes the calls that follow calls of that context.
pub(crate) fn set_effective_context(context: u32) -> Result<(), HostError> {
    // SAFETY: no pointer.
    done(unsafe { proxy_set_effective_context(context) })
}

/// Lets the request of the effective context go on.
pub(crate) fn continue_request() -> Result<(), HostError> {
    // SAFETY: no pointer.
    done(unsafe { proxy_continue_stream(REQUEST_STREAM) })
}

/// Sends a GET request from the root context, and returns the number by which its answer comes.
///
/// Through the SDK, which hands answers out only for calls that it made itself.
pub(crate) fn get(cluster: &str, authority: &str, path: &str, timeout: Duration) -> Result<u32, HostError> {
    let headers = vec![
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", authority),
        (":path", path),
        ("accept", "application/json"),
    ];
    proxy_wasm::hostcalls::dispatch_http_call(cluster, headers, None, Vec::new(), timeout).map_err(|_| HostError)
}

/// Reads the body of an answer, of at most that many bytes.
pub(crate) fn answer_body(max: usize) -> Result<Vec<u8>, HostError> {
    buffer(CALL_RESPONSE_BODY, max)
}

/// Reads the configuration of the plugin, of at most that many bytes; only while it is configured.
pub(crate) fn configuration(max: usize) -> Result<Vec<u8>, HostError> {
    buffer(PLUGIN_CONFIGURATION, max)
}

fn buffer(buffer: u32, max: usize) -> Result<Vec<u8>, HostError> {
    let mut returned = Returned::new();
    // SAFETY: both pointers lead to live locals.
    let status = unsafe { proxy_get_buffer_bytes(buffer, 0, max, &raw mut returned.data, &raw mut returned.len) };
    let body = returned.take();
    done(status).map(|()| body)
}

fn done(status: u32) -> Result<(), HostError> {
    if status == OK { Ok(()) } else { Err(HostError) }
}

/// A buffer that the proxy allocated in this VM through `proxy_on_memory_allocate` and handed over.
struct Returned {
    data: *mut u8,
    len: usize,
}

impl Returned {
    const fn new() -> Self {
        Self {
            data: null_mut(),
            len: 0,
        }
    }

    fn take(self) -> Vec<u8> {
        if self.data.is_null() || self.len == 0 {
            return Vec::new();
        }
        // SAFETY: the SDK's `proxy_on_memory_allocate` made this buffer as a boxed slice of exactly `len` bytes, the
        // proxy has filled it, and nobody else holds it.
        unsafe { Vec::from_raw_parts(self.data, self.len, self.len) }
    }
}
