//! What an object is called.

use portcullis_attachment::{finding::Severity, object::ObjectRef};
use serde_json::{Value as Json, json};

use crate::{
    kinds::{Kind, Which},
    place::Position,
    tree::{Node, Value},
    validate::Fault,
};

/// The namespace of objects that name none.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// An object's name, and what is wrong with it.
pub(crate) struct Identity {
    pub(crate) object: ObjectRef,
    pub(crate) faults: Vec<Fault>,
}

/// Reads `apiVersion` and `kind`.
pub(crate) fn type_of(root: &Node) -> Result<(String, String), Fault> {
    if !matches!(root.value, Value::Mapping(_)) {
        return Err(error(
            root.position,
            "not-an-object",
            "",
            "is no Kubernetes object",
            "write apiVersion, kind and metadata",
        ));
    }
    let text = |name: &str| match root.entry(name) {
        Some(entry) => match &entry.node.value {
            Value::String(text) if !text.is_empty() => Ok(text.clone()),
            _ => Err(Some(entry.node.position_under(entry.position))),
        },
        None => Err(None),
    };
    match (text("apiVersion"), text("kind")) {
        (Ok(api_version), Ok(kind)) => Ok((api_version, kind)),
        (_, Err(position)) => Err(error(
            position.unwrap_or(root.position),
            "missing-kind",
            "kind",
            "is required",
            "add \"kind\", such as kind: HTTPRoute",
        )),
        (Err(position), _) => Err(error(
            position.unwrap_or(root.position),
            "missing-api-version",
            "apiVersion",
            "is required",
            "add \"apiVersion\", such as apiVersion: gateway.networking.k8s.io/v1",
        )),
    }
}

/// `Kind namespace/name` of an object, as far as it can be read.
pub(crate) fn display(kind: &str, root: &Node) -> String {
    let metadata = root.get("metadata");
    let text = |name: &str| metadata.and_then(|metadata| metadata.get(name)).and_then(Node::as_str);
    let cluster_scoped = crate::kinds::KINDS
        .iter()
        .any(|known| known.name == kind && !known.namespaced);
    match (text("namespace"), text("name")) {
        (_, None) => kind.to_owned(),
        (_, Some(name)) if cluster_scoped => format!("{kind} {name}"),
        (namespace, Some(name)) => format!("{kind} {}/{name}", namespace.unwrap_or(DEFAULT_NAMESPACE)),
    }
}

/// Names an object of a kind, completes its stored form (`apiVersion`, `metadata.namespace`) and checks its metadata.
pub(crate) fn identify(root: &Node, kind: &Kind, json: &mut Json) -> Identity {
    let mut faults = Vec::new();
    let metadata = root.entry("metadata");
    let at = metadata.map_or(root.position, |entry| entry.node.position_under(entry.position));
    let text = |name: &str| {
        let entry = metadata.and_then(|metadata| metadata.node.entry(name))?;
        let text = entry.node.as_str()?;
        Some((text.to_owned(), entry.node.position_under(entry.position)))
    };
    let name = text("name").filter(|(name, _)| !name.is_empty());
    match &name {
        // A name of another type is reported by the schema.
        None if metadata.is_some_and(|entry| entry.node.entry("name").is_some()) => {}
        None => faults.push(error(
            at,
            "missing-name",
            "metadata.name",
            "is required",
            "add \"name\"",
        )),
        Some((name, position)) => faults.extend(check_name(kind.which, name, *position)),
    }
    let namespace = text("namespace").filter(|_| kind.namespaced);
    if let Some((namespace, position)) = &namespace
        && !is_label(namespace)
    {
        faults.push(invalid_name(
            *position,
            "metadata.namespace",
            namespace,
            "of a namespace",
            &label(namespace),
        ));
    }
    let name = name.map(|(name, _)| name).unwrap_or_default();
    let namespace = match namespace {
        Some((namespace, _)) => namespace,
        None if kind.namespaced => DEFAULT_NAMESPACE.to_owned(),
        None => String::new(),
    };
    if let Some(fields) = json.as_object_mut() {
        // The types know one version.
        fields.insert("apiVersion".to_owned(), json!(kind.api_version()));
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut().filter(|_| kind.namespaced) {
            metadata.insert("namespace".to_owned(), json!(namespace));
        }
    }
    Identity {
        object: ObjectRef::new(kind.name, namespace, name),
        faults,
    }
}

fn check_name(which: Which, name: &str, position: Position) -> Option<Fault> {
    let path = "metadata.name";
    match which {
        Which::Namespace if !is_label(name) => Some(invalid_name(position, path, name, "of a namespace", &label(name))),
        Which::Service if !is_label(name) || name.starts_with(|c: char| c.is_ascii_digit()) => {
            Some(invalid_name(position, path, name, "of a Service", &label(name)))
        }
        _ if !is_subdomain(name) => {
            let mended = name.split('.').map(label).collect::<Vec<_>>().join(".");
            Some(invalid_name(position, path, name, "of an object", &mended))
        }
        _ => None,
    }
}

fn invalid_name(position: Position, path: &str, name: &str, what: &str, mended: &str) -> Fault {
    let fix = if is_subdomain(mended) && mended != name {
        format!("write {mended:?}")
    } else {
        "write lower-case letters, digits and \"-\"".to_owned()
    };
    error(
        position,
        "invalid-name",
        path,
        &format!("{name:?} is not the name {what}"),
        &fix,
    )
}

/// RFC 1123: up to 63 lower-case letters, digits and hyphens, none of them at an end.
fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.len() <= 63 && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Labels with dots between them, up to 253 characters; a label of a name may be as long as the name.
fn is_subdomain(text: &str) -> bool {
    let is_part = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty() && part.chars().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_part)
}

/// The label that was probably meant.
fn label(text: &str) -> String {
    let lower = text.to_lowercase();
    let mended: String = lower
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '-'
            }
        })
        .collect();
    mended.trim_matches('-').to_owned()
}

fn error(position: Position, code: &'static str, path: &str, message: &str, fix: &str) -> Fault {
    Fault {
        position,
        severity: Severity::Error,
        code,
        path: path.to_owned(),
        message: message.to_owned(),
        fix: Some(fix.to_owned()),
    }
}
