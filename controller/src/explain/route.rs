//! `portcullis explain route`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use portcullis_attachment::{
    connection::Admission,
    effective::{EffectivePolicy, Place},
    object::ObjectRef,
    snapshot::Snapshot,
    status::{Condition, ConditionStatus, Scope},
};
use portcullis_engine::document::{Action, Document, Method};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Answer, check,
    cli::{ExplainRouteArgs, Output},
    cluster,
    failure::Failure,
    load::{self, Evaluation, Memory, Settings},
    print::{self, Style, Tone},
};

/// Says which policy covers each place of a route.
pub(crate) fn route(args: &ExplainRouteArgs, style: &Style) -> Result<Answer, Failure> {
    let (name, wanted) = named(&args.route)?;
    let (evaluation, written) = if args.kubernetes {
        let loaded = cluster::load(&args.manifests)?;
        let written = Written::read(&loaded.snapshot, &name);
        let settings = Settings::new(&args.manifests, String::new(), [0; 32]);
        let evaluation = load::translate(loaded, &settings, &Arc::default(), &mut Memory::default());
        (evaluation, written)
    } else {
        let texts = check::read(&args.manifests)?;
        let evaluation = super::evaluate(&texts, &args.manifests, style)?;
        (
            evaluation,
            Written::read(&portcullis_manifest::load(&texts).snapshot, &name),
        )
    };
    let wanted = match wanted {
        None => None,
        Some(rule) => Some(
            rule.parse()
                .ok()
                .or_else(|| {
                    written
                        .rules
                        .values()
                        .find_map(|names| names.iter().position(|name| *name == rule))
                })
                .ok_or_else(|| {
                    let names: Vec<&str> = written
                        .rules
                        .values()
                        .flatten()
                        .map(String::as_str)
                        .filter(|name| !name.is_empty())
                        .collect();
                    Failure::new(
                        format!("{name} has no rule {rule:?}"),
                        format!("write its index, or one of its names: {}", names.join(", ")),
                    )
                })?,
        ),
    };
    let asked = |place: &Place| {
        format!("{}/{}", place.route.namespace, place.route.name) == name
            && wanted.is_none_or(|rule: usize| rule == place.rule)
    };
    let attachment = &evaluation.attachment;
    let requests = attachment.policies.iter().filter(|(place, _)| asked(place));
    let connections = attachment.connections.iter().filter(|(place, _)| asked(place));
    let mut covered: Vec<Covered> = requests
        .map(|(place, policy)| Covered::new(place, policy, &written))
        .collect();
    covered.extend(connections.map(|(place, admission)| Covered::of_connections(place, admission, &written)));
    if covered.is_empty() {
        return Err(Failure::new(
            format!("no served Gateway has a rule {} of a route", args.route),
            "see `portcullis status` for what the route's parents say",
        ));
    }
    let others = others(&evaluation, &name, &covered);
    if style.output == Output::Text {
        text(&covered, &others, style)?;
    } else {
        style.value(&Explained {
            route: name,
            places: covered,
            others,
        })?;
    }
    Ok(Answer::Yes)
}

#[derive(Serialize)]
struct Explained {
    route: String,
    places: Vec<Covered>,
    /// Policies that bear on the route or its Gateways and do not decide there.
    others: Vec<Other>,
}

/// One place of the route.
#[derive(Serialize)]
struct Covered {
    kind: &'static str,
    listener: String,
    #[serde(skip)]
    gateway: String,
    rule: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_name: Option<String>,
    /// The policy that decides there, or `none`.
    policy: String,
    /// The policy above that it is merged with.
    #[serde(skip_serializing_if = "Option::is_none")]
    merged_with: Option<String>,
    /// The Gateway's baseline, which must admit a request as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<String>,
    /// The policy that is evaluated beside it and changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<String>,
    /// Whether it answers 500 to every request, or refuses every connection.
    refuses: bool,
    enforces: Vec<Feature>,
}

