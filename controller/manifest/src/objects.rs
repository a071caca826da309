//! Trees to typed objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gateway_api::httproutes::HttpRoute;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use portcullis_api::http_route::HttpRouteRetry;
use portcullis_attachment::{
    finding::Severity,
    object::{ObjectRef, PolicyKind},
    snapshot::{RouteRetries, Snapshot},
};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::{
    find,
    identity::{self, Identity},
    kinds::{KINDS, Kind, Which},
    near,
    place::Position,
    policy,
    tree::{Node, Value},
    validate::{Fault, Manner, validate},
};

/// `List` objects inside `List` objects; kubectl writes one level.
const LISTS: usize = 4;

/// What a part of a file holds, as this file alone tells: nothing that another one says changes it.
pub(crate) enum Item {
    /// An object of a kind that is read.
    Object(Box<Object>),
    /// Something else, with its name.
    Fault(String, Fault),
}

/// An object, read as far as its faults allow.
pub(crate) struct Object {
    kind: &'static Kind,
    object: ObjectRef,
    name: String,
    root: Arc<Node>,
    faults: Vec<Fault>,
    /// The object alone, unless it has faults.
    read: Result<Snapshot, Fault>,
}

/// Reads one document.
pub(crate) fn items(root: Node) -> Vec<Item> {
    let mut items = Vec::new();
    nested(root, LISTS, &mut items);
    items
}

fn nested(root: Node, lists: usize, items: &mut Vec<Item>) {
    let (api_version, kind) = match identity::type_of(&root) {
        Ok(found) => found,
        Err(fault) => return items.push(Item::Fault(String::new(), fault)),
    };
    if kind.ends_with("List")
        && lists > 0
        && let Some(Value::Sequence(list)) = root.get("items").map(|items| &items.value)
    {
        for item in list.clone() {
            nested(item, lists - 1, items);
        }
        return;
    }
    items.push(match recognize(&root, &api_version, &kind) {
        Ok(kind) => Item::Object(Box::new(Object::new(root, kind))),
        Err(fault) => Item::Fault(identity::display(&kind, &root), fault),
    });
}

/// Holds a tree against the definition of its kind: what it says, what it is called, and what is wrong with it.
pub(crate) fn judge(root: &Node, kind: &'static Kind) -> (Json, ObjectRef, Vec<Fault>) {
    let manner = Manner {
        secret: kind.which == Which::Secret,
        null_is_absent: kind.built_in,
    };
    let (mut json, mut faults) = validate(root, kind.schema(), manner);
    let Identity { object, faults: more } = identity::identify(root, kind, &mut json);
    faults.extend(more);
    (json, object, faults)
}

impl Object {
    fn new(root: Node, kind: &'static Kind) -> Self {
        let (json, object, faults) = judge(&root, kind);
        let mut alone = Snapshot::default();
        let read = if faults.is_empty() {
            add(&mut alone, kind.which, json).map(|()| alone)
        } else {
            Ok(alone)
        };
        let read = read.map_err(|message| unreadable(kind.which, root.position, message));
        Self {
            kind,
            object,
            name: identity::display(kind.name, &root),
            root: Arc::new(root),
            faults,
            read,
        }
    }
}

/// What was read so far.
#[derive(Default)]
pub(crate) struct Objects {
    pub(crate) snapshot: Snapshot,
    /// Where each object stands: the index of the file, and its tree.
    pub(crate) origins: BTreeMap<ObjectRef, (usize, Arc<Node>)>,
    /// Faults with the index of the file and the object's name.
    pub(crate) faults: Vec<(usize, String, Fault)>,
    /// Files with an object that another file has as well, told there.
    pub(crate) contested: BTreeSet<usize>,
}

impl Objects {
    /// Takes in what file number `file` holds.
    pub(crate) fn take(&mut self, file: usize, item: &Item, files: &[(String, String)]) {
        match item {
            Item::Object(object) => self.object(file, object, files),
            Item::Fault(name, fault) => self.faults.push((file, name.clone(), fault.clone())),
        }
    }

