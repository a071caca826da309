//! Everything the translation reads, as one value.

use std::{collections::BTreeMap, sync::Arc};

use gateway_api::{
    backendtlspolicies::BackendTlsPolicy, experimental::tcproutes::TcpRoute, gatewayclasses::GatewayClass,
    gateways::Gateway, grpcroutes::GrpcRoute, httproutes::HttpRoute, listenersets::ListenerSet,
    referencegrants::ReferenceGrant,
};
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Namespace, Secret, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use portcullis_api::{
    access_policy::AccessPolicy,
    backend::Backend,
    client_traffic_policy::ClientTrafficPolicy,
    envoy_proxy::EnvoyProxy,
    http_route::HttpRouteRetry,
    security_policy::{PolicyTargetReference, SecurityPolicy, TargetSelector},
};

use crate::object::{ObjectRef, PolicyKind};

/// All objects known at one moment, from a folder or from Kubernetes. Order carries no meaning: readers sort.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Cluster-scoped Gateway classes.
    pub gateway_classes: Vec<Arc<GatewayClass>>,
    /// Gateways.
    pub gateways: Vec<Arc<Gateway>>,
    /// Further listeners of Gateways.
    pub listener_sets: Vec<Arc<ListenerSet>>,
    /// HTTP routes.
    pub http_routes: Vec<Arc<HttpRoute>>,
    /// Retries of HTTP routes' rules.
    pub http_route_retries: Vec<Arc<RouteRetries>>,
    /// gRPC routes.
    pub grpc_routes: Vec<Arc<GrpcRoute>>,
    /// TCP routes.
    pub tcp_routes: Vec<Arc<TcpRoute>>,
    /// Grants for references that cross a namespace.
    pub reference_grants: Vec<Arc<ReferenceGrant>>,
    /// Security policies.
    pub security_policies: Vec<Arc<SecurityPolicy>>,
    /// Access policies.
    pub access_policies: Vec<Arc<AccessPolicy>>,
    /// Policies of any kind that could not be read whole, but whose targets could.
    pub broken_policies: Vec<Arc<BrokenPolicy>>,
    /// Policies on how clients' addresses are found out.
    pub client_traffic_policies: Vec<Arc<ClientTrafficPolicy>>,
    /// Such policies that could not be read whole, but whose targets could.
    pub broken_client_traffic_policies: Vec<Arc<BrokenPolicy>>,
    /// What classes and Gateways say of their proxies.
    pub envoy_proxies: Vec<Arc<EnvoyProxy>>,
    /// Backends outside Kubernetes.
    pub backends: Vec<Arc<Backend>>,
    /// How backends are spoken to in TLS.
    pub backend_tls_policies: Vec<Arc<BackendTlsPolicy>>,
    /// Such policies that could not be read whole, but whose targets could.
    pub broken_backend_tls_policies: Vec<Arc<BrokenPolicy>>,
    /// ConfigMaps: certificates of authorities that backends are trusted by, and sets of keys.
    pub config_maps: Vec<Arc<ConfigMap>>,
    /// Services.
    pub services: Vec<Arc<Service>>,
    /// Endpoints of services.
    pub endpoint_slices: Vec<Arc<EndpointSlice>>,
    /// Secrets: certificates and credentials.
    pub secrets: Vec<Arc<Secret>>,
    /// Namespaces, for selectors on their labels.
    pub namespaces: Vec<Arc<Namespace>>,
    /// Fields of routes, Gateways and ListenerSets that are not understood: what holds them is closed.
    pub unknown_fields: Vec<Arc<UnknownFields>>,
}

