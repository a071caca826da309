//! What attaching one snapshot came to, for the next one.

use std::{hash::Hash, sync::Arc};

use portcullis_api::{access_policy::AccessPolicy, security_policy::SecurityPolicy};

use crate::{
    binding::Bindings,
    document::Build,
    effective::{self, Attachment, Options},
    memo::{ByAddress, Memo, same},
    object::ObjectRef,
    recipe::{Ingredients, Made},
    reference::{Noted, References},
    snapshot::{BrokenPolicy, Snapshot},
};

/// What attaching the last snapshot came to: a policy is built again only if it, or something that it refers to, changed.
///
/// Bounded by two snapshots; a new one gives the same results, later. Not printable: it holds secrets.
#[derive(Default)]
pub struct Memory {
    salt_key: Option<[u8; 32]>,
    builds: Memo<ObjectRef, Arc<Built<Origin>>>,
    /// By child and parent.
    merges: Memo<(ObjectRef, ObjectRef), Arc<Built<Merging>>>,
    pub(crate) policies: Memo<Ingredients, Made>,
}

/// A policy as it was written.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Security(Arc<SecurityPolicy>),
    Access(Arc<AccessPolicy>),
    Broken(Arc<BrokenPolicy>),
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Security(one), Self::Security(other)) => same(one, other),
            (Self::Access(one), Self::Access(other)) => same(one, other),
            (Self::Broken(one), Self::Broken(other)) => same(one, other),
            _ => false,
        }
    }
}

/// A policy and the one above it that it is merged with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Merging {
    pub(crate) child: Origin,
    pub(crate) parent: Origin,
    /// Whether the parent is what its author meant.
    pub(crate) whole: bool,
}

/// What was built, with all that it was built from.
struct Built<T> {
    from: T,
    noted: Vec<Noted>,
    build: Arc<Build>,
}

impl Memory {
    /// Does what [`effective::attach`] does.
    pub fn attach(&mut self, snapshot: &Snapshot, bindings: &Bindings, options: &Options) -> Attachment {
        if self.salt_key != Some(options.salt_key) {
            *self = Self {
                salt_key: Some(options.salt_key),
                ..Self::default()
            };
        }
        let attachment = effective::attach_by(self, snapshot, bindings, options);
        self.builds.turn();
        self.merges.turn();
        self.policies.turn();
        attachment
    }

    /// What a policy comes to by itself.
    pub(crate) fn build(
        &mut self,
        object: &ObjectRef,
        origin: &Origin,
        references: &References<'_>,
        make: impl FnOnce() -> Build,
    ) -> Arc<Build> {
        built(&mut self.builds, object.clone(), origin, references, make)
    }

    /// What comes of merging two policies.
    pub(crate) fn merge(
        &mut self,
        objects: (ObjectRef, ObjectRef),
        merging: &Merging,
        references: &References<'_>,
        make: impl FnOnce() -> Build,
    ) -> Arc<Build> {
        built(&mut self.merges, objects, merging, references, make)
    }
}

fn built<K: Eq + Hash, T: Clone + PartialEq>(
    memo: &mut Memo<K, Arc<Built<T>>>,
    key: K,
    from: &T,
    references: &References<'_>,
    make: impl FnOnce() -> Build,
) -> Arc<Build> {
    let holds = |known: &Arc<Built<T>>| known.from == *from && references.agree(&known.noted);
    let built = memo.get_or_make(key, holds, || {
        let (build, noted) = references.noting(make);
        Arc::new(Built {
            from: from.clone(),
            noted,
            build: Arc::new(build),
        })
    });
    Arc::clone(&built.build)
}

/// A build as a part of [`Ingredients`].
pub(crate) type Ingredient = ByAddress<Build>;
