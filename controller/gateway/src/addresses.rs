//! Where clients reach a Gateway: the addresses of the Services that its Envoys are behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use gateway_api::gateways::Gateway;
use k8s_openapi::api::core::v1::Service;
use portcullis_attachment::{
    object,
    snapshot::Snapshot,
    status::{Address, AddressType},
};

/// The label of a Service that names its Gateway (Gateway API, GEP-1762).
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// The label of a Service that names the namespace of its Gateway.
const GATEWAY_NAMESPACE: &str = "portcullis.dev/gateway-namespace";

/// How many addresses a status has room for (`GatewayStatus.addresses`).
const MOST: usize = 16;

/// Namespace and name of a Gateway.
type Name<'a> = (&'a str, &'a str);

/// The Services of all Gateways.
pub(crate) struct Addresses<'a> {
    /// With whether each stands in the controller's namespace.
    services: BTreeMap<Name<'a>, Vec<(&'a Service, bool)>>,
}

/// The addresses of one Gateway.
#[derive(Debug, Default)]
pub(crate) struct Assigned {
    /// All of them, sorted, and no more than a status takes.
    pub(crate) addresses: Vec<Address>,
    /// Why clients do not reach it there yet: reason and message of `Programmed`.
    pub(crate) missing: Option<(&'static str, String)>,
}

impl<'a> Addresses<'a> {
    /// Finds the Services that are labelled as a Gateway's. Only those of `controller`, the controller's own namespace, and
    /// of the Gateway's own count: nobody else may say where a Gateway is.
    pub(crate) fn new(snapshot: &'a Snapshot, controller: Option<&str>) -> Self {
        let mut services: BTreeMap<Name<'a>, Vec<(&'a Service, bool)>> = BTreeMap::new();
        for service in &snapshot.services {
            let labels = service.metadata.labels.as_ref();
            let label = |name: &str| labels.and_then(|labels| labels.get(name)).map(String::as_str);
            let (Some(namespace), Some(name)) = (label(GATEWAY_NAMESPACE), label(GATEWAY_NAME)) else {
                continue;
            };
            let own = object::namespace(&service.metadata);
            let trusted = controller == Some(own);
            if own == namespace || trusted {
                services.entry((namespace, name)).or_default().push((service, trusted));
            }
        }
        Self { services }
    }

    /// The addresses of a Gateway. Of `externalIPs` those count that stand in the controller's namespace: elsewhere whoever may make
    /// a Service could give a Gateway, and all names that are published for it, an address of his own. Where no Service is its own
    /// nothing is said, and nothing is missing: its Envoys may be anywhere.
    pub(crate) fn of(&self, gateway: &Gateway) -> Assigned {
        let metadata = &gateway.metadata;
        let name = (object::namespace(metadata), object::name(metadata));
        let Some(services) = self.services.get(&name) else {
            return Assigned::default();
        };
        let all: BTreeSet<Address> = services
            .iter()
            .flat_map(|(service, trusted)| of_service(service, *trusted))
            .collect();
        let mut addresses: Vec<Address> = all.into_iter().collect();
        let requested = gateway.spec.addresses.iter().flatten();
        let requested: Vec<&str> = requested.filter_map(|address| address.value.as_deref()).collect();
        let unusable = requested
            .iter()
            .find(|value| !addresses.iter().any(|address| address.value == **value));
        let missing = if addresses.is_empty() {
            let names = services.iter().map(|(service, _)| object::name(&service.metadata));
            let names: BTreeSet<&str> = names.collect();
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            Some((
                "AddressNotAssigned",
                format!("No address is assigned to Service {names} yet."),
            ))
        } else {
            unusable.map(|value| {
                (
                    "AddressNotUsable",
                    format!("No Service of the Gateway has the address {value:?}."),
                )
            })
        };
        if !requested.is_empty() {
            addresses.retain(|address| requested.contains(&address.value.as_str()));
        }
        addresses.truncate(MOST);
        Assigned { addresses, missing }
    }
}

/// The addresses at which a Service is reached from the widest around: from a load balancer's on, then those that are routed
/// to nodes, then those within the cluster. Of a `NodePort` that is the last, too: to know the addresses of nodes takes the
/// right to list them, which the controller does not have.
fn of_service(service: &Service, trusted: bool) -> Vec<Address> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let texts = |list: &Option<Vec<String>>| list.iter().flatten().filter_map(|text| ip(text)).collect::<Vec<_>>();
    let external = if trusted { texts(&spec.external_ips) } else { Vec::new() };
    match spec.type_.as_deref().unwrap_or("ClusterIP") {
        "LoadBalancer" => {
            let status = service.status.as_ref();
            let ingress = status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
            let balancers: Vec<Address> = ingress
                .into_iter()
                .flatten()
                .filter_map(|ingress| {
                    let named = || ingress.hostname.as_deref().filter(|name| !name.is_empty());
                    let address = ingress.ip.as_deref().and_then(ip);
                    address.or_else(|| Some(Address::new(AddressType::Hostname, named()?)))
                })
                .collect();
            // One within the cluster would be taken for the balancer's, by whoever publishes names for it.
            if balancers.is_empty() { external } else { balancers }
        }
        "ClusterIP" | "NodePort" if external.is_empty() => {
            let all = texts(&spec.cluster_ips);
            if all.is_empty() {
                spec.cluster_ip.as_deref().and_then(ip).into_iter().collect()
            } else {
                all
            }
        }
        "ClusterIP" | "NodePort" => external,
        _ => Vec::new(),
    }
}

/// An address, if it is one: a Service without one says `None`.
fn ip(text: &str) -> Option<Address> {
    let address = text.parse::<IpAddr>().ok()?;
    Some(Address::new(AddressType::IpAddress, &address.to_string()))
}
