//! Route tables: which policy and which rule a request gets, by host and path. Every route carries a policy.

mod guard;
mod host;

use std::{collections::BTreeMap, sync::Arc};

use portcullis_attachment::{effective::EffectivePolicy, hostname, memo::Memo};
use prost::Message;

use self::host::{Host, VirtualHost};
pub(crate) use self::{
    guard::CLAIMS,
    host::{Policies, Served, everything},
};
use crate::{Resource, key_servers::KeySets, resource::ROUTE_CONFIGURATION, wire, xds::no};

/// One route table in the making.
pub(crate) struct Table {
    name: String,
    none: Arc<EffectivePolicy>,
    hosts: BTreeMap<String, Host>,
}

/// The virtual hosts of the last translation, by Gateway, route table and host.
pub(crate) type VirtualHosts = Memo<(String, String, String), Arc<VirtualHost>>;

impl Table {
    /// Starts a table; `none` is the policy of what no route serves.
    pub(crate) fn new(name: String, none: Arc<EffectivePolicy>) -> Self {
        let mut table = Self {
            name,
            none,
            hosts: BTreeMap::new(),
        };
        table.reserve(hostname::ANY, 404);
        table
    }

    /// Gives a host a virtual host of its own that answers `status` where no route matches.
    pub(crate) fn reserve(&mut self, host: &str, status: u32) {
        self.host(host).fallback = status;
    }

    /// Adds a rule under a host.
    pub(crate) fn add(&mut self, host: &str, served: Served) {
        self.host(host).served.push(served);
    }

    fn host(&mut self, host: &str) -> &mut Host {
        let none = &self.none;
        self.hosts
            .entry(host.to_owned())
            .or_insert_with(|| Host::new(404, Arc::clone(none)))
    }

    /// Finishes the table of a Gateway; a virtual host that is made from what it was made from is not made again.
    pub(crate) fn finish(
        self,
        gateway: &str,
        fetched: &KeySets,
        policies: &mut Policies,
        known: &mut VirtualHosts,
    ) -> Resource {
        let mut virtual_hosts = Vec::with_capacity(self.hosts.len());
        for (host, mut content) in self.hosts {
            content.served.sort_by_key(|served| (served.age, served.index));
            content.ship(fetched);
            let key = (gateway.to_owned(), self.name.clone(), host.clone());
            let built = known.get_or_make(
                key,
                |built| built.is_of(&content),
                || Arc::new(content.build(&host, policies)),
            );
            policies.uncopied.extend(built.uncopied(&content));
            virtual_hosts.push(built.encoded.clone());
        }
        let table = wire::RouteTable {
            name: self.name,
            virtual_hosts,
            // A backend that is not there is answered for by the route.
            validate_clusters: no(),
            // The port that a client writes tells no hosts apart; backends get it as it was written.
            ignore_port_in_host_matching: true,
        };
        Resource {
            type_url: ROUTE_CONFIGURATION,
            body: table.encode_to_vec().into(),
            name: table.name,
        }
    }
}
