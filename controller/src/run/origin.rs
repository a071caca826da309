//! Where the manifests of a run come from: a folder or a cluster.

use std::sync::Arc;

use portcullis_gateway::KeySets;
use portcullis_kubernetes::{Cluster, Note};

use super::{
    folder::{Folder, Refreshed},
    objects::Objects,
    watch::Watch,
};
use crate::print::Tone;

/// The manifests, as they are now.
pub(crate) enum Origin {
    /// Files.
    Folder(Box<Folder>),
    /// The objects of a cluster.
    Cluster(Box<Objects>),
}

impl Origin {
    /// The file of certificates that the proxies' system trusts.
    pub(crate) fn system_trust(&self) -> &str {
        match self {
            Self::Folder(folder) => folder.system_trust(),
            Self::Cluster(objects) => objects.system_trust(),
        }
    }

    /// Sends these key sets along from the next evaluation on.
    pub(crate) fn ship(&mut self, key_sets: Arc<KeySets>) {
        match self {
            Self::Folder(folder) => folder.ship(key_sets),
            Self::Cluster(objects) => objects.ship(key_sets),
        }
    }

    /// Reads them and evaluates what is new. Blocks.
    pub(crate) fn refresh(&mut self) -> Refreshed {
        match self {
            Self::Folder(folder) => folder.refresh(),
            Self::Cluster(objects) => objects.refresh(),
        }
    }
}

/// What tells that manifests changed.
pub(crate) enum Changes {
    /// Events of the file system.
    Files(Box<Watch>),
    /// Watches of an API server.
    Cluster(Box<Cluster>),
}

/// What happened to the manifests.
pub(crate) enum Change {
    /// They are others.
    Manifests,
    /// Something is to be told of where they come from.
    Note(Tone, String),
}

impl Changes {
    /// Waits for the next change; may be given up at any time.
    pub(crate) async fn next(&mut self) -> Change {
        match self {
            Self::Files(watch) => {
                watch.changed().await;
                Change::Manifests
            }
            Self::Cluster(cluster) => next_of(cluster).await,
        }
    }
}

/// What a cluster has to tell next.
pub(crate) async fn next_of(cluster: &mut Cluster) -> Change {
    match cluster.next().await {
        None => Change::Manifests,
        Some(Note::Worse(text)) => Change::Note(Tone::Warning, text),
        Some(Note::Better(text)) => Change::Note(Tone::Faint, text),
    }
}
