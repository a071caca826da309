//! Keeps one virtual host that Envoy cannot take from holding back everybody else's changes.
//!
//! One route table is one unit for Envoy: rejected, it leaves the old table in force, and with it every access that
//! the new one would have revoked. So virtual hosts that a rejection may be due to are replaced by 500s until the one
//! at fault is found (see [`Bisection`]); that one stays replaced until its content changes.

mod bisection;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use portcullis_attachment::memo::Memo;
use portcullis_xds::{Resource, constraint, snapshot::ROUTES};
use serde::{Deserialize, Serialize};

use self::bisection::{Bisection, Contents};

/// The virtual hosts that are replaced, of every route table of every Gateway.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    /// By Gateway and table.
    tables: BTreeMap<(String, String), Table>,
}

#[derive(Debug, Default)]
struct Table {
    bisection: Bisection,
    /// The virtual hosts' names in the order of the table as published last, for the positions that Envoy names.
    order: Vec<String>,
    /// Why each convicted virtual host was rejected.
    reasons: BTreeMap<String, String>,
    last_reason: String,
    /// Hashes of virtual hosts as published last: few of them change at once.
    hashes: Memo<Bytes, Arc<str>>,
}

/// What is worth keeping beyond the end of a run: by Gateway, route table and virtual host, whom a proxy does not take.
///
/// Without it, the first table of the next run would be rejected, and the search for the culprit would have to begin
/// among all virtual hosts, while proxies serve them.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Memory(BTreeMap<String, BTreeMap<String, BTreeMap<String, Conviction>>>);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Conviction {
    /// Hash of the content that is not taken; another content is tried.
    content: String,
    reason: String,
}

/// A virtual host that answers 500 because a proxy rejected it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replaced<'a> {
    /// The route table.
    pub(crate) table: &'a str,
    /// The virtual host.
    pub(crate) virtual_host: &'a str,
    /// Why, as reduced by [`constraint::reduce`].
    pub(crate) reason: &'a str,
}

impl Quarantine {
    /// Continues with what [`Self::memory`] gave in an earlier run; what is no such text counts as nothing.
    pub(crate) fn recall(memory: &str) -> Self {
        let Memory(gateways) = serde_json::from_str(memory).unwrap_or_default();
        let mut quarantine = Self::default();
        for (gateway, tables) in gateways {
            for (name, convictions) in tables {
                let mut table = Table::default();
                let mut convicted = Contents::new();
                for (virtual_host, Conviction { content, reason }) in convictions {
                    convicted.insert(virtual_host.clone(), content);
                    table.reasons.insert(virtual_host, reason);
                }
                table.bisection = Bisection::convicting(convicted);
                quarantine.tables.insert((gateway.clone(), name), table);
            }
        }
        quarantine
    }

    /// Returns who is convicted, as text for [`Self::recall`]. It holds hashes and names, no content.
    pub(crate) fn memory(&self) -> String {
        let mut memory = Memory::default();
        for ((gateway, name), table) in &self.tables {
            for (virtual_host, content) in table.bisection.convicted() {
                let reason = table.reason(virtual_host).to_owned();
                let tables = memory.0.entry(gateway.clone()).or_default();
                let conviction = Conviction {
                    content: content.clone(),
                    reason,
                };
                tables
                    .entry(name.clone())
                    .or_default()
                    .insert(virtual_host.clone(), conviction);
            }
        }
        serde_json::to_string(&memory).unwrap_or_default()
    }

    /// Returns a Gateway's resources as they are to be published now, made from the whole of what was translated.
    ///
    /// A Gateway without resources is forgotten.
    pub(crate) fn apply(&mut self, gateway: &str, resources: Vec<Resource>) -> Vec<Resource> {
        let of_type: BTreeSet<_> = resources
            .iter()
            .filter(|resource| resource.type_url() == ROUTES)
            .map(Resource::name)
            .collect();
        self.tables
            .retain(|(owner, table), _| owner != gateway || of_type.contains(table.as_str()));
        let apply = |resource: Resource| {
            if resource.type_url() != ROUTES {
                return resource;
            }
            let key = (gateway.to_owned(), resource.name().to_owned());
            self.tables.entry(key).or_default().apply(&resource)
        };
        resources.into_iter().map(apply).collect()
    }

    /// Learns what the Gateway's proxies hold: `held` says whether all that are connected hold a version of a table.
    ///
    /// To be called when one acknowledged a table, connected or went, and after a publication. Returns whether there
    /// is something else to publish.
    pub(crate) fn settle(&mut self, gateway: &str, held: impl Fn(&str, &str) -> bool) -> bool {
        let tables = self.tables.iter_mut().filter(|((owner, _), _)| owner == gateway);
        tables.fold(false, |again, ((_, name), table)| {
            table.settle(|version| held(name, version)) | again
        })
    }

    /// Learns that a proxy rejected a version of a table. Returns whether there is something else to publish.
    pub(crate) fn rejected(&mut self, gateway: &str, table: &str, version: &str, reason: &str) -> bool {
        let table = self.tables.get_mut(&(gateway.to_owned(), table.to_owned()));
        table.is_some_and(|table| table.rejected(version, reason))
    }

    /// Returns the virtual hosts of a Gateway that answer 500 until their content changes.
    pub(crate) fn replaced<'a>(&'a self, gateway: &'a str) -> impl Iterator<Item = Replaced<'a>> {
        let tables = self.tables.iter().filter(move |((owner, _), _)| owner == gateway);
        tables.flat_map(|((_, name), table)| {
            table.bisection.convicted().keys().map(|virtual_host| Replaced {
                table: name,
                virtual_host,
                reason: table
                    .reasons
                    .get(virtual_host)
                    .map_or(constraint::WITHHELD, String::as_str),
            })
        })
    }
}

