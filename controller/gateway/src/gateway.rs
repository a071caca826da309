//! One Gateway: its listeners' configuration and conditions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gateway_api::gateways::Gateway;
use portcullis_attachment::{
    effective::Attachment,
    finding::{Finding, Severity},
    geography::{Databases, Parameters, databases, parameters},
    hostname,
    listener_set::ManagedGateway,
    listeners::Listener,
    object::{self, ListenerRef, ObjectRef},
    snapshot::Snapshot,
    status::ObjectStatus,
};

use crate::{
    BoundPort, Configuration, Options, Resource,
    addresses::Addresses,
    backends::Backends,
    certificate::Secrets,
    client_certificates::{ConfigMaps, Validation},
    client_policy::ClientPolicies,
    conditions,
    grants::Grants,
    judged::{Judged, judge, overlap},
    listener,
    report::{Fault, ignored},
    route::rule::Place,
    routes::{Read, Routes},
    sharing,
    table::{Policies, Served, Table, VirtualHosts},
    tcp,
};

/// What everything of one translation shares.
pub(crate) struct World<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) addresses: &'a Addresses<'a>,
    pub(crate) grants: &'a Grants<'a>,
    pub(crate) secrets: &'a Secrets<'a>,
    pub(crate) config_maps: &'a ConfigMaps<'a>,
    pub(crate) attachment: &'a Attachment,
    pub(crate) options: &'a Options,
    pub(crate) routes: &'a Routes,
    pub(crate) backends: &'a Backends<'a>,
}

/// Translates one Gateway: its configuration, and the statuses of it and of its ListenerSets.
pub(crate) fn translate(
    managed: &ManagedGateway<'_>,
    world: &World<'_>,
    clients: &mut ClientPolicies<'_>,
    known: &mut VirtualHosts,
    findings: &mut Vec<Finding>,
) -> (Configuration, Vec<ObjectStatus>) {
    let gateway = managed.gateway;
    let namespace = object::namespace(&gateway.metadata);
    let name = object::name(&gateway.metadata);
    let object = ObjectRef::new("Gateway", namespace, name);
    findings.extend(
        unused(gateway, world.snapshot)
            .into_iter()
            .map(|fault| fault.finding(Severity::Warning, &object)),
    );
    let listeners = managed.listeners.iter().cloned();
    let mut judged: Vec<Judged<'_>> = listeners
        .map(|listener| judge(listener, gateway, world, clients, findings))
        .collect();
    sharing::settle(&mut judged, clients, world.options, findings);
    overlap(&mut judged);
    let mut policies = Policies::default();
    let databases = databases(world.snapshot, gateway);
    let configuration = configure(
        &judged,
        (format!("{namespace}/{name}"), databases.as_ref()),
        world,
        clients,
        &mut policies,
        known,
        findings,
    );
    findings.extend(uncopied(&policies, world.routes));
    findings.extend(crowded(&judged, world));
    findings.extend(unverified(&judged, world));
    let sets = managed.sets.iter();
    let mut statuses: Vec<ObjectStatus> = sets
        .map(|set| conditions::of_set(set, gateway, &judged, world.routes))
        .collect();
    let own = conditions::of_gateway(gateway, &judged, &statuses, world.routes, world.addresses.of(gateway));
    statuses.insert(0, own);
    (configuration, statuses)
}

