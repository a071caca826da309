//! The policy that a route ends up with.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hmac::{Hmac, KeyInit, Mac};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use portcullis_api::{access_policy::Extension, security_policy::SecurityPolicySpec};
use portcullis_engine::{
    document::{self, Document, Secrets},
    seal,
};
use sha2::Sha256;

use crate::{
    binding::Bindings,
    claims::{Claims, Layer},
    connection::Admission,
    cors_filter,
    document::{Author, Build, Source, build, hex},
    fault::{Fault, Feature},
    finding::{Finding, Severity},
    geography::Geography,
    key_server::KeyServer,
    memory::{Memory, Origin},
    object::{self, ListenerRef, ObjectRef, PolicyKind},
    policy_status,
    recipe::Composer,
    reference::References,
    selecting::Selecting,
    snapshot::{BrokenPolicy, Snapshot},
    status::ObjectStatus,
    target::{Aims, Object, Reference, Section, Slot, TargetKind, Targets},
};

/// What the attachment needs to know beside the objects.
#[derive(Clone)]
pub struct Options {
    /// The controller's name: only Gateways of its classes count.
    pub controller_name: String,
    /// The key from which every policy's salt is derived; shared by replicas, never written to Envoy.
    pub salt_key: [u8; 32],
}

/// One place of a route table: a rule of a route on a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The listener.
    pub listener: ListenerRef,
    /// The route.
    pub route: ObjectRef,
    /// The index of the rule; a route without rules has one, which matches every path.
    pub rule: usize,
}

/// A policy as it is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectivePolicy {
    /// The name on the route: `portcullis_engine::seal::hash` of the two parts.
    pub hash: String,
    /// The serialized [`portcullis_engine::document::Document`].
    pub document: String,
    /// The serialized [`portcullis_engine::document::Secrets`]; never printed.
    pub secrets: String,
    /// The policy's identity, `namespace/name`, or `none`.
    pub policy: String,
    /// Whether it refuses every request because the policy could not be enforced whole.
    pub refuses: bool,
    /// The policy that it enforces, or refuses for; absent where no policy covers the place.
    pub enforced: Option<ObjectRef>,
    /// The policy above it that it is merged with (`spec.mergeType`).
    pub merged: Option<ObjectRef>,
    /// The Gateway's baseline, which must admit a request as well.
    pub baseline: Option<ObjectRef>,
    /// The policy that is evaluated beside it and changes nothing.
    pub shadow: Option<ObjectRef>,
    /// The servers of keys that the document names.
    pub key_servers: Vec<Arc<KeyServer>>,
    /// What the policies in it say of the headers by which claims select routes.
    pub selecting: Vec<Selecting>,
}

impl EffectivePolicy {
    /// The policies in it that have rules on certificates of clients.
    #[must_use]
    pub fn asking_for_certificates(&self) -> Vec<ObjectRef> {
        let asks = |document: &Document| {
            let mut rules = document
                .authorization
                .iter()
                .flat_map(|authorization| &authorization.rules);
            rules.any(|rule| rule.certificate.is_some())
        };
        // Most say nothing of them, and reading a document takes its time.
        if !self.document.contains("\"certificate\"") {
            return Vec::new();
        }
        let Ok(document) = serde_json::from_str::<Document>(&self.document) else {
            return Vec::new();
        };
        let parts = [
            (Some(&document), &self.enforced),
            (document.baseline.as_deref(), &self.baseline),
            (document.shadow.as_deref(), &self.shadow),
        ];
        let asking = parts.into_iter().filter(|(document, _)| document.is_some_and(asks));
        asking.filter_map(|(_, policy)| policy.clone()).collect()
    }
}

/// Which policy applies where, and what the policies' authors are told.
#[derive(Clone, Debug, Default)]
pub struct Attachment {
    /// The policy of every bound place of HTTP and gRPC; a place that no policy covers has the explicit `none` policy.
    pub policies: BTreeMap<Place, Arc<EffectivePolicy>>,
    /// Who may connect, at every bound place of a TCPRoute.
    pub connections: BTreeMap<Place, Arc<Admission>>,
    /// The status of every policy that targets something of ours.
    pub statuses: Vec<ObjectStatus>,
    /// Faults of policies.
    pub findings: Vec<Finding>,
}

