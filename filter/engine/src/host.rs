//! What the engine may ask of the proxy while it decides.

/// The answers that the proxy gives at once. Everything is bytes: nothing that a client sent is known to be UTF-8.
pub trait Host {
    /// The client's address as the proxy determined it, `ip:port` or a bare address.
    ///
    /// Asked only when a policy needs it; each call costs a host call in wasm.
    ///
    /// # Errors
    /// [`Fault`] when the proxy could not answer; the request is then refused with 503.
    fn client_address(&self) -> Result<Vec<u8>, Fault>;

    /// The port on which the request reached the proxy; `None` where that cannot be told. Asked only when a policy needs it.
    ///
    /// # Errors
    /// [`Fault`] when the proxy could not answer; the request is then refused with 503.
    fn port(&self) -> Result<Option<u16>, Fault> {
        Ok(None)
    }

    /// The time, in nanoseconds since 1970. Asked only when a policy needs it.
    ///
    /// # Errors
    /// [`Fault`] when the proxy could not answer; the request is then refused with 503.
    fn now(&self) -> Result<u64, Fault>;

    /// A number that nobody can predict. Asked only when a policy needs it.
    ///
    /// # Errors
    /// [`Fault`] when the proxy could not answer; the request is then refused with 503.
    fn random(&self) -> Result<u64, Fault>;
}

/// The proxy failed the engine; such a request is always refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;