/// Fields of a Gateway that have no effect.
fn unused(gateway: &Gateway, snapshot: &Snapshot) -> Vec<Fault> {
    let spec = &gateway.spec;
    let mut faults = Vec::new();
    if spec.addresses.as_ref().is_some_and(|addresses| !addresses.is_empty()) {
        faults.push(ignored(
            "spec.addresses",
            "every listener binds all addresses of its proxy",
        ));
    }
    let parameters = parameters(snapshot, gateway);
    if let Parameters::Missing {
        namespace,
        name,
        own: true,
    } = parameters
    {
        let path = "spec.infrastructure.parametersRef.name";
        faults.push(missing(path, namespace, name));
    }
    let only_parameters = spec.infrastructure.as_ref().is_some_and(|infrastructure| {
        let followed = matches!(parameters, Parameters::Proxy(_) | Parameters::Missing { .. });
        followed
            && infrastructure.parameters_ref.is_some()
            && infrastructure.labels.is_none()
            && infrastructure.annotations.is_none()
    });
    if spec.infrastructure.is_some() && !only_parameters {
        faults.push(ignored("spec.infrastructure", "no infrastructure is created"));
    }
    if spec.tls.as_ref().is_some_and(|tls| tls.backend.is_some()) {
        faults.push(ignored("spec.tls.backend", "no certificate is shown to backends"));
    }
    faults
}

/// Parameters that lead nowhere.
pub(crate) fn missing(path: &str, namespace: &str, name: &str) -> Fault {
    let message = format!("EnvoyProxy {namespace}/{name} does not exist, so its proxies have no databases of places");
    let fix = format!("add it, or remove {}", path.trim_end_matches(".name"));
    Fault::new("parameters-not-found", path, message).fix(fix)
}

/// Rules whose mirrors get nothing.
fn uncopied(policies: &Policies, routes: &Routes) -> Vec<Finding> {
    let told = policies.uncopied.iter().filter_map(|(route, rule)| {
        let route = routes.all.get(*route)?;
        let fault = Fault::new(
            "mirror-withheld",
            format!("spec.rules[{rule}].filters"),
            "nothing is mirrored: the rule's policy reads API keys from the query, which a copy would hold",
        );
        let fault = fault.fix("set sanitize in the policy's apiKeyAuth, or read the keys from a header");
        Some(fault.finding(Severity::Warning, &route.object))
    });
    told.collect()
}