impl Snapshot {
    /// Adds the objects of another one.
    pub fn append(&mut self, other: &Self) {
        // Every field is named, so that a new one cannot be forgotten.
        let Self {
            gateway_classes,
            gateways,
            listener_sets,
            http_routes,
            http_route_retries,
            grpc_routes,
            tcp_routes,
            reference_grants,
            security_policies,
            access_policies,
            broken_policies,
            client_traffic_policies,
            broken_client_traffic_policies,
            envoy_proxies,
            backends,
            backend_tls_policies,
            broken_backend_tls_policies,
            config_maps,
            services,
            endpoint_slices,
            secrets,
            namespaces,
            unknown_fields,
        } = other;
        self.gateway_classes.extend_from_slice(gateway_classes);
        self.gateways.extend_from_slice(gateways);
        self.listener_sets.extend_from_slice(listener_sets);
        self.http_routes.extend_from_slice(http_routes);
        self.http_route_retries.extend_from_slice(http_route_retries);
        self.grpc_routes.extend_from_slice(grpc_routes);
        self.tcp_routes.extend_from_slice(tcp_routes);
        self.reference_grants.extend_from_slice(reference_grants);
        self.security_policies.extend_from_slice(security_policies);
        self.access_policies.extend_from_slice(access_policies);
        self.broken_policies.extend_from_slice(broken_policies);
        self.client_traffic_policies.extend_from_slice(client_traffic_policies);
        self.broken_client_traffic_policies
            .extend_from_slice(broken_client_traffic_policies);
        self.envoy_proxies.extend_from_slice(envoy_proxies);
        self.backends.extend_from_slice(backends);
        self.backend_tls_policies.extend_from_slice(backend_tls_policies);
        self.broken_backend_tls_policies
            .extend_from_slice(broken_backend_tls_policies);
        self.config_maps.extend_from_slice(config_maps);
        self.services.extend_from_slice(services);
        self.endpoint_slices.extend_from_slice(endpoint_slices);
        self.secrets.extend_from_slice(secrets);
        self.namespaces.extend_from_slice(namespaces);
        self.unknown_fields.extend_from_slice(unknown_fields);
    }
}

/// Fields of one object that an API server took and that are not understood here, as where its definitions are newer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFields {
    /// The object.
    pub object: ObjectRef,
    /// The fields, in the order in which they were found.
    pub fields: Vec<UnknownField>,
}

/// A field that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField {
    /// Where it stands, from the object on: `spec.rules[0].filters[1].type`.
    pub path: String,
    /// What is not understood of it: lower case, no full stop.
    pub message: String,
}

impl UnknownField {
    /// The path below entry `index` of a list of `spec` (`rules` or `listeners`); the whole path if the field stands outside
    /// of the list and thus may be about every entry; nothing if it is another entry's.
    #[must_use]
    pub fn below(&self, list: &str, index: usize) -> Option<&str> {
        let Some(rest) = self.path.strip_prefix(&format!("spec.{list}[")) else {
            return Some(&self.path);
        };
        let (number, rest) = rest.split_once(']')?;
        (number.parse() == Ok(index)).then(|| rest.trim_start_matches('.'))
    }
}

/// The retries of one HTTPRoute, which the standard channel's type has no field for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteRetries {
    /// The route's metadata.
    pub metadata: ObjectMeta,
    /// By the rule's index.
    pub rules: BTreeMap<usize, HttpRouteRetry>,
}

/// A policy that does not fit its schema: the targets of a SecurityPolicy answer 500, at those of a ClientTrafficPolicy the
/// address of every client is unknown, those of a BackendTLSPolicy are not spoken to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BrokenPolicy {
    /// Its kind.
    pub kind: PolicyKind,
    /// Whether it says, beyond doubt, that it is a baseline (`AccessPolicy.spec.baseline`).
    pub baseline: bool,
    /// Whether it says, beyond doubt, that it is a shadow (`AccessPolicy.spec.shadow`), which closes nothing.
    pub shadow: bool,
    /// Its metadata, as far as it could be read.
    pub metadata: ObjectMeta,
    /// What it targets by name.
    pub targets: Vec<PolicyTarget>,
    /// What it targets by kind and labels.
    pub selectors: Vec<TargetSelector>,
    /// Why it could not be read, for its condition; never holds a secret.
    pub message: String,
}

/// One thing that a policy targets, in the policy's own namespace (`LocalPolicyTargetReferenceWithSectionName`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyTarget {
    /// The API group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The listener of a Gateway or the rule of a route.
    pub section_name: Option<String>,
}

impl PolicyTarget {
    /// What a policy targets by name, `spec.targetRef` and then `spec.targetRefs`, each with its place in the policy.
    pub fn named<'a>(
        single: Option<&'a PolicyTargetReference>,
        several: &'a [PolicyTargetReference],
    ) -> impl Iterator<Item = (Self, String)> + 'a {
        let single = single.into_iter().map(|target| (target, "spec.targetRef".to_owned()));
        let several = several.iter().enumerate();
        let several = several.map(|(index, target)| (target, format!("spec.targetRefs[{index}]")));
        single.chain(several).map(|(target, path)| (Self::from(target), path))
    }
}

impl From<&PolicyTargetReference> for PolicyTarget {
    fn from(target: &PolicyTargetReference) -> Self {
        Self {
            group: target.group.clone(),
            kind: target.kind.clone(),
            name: target.name.clone(),
            section_name: target.section_name.clone(),
        }
    }
}
