use std::sync::Arc;

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::json;

use super::*;
use crate::{object::PolicyKind, snapshot::Snapshot};

const CHILD: Author<'static> = Author {
    kind: PolicyKind::SecurityPolicy,
    namespace: "shop",
    name: "child",
};
const PARENT: Author<'static> = Author {
    kind: PolicyKind::SecurityPolicy,
    namespace: "edge",
    name: "parent",
};

fn spec(merge_type: Option<&str>, features: &Json) -> AccessPolicySpec {
    let mut spec = features.clone();
    if let Some(merge_type) = merge_type {
        spec["mergeType"] = merge_type.into();
    }
    serde_json::from_value(spec).unwrap()
}

fn source<'a>(author: Author<'a>, spec: &'a AccessPolicySpec) -> Source<'a> {
    Source {
        author,
        spec: &spec.policy,
        extension: Some(&spec.extension),
    }
}

/// The merged spec as JSON.
fn outcome(merge_type: &str, child: &Json, parent: &Json) -> Json {
    let (child, parent) = (spec(Some(merge_type), child), spec(None, parent));
    serde_json::to_value(merge(source(CHILD, &child), source(PARENT, &parent)).unwrap()).unwrap()
}

fn secret(namespace: &str, name: &str, key: &str, value: &str) -> Arc<Secret> {
    Arc::new(Secret {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        string_data: Some([(key.to_owned(), value.to_owned())].into()),
        ..Secret::default()
    })
}

/// What is delivered, with Secrets of both namespaces.
fn built_of(child: &Json, parent: Option<&Json>) -> Build {
    let snapshot = Snapshot {
        secrets: vec![
            secret("shop", "keys", "bob", "key-of-bob"),
            secret("edge", "keys", "eve", "key-of-eve"),
            secret("shop", "users", ".htpasswd", "bob:{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=\n"),
            secret("edge", "users", ".htpasswd", "eve:{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=\n"),
        ],
        ..Snapshot::default()
    };
    let references = References::new(&snapshot);
    let child = spec(Some("StrategicMerge"), child);
    let parent = parent.map(|parent| spec(None, parent));
    merged(
        source(CHILD, &child),
        parent.as_ref().map(|parent| source(PARENT, parent)).ok_or(PARENT),
        "0".repeat(64),
        &references,
    )
}

/// Every row is the same for both merge types.
#[test]
fn maps_merge_and_lists_are_replaced() {
    let rows = [
        // A feature that the child does not have is the parent's.
        (
            json!({"csrf": {}}),
            json!({"cors": {"allowOrigins": ["https://a.example.com"]}}),
            json!({"csrf": {}, "cors": {"allowOrigins": ["https://a.example.com"]}}),
        ),
        // Objects merge key by key, scalars are the child's, lists are replaced whole.
        (
            json!({"cors": {"allowOrigins": ["https://b.example.com"], "maxAge": "1h"}}),
            json!({"cors": {"allowOrigins": ["https://a.example.com"], "allowMethods": ["GET"], "maxAge": "1m"}}),
            json!({"cors": {"allowOrigins": ["https://b.example.com"], "allowMethods": ["GET"], "maxAge": "1h"}}),
        ),
        // To any depth.
        (
            json!({"csrf": {"shadowFraction": {"numerator": 1, "denominator": 2}}}),
            json!({"csrf": {"shadowFraction": {"numerator": 5, "denominator": 9}, "additionalOrigins": ["https://a.example.com"]}}),
            json!({"csrf": {"shadowFraction": {"numerator": 1, "denominator": 2}, "additionalOrigins": ["https://a.example.com"]}}),
        ),
        // Rules are a list.
        (
            json!({"authorization": {"defaultAction": "Allow", "rules": [{"action": "Deny", "cel": "true"}]}}),
            json!({"authorization": {"rules": [{"action": "Allow", "cel": "false"}]}}),
            json!({"authorization": {"defaultAction": "Allow", "rules": [{"action": "Deny", "cel": "true"}]}}),
        ),
        // What the child leaves out of the default action is Deny, whatever the parent says; rules stay.
        (
            json!({"authorization": {}}),
            json!({"authorization": {"defaultAction": "Allow", "rules": [{"action": "Deny", "cel": "true"}]}}),
            json!({"authorization": {"rules": [{"action": "Deny", "cel": "true"}]}}),
        ),
        // A child without authorization does not touch it.
        (
            json!({"csrf": {}}),
            json!({"authorization": {"defaultAction": "Allow"}}),
            json!({"csrf": {}, "authorization": {"defaultAction": "Allow"}}),
        ),
        // A reference is an object: the parent's namespace survives under the child's name.
        (
            json!({"basicAuth": {"users": {"name": "child"}}}),
            json!({"basicAuth": {"users": {"name": "parent", "namespace": "vault"}, "forwardUsernameHeader": "x-user"}}),
            json!({"basicAuth": {"users": {"group": "", "kind": "Secret", "name": "child", "namespace": "vault"}, "forwardUsernameHeader": "x-user"}}),
        ),
        // Credentials and places of keys are lists.
        (
            json!({"apiKeyAuth": {"credentialRefs": [{"name": "a"}], "extractFrom": [{"headers": ["x-a"]}]}}),
            json!({"apiKeyAuth": {"credentialRefs": [{"name": "b"}, {"name": "c"}], "extractFrom": [{"params": ["b"]}], "sanitize": true}}),
            json!({"apiKeyAuth": {"credentialRefs": [{"group": "", "kind": "Secret", "name": "a"}], "extractFrom": [{"headers": ["x-a"]}], "sanitize": true}}),
        ),
        // Two transports of external authorization come together; what is built of that is invalid.
        (
            json!({"extAuth": {"grpc": {"backendRefs": [{"name": "a", "port": 1}]}}}),
            json!({"extAuth": {"http": {"path": "/p"}, "failOpen": true}}),
            json!({"extAuth": {"grpc": {"backendRefs": [{"group": "", "kind": "Service", "name": "a", "port": 1, "weight": 1}]}, "http": {"path": "/p"}, "failOpen": false}}),
        ),
        // What only an AccessPolicy has merges like the rest; targets, layers and the merge type itself do not.
        (
            json!({"anyOf": ["basicAuth", "apiKeyAuth"]}),
            json!({"anyOf": ["apiKeyAuth", "basicAuth"], "apiKeyExpiry": [{"clientID": "eve", "notAfter": "2027-01-31T00:00:00Z"}], "baseline": true}),
            json!({"anyOf": ["basicAuth", "apiKeyAuth"], "apiKeyExpiry": [{"clientID": "eve", "notAfter": "2027-01-31T00:00:00Z"}]}),
        ),
    ];
    for merge_type in ["StrategicMerge", "JSONMerge"] {
        for (child, parent, expected) in &rows {
            let expected = serde_json::to_value(spec(None, expected)).unwrap();
            assert_eq!(
                outcome(merge_type, child, parent),
                expected,
                "{merge_type} of {child} on {parent}"
            );
        }
    }
}

