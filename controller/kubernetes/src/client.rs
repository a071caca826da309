//! How an API server is spoken to.

use http::{
    Request,
    header::{ACCEPT, HeaderValue},
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tower::util::MapRequestLayer;

use crate::{Error, brief};

/// How metadata alone is asked for.
const METADATA: &[u8] = b"application/json;as=PartialObjectMetadata";

/// Finds the cluster as `kubectl` does: `$KUBECONFIG`, `~/.kube/config`, or the service account of this pod.
///
/// # Errors
///
/// There is none of them, or what they say makes no client.
pub async fn connect() -> Result<Client, Error> {
    let config = Config::infer().await.map_err(|error| Error::Config(brief(&error)))?;
    client(config).map_err(|error| Error::Config(brief(&error)))
}

fn client(config: Config) -> Result<Client, kube::Error> {
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(&MapRequestLayer::new(refusals_in_json)).build())
}

/// An API server that may answer in metadata only answers a refusal over several lines, and a watch is read line by line: what
/// it refused could not be told.
fn refusals_in_json(mut request: Request<Body>) -> Request<Body> {
    if let Some(accept) = request.headers_mut().get_mut(ACCEPT)
        && accept.as_bytes().starts_with(METADATA)
        && let Ok(both) = HeaderValue::from_bytes(&[accept.as_bytes(), b",application/json"].concat())
    {
        *accept = both;
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_comes_first_and_refusals_are_read() {
        let asked = |accept: &str| {
            let request = Request::builder().header(ACCEPT, accept).body(Body::empty()).unwrap();
            let asked = refusals_in_json(request);
            asked.headers()[ACCEPT].to_str().unwrap().to_owned()
        };
        let list = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(asked(list), format!("{list},application/json"));
        assert_eq!(asked("application/json"), "application/json");
    }
}
