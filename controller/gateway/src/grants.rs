//! Permission for references that cross a namespace (Gateway API, `ReferenceGrant`).

use portcullis_attachment::{object, snapshot::Snapshot};

/// One end of a reference.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'a> {
    pub(crate) group: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
}

/// Whether `from` may refer to the object `name` at `to`: always within a namespace, otherwise by grant.
pub(crate) fn permits(snapshot: &Snapshot, from: End<'_>, to: End<'_>, name: &str) -> bool {
    from.namespace == to.namespace
        || snapshot
            .reference_grants
            .iter()
            .filter(|grant| object::namespace(&grant.metadata) == to.namespace)
            .any(|grant| {
                let from_listed = grant.spec.from.iter().any(|entry| {
                    entry.group == from.group && entry.kind == from.kind && entry.namespace == from.namespace
                });
                let to_listed = grant.spec.to.iter().any(|entry| {
                    entry.group == to.group
                        && entry.kind == to.kind
                        && entry.name.as_deref().is_none_or(|only| only == name)
                });
                from_listed && to_listed
            })
}
