//! Gateway API resources to Envoy's listeners, route tables, clusters, endpoints and secrets. Pure.

mod addresses;
mod backend_tls;
mod backends;
mod bootstrap;
mod certificate;
mod chain;
mod client_certificates;
mod client_policy;
mod cluster;
mod conditions;
mod detection;
mod gateway;
mod grants;
mod judged;
mod key_servers;
mod listener;
pub mod lookup;
mod quarantine;
mod report;
pub mod resource;
mod route;
mod routes;
mod sharing;
mod show;
mod table;
mod tcp;
mod wire;
mod xds;

use std::sync::Arc;

use gateway_api::gatewayclasses::GatewayClassParametersRef;
use portcullis_attachment::{
    binding::Bindings,
    effective::{Attachment, EffectivePolicy},
    finding::{Finding, Severity},
    listener_set::{ManagedGateway, gateways},
    object::{self, ObjectRef},
    snapshot::Snapshot,
    status::{ObjectStatus, Scope, ScopeStatus},
};
use prost::bytes::Bytes;

use crate::{
    addresses::Addresses,
    backend_tls::BackendTls,
    backends::Backends,
    client_policy::{ClientPolicies, Target},
    gateway::World,
    grants::Grants,
    report::{Fault, condition, ignored},
    routes::Routes,
    table::VirtualHosts,
};
pub use crate::{
    bootstrap::{Admin, BootstrapOptions, Xds, bootstrap, credentials},
    key_servers::{FetchedKeys, KeySets, Reached, Verified},
    quarantine::{quarantine, virtual_hosts},
    show::{show, snippet},
};

/// What the translation needs to know beside the objects.
#[derive(Clone, Debug)]
pub struct Options {
    /// The controller's name.
    pub controller_name: String,
    /// The namespace that the controller runs in, if it does so in a cluster: the Services of Envoys may be there.
    pub controller_namespace: Option<String>,
    /// The path of the filter's .wasm file, as Envoy sees it.
    pub wasm: String,
    /// What is added to listener ports below 1024; zero where Envoy may bind them.
    pub privileged_port_shift: u16,
    /// Endpoints for Services that have no EndpointSlices: `namespace/name` to `host:port`.
    pub backend_overrides: std::collections::BTreeMap<String, String>,
    /// The file of certificates that the proxies' own systems trust, as Envoy sees it.
    pub system_trust: String,
    /// The key sets that were fetched, to be sent along.
    pub key_sets: Arc<KeySets>,
    /// The file that Envoy writes one JSON object per request to, such as `/dev/stdout`; none writes nothing.
    pub access_log: Option<String>,
    /// The policy of everything that no route serves: `portcullis_attachment::effective::none`.
    pub none: Arc<EffectivePolicy>,
}

/// One xDS resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// The type URL, one of [`resource`].
    pub type_url: &'static str,
    /// The name.
    pub name: String,
    /// The encoded message; equal content is equal bytes.
    pub body: Bytes,
}

/// The configuration of one Gateway's proxies.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// `namespace/name` of the Gateway, the proxies' `node.cluster`.
    pub gateway: String,
    /// Every resource, by type and name.
    pub resources: Vec<Resource>,
    /// Listeners for people: name, address, protocol, as bound after any port shift.
    pub listeners: Vec<BoundPort>,
}

/// One port that Envoy binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundPort {
    /// The listeners' names in the Gateway.
    pub listeners: Vec<String>,
    /// The port of the Gateway API listener.
    pub port: u16,
    /// The port that Envoy binds.
    pub bound: u16,
    /// `HTTP`, `HTTPS` or `TCP`.
    pub protocol: String,
    /// Whether all its listeners stand in ListenerSets, whose port must not cost the Gateway its own.
    pub only_sets: bool,
}

impl Configuration {
    /// Takes one port away: its listener and its route tables.
    pub fn withdraw(&mut self, bound: u16) {
        for gone in self.listeners.extract_if(.., |port| port.bound == bound) {
            let socket = listener::socket_name(&gone.protocol, gone.port);
            let tables = format!("{socket}-");
            self.resources.retain(|resource| match resource.type_url {
                resource::LISTENER | resource::ROUTE_CONFIGURATION => {
                    resource.name != socket && !resource.name.starts_with(&tables)
                }
                _ => true,
            });
        }
    }
}