#[test]
fn the_extensions_of_a_context_have_names() {
    let extension = |name: &str, value: &str| json!({"name": name, "type": "Value", "value": value});
    let child = json!({"extAuth": {"contextExtensions": [extension("b", "child"), extension("c", "child")]}});
    let parent = json!({"extAuth": {"contextExtensions": [extension("a", "parent"), extension("b", "parent")]}});
    for (merge_type, expected) in [
        (
            "StrategicMerge",
            vec![
                extension("b", "child"),
                extension("c", "child"),
                extension("a", "parent"),
            ],
        ),
        ("JSONMerge", vec![extension("b", "child"), extension("c", "child")]),
    ] {
        let found = outcome(merge_type, &child, &parent);
        assert_eq!(found["extAuth"]["contextExtensions"], json!(expected), "{merge_type}");
    }
}

#[test]
fn a_part_belongs_to_who_sets_it() {
    let auth = json!({"credentialRefs": [{"name": "keys"}], "extractFrom": [{"headers": ["x-api-key"]}]});
    let both = json!({
        "apiKeyAuth": auth,
        "basicAuth": {"users": {"name": "users"}},
        "authorization": {"rules": [{"action": "Allow", "principal": {"clientCIDRs": ["10.0.0.0/8"]}}]},
    });
    for (child, parent, client, user, rule) in [
        (json!({"csrf": {}}), &both, "eve", "eve", "edge/parent"),
        (json!({"apiKeyAuth": auth}), &both, "bob", "eve", "edge/parent"),
        (
            json!({"basicAuth": {"users": {"name": "users"}}}),
            &both,
            "eve",
            "bob",
            "edge/parent",
        ),
        (
            json!({"authorization": {"defaultAction": "Allow"}}),
            &both,
            "eve",
            "eve",
            "edge/parent",
        ),
        (both.clone(), &both, "bob", "bob", "shop/child"),
        (both.clone(), &json!({}), "bob", "bob", "shop/child"),
    ] {
        let build = built_of(&child, Some(parent));
        assert_eq!(build.faults, [], "{child}");
        assert_eq!(build.document.policy, "shop/child");
        assert_eq!(build.secrets.api_keys[0].id, client, "{child}");
        assert_eq!(build.secrets.users[0].name, user, "{child}");
        let name = format!("securitypolicy/{rule}/authorization/rule/0");
        assert_eq!(build.document.authorization.unwrap().rules[0].name, name, "{child}");
    }
}