impl Table {
    fn reason(&self, virtual_host: &str) -> &str {
        self.reasons
            .get(virtual_host)
            .map_or(constraint::WITHHELD, String::as_str)
    }

    fn apply(&mut self, resource: &Resource) -> Resource {
        let virtual_hosts = portcullis_gateway::virtual_hosts(resource.body());
        self.order = virtual_hosts.iter().map(|(name, _)| name.clone()).collect();
        let mut contents = Contents::new();
        for (name, bytes) in virtual_hosts {
            let hash = |bytes: &Bytes| Arc::clone(Resource::new(ROUTES, "", bytes.clone()).version());
            let hash = self.hashes.get_or_make(bytes.clone(), |_| true, || hash(&bytes));
            // Envoy takes two virtual hosts of one name; they stand and fall together then.
            contents.entry(name).or_default().push_str(&hash);
        }
        self.hashes.turn();
        let planned = loop {
            let replaced = self.bisection.plan(&contents);
            let planned = if replaced.is_empty() {
                resource.clone()
            } else {
                Resource::new(
                    ROUTES,
                    resource.name(),
                    portcullis_gateway::quarantine(resource.body(), &replaced),
                )
            };
            let version = planned.version();
            if self.bisection.published(version, &replaced) || !self.bisection.rejected(version, None) {
                break planned;
            }
        };
        self.note_reasons();
        planned
    }

    fn settle(&mut self, held: impl Fn(&str) -> bool) -> bool {
        let again = self.bisection.settle(held);
        self.note_reasons();
        again
    }

    fn rejected(&mut self, version: &str, reason: &str) -> bool {
        reason.clone_into(&mut self.last_reason);
        let hint = constraint::virtual_host(reason).and_then(|position| self.order.get(position));
        let again = self.bisection.rejected(version, hint.map(String::as_str));
        self.note_reasons();
        again
    }

    fn note_reasons(&mut self) {
        let convicted = self.bisection.convicted();
        self.reasons.retain(|name, _| convicted.contains_key(name));
        for name in convicted.keys() {
            self.reasons
                .entry(name.clone())
                .or_insert_with(|| self.last_reason.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One field of a protobuf message, length-delimited.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        assert!(length < 128);
        [&[number << 3 | 2, length], content].concat()
    }

    fn table(virtual_hosts: &[(&str, &str)]) -> Vec<Resource> {
        let virtual_hosts = virtual_hosts.iter().flat_map(|(name, prefix)| {
            let route = field(1, &field(1, prefix.as_bytes()));
            field(
                2,
                &[field(1, name.as_bytes()), field(2, name.as_bytes()), field(3, &route)].concat(),
            )
        });
        let body: Vec<u8> = field(1, b"table").into_iter().chain(virtual_hosts).collect();
        vec![Resource::new(ROUTES, "table", body)]
    }

    #[test]
    fn a_rejected_virtual_host_is_replaced_and_named() {
        let reason = "RouteConfiguration.virtual_hosts[1]: VirtualHost.routes[0]: Route.match: value is required";
        let mut quarantine = Quarantine::default();
        let translated = table(&[("a", "/a"), ("b", "/b"), ("c", "/c")]);
        let first = quarantine.apply("edge/public", translated.clone());
        assert_eq!(first, translated);

        assert!(quarantine.rejected("edge/public", "table", first[0].version(), reason));
        let second = quarantine.apply("edge/public", translated.clone());
        let contents = |resources: &[Resource]| portcullis_gateway::virtual_hosts(resources[0].body());
        let (whole, without) = (contents(&translated), contents(&second));
        assert_eq!(whole[0], without[0]);
        assert_ne!(whole[1], without[1]);
        assert_eq!(whole[2], without[2]);

        assert!(!quarantine.settle("edge/public", |_, version| version == &**second[0].version()));
        let replaced: Vec<_> = quarantine.replaced("edge/public").collect();
        assert_eq!(
            replaced,
            [Replaced {
                table: "table",
                virtual_host: "b",
                reason
            }]
        );
        assert_eq!(quarantine.replaced("edge/other").count(), 0);

        // The next run begins with what this one knew, and so with the same table.
        let mut next = Quarantine::recall(&quarantine.memory());
        assert_eq!(next.apply("edge/public", translated), second);
        assert_eq!(next.replaced("edge/public").collect::<Vec<_>>(), replaced);
        assert_eq!(next.memory(), quarantine.memory());
        assert_eq!(Quarantine::recall("no memory").memory(), "{}");

        let cured = table(&[("a", "/a"), ("b", "/cured"), ("c", "/c")]);
        assert_eq!(quarantine.apply("edge/public", cured.clone()), cured);
        assert_eq!(quarantine.replaced("edge/public").count(), 0);
    }

    #[test]
    fn only_route_tables_are_looked_at_and_gone_ones_forgotten() {
        let mut quarantine = Quarantine::default();
        let resources = vec![
            Resource::new(portcullis_xds::snapshot::CLUSTER, "table", "c"),
            table(&[("a", "/")])[0].clone(),
        ];
        assert_eq!(quarantine.apply("edge/public", resources.clone()), resources);
        assert_eq!(quarantine.tables.len(), 1);
        assert!(!quarantine.rejected("edge/public", "other", "v", ""));
        assert_eq!(quarantine.apply("edge/public", Vec::new()), []);
        assert_eq!(quarantine.tables.len(), 0);
    }
}