/// Policies that ask for certificates where none is verified: they must not look as if somebody could match there.
fn unverified(judged: &[Judged<'_>], world: &World<'_>) -> Vec<Finding> {
    let serving = judged.iter().filter(|each| each.down.is_none());
    let blind = serving.filter(|each| !each.validation.as_ref().is_some_and(Validation::verifies));
    let mut told: BTreeMap<ObjectRef, BTreeSet<String>> = BTreeMap::new();
    for each in blind {
        for (age, _) in world.routes.on(&each.listener.reference) {
            let Some(route) = world.routes.all.get(*age) else {
                continue;
            };
            let places = (0..route.rules.len()).map(|rule| portcullis_attachment::effective::Place {
                listener: each.listener.reference.clone(),
                route: route.object.clone(),
                rule,
            });
            let policies = places.filter_map(|place| world.attachment.policies.get(&place));
            for policy in policies.flat_map(|policy| policy.asking_for_certificates()) {
                told.entry(policy).or_default().insert(each.label());
            }
        }
    }
    let told = told.into_iter().map(|(policy, listeners)| {
        let listeners: Vec<String> = listeners.into_iter().collect();
        let message = format!(
            "rules on certificates match nobody on listeners that verify none: {}",
            listeners.join(", ")
        );
        let fault = Fault::new("certificate-never-verified", "spec.authorization.rules", message)
            .fix("let the listener verify certificates (spec.tls.frontend of the Gateway, or spec.tls.clientValidation of a ClientTrafficPolicy)");
        fault.finding(Severity::Warning, &policy)
    });
    told.collect()
}

fn configure(
    judged: &[Judged<'_>],
    (gateway, databases): (String, Option<&Databases>),
    world: &World<'_>,
    clients: &mut ClientPolicies<'_>,
    policies: &mut Policies,
    known: &mut VirtualHosts,
    findings: &mut Vec<Finding>,
) -> Configuration {
    let mut ports: BTreeMap<u16, Vec<&Judged<'_>>> = BTreeMap::new();
    for each in judged.iter().filter(|each| each.down.is_none()) {
        if let Ok(port) = u16::try_from(each.listener.spec.port) {
            ports.entry(port).or_default().push(each);
        }
    }
    let mut resources: BTreeMap<(&'static str, String), Resource> = BTreeMap::new();
    let mut clusters = BTreeSet::new();
    let mut bound_ports = Vec::new();
    let mut keep = |resource: Resource| {
        resources.insert((resource.type_url, resource.name.clone()), resource);
    };
    for (port, group) in ports {
        let bound = sharing::bound(port, world.options);
        let protocol = group
            .first()
            .map_or("HTTP", |each| each.listener.spec.protocol.as_str());
        let https = protocol == "HTTPS";
        let mut serve = |table: &mut Table, each: &Judged<'_>| {
            serve(table, &each.listener, Place { https, port }, world, &mut clusters);
        };
        if let ("TCP", [only]) = (protocol, group.as_slice()) {
            keep(connect(only, (port, bound), world, &mut clusters, findings));
        } else if https {
            for each in &group {
                let mut table = Table::new(
                    listener::secure_table(port, &each.label()),
                    Arc::clone(&world.options.none),
                );
                // Whoever got here by another listener's name, as with one certificate for both, is sent back. Only the
                // hosts within this listener's need a virtual host of their own: all others of a Gateway would make its
                // tables grow with the square of its listeners.
                table.reserve(hostname::ANY, 421);
                for other in judged.iter().filter(|other| holds_hosts_of(other, port)) {
                    if hostname::covers(&each.listener.hostname, &other.listener.hostname) {
                        table.reserve(&other.listener.hostname, 421);
                    }
                }
                table.reserve(&each.listener.hostname, 404);
                serve(&mut table, each);
                keep(table.finish(&gateway, &world.options.key_sets, policies, known));
                each.certificates.iter().cloned().for_each(&mut keep);
            }
            let secure: Vec<_> = group
                .iter()
                .map(|each| listener::Secure {
                    name: each.label(),
                    hostname: &each.listener.hostname,
                    certificates: each.certificates.iter().map(|secret| secret.name.clone()).collect(),
                    validation: each.validation.as_ref(),
                    detection: clients.detection(&each.listener.reference),
                })
                .collect();
            keep(listener::secure(port, bound, &secure, databases, world.options));
        } else {
            let mut table = Table::new(listener::plain_table(port), Arc::clone(&world.options.none));
            for other in judged.iter().filter(|other| holds_hosts_of(other, port)) {
                table.reserve(&other.listener.hostname, 404);
            }
            for each in &group {
                serve(&mut table, each);
            }
            keep(table.finish(&gateway, &world.options.key_sets, policies, known));
            let sharing: Vec<&ListenerRef> = group.iter().map(|each| &each.listener.reference).collect();
            let detection = clients.shared_detection(port, &sharing);
            keep(listener::plain(port, bound, &detection, databases, world.options));
        }
        bound_ports.push(BoundPort {
            listeners: group.iter().map(|each| each.label()).collect(),
            port,
            bound,
            protocol: protocol.to_owned(),
            only_sets: group.iter().all(|each| each.listener.reference.set.is_some()),
        });
    }
    for cluster in clusters {
        if let Some(upstream) = world.backends.upstreams.get(&cluster) {
            upstream.resources().into_iter().for_each(&mut keep);
        }
    }
    Configuration {
        gateway,
        resources: resources.into_values().collect(),
        listeners: bound_ports,
    }
}

/// The routes that a TCP listener takes, oldest first: the first has all its connections.
fn oldest<'a>(listener: &ListenerRef, routes: &'a Routes) -> Vec<&'a Read> {
    let mut ages: Vec<usize> = routes.on(listener).iter().map(|(age, _)| *age).collect();
    ages.sort_unstable();
    ages.into_iter().filter_map(|age| routes.all.get(age)).collect()
}