/// One policy with everything that is known about it alone.
pub(crate) struct Candidate<'a> {
    pub(crate) object: ObjectRef,
    pub(crate) metadata: &'a ObjectMeta,
    /// Whether it uses the deprecated `spec.targetRef`.
    pub(crate) single_target: bool,
    /// Whether it has selectors, which may rightly hit nothing.
    pub(crate) selects: bool,
    pub(crate) aims: Aims,
    /// What it comes to by itself.
    pub(crate) build: Arc<Build>,
    pub(crate) origin: Origin,
    /// As it was written, if it could be read.
    pub(crate) source: Result<Source<'a>, Author<'a>>,
    /// What it says that it is.
    role: Layer,
}

impl Candidate<'_> {
    /// How the policy bears on a target. A baseline that is aimed at anything but a Gateway is at fault, and refuses there
    /// like any policy at fault.
    pub(crate) fn layer(&self, slot: Slot<'_>) -> Layer {
        let on_gateway = slot.object.kind == TargetKind::Gateway && slot.section == Section::Whole;
        if self.role == Layer::Baseline && !on_gateway {
            Layer::Enforced
        } else {
            self.role
        }
    }

    /// The word for other policies in messages; Envoy Gateway knows one kind.
    pub(crate) fn others(&self) -> &'static str {
        if self.object.kind == PolicyKind::SecurityPolicy.name() {
            "securityPolicies"
        } else {
            "policies"
        }
    }

    /// What it says of the headers by which claims select routes; nothing if none do.
    pub(crate) fn selecting(&self) -> Option<Selecting> {
        let headers = match self.source {
            Ok(source) => Some(Selecting::headers(source.spec)?),
            Err(_) => None,
        };
        let mut targets = self
            .aims
            .references
            .iter()
            .map(|reference| reference.target.kind.as_str());
        Some(Selecting {
            headers,
            everywhere: targets.any(|kind| matches!(kind, "Gateway" | "ListenerSet")),
        })
    }

    /// Whether it is to be merged with the policy above it.
    pub(crate) fn merges(&self) -> bool {
        self.source.is_ok_and(|source| source.spec.merge_type.is_some())
    }
}

/// Finds the policy of every bound place.
///
/// The most specific policy of a place applies whole: rule, route, listener of a ListenerSet, ListenerSet, listener of a
/// Gateway, Gateway. A policy never leaves a place more open by being wrong: the places of one that is invalid, that
/// shares its target with another, or whose section does not exist refuse every request, unless a more specific policy
/// covers them. That holds for the Gateway's baseline too, which nothing covers. A shadow never changes an answer.
#[must_use]
pub fn attach(snapshot: &Snapshot, bindings: &Bindings, options: &Options) -> Attachment {
    Memory::default().attach(snapshot, bindings, options)
}

/// Does what [`attach`] does, with what is remembered of the last snapshot.
pub(crate) fn attach_by(
    memory: &mut Memory,
    snapshot: &Snapshot,
    bindings: &Bindings,
    options: &Options,
) -> Attachment {
    let references = References::new(snapshot);
    let targets = Targets::new(snapshot, bindings, &options.controller_name);
    let candidates = candidates(snapshot, &targets, &references, options, memory);
    let claims = Claims::new(&candidates, &targets);
    let geography = Geography::new(snapshot, &options.controller_name);
    let mut composer = Composer::new(&candidates, &claims, &references, &geography, options, memory);
    let mut policies = BTreeMap::new();
    let mut connections = BTreeMap::new();
    let filters = cors_filter::of_rules(snapshot);
    for parent in &bindings.parents {
        let Some(route) = Object::named(&parent.route) else {
            continue;
        };
        let mut filters = filters.get(&parent.route).map(Vec::as_slice).unwrap_or_default().iter();
        for (rule, name) in targets.sections(route).iter().enumerate() {
            let cors = filters.next().and_then(Option::as_ref);
            for bound in &parent.listeners {
                let place = Place {
                    listener: bound.listener.clone(),
                    route: parent.route.clone(),
                    rule,
                };
                if route.kind == TargetKind::TcpRoute {
                    connections.insert(place, composer.admission(route, *name, &bound.listener));
                } else {
                    policies.insert(place, composer.policy(route, *name, &bound.listener, cors));
                }
            }
        }
    }
    let outcome = composer.outcome();
    let mut findings = policy_status::findings(&candidates, &claims, &targets, &geography, &outcome);
    findings.extend(shared_names(snapshot));
    Attachment {
        statuses: policy_status::statuses(&candidates, &claims, &geography, &outcome),
        findings,
        policies,
        connections,
    }
}