/// Something that is enforced, and whose it is.
#[derive(Serialize)]
struct Feature {
    feature: String,
    from: String,
    /// `policy`, `baseline` or `shadow`.
    role: &'static str,
}

/// A policy that does not decide.
#[derive(Serialize)]
struct Other {
    policy: String,
    ancestor: String,
    condition: String,
    message: String,
}

/// `NAMESPACE/NAME` and the rule.
fn named(text: &str) -> Result<(String, Option<&str>), Failure> {
    let mut parts = text.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(namespace), Some(name), rule) if !namespace.is_empty() && !name.is_empty() => {
            Ok((format!("{namespace}/{name}"), rule.filter(|rule| !rule.is_empty())))
        }
        _ => Err(Failure::new(
            format!("{text:?} names no route"),
            "write NAMESPACE/NAME or NAMESPACE/NAME/RULE",
        )),
    }
}

/// What the manifests themselves say, where what is served no longer tells it.
#[derive(Default)]
struct Written {
    /// The names of the route's rules, by its kind; empty for a rule without one.
    rules: BTreeMap<&'static str, Vec<String>>,
    /// The features that each policy sets, by its kind, namespace and name.
    features: BTreeMap<String, BTreeSet<String>>,
}

impl Written {
    fn read(snapshot: &Snapshot, route: &str) -> Self {
        let full = |metadata: &ObjectMeta| {
            let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
            format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default())
        };
        let mut written = Self::default();
        for found in snapshot
            .http_routes
            .iter()
            .filter(|found| full(&found.metadata) == route)
        {
            let rules = found.spec.rules.iter().flatten();
            let names = rules.map(|rule| rule.name.clone().unwrap_or_default());
            written.rules.insert("HTTPRoute", names.collect());
        }
        for found in snapshot
            .grpc_routes
            .iter()
            .filter(|found| full(&found.metadata) == route)
        {
            let rules = found.spec.rules.iter().flatten();
            let names = rules.map(|rule| rule.name.clone().unwrap_or_default());
            written.rules.insert("GRPCRoute", names.collect());
        }
        for found in snapshot
            .tcp_routes
            .iter()
            .filter(|found| full(&found.metadata) == route)
        {
            let names = found.spec.rules.iter();
            let names = names.map(|rule| rule.name.clone().unwrap_or_default());
            written.rules.insert("TCPRoute", names.collect());
        }
        let fields = |spec: serde_json::Result<Value>| match spec {
            Ok(Value::Object(fields)) => fields.into_iter().map(|(name, _)| name).collect(),
            _ => BTreeSet::new(),
        };
        for policy in &snapshot.security_policies {
            let name = format!("SecurityPolicy {}", full(&policy.metadata));
            written
                .features
                .insert(name, fields(serde_json::to_value(&policy.spec)));
        }
        for policy in &snapshot.access_policies {
            let name = format!("AccessPolicy {}", full(&policy.metadata));
            written
                .features
                .insert(name, fields(serde_json::to_value(&policy.spec)));
        }
        written
    }

    /// Whose a feature is: of two policies that are merged, that of the one that sets it, or of both.
    fn origin(&self, policy: &EffectivePolicy, feature: &str) -> Option<String> {
        let (child, parent) = (policy.enforced.as_ref()?, policy.merged.as_ref()?);
        let sets = |object: &ObjectRef| {
            let features = self.features.get(&object.to_string());
            features.is_some_and(|features| features.contains(feature))
        };
        let name = |object: &ObjectRef| format!("{}/{}", object.namespace, object.name);
        match (sets(child), sets(parent)) {
            (true, true) => Some(format!("{} over {}", name(child), name(parent))),
            (false, true) => Some(name(parent)),
            (_, false) => None,
        }
    }
}

