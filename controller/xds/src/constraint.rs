//! Why a client rejected a resource, without a word of the resource.

/// Reduces a client's message to what cannot hold a value of the rejected resource.
#[must_use]
pub fn reduce(message: &str) -> String {
    let _ = message;
    "rejected".to_owned()
}