/// Access policies that are named as a security policy is.
fn shared_names(snapshot: &Snapshot) -> impl Iterator<Item = Finding> {
    let name = |metadata: &ObjectMeta| {
        (
            object::namespace(metadata).to_owned(),
            object::name(metadata).to_owned(),
        )
    };
    let security = snapshot.security_policies.iter().map(|policy| name(&policy.metadata));
    let security: BTreeSet<(String, String)> = security.collect();
    let shared = snapshot
        .access_policies
        .iter()
        .map(move |policy| name(&policy.metadata));
    shared
        .filter(move |name| security.contains(name))
        .map(|(namespace, name)| Finding {
            severity: Severity::Warning,
            code: "shared-policy-name",
            object: ObjectRef::new("AccessPolicy", &namespace, &name),
            path: "metadata.name".to_owned(),
            message: format!(
                "SecurityPolicy {namespace}/{name} has this name too; logs and metrics do not tell the two apart"
            ),
            fix: Some("give one of the two another name".to_owned()),
        })
}

/// The policy of places that no policy covers: admits every request, says so.
#[must_use]
pub fn none(options: &Options) -> Arc<EffectivePolicy> {
    let (document, secrets) = open(&options.salt_key);
    Arc::new(deliver(&document, &secrets))
}

/// The explicit `none` policy.
pub(crate) fn open(salt_key: &[u8; 32]) -> (Document, Secrets) {
    let document = Document {
        version: document::VERSION,
        policy: "none".to_owned(),
        ..Document::default()
    };
    let secrets = Secrets {
        salt: salt(salt_key, "none"),
        ..Secrets::default()
    };
    (document, secrets)
}

/// Every policy, oldest first.
fn candidates<'a>(
    snapshot: &'a Snapshot,
    targets: &Targets<'a>,
    references: &References<'_>,
    options: &Options,
    memory: &mut Memory,
) -> Vec<Candidate<'a>> {
    let security = snapshot.security_policies.iter().map(|policy| Written {
        kind: PolicyKind::SecurityPolicy,
        metadata: &policy.metadata,
        origin: Origin::Security(Arc::clone(policy)),
        body: Body::Whole(&policy.spec, None),
    });
    let access = snapshot.access_policies.iter().map(|policy| Written {
        kind: PolicyKind::AccessPolicy,
        metadata: &policy.metadata,
        origin: Origin::Access(Arc::clone(policy)),
        body: Body::Whole(&policy.spec.policy, Some(&policy.spec.extension)),
    });
    let unreadable = snapshot.broken_policies.iter().map(|policy| Written {
        kind: policy.kind,
        metadata: &policy.metadata,
        origin: Origin::Broken(Arc::clone(policy)),
        body: Body::Broken(policy),
    });
    let mut written: Vec<Written<'a>> = security.chain(access).chain(unreadable).collect();
    written.sort_by(|one, other| (object::age(one.metadata), one.kind).cmp(&(object::age(other.metadata), other.kind)));
    written
        .into_iter()
        .map(|written| match written.body {
            Body::Whole(spec, extension) => whole(&written, spec, extension, targets, references, options, memory),
            Body::Broken(policy) => broken(&written, policy, targets, references, options, memory),
        })
        .collect()
}

/// A policy as it was written.
struct Written<'a> {
    kind: PolicyKind,
    metadata: &'a ObjectMeta,
    origin: Origin,
    body: Body<'a>,
}

/// What a policy says, as far as it could be read.
#[derive(Clone, Copy)]
enum Body<'a> {
    Whole(&'a SecurityPolicySpec, Option<&'a Extension>),
    Broken(&'a BrokenPolicy),
}

fn whole<'a>(
    policy: &Written<'a>,
    spec: &'a SecurityPolicySpec,
    extension: Option<&'a Extension>,
    targets: &Targets<'a>,
    references: &References<'_>,
    options: &Options,
    memory: &mut Memory,
) -> Candidate<'a> {
    let namespace = object::namespace(policy.metadata);
    let source = Source {
        author: Author {
            kind: policy.kind,
            namespace,
            name: object::name(policy.metadata),
        },
        spec,
        extension,
    };
    let object = named(policy.kind, policy.metadata);
    let build = memory.build(&object, &policy.origin, references, || {
        let salt = salt(&options.salt_key, &identity(policy.kind, policy.metadata));
        alone(source, salt, references)
    });
    Candidate {
        object,
        metadata: policy.metadata,
        single_target: spec.target_ref.is_some(),
        selects: !spec.target_selectors.is_empty(),
        aims: targets.aims(policy.kind, namespace, spec, references),
        build,
        origin: policy.origin.clone(),
        source: Ok(source),
        role: match extension {
            Some(extension) if extension.baseline == Some(true) => Layer::Baseline,
            Some(extension) if extension.shadow == Some(true) => Layer::Shadow,
            _ => Layer::Enforced,
        },
    }
}