impl Covered {
    fn new(place: &Place, policy: &EffectivePolicy, written: &Written) -> Self {
        let document = serde_json::from_str::<Document>(&policy.document).unwrap_or_default();
        let mut enforces = Vec::new();
        features(
            &document,
            "policy",
            |feature| written.origin(policy, feature),
            &mut enforces,
        );
        if let Some(baseline) = &document.baseline {
            features(baseline, "baseline", |_| None, &mut enforces);
        }
        if let Some(shadow) = &document.shadow {
            features(shadow, "shadow", |_| None, &mut enforces);
        }
        let rules = written.rules.get(place.route.kind);
        let rule_name = rules.and_then(|names| names.get(place.rule));
        Self {
            kind: place.route.kind,
            gateway: format!("{}/{}", place.listener.namespace, place.listener.gateway),
            listener: place.listener.to_string(),
            rule: place.rule,
            rule_name: rule_name.filter(|name| !name.is_empty()).cloned(),
            policy: named_object(policy.enforced.as_ref()).unwrap_or_else(|| "none".to_owned()),
            merged_with: named_object(policy.merged.as_ref()),
            baseline: named_object(policy.baseline.as_ref()),
            shadow: named_object(policy.shadow.as_ref()),
            refuses: policy.refuses,
            enforces,
        }
    }

    fn of_connections(place: &Place, admission: &Admission, written: &Written) -> Self {
        let mut enforces = Vec::new();
        if admission.refuses {
            enforces.push(Feature {
                feature: "refuses every connection".to_owned(),
                from: "what it asks cannot be asked of a connection, or it is invalid".to_owned(),
                role: "policy",
            });
        }
        let baseline = admission.baseline.as_ref();
        let of_baseline = baseline.map(|object| format!("{}/{}", object.namespace, object.name));
        enforces.extend(admission.layers.iter().map(|layer| {
            let default = match layer.default_action {
                Action::Allow => "Allow",
                Action::Deny => "Deny",
            };
            let rules = counted(layer.rules.len(), "rule");
            Feature {
                feature: format!("authorization ({rules} on addresses, else {default})"),
                from: layer.policy.clone(),
                role: if of_baseline.as_ref() == Some(&layer.policy) {
                    "baseline"
                } else {
                    "policy"
                },
            }
        }));
        let rules = written.rules.get(place.route.kind);
        let rule_name = rules.and_then(|names| names.get(place.rule));
        Self {
            kind: place.route.kind,
            gateway: format!("{}/{}", place.listener.namespace, place.listener.gateway),
            listener: place.listener.to_string(),
            rule: place.rule,
            rule_name: rule_name.filter(|name| !name.is_empty()).cloned(),
            policy: named_object(admission.enforced.as_ref()).unwrap_or_else(|| "none".to_owned()),
            merged_with: named_object(admission.merged.as_ref()),
            baseline: named_object(baseline),
            shadow: None,
            refuses: admission.refuses,
            enforces,
        }
    }
}

