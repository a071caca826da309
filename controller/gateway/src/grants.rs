//! Permission for references that cross a namespace (Gateway API, `ReferenceGrant`).

use std::collections::HashSet;

use portcullis_attachment::{object, snapshot::Snapshot};

/// One end of a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct End<'a> {
    pub(crate) group: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
}

/// All grants, looked up in constant time: whoever writes many, or refers often, takes nobody else's time.
pub(crate) struct Grants<'a> {
    /// Which objects at one end objects at the other may refer to: one by name, or any.
    permitted: HashSet<(End<'a>, End<'a>, Option<&'a str>)>,
}

impl<'a> Grants<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        let mut permitted = HashSet::new();
        for grant in &snapshot.reference_grants {
            for from in &grant.spec.from {
                let from = End {
                    group: &from.group,
                    kind: &from.kind,
                    namespace: &from.namespace,
                };
                for to in &grant.spec.to {
                    let end = End {
                        group: &to.group,
                        kind: &to.kind,
                        namespace: object::namespace(&grant.metadata),
                    };
                    permitted.insert((from, end, to.name.as_deref()));
                }
            }
        }
        Self { permitted }
    }

    /// Whether `from` may refer to the object `name` at `to`: always within a namespace, otherwise by grant.
    pub(crate) fn permits(&self, from: End<'_>, to: End<'_>, name: &str) -> bool {
        from.namespace == to.namespace
            || self.permitted.contains(&(from, to, None))
            || self.permitted.contains(&(from, to, Some(name)))
    }
}