/// What a policy comes to by itself.
fn alone(source: Source<'_>, salt: String, references: &References<'_>) -> Build {
    let mut build = build(source.author, source.spec, source.extension, salt, references);
    let delivered = deliver(&build.document, &build.secrets);
    let size = size(&delivered);
    if size > document::MAX_BYTES {
        let message = format!(
            "the policy with its secrets is {size} bytes, more than {}",
            document::MAX_BYTES
        );
        build.faults.push(Fault {
            feature: Feature::Whole,
            code: "policy-too-large",
            path: "spec".to_owned(),
            condition: message.clone(),
            message,
            fix: Some("split it over several routes or rules".to_owned()),
        });
    }
    build
}

fn broken<'a>(
    written: &Written<'a>,
    policy: &'a BrokenPolicy,
    targets: &Targets<'a>,
    references: &References<'_>,
    options: &Options,
    memory: &mut Memory,
) -> Candidate<'a> {
    let namespace = object::namespace(&policy.metadata);
    let named = policy.targets.iter().enumerate().map(|(index, target)| Reference {
        target: target.clone(),
        namespace: namespace.to_owned(),
        path: format!("spec.targetRefs[{index}]"),
    });
    let mut aims = targets.aims(
        policy.kind,
        namespace,
        &SecurityPolicySpec {
            target_selectors: policy.selectors.clone(),
            ..SecurityPolicySpec::default()
        },
        references,
    );
    aims.references.extend(named);
    // Whoever found it broken tells of its selectors.
    aims.idle.clear();
    let object = self::named(policy.kind, &policy.metadata);
    let build = memory.build(&object, &written.origin, references, || Build {
        document: Document {
            version: document::VERSION,
            policy: format!("{namespace}/{}", object::name(&policy.metadata)),
            ..Document::default()
        },
        secrets: Secrets {
            salt: salt(&options.salt_key, &identity(policy.kind, &policy.metadata)),
            ..Secrets::default()
        },
        faults: vec![Fault::of_schema(&policy.message)],
        ..Build::default()
    });
    Candidate {
        object,
        metadata: &policy.metadata,
        single_target: false,
        selects: !policy.selectors.is_empty(),
        aims,
        build,
        origin: written.origin.clone(),
        source: Err(Author {
            kind: policy.kind,
            namespace,
            name: object::name(&policy.metadata),
        }),
        role: if policy.baseline {
            Layer::Baseline
        } else if policy.shadow {
            Layer::Shadow
        } else {
            Layer::Enforced
        },
    }
}

fn named(kind: PolicyKind, metadata: &ObjectMeta) -> ObjectRef {
    ObjectRef::new(kind.name(), object::namespace(metadata), object::name(metadata))
}

/// What a policy's salt is derived from: its uid, or its name where it has none.
pub(crate) fn identity(kind: PolicyKind, metadata: &ObjectMeta) -> String {
    metadata.uid.clone().unwrap_or_else(|| {
        format!(
            "{}/{}/{}",
            kind.name(),
            object::namespace(metadata),
            object::name(metadata)
        )
    })
}

/// HMAC-SHA256 of an identity under the controller's key, in hex.
pub(crate) fn salt(key: &[u8; 32], identity: &str) -> String {
    // HMAC fills a short key up with zeros itself (RFC 2104 §2); a whole block has no length to be wrong.
    let mut block = [0; 64];
    for (byte, of_key) in block.iter_mut().zip(key) {
        *byte = *of_key;
    }
    let mut mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
    mac.update(identity.as_bytes());
    hex(&mac.finalize().into_bytes())
}

pub(crate) fn deliver(document: &Document, secrets: &Secrets) -> EffectivePolicy {
    let serialized = to_json(document);
    let serialized_secrets = to_json(secrets);
    EffectivePolicy {
        hash: seal::hash(serialized.as_bytes(), serialized_secrets.as_bytes()),
        document: serialized,
        secrets: serialized_secrets,
        policy: document.policy.clone(),
        refuses: document.refuse.is_some(),
        enforced: None,
        merged: None,
        baseline: None,
        shadow: None,
        key_servers: Vec::new(),
        selecting: Vec::new(),
    }
}

/// Fields come in the order of their declaration, so equal values give equal bytes.
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> String {
    // Only maps with keys that are no strings and failing Serialize implementations are errors; neither type has them.
    // Were it otherwise, a proxy would refuse the empty document.
    serde_json::to_string(value).unwrap_or_default()
}

pub(crate) fn size(policy: &EffectivePolicy) -> usize {
    policy.document.len() + policy.secrets.len()
}
