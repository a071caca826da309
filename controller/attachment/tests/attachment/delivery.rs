//! The form in which policies are delivered: names, salts, secrets, sizes.

use std::sync::Arc;

use k8s_openapi::ByteString;
use portcullis_attachment::{
    effective::{Attachment, EffectivePolicy, Options, attach, none},
    snapshot::Snapshot,
};

use crate::world::{World, options, parse};

const OBJECTS: &str = r#"
kind: Gateway
metadata: {namespace: shop, name: public}
spec: {gatewayClassName: portcullis, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
kind: HTTPRoute
metadata: {namespace: shop, name: orders}
spec: {parentRefs: [{name: public}]}
---
kind: Secret
metadata: {namespace: shop, name: keys}
stringData: {bob: plaintext-key-of-bob}
---
kind: SecurityPolicy
metadata: {namespace: shop, name: orders, uid: 7c3f2b1e-0000-4000-8000-000000000001}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}]
  apiKeyAuth: {credentialRefs: [{name: keys}], extractFrom: [{headers: [x-api-key]}]}
"#;

fn only(attachment: &Attachment) -> Arc<EffectivePolicy> {
    assert_eq!(attachment.policies.len(), 1);
    Arc::clone(attachment.policies.values().next().unwrap())
}

fn delivered(snapshot: &Snapshot, options: &Options) -> Arc<EffectivePolicy> {
    let bindings = portcullis_attachment::binding::bind(snapshot, &options.controller_name);
    only(&attach(snapshot, &bindings, options))
}

/// The objects with their only policy changed.
fn changed(change: impl Fn(&mut portcullis_api::security_policy::SecurityPolicy)) -> Snapshot {
    let mut snapshot = parse(OBJECTS);
    change(Arc::make_mut(&mut snapshot.security_policies[0]));
    snapshot
}

#[test]
fn the_name_depends_on_key_identity_document_and_secrets_alone() {
    let policy = delivered(&parse(OBJECTS), &options());
    assert_eq!(policy, delivered(&parse(OBJECTS), &options()));
    let other_key = Options {
        salt_key: [8; 32],
        ..options()
    };
    let mut other_secret = parse(OBJECTS);
    Arc::make_mut(&mut other_secret.secrets[0]).string_data = Some([("bob".to_owned(), "other".to_owned())].into());
    let others = [
        delivered(&parse(OBJECTS), &other_key),
        delivered(
            &changed(|policy| policy.metadata.uid = Some("another".to_owned())),
            &options(),
        ),
        delivered(&changed(|policy| policy.metadata.uid = None), &options()),
        delivered(
            &changed(|policy| policy.metadata.name = Some("other".to_owned())),
            &options(),
        ),
        delivered(
            &changed(|policy| policy.spec.cors = Some(Default::default())),
            &options(),
        ),
        delivered(&other_secret, &options()),
    ];
    for other in others {
        assert_ne!(other.hash, policy.hash, "{}", other.document);
    }
    let labelled = changed(|policy| policy.metadata.labels = Some([("team".to_owned(), "sales".to_owned())].into()));
    assert_eq!(delivered(&labelled, &options()), policy, "labels are no part of it");
}

#[test]
fn a_policy_without_uid_is_known_by_its_name() {
    let without = |name: &str| {
        let snapshot = changed(|policy| {
            policy.metadata.uid = None;
            policy.metadata.name = Some(name.to_owned());
        });
        delivered(&snapshot, &options()).secrets.clone()
    };
    assert_eq!(without("one"), without("one"));
    assert_ne!(without("one"), without("two"), "the salts differ");
}

#[test]
fn no_key_is_in_either_part() {
    let policy = delivered(&parse(OBJECTS), &options());
    for part in [&policy.document, &policy.secrets] {
        assert!(!part.contains("plaintext-key-of-bob"));
    }
    assert!(!policy.document.contains("bob"), "clients are in the secret part");
    assert!(policy.secrets.contains("bob"), "which this test would find");
    assert!(
        !policy.secrets.contains(&"07".repeat(32)),
        "nor is the key of the salts"
    );
}

#[test]
fn places_without_a_policy_share_one_that_depends_on_the_key() {
    let open = none(&options());
    assert_eq!(open.policy, "none");
    assert_eq!(open.document, r#"{"version":1,"policy":"none"}"#);
    assert!(!open.refuses);
    let other = none(&Options {
        salt_key: [8; 32],
        ..options()
    });
    assert_ne!(open.hash, other.hash);
    let mut snapshot = parse(OBJECTS);
    snapshot.security_policies.clear();
    assert_eq!(delivered(&snapshot, &options()), open);
}

#[test]
fn a_refusing_document_holds_no_credentials() {
    let invalid = changed(|policy| policy.spec.jwt = Some(Default::default()));
    let policy = delivered(&invalid, &options());
    assert!(policy.refuses);
    assert!(!policy.secrets.contains("apiKeys"));
    assert!(!policy.document.contains("apiKey"));
}

#[test]
fn a_policy_that_a_proxy_would_not_read_is_refused_with_its_size() {
    let mut snapshot = parse(OBJECTS);
    let clients = (0..3000).map(|index| (format!("client-{index:04}"), ByteString(format!("key-{index}").into())));
    Arc::make_mut(&mut snapshot.secrets[0]).data = Some(clients.collect());
    let world = World::new(&snapshot);
    assert!(only(&world.attachment).refuses);
    let finding = &world.attachment.findings[0];
    assert_eq!((finding.code, finding.path.as_str()), ("policy-too-large", "spec"));
    assert!(
        finding.message.ends_with(" bytes, more than 262144"),
        "{}",
        finding.message
    );
}