    fn object(&mut self, file: usize, object: &Object, files: &[(String, String)]) {
        let Object {
            kind,
            object,
            name,
            root,
            faults,
            read,
        } = object;
        let mut faults = faults.clone();
        if let Some((other, node)) = self.origins.get(object).filter(|_| !object.name.is_empty()) {
            let place = files.get(*other).map_or("", |(name, _)| name);
            self.contested.insert(*other);
            faults.push(Fault {
                position: find(root, "metadata.name"),
                severity: Severity::Error,
                code: "duplicate-object",
                path: "metadata.name".to_owned(),
                message: format!("is also at {place}:{}", find(node, "metadata.name").line),
                fix: Some("remove one of the two, or give it another name".to_owned()),
            });
        }
        if faults.is_empty() {
            match read {
                Ok(alone) => self.snapshot.append(alone),
                Err(fault) => faults.push(fault.clone()),
            }
        }
        if kind.which == Which::ClientTrafficPolicy && !faults.is_empty() {
            let broken = policy::broken(PolicyKind::default(), root, object, &faults);
            self.snapshot.broken_client_traffic_policies.push(broken.into());
        }
        if kind.which == Which::BackendTlsPolicy && !faults.is_empty() {
            let broken = policy::broken_of_backends(root, object, &faults);
            self.snapshot.broken_backend_tls_policies.push(broken.into());
        }
        let policy = match kind.which {
            Which::SecurityPolicy => Some(PolicyKind::SecurityPolicy),
            Which::AccessPolicy => Some(PolicyKind::AccessPolicy),
            _ => None,
        };
        if let Some(policy) = policy.filter(|_| !faults.is_empty()) {
            policy::add(&mut self.snapshot, policy::broken(policy, root, object, &faults));
        }
        self.faults
            .extend(faults.into_iter().map(|fault| (file, name.clone(), fault)));
        self.origins
            .entry(object.clone())
            .or_insert_with(|| (file, Arc::clone(root)));
    }
}

/// An object that its type cannot take, for serde's reason.
pub(crate) fn unreadable(which: Which, position: Position, message: String) -> Fault {
    Fault {
        position,
        severity: Severity::Error,
        code: "unreadable-object",
        path: String::new(),
        // serde's message may quote the value.
        message: if which == Which::Secret {
            "cannot be read".to_owned()
        } else {
            message
        },
        fix: None,
    }
}

/// Adds an object to a snapshot, or says why its type cannot take it.
pub(crate) fn add(snapshot: &mut Snapshot, which: Which, json: Json) -> Result<(), String> {
    match which {
        Which::AccessPolicy => snapshot.access_policies.push(typed(json)?),
        Which::Backend => snapshot.backends.push(typed::<_>(json)?),
        Which::BackendTlsPolicy => snapshot.backend_tls_policies.push(typed(json)?),
        Which::ClientTrafficPolicy => snapshot.client_traffic_policies.push(typed(json)?),
        Which::ConfigMap => snapshot.config_maps.push(typed(json)?),
        Which::EndpointSlice => snapshot.endpoint_slices.push(typed(json)?),
        Which::EnvoyProxy => snapshot.envoy_proxies.push(typed(json)?),
        Which::Gateway => snapshot.gateways.push(typed(json)?),
        Which::GatewayClass => snapshot.gateway_classes.push(typed(json)?),
        Which::GrpcRoute => snapshot.grpc_routes.push(typed(json)?),
        Which::HttpRoute => http_route(snapshot, json)?,
        Which::ListenerSet => snapshot.listener_sets.push(typed(json)?),
        Which::Namespace => snapshot.namespaces.push(typed(json)?),
        Which::ReferenceGrant => snapshot.reference_grants.push(typed(json)?),
        Which::Secret => snapshot.secrets.push(secret(json)?.into()),
        Which::SecurityPolicy => snapshot.security_policies.push(typed(json)?),
        Which::Service => snapshot.services.push(typed(json)?),
        Which::TcpRoute => snapshot.tcp_routes.push(typed(json)?),
    }
    Ok(())
}