/// The whole translation.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    /// One configuration per accepted Gateway, by name.
    pub configurations: Vec<Configuration>,
    /// Statuses of GatewayClasses, Gateways and routes.
    pub statuses: Vec<ObjectStatus>,
    /// Faults of those and of what they refer to.
    pub findings: Vec<Finding>,
    /// The servers of keys that policies name, and how each is reached.
    pub key_servers: Vec<Reached>,
}

/// What the last translation came to: a virtual host is made again only if a rule or a policy of it changed.
///
/// Bounded by two translations; a new one gives the same results, later. Not printable: it holds secrets.
#[derive(Default)]
pub struct Memory {
    virtual_hosts: VirtualHosts,
}

impl Memory {
    /// Does what [`translate`] does.
    pub fn translate(
        &mut self,
        snapshot: &Snapshot,
        bindings: &Bindings,
        attachment: &Attachment,
        options: &Options,
    ) -> Translation {
        let translation = translate_by(self, snapshot, bindings, attachment, options);
        self.virtual_hosts.turn();
        translation
    }
}

/// Translates every Gateway of this controller.
#[must_use]
pub fn translate(snapshot: &Snapshot, bindings: &Bindings, attachment: &Attachment, options: &Options) -> Translation {
    Memory::default().translate(snapshot, bindings, attachment, options)
}

fn translate_by(
    memory: &mut Memory,
    snapshot: &Snapshot,
    bindings: &Bindings,
    attachment: &Attachment,
    options: &Options,
) -> Translation {
    let mut translation = Translation::default();
    classes(snapshot, options, &mut translation);
    translation.findings.extend(unused(snapshot));
    let grants = Grants::new(snapshot);
    let secrets = certificate::secrets(snapshot);
    let config_maps = client_certificates::config_maps(snapshot);
    let tls = BackendTls::new(snapshot, &options.system_trust, &mut translation.findings);
    let mut backends = Backends::new(snapshot, &grants, &tls, &options.backend_overrides);
    let routes = Routes::read(snapshot, bindings, &mut backends, &mut translation.findings);
    translation.key_servers = key_servers::resolve(
        attachment.policies.values(),
        &mut backends,
        &options.system_trust,
        &mut translation.findings,
    );
    let addresses = Addresses::new(snapshot, options.controller_namespace.as_deref());
    let world = World {
        snapshot,
        addresses: &addresses,
        grants: &grants,
        secrets: &secrets,
        config_maps: &config_maps,
        attachment,
        options,
        routes: &routes,
        backends: &backends,
    };
    let gateways = gateways(snapshot, &options.controller_name);
    if gateways.is_empty() {
        translation.findings.extend(nothing_served(snapshot, options));
    }
    let targets = targets(&gateways);
    let mut clients = ClientPolicies::new(snapshot, &targets, &mut translation.findings);
    for gateway in &gateways {
        let (configuration, statuses) = gateway::translate(
            gateway,
            &world,
            &mut clients,
            &mut memory.virtual_hosts,
            &mut translation.findings,
        );
        translation.configurations.push(configuration);
        translation.statuses.extend(statuses);
    }
    translation.statuses.extend(clients.statuses(&mut translation.findings));
    translation
        .configurations
        .sort_by(|one, other| one.gateway.cmp(&other.gateway));
    translation.statuses.extend(tls.statuses(snapshot, bindings));
    translation.statuses.extend(routes.statuses(bindings));
    translation.statuses.sort_by(|one, other| one.object.cmp(&other.object));
    translation
}

