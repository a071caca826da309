//! A policy merged with the one above it (`spec.mergeType`), as Envoy Gateway merges them.

use portcullis_api::{
    access_policy::{AccessPolicySpec, Extension},
    security_policy::{AuthorizationAction, MergeType, SecurityPolicySpec},
};
use serde_json::{Map, Value as Json};

use super::{Author, Build, Owners, built};
use crate::{
    fault::{Fault, Feature, Notice},
    reference::References,
};

/// A policy as it was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) author: Author<'a>,
    pub(crate) spec: &'a SecurityPolicySpec,
    pub(crate) extension: Option<&'a Extension>,
}

/// Builds what comes out when `child` is merged with the policy above it, in the child's name.
///
/// `Err` names a parent that is unreadable or invalid: what the author of that policy meant cannot be told, so the
/// outcome refuses.
pub(crate) fn merged(
    child: Source<'_>,
    parent: Result<Source<'_>, Author<'_>>,
    salt: String,
    references: &References<'_>,
) -> Build {
    let outcome = match parent {
        Ok(parent) => merge(child, parent).map(|merged| (merged, parent)),
        Err(parent) => Err(Fault {
            feature: Feature::Whole,
            code: "parent-invalid",
            path: "spec.mergeType".to_owned(),
            message: format!(
                "{} is invalid or in conflict, and so is what is merged with it",
                parent.title()
            ),
            fix: Some("repair that policy, or remove mergeType".to_owned()),
            condition: format!(
                "error merging policies: {} {}/{} is invalid or in conflict",
                parent.kind.name(),
                parent.namespace,
                parent.name
            ),
        }),
    };
    match outcome {
        Ok((merged, parent)) => {
            let owners = owners(child, parent);
            let extension = (merged.extension != Extension::default()).then_some(&merged.extension);
            let mut build = built(child.author, owners, &merged.policy, extension, salt, references);
            build.notices.extend(notices(child, parent));
            build
        }
        Err(fault) => {
            let cors = SecurityPolicySpec {
                cors: child.spec.cors.clone(),
                ..SecurityPolicySpec::default()
            };
            let owners = owners(child, child);
            let mut build = built(child.author, owners, &cors, None, salt, references);
            build.faults.insert(0, fault);
            build
        }
    }
}

/// The merged spec; it has neither targets nor a merge type.
fn merge(child: Source<'_>, parent: Source<'_>) -> Result<AccessPolicySpec, Fault> {
    let failed = |why: &str| Fault {
        feature: Feature::Whole,
        code: "merge-failed",
        path: "spec.mergeType".to_owned(),
        message: format!("merging with {} failed: {why}", parent.author.title()),
        fix: Some("remove mergeType, and write the policy out".to_owned()),
        condition: format!("error merging policies: {why}"),
    };
    let strategic = match child.spec.merge_type {
        Some(MergeType::StrategicMerge) => true,
        Some(MergeType::JsonMerge) => false,
        None | Some(MergeType::Replace | MergeType::Unknown) => {
            return Err(failed("the merge type is not StrategicMerge or JSONMerge"));
        }
    };
    let mut base = fields(parent).map_err(|error| failed(&error.to_string()))?;
    let mut patch = fields(child).map_err(|error| failed(&error.to_string()))?;
    // Envoy Gateway always writes this field: absent in the child, it removes the parent's.
    if let Some(Json::Object(authorization)) = patch.get_mut("authorization") {
        authorization.entry("defaultAction").or_insert(Json::Null);
    }
    if strategic {
        merge_extensions(&base, &mut patch);
    }
    apply(&mut base, patch);
    serde_json::from_value(Json::Object(base)).map_err(|error| failed(&error.to_string()))
}

/// What of a policy takes part in a merge.
fn fields(source: Source<'_>) -> Result<Map<String, Json>, serde_json::Error> {
    let policy = AccessPolicySpec {
        policy: source.spec.clone(),
        extension: source.extension.cloned().unwrap_or_default(),
    };
    let mut fields = match serde_json::to_value(policy)? {
        Json::Object(fields) => fields,
        _ => Map::new(),
    };
    for own in [
        "targetRef",
        "targetRefs",
        "targetSelectors",
        "mergeType",
        "baseline",
        "shadow",
    ] {
        fields.remove(own);
    }
    Ok(fields)
}