/// Reads an HTTPRoute; `retry` of its rules, which its type does not have, is kept beside it.
fn http_route(snapshot: &mut Snapshot, mut json: Json) -> Result<(), String> {
    let mut rules = BTreeMap::new();
    let list = json
        .pointer_mut("/spec/rules")
        .and_then(Json::as_array_mut)
        .into_iter()
        .flatten();
    for (index, rule) in list.enumerate() {
        if let Some(retry) = rule.as_object_mut().and_then(|rule| rule.remove("retry")) {
            let retry: HttpRouteRetry = serde_json::from_value(retry).map_err(|error| error.to_string())?;
            rules.insert(index, retry);
        }
    }
    let route: Arc<HttpRoute> = typed(json)?;
    if !rules.is_empty() {
        snapshot.http_route_retries.push(Arc::new(RouteRetries {
            metadata: route.metadata.clone(),
            rules,
        }));
    }
    snapshot.http_routes.push(route);
    Ok(())
}

fn typed<T: DeserializeOwned>(json: Json) -> Result<Arc<T>, String> {
    serde_json::from_value(json)
        .map(Arc::new)
        .map_err(|error| error.to_string())
}

/// Reads a Secret as an API server stores it: `stringData` wins over `data`, and line breaks in base64 do not count.
fn secret(mut json: Json) -> Result<Secret, String> {
    if let Some(data) = json.get_mut("data").and_then(Json::as_object_mut) {
        for value in data.values_mut() {
            if let Json::String(text) = value {
                text.retain(|c| !matches!(c, '\r' | '\n'));
            }
        }
    }
    let mut secret: Secret = serde_json::from_value(json).map_err(|error| error.to_string())?;
    if let Some(plain) = secret.string_data.take() {
        let data = secret.data.get_or_insert_default();
        data.extend(
            plain
                .into_iter()
                .map(|(name, value)| (name, ByteString(value.into_bytes()))),
        );
    }
    Ok(secret)
}

/// Finds the kind of an object; a kind that is not read is a warning, one that was probably meant to be read an error.
fn recognize(root: &Node, api_version: &str, kind: &str) -> Result<&'static Kind, Fault> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let at = |name: &str| {
        let entry = root.entry(name);
        entry.map_or(root.position, |entry| entry.node.position_under(entry.position))
    };
    if let Some(known) = KINDS.iter().find(|known| known.name == kind) {
        if known.group == group {
            if known.versions.contains(&version) {
                return Ok(known);
            }
            return Err(fault(
                at("apiVersion"),
                Severity::Error,
                "unsupported-version",
                "apiVersion",
                format!("{kind} has no version {version:?} here"),
                format!("write {:?}", known.api_version()),
            ));
        }
        // An object of another project may well have the same kind; a group without a dot, almost ours, or one of those
        // that are read has not: an AccessPolicy of Envoy Gateway's group was to restrict something.
        let meant = !group.contains('.')
            || near::nearest(group, [known.group]).is_some()
            || KINDS.iter().any(|other| other.group == group);
        if meant {
            return Err(fault(
                at("apiVersion"),
                Severity::Error,
                "unsupported-version",
                "apiVersion",
                format!("{kind} is not of {api_version:?}"),
                format!("write {:?}", known.api_version()),
            ));
        }
    } else if let Some(meant) = misspelt(group, kind) {
        return Err(fault(
            at("kind"),
            Severity::Error,
            "unknown-kind",
            "kind",
            format!("{api_version} has no kind {kind:?}"),
            format!("write {meant:?}"),
        ));
    }
    Err(fault(
        at("kind"),
        Severity::Warning,
        "kind-ignored",
        "kind",
        format!("{kind} of {api_version} is not used"),
        "remove it, or keep it for other controllers".to_owned(),
    ))
}

/// Kinds of the groups above that exist and are not read: no misspellings of those that are.
const OTHERS: &[&str] = &[
    "BackendTrafficPolicy",
    "Binding",
    "EnvoyExtensionPolicy",
    "EnvoyPatchPolicy",
    "EnvoyProxy",
    "HTTPRouteFilter",
    "Node",
    "TLSRoute",
    "UDPRoute",
];

fn misspelt(group: &str, kind: &str) -> Option<&'static str> {
    if OTHERS.contains(&kind) {
        return None;
    }
    let names = KINDS
        .iter()
        .filter(|known| known.group == group)
        .map(|known| known.name);
    near::nearest(kind, names)
}

fn fault(
    position: Position,
    severity: Severity,
    code: &'static str,
    path: &str,
    message: String,
    fix: String,
) -> Fault {
    Fault {
        position,
        severity,
        code,
        path: path.to_owned(),
        message,
        fix: Some(fix),
    }
}