/// The socket of a TCP listener.
fn connect(
    judged: &Judged<'_>,
    (port, bound): (u16, u16),
    world: &World<'_>,
    clusters: &mut BTreeSet<String>,
    findings: &mut Vec<Finding>,
) -> Resource {
    let listener = &judged.listener.reference;
    let route = oldest(listener, world.routes).first().copied();
    // A route with several rules is at fault, and so is every one of them.
    let served = route.and_then(|route| {
        let admission = world
            .attachment
            .connections
            .get(&portcullis_attachment::effective::Place {
                listener: listener.clone(),
                route: route.object.clone(),
                rule: 0,
            })?;
        Some(tcp::Served {
            route: &route.name,
            rule: route.rules.first()?,
            admission,
        })
    });
    clusters.extend(served.iter().flat_map(|served| served.rule.clusters.iter().cloned()));
    let (resource, outcome) = tcp::listener(port, bound, served.as_ref(), world.options);
    if let Err(why) = outcome {
        let path = format!("spec.listeners[{}]", judged.listener.index);
        let fault = Fault::new("too-many", path, format!("every connection is refused: {why}"));
        let fault = fault.fix("write fewer rules in the baseline, or fewer networks in either");
        findings.push(fault.finding(Severity::Error, &judged.owner()));
    }
    resource
}

/// TCPRoutes that get no connections, because an older one has the listener.
fn crowded(judged: &[Judged<'_>], world: &World<'_>) -> Vec<Finding> {
    let tcp = judged
        .iter()
        .filter(|each| each.down.is_none() && each.listener.spec.protocol == "TCP");
    tcp.flat_map(|each| {
        let routes = oldest(&each.listener.reference, world.routes);
        let holder = routes.first().copied();
        let listener = &each.listener.reference;
        let told = routes.iter().skip(1).filter_map(|route| {
            let message = format!(
                "no connection of listener {listener} comes here: {} is older and has all of them",
                holder?.object
            );
            let fault = Fault::new("route-not-programmed", "spec.parentRefs", message);
            let fault = fault.fix("refer to a listener of another port");
            Some(fault.finding(Severity::Warning, &route.object))
        });
        told.collect::<Vec<_>>()
    })
    .collect()
}

/// Whether a listener keeps its hosts on a port from wider ones, served or not.
fn holds_hosts_of(judged: &Judged<'_>, port: u16) -> bool {
    !judged.listener.yields && judged.listener.spec.port == i32::from(port)
}

/// Adds every route that a listener takes to a table.
fn serve<'a>(
    table: &mut Table,
    listener: &Listener<'_>,
    place: Place,
    world: &World<'a>,
    clusters: &mut BTreeSet<String>,
) {
    let routes: &'a Routes = world.routes;
    for (age, hostnames) in routes.on(&listener.reference) {
        let Some(route) = routes.all.get(*age) else { continue };
        let policy_of = |index| {
            world.attachment.policies.get(&portcullis_attachment::effective::Place {
                listener: listener.reference.clone(),
                route: route.object.clone(),
                rule: index,
            })
        };
        // What a match that cannot be read would have taken goes to the route's other rules: without the policy that was
        // meant for it, if theirs is another.
        let lost: BTreeSet<&str> = (0..)
            .zip(&route.rules)
            .filter(|(_, rule)| rule.lost_matches)
            .filter_map(|(index, _)| policy_of(index))
            .map(|policy| policy.hash.as_str())
            .filter(|hash| *hash != world.options.none.hash)
            .collect();
        for (index, rule) in route.rules.iter().enumerate() {
            let policy = policy_of(index);
            clusters.extend(rule.clusters.iter().cloned());
            let servers = policy.iter().flat_map(|policy| &policy.key_servers);
            clusters.extend(servers.map(|server| server.cluster()));
            let served = Served {
                route: Arc::clone(&route.name),
                age: *age,
                index,
                rule: Arc::clone(rule),
                policy: policy.map(Arc::clone),
                shut: policy.is_some_and(|policy| lost.iter().any(|hash| *hash != policy.hash)),
                place,
            };
            for host in hostnames {
                table.add(host, served.clone());
            }
        }
    }
}
