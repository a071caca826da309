//! The objects of a cluster, and what follows from them.

use std::sync::Arc;

use portcullis_gateway::KeySets;
use portcullis_kubernetes::Read;

use super::folder::Refreshed;
use crate::load::{self, Memory, Settings};

/// The objects and what follows from them.
pub(crate) struct Objects {
    read: Read,
    settings: Arc<Settings>,
    memory: Memory,
    key_sets: Arc<KeySets>,
}

impl Objects {
    pub(crate) fn new(read: Read, settings: Arc<Settings>) -> Self {
        Self {
            read,
            settings,
            memory: Memory::default(),
            key_sets: Arc::default(),
        }
    }

    pub(crate) fn system_trust(&self) -> &str {
        &self.settings.system_trust
    }

    pub(crate) fn ship(&mut self, key_sets: Arc<KeySets>) {
        self.key_sets = key_sets;
    }

    /// Evaluates the objects as they are now. Blocks.
    pub(crate) fn refresh(&mut self) -> Refreshed {
        let loaded = self.read.load();
        Refreshed {
            evaluation: Some(load::translate(
                loaded,
                &self.settings,
                &self.key_sets,
                &mut self.memory,
            )),
            notes: Vec::new(),
            refused: Vec::new(),
        }
    }
}
