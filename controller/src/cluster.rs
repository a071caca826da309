//! The objects of a cluster for commands that answer once.

use std::time::Duration;

use portcullis_kubernetes::{Cluster, Note, Options, connect};
use portcullis_manifest::Loaded;

use crate::{cli::ManifestArgs, failure::Failure};

/// How long the objects are waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs something that speaks with an API server.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}"), ""))?
        .block_on(future)
}

/// What is said of an API server that cannot be spoken to.
pub(crate) fn failure(error: &portcullis_kubernetes::Error) -> Failure {
    Failure::new(error.to_string(), "see whether `kubectl get gateways -A` answers")
}

/// Reads all objects once, as `run --kubernetes` does.
///
/// # Errors
///
/// Not all of them could be listed.
pub(crate) fn load(args: &ManifestArgs) -> Result<Loaded, Failure> {
    block_on(async {
        let client = connect().await.map_err(|error| failure(&error))?;
        let options = Options {
            namespaces: args.namespaces.iter().cloned().collect(),
            services: None,
        };
        let mut cluster = Cluster::watch(&client, options);
        let mut trouble = "the API server does not list them".to_owned();
        let whole = async {
            while let Some(note) = cluster.next().await {
                if let Note::Worse(text) = note {
                    trouble = text;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, whole).await.is_err() {
            return Err(Failure::new(format!("not all objects could be read: {trouble}"), ""));
        }
        Ok(cluster.objects().load())
    })
}
