//! Ways to break this filter on demand, for the fail-closed tests. Compiled only with the feature `faults`.
//!
//! | request header | what happens |
//! | --- | --- |
//! | `x-fault: trap` | the VM traps while it decides this request |
//! | `x-fault: oom` | the VM runs out of memory while it decides this request |
//! | `x-fault: break` | this request is decided; the next one of this VM traps, whereupon Envoy loads a new VM |
//! | `x-fault: vanish` | this request is decided; this VM lets every later request pass undecided, as if the filter were gone |
//!
//! A module in which the text [`CONFIGURE`] reads `on ` instead of `off` also fails `on_configure` in every worker's VM,
//! and only there: a test makes one by replacing these bytes in the .wasm file, where they stand once. Envoy configures a
//! first VM to try the module, then one on its main thread, both for each of the two instances of the filter, then one per
//! worker; the first four calls of the process succeed.

use std::cell::Cell;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Break,
    Vanish,
}

thread_local! {
    static LATER: Cell<Fault> = const { Cell::new(Fault::None) };
}

/// Applies what an earlier request of this VM asked for; true if this request must pass undecided.
pub(crate) fn at_start() -> bool {
    match LATER.get() {
        Fault::None => false,
        Fault::Break => std::process::abort(),
        Fault::Vanish => true,
    }
}

/// Does what this request asks for.
pub(crate) fn on_request(headers: &[(Vec<u8>, Vec<u8>)]) {
    for (name, value) in headers {
        if name != b"x-fault" {
            continue;
        }
        match value.as_slice() {
            b"trap" => std::process::abort(),
            b"oom" => exhaust_memory(),
            b"break" => LATER.set(Fault::Break),
            b"vanish" => LATER.set(Fault::Vanish),
            _ => {}
        }
    }
}

fn exhaust_memory() {
    let mut chunks = Vec::new();
    loop {
        chunks.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

/// The switch for [`configure_fails`].
static CONFIGURE: &[u8; 31] = b"portcullis-faults-configure=off";

/// Whether `on_configure` must fail: if the module says so, from the fifth call of the process on.
pub(crate) fn configure_fails() -> bool {
    const CALLS: &str = "portcullis.faults.configured";
    if std::hint::black_box(CONFIGURE).ends_with(b"off") {
        return false;
    }
    let calls = crate::host::shared_data(CALLS)
        .ok()
        .flatten()
        .unwrap_or_default()
        .value
        .len();
    let _ = crate::host::set_shared_data(CALLS, &vec![0; calls + 1], 0);
    calls >= 4
}