fn named_object(object: Option<&ObjectRef>) -> Option<String> {
    object.map(ToString::to_string)
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Adds what a document asks for; `origin` tells whose a feature is, where that is not the document's policy.
fn features(document: &Document, role: &'static str, origin: impl Fn(&str) -> Option<String>, into: &mut Vec<Feature>) {
    let mut add = |present: bool, field: &str, more: &str| {
        if present {
            let from = if document.policy == "none" {
                "the route's own filter".to_owned()
            } else {
                origin(field).unwrap_or_else(|| document.policy.clone())
            };
            let feature = format!("{field}{more}");
            into.push(Feature { feature, from, role });
        }
    };
    add(document.refuse.is_some(), "answers 500", "");
    add(document.cors.is_some(), "cors", "");
    add(document.csrf.is_some(), "csrf", "");
    let any = |method| {
        if document.any_of.contains(&method) {
            " (one of anyOf)"
        } else {
            ""
        }
    };
    add(document.api_key.is_some(), "apiKeyAuth", any(Method::ApiKey));
    add(document.basic_auth.is_some(), "basicAuth", any(Method::BasicAuth));
    add(document.jwt.is_some(), "jwt", any(Method::Jwt));
    if let Some(authorization) = &document.authorization {
        let default = match authorization.default_action {
            Action::Allow => "Allow",
            Action::Deny => "Deny",
        };
        let rules = counted(authorization.rules.len(), "rule");
        add(true, "authorization", &format!(" ({rules}, else {default})"));
    }
}

/// The policies whose conditions name the route or one of its Gateways and that decide nowhere on it.
fn others(evaluation: &Evaluation, route: &str, covered: &[Covered]) -> Vec<Other> {
    let decides = |name: &str| {
        let is = |other: &Option<String>| other.as_deref() == Some(name);
        covered
            .iter()
            .any(|place| place.policy == name || is(&place.merged_with) || is(&place.baseline) || is(&place.shadow))
    };
    let mut others = Vec::new();
    for status in &evaluation.attachment.statuses {
        let name = status.object.to_string();
        if !status.object.kind.ends_with("Policy") || decides(&name) {
            continue;
        }
        for scope in &status.scopes {
            let Scope::Parent(ancestor) = &scope.scope else {
                continue;
            };
            let gateway = format!("{}/{}", ancestor.namespace, ancestor.name);
            if !covered.iter().any(|place| place.gateway == gateway) {
                continue;
            }
            let names = |condition: &&Condition| {
                let bad = match condition.r#type {
                    "Accepted" => condition.status == ConditionStatus::False,
                    "Overridden" | "Warning" => condition.status == ConditionStatus::True,
                    _ => false,
                };
                let words = || condition.message.split([' ', '[', ']', ',']);
                bad && words().any(|word| word == route || word == gateway)
            };
            others.extend(scope.conditions.iter().filter(names).map(|condition| Other {
                policy: name.clone(),
                ancestor: gateway.clone(),
                condition: condition.reason.to_owned(),
                message: condition.message.clone(),
            }));
        }
    }
    others
}

fn text(covered: &[Covered], others: &[Other], style: &Style) -> Result<(), Failure> {
    let mut by_rule: BTreeMap<(&str, usize), Vec<&Covered>> = BTreeMap::new();
    for place in covered {
        by_rule.entry((place.kind, place.rule)).or_default().push(place);
    }
    let width = covered
        .iter()
        .map(|place| place.listener.chars().count())
        .max()
        .unwrap_or_default();
    for ((kind, rule), places) in by_rule {
        let name = places.iter().find_map(|place| place.rule_name.as_deref());
        let name = name.map(|name| format!(" {name:?}")).unwrap_or_default();
        print::line(&format!("{kind} rule {rule}{name}"))?;
        for place in places {
            let (tone, state) = match (place.refuses, place.policy.as_str()) {
                (true, _) if kind == "TCPRoute" => (Tone::Bad, "refused by"),
                (true, _) => (Tone::Bad, "answers 500 by"),
                (false, "none") => (Tone::Warning, "open, policy"),
                (false, _) => (Tone::Good, "decided by"),
            };
            let line = format!(
                "  {:<width$}  {} {}",
                place.listener,
                style.paint(tone, state),
                place.policy
            );
            print::line(&line)?;
            let beside = [
                ("merged with", &place.merged_with),
                ("baseline", &place.baseline),
                ("shadow", &place.shadow),
            ];
            for (what, policy) in beside {
                if let Some(policy) = policy {
                    print::line(&format!("  {:<width$}  {what} {policy}", ""))?;
                }
            }
            for Feature { feature, from, role } in &place.enforces {
                let role = if *role == "policy" {
                    String::new()
                } else {
                    format!(" ({role})")
                };
                print::line(&format!("  {:<width$}    {feature}  from {from}{role}", ""))?;
            }
        }
    }
    if !others.is_empty() {
        print::line("other policies here")?;
    }
    for Other {
        policy,
        condition,
        message,
        ..
    } in others
    {
        print::line(&format!(
            "  {policy}  {}  {message}",
            style.paint(Tone::Warning, condition)
        ))?;
    }
    Ok(())
}