/// What policies on clients can apply to.
fn targets<'a>(gateways: &'a [ManagedGateway<'a>]) -> Vec<Target<'a>> {
    let mut targets = Vec::new();
    for managed in gateways {
        let metadata = &managed.gateway.metadata;
        let gateway = (object::namespace(metadata), object::name(metadata));
        let listeners = managed.gateway.spec.listeners.iter();
        targets.push(Target {
            kind: "Gateway",
            metadata,
            gateway,
            listeners: listeners.map(|listener| listener.name.as_str()).collect(),
        });
        targets.extend(managed.sets.iter().map(|attached| {
            Target {
                kind: "ListenerSet",
                metadata: &attached.set.metadata,
                gateway,
                listeners: attached
                    .set
                    .spec
                    .listeners
                    .iter()
                    .map(|listener| listener.name.as_str())
                    .collect(),
            }
        }));
    }
    targets
}

/// What is said where all Gateways belong to others, as with a controller's name that was forgotten.
fn nothing_served(snapshot: &Snapshot, options: &Options) -> Option<Finding> {
    let mut gateways: Vec<_> = snapshot.gateways.iter().collect();
    gateways.sort_by_key(|gateway| (object::namespace(&gateway.metadata), object::name(&gateway.metadata)));
    gateways.into_iter().find_map(|gateway| {
        let wanted = gateway.spec.gateway_class_name.as_str();
        let mut classes = snapshot.gateway_classes.iter();
        let class = classes.find(|class| object::name(&class.metadata) == wanted)?;
        let metadata = &gateway.metadata;
        let object = ObjectRef::new("Gateway", object::namespace(metadata), object::name(metadata));
        let fault = Fault::new(
            "no-gateway",
            "spec.gatewayClassName",
            format!(
                "no Gateway belongs to controller {:?}, so nothing is served",
                options.controller_name
            ),
        );
        let fix = format!(
            "add --controller-name {:?}, whose class {wanted:?} is",
            class.spec.controller_name
        );
        Some(fault.fix(fix).finding(Severity::Warning, &object))
    })
}

/// What is to be said of a class's parameters. Those of its Gateways that name others do not have them.
fn parameters(snapshot: &Snapshot, reference: &GatewayClassParametersRef, class: &ObjectRef) -> Option<Finding> {
    if reference.group != object::POLICY_GROUP || reference.kind != "EnvoyProxy" {
        let fault = ignored("spec.parametersRef", "of parameters, only EnvoyProxy is followed");
        return Some(fault.finding(Severity::Warning, class));
    }
    let namespace = reference.namespace.as_deref().unwrap_or_default();
    let mut proxies = snapshot.envoy_proxies.iter();
    let known = proxies.any(|proxy| {
        object::namespace(&proxy.metadata) == namespace && object::name(&proxy.metadata) == reference.name
    });
    let fault = gateway::missing("spec.parametersRef.name", namespace, &reference.name);
    (!known).then(|| fault.finding(Severity::Warning, class))
}

/// Fields of parameters that have no effect.
fn unused(snapshot: &Snapshot) -> impl Iterator<Item = Finding> {
    snapshot.envoy_proxies.iter().flat_map(|proxy| {
        let metadata = &proxy.metadata;
        let object = ObjectRef::new("EnvoyProxy", object::namespace(metadata), object::name(metadata));
        let fields = proxy.spec.unused().into_iter();
        fields.map(move |field| {
            ignored(&format!("spec.{field}"), "only geoIP is followed").finding(Severity::Warning, &object)
        })
    })
}

fn classes(snapshot: &Snapshot, options: &Options, translation: &mut Translation) {
    for class in &snapshot.gateway_classes {
        if class.spec.controller_name != options.controller_name {
            continue;
        }
        let object = ObjectRef::new("GatewayClass", "", object::name(&class.metadata));
        if let Some(reference) = &class.spec.parameters_ref {
            translation.findings.extend(parameters(snapshot, reference, &object));
        }
        let accepted = ScopeStatus {
            scope: Scope::Object,
            conditions: vec![condition("Accepted", true, "Accepted", "Valid GatewayClass")],
            attached_routes: None,
            supported_kinds: Vec::new(),
        };
        let generation = class.metadata.generation;
        translation
            .statuses
            .push(ObjectStatus::new(object, generation, vec![accepted]));
    }
    let known = |name: &str| {
        snapshot
            .gateway_classes
            .iter()
            .any(|class| object::name(&class.metadata) == name)
    };
    for gateway in &snapshot.gateways {
        let class = gateway.spec.gateway_class_name.as_str();
        if !known(class) {
            let metadata = &gateway.metadata;
            let object = ObjectRef::new("Gateway", object::namespace(metadata), object::name(metadata));
            let fault = Fault::new(
                "gateway-class-not-found",
                "spec.gatewayClassName",
                format!("GatewayClass {class:?} does not exist, so nothing serves this Gateway"),
            )
            .fix(format!(
                "add a GatewayClass with controllerName {:?}",
                options.controller_name
            ));
            translation.findings.push(fault.finding(Severity::Error, &object));
        }
    }
}