#[test]
fn a_child_cannot_reach_into_a_namespace_through_its_parent() {
    let parent = json!({"basicAuth": {"users": {"name": "users", "namespace": "edge"}}});
    let build = built_of(&json!({"basicAuth": {"users": {"name": "users"}}}), Some(&parent));
    assert_eq!(build.faults[0].code, "reference-not-permitted");
    assert_eq!(build.notices[0].code, "merge-namespace");
}

#[test]
fn a_default_action_that_turns_is_told() {
    let parent = json!({"authorization": {"defaultAction": "Allow"}});
    let rules = json!([{"action": "Allow", "principal": {"clientCIDRs": ["10.0.0.0/8"]}}]);
    let codes = |child: Json, parent: &Json| -> Vec<&str> {
        let build = built_of(&child, Some(parent));
        build.notices.iter().map(|notice| notice.code).collect()
    };
    assert_eq!(
        codes(json!({"authorization": {"rules": rules}}), &parent),
        ["merge-default-action"]
    );
    assert!(
        codes(
            json!({"authorization": {"rules": rules, "defaultAction": "Deny"}}),
            &parent
        )
        .is_empty()
    );
    assert!(codes(json!({"csrf": {}}), &parent).is_empty());
    assert!(
        codes(
            json!({"authorization": {"rules": rules}}),
            &json!({"authorization": {}})
        )
        .is_empty()
    );
}

#[test]
fn what_cannot_be_merged_refuses() {
    let cors = json!({"cors": {"allowOrigins": ["https://a.example.com"]}});
    let build = built_of(&cors, None);
    assert_eq!(build.faults[0].code, "parent-invalid");
    assert_eq!(
        build.message(false),
        "Error merging policies: SecurityPolicy edge/parent is invalid or in conflict."
    );
    assert!(build.document.cors.is_some(), "browsers can read the refusal");

    let both = built_of(
        &json!({"extAuth": {"grpc": {"backendRefs": [{"name": "a", "port": 1}]}}}),
        Some(&json!({"extAuth": {"http": {"backendRefs": [{"name": "a", "port": 1}]}}})),
    );
    assert_eq!(
        both.message(false),
        "ExtAuth: only one of grpc or http can be specified."
    );

    let unknown = spec(Some("Whatever"), &cors);
    let fault = merge(source(CHILD, &unknown), source(PARENT, &unknown)).unwrap_err();
    assert_eq!(fault.code, "merge-failed");
}

#[test]
fn an_expiry_of_the_parent_holds_for_the_clients_that_are_left() {
    let auth = json!({"credentialRefs": [{"name": "keys"}], "extractFrom": [{"headers": ["x-api-key"]}]});
    let expiry = |id: &str| json!([{"clientID": id, "notAfter": "2027-01-31T00:00:00Z"}]);
    // Of the parent's clients.
    let parent = json!({"apiKeyAuth": auth, "apiKeyExpiry": expiry("eve")});
    let build = built_of(&json!({"csrf": {}}), Some(&parent));
    assert_eq!(build.secrets.api_keys[0].not_after, Some(1_801_353_600));
    // The child has other clients, and the parent's expiry is no fault of it.
    let build = built_of(&json!({"apiKeyAuth": auth}), Some(&parent));
    assert_eq!(build.faults, []);
    assert_eq!(build.secrets.api_keys[0].not_after, None);
    // A client of the same name ends all the same.
    let parent = json!({"apiKeyAuth": auth, "apiKeyExpiry": expiry("bob")});
    let build = built_of(&json!({"apiKeyAuth": auth}), Some(&parent));
    assert_eq!(build.secrets.api_keys[0].not_after, Some(1_801_353_600));
    // The child's own must name a client.
    let build = built_of(
        &json!({"apiKeyAuth": auth, "apiKeyExpiry": expiry("eve")}),
        Some(&json!({})),
    );
    assert_eq!(build.faults[0].code, "unknown-client");
}

#[test]
fn one_of_several_methods_may_be_the_parents() {
    let auth = json!({"credentialRefs": [{"name": "keys"}], "extractFrom": [{"headers": ["x-api-key"]}]});
    let child = json!({"apiKeyAuth": auth, "anyOf": ["apiKeyAuth", "basicAuth"]});
    let build = built_of(&child, Some(&json!({"basicAuth": {"users": {"name": "users"}}})));
    assert_eq!(build.faults, []);
    assert_eq!(build.document.any_of.len(), 2);
    assert_eq!(
        built_of(&child, Some(&json!({}))).faults[0].code,
        "method-not-configured"
    );
}