/// Applies a JSON merge patch (RFC 7386); a strategic merge patch is the same where lists have no key.
fn apply(base: &mut Map<String, Json>, patch: Map<String, Json>) {
    for (name, value) in patch {
        match (base.get_mut(&name), value) {
            (_, Json::Null) => {
                base.remove(&name);
            }
            (Some(Json::Object(base)), Json::Object(patch)) => apply(base, patch),
            (_, Json::Object(patch)) => {
                let mut fresh = Map::new();
                apply(&mut fresh, patch);
                base.insert(name, Json::Object(fresh));
            }
            (_, value) => {
                base.insert(name, value);
            }
        }
    }
}

/// The one list with a key, `extAuth.contextExtensions`: the child's entries, then those that only the parent names.
fn merge_extensions(base: &Map<String, Json>, patch: &mut Map<String, Json>) {
    const LIST: &str = "contextExtensions";
    let of_parent = base
        .get("extAuth")
        .and_then(|auth| auth.get(LIST))
        .and_then(Json::as_array);
    let of_child = patch.get_mut("extAuth").and_then(|auth| auth.get_mut(LIST));
    let (Some(of_parent), Some(Json::Array(of_child))) = (of_parent, of_child) else {
        return;
    };
    for extension in of_parent {
        let name = extension.get("name");
        if !of_child.iter().any(|other| other.get("name") == name) {
            of_child.push(extension.clone());
        }
    }
}

/// Each part belongs to the child if the child sets it, else to the parent.
fn owners<'a>(child: Source<'a>, parent: Source<'a>) -> Owners<'a> {
    let owner = |of_child: bool| if of_child { child.author } else { parent.author };
    let rules = child.spec.authorization.as_ref();
    Owners {
        basic_auth: owner(child.spec.basic_auth.is_some()),
        api_key: owner(child.spec.api_key_auth.is_some()),
        jwt: owner(child.spec.jwt.is_some()),
        rules: owner(rules.is_some_and(|authorization| !authorization.rules.is_empty())),
        expiry: owner(
            child
                .extension
                .is_some_and(|extension| !extension.api_key_expiry.is_empty()),
        ),
        tokens: owner(
            child
                .extension
                .is_some_and(|extension| !extension.token_requirements.is_empty()),
        ),
    }
}

/// What surprises whoever reads only one of the two policies.
fn notices(child: Source<'_>, parent: Source<'_>) -> Vec<Notice> {
    let mut notices = Vec::new();
    let authorization = |source: Source<'_>| source.spec.authorization.clone();
    if let (Some(of_child), Some(of_parent)) = (authorization(child), authorization(parent))
        && of_child.default_action.is_none()
        && of_parent.default_action == Some(AuthorizationAction::Allow)
    {
        let path = "spec.authorization.defaultAction";
        notices.push(Notice {
            code: "merge-default-action",
            path: path.to_owned(),
            message: format!(
                "is left out, so it is Deny and not the Allow of {}",
                parent.author.title()
            ),
            fix: "write defaultAction: Deny, or Allow".to_owned(),
            condition: Some((
                "DefaultActionDeny",
                format!(
                    "{path} is left out, so it is Deny and not the Allow of {}",
                    parent.author.title()
                ),
            )),
        });
    }
    if let (Some(of_child), Some(of_parent)) = (&child.spec.basic_auth, &parent.spec.basic_auth)
        && of_child.users.namespace.is_none()
        && let Some(namespace) = &of_parent.users.namespace
    {
        let path = "spec.basicAuth.users.namespace";
        notices.push(Notice {
            code: "merge-namespace",
            path: "spec.basicAuth.users".to_owned(),
            message: format!(
                "has no namespace, so it has {namespace:?}, that of {}",
                parent.author.title()
            ),
            fix: format!("write namespace: {}", child.author.namespace),
            condition: Some((
                "InheritedNamespace",
                format!(
                    "{path} is left out, so it is {namespace:?}, that of {}",
                    parent.author.title()
                ),
            )),
        });
    }
    if let (Some(of_child), Some(of_parent)) = (&child.spec.jwt, &parent.spec.jwt) {
        let inherited = [
            ("optional", of_child.optional, of_parent.optional),
            ("failOpen", of_child.fail_open, of_parent.fail_open),
        ];
        for (field, own, from_parent) in inherited {
            if own.is_none() && from_parent == Some(true) {
                let path = format!("spec.jwt.{field}");
                let message = format!("is left out, so it is true, as in {}", parent.author.title());
                notices.push(Notice {
                    code: "merge-jwt",
                    condition: Some(("InheritedOptional", format!("{path} {message}"))),
                    path,
                    message,
                    fix: format!("write {field}: false, or true"),
                });
            }
        }
    }
    notices
}

#[cfg(test)]
mod tests;
