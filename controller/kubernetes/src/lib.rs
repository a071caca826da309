//! An API server as a source of objects, and as the place where statuses are written.

mod barrier;
mod client;
mod cluster;
mod collector;
mod credentials;
mod discovery;
mod envoy_gateway;
mod lease;
mod listing;
mod object;
mod pruned;
mod references;
mod salt;
mod status;
mod store;
mod watching;

pub use kube::Client;

pub use self::{
    client::connect,
    cluster::{Cluster, Note, Options, Read},
    credentials::{Keeper, secret_of},
    envoy_gateway::{ENVOY_GATEWAY, EnvoyGateway, Sight},
    lease::Election,
    listing::statuses,
    salt::salt_key,
    status::{Outcome, Writer},
};

/// Why something could not be done with an API server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a kubeconfig nor a service account says where the API server is.
    #[error("no cluster is configured: {0}")]
    Config(String),
    /// The API server did not answer as it should.
    #[error("{0}")]
    Api(String),
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Api(brief(&error))
    }
}

/// An error with its causes on one line; never the body of an answer.
fn brief(error: &(dyn std::error::Error + 'static)) -> String {
    match find(error) {
        Some(kube::Error::Api(status)) => return format!("{} ({})", status.message.replace('\n', " "), status.code),
        // serde's message may quote the value.
        Some(_) => return "an answer that cannot be read".to_owned(),
        None => {}
    }
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        // Most print their cause themselves.
        let own = error.to_string();
        if !text.contains(&own) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&own);
        }
        next = error.source();
    }
    text.replace('\n', " ")
}

/// What the API server said, if it is that, readable or not.
fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a kube::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found @ (kube::Error::Api(_) | kube::Error::SerdeError(_))) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The kinds that restrict.
pub(crate) const POLICIES: [&str; 4] = [
    "AccessPolicy",
    "BackendTLSPolicy",
    "ClientTrafficPolicy",
    "SecurityPolicy",
];

/// Whether the status of a kind's objects is written.
pub(crate) fn is_written(kind: &str) -> bool {
    matches!(
        kind,
        "AccessPolicy"
            | "BackendTLSPolicy"
            | "ClientTrafficPolicy"
            | "GRPCRoute"
            | "Gateway"
            | "GatewayClass"
            | "HTTPRoute"
            | "ListenerSet"
            | "SecurityPolicy"
            | "TCPRoute"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_cannot_be_read_is_not_quoted() {
        let error = serde_json::from_str::<u8>("\"hunter2\"").unwrap_err();
        assert!(error.to_string().contains("hunter2"));
        let told = brief(&kube::Error::SerdeError(error));
        assert_eq!(told, "an answer that cannot be read");
    }
}
