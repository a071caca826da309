//! `portcullis explain route`.

use std::collections::BTreeMap;

use portcullis_attachment::{
    effective::{EffectivePolicy, Place},
    object::ObjectRef,
    status::{Condition, ConditionStatus, Scope},
};
use portcullis_engine::document::{Action, Document};
use serde::Serialize;

use crate::{
    Answer, check,
    cli::{ExplainRouteArgs, Output},
    failure::Failure,
    load::Evaluation,
    print::{self, Style, Tone},
};

/// Says which policy covers each place of a route.
pub(crate) fn route(args: &ExplainRouteArgs, style: &Style) -> Result<Answer, Failure> {
    let (name, wanted) = named(&args.route)?;
    let texts = check::read(&args.manifests)?;
    let evaluation = super::evaluate(&texts, &args.manifests, style)?;
    let rules = rules(&texts, &name);
    let wanted = match wanted {
        None => None,
        Some(rule) => Some(
            rule.parse()
                .ok()
                .or_else(|| rules.iter().position(|name| *name == rule))
                .ok_or_else(|| {
                    let names: Vec<&str> = rules
                        .iter()
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
    let covered: Vec<Covered> = evaluation
        .attachment
        .policies
        .iter()
        .filter(|(place, _)| format!("{}/{}", place.route.namespace, place.route.name) == name)
        .filter(|(place, _)| wanted.is_none_or(|rule: usize| rule == place.rule))
        .map(|(place, policy)| Covered::new(place, policy, &rules))
        .collect();
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
    /// Whether it answers 500 to every request.
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

/// The names of an HTTPRoute's rules; empty for a rule without one.
fn rules(texts: &[(String, String)], route: &str) -> Vec<String> {
    let snapshot = portcullis_manifest::load(texts).snapshot;
    let found = snapshot.http_routes.iter().find(|found| {
        let namespace = found.metadata.namespace.as_deref().unwrap_or_default();
        format!("{namespace}/{}", found.metadata.name.as_deref().unwrap_or_default()) == route
    });
    let rules = found.iter().flat_map(|found| found.spec.rules.iter().flatten());
    rules.map(|rule| rule.name.clone().unwrap_or_default()).collect()
}

impl Covered {
    fn new(place: &Place, policy: &EffectivePolicy, rules: &[String]) -> Self {
        let document = serde_json::from_str::<Document>(&policy.document).unwrap_or_default();
        let mut enforces = Vec::new();
        features(&document, "policy", &mut enforces);
        if let Some(baseline) = &document.baseline {
            features(baseline, "baseline", &mut enforces);
        }
        if let Some(shadow) = &document.shadow {
            features(shadow, "shadow", &mut enforces);
        }
        Self {
            kind: place.route.kind,
            gateway: format!("{}/{}", place.listener.namespace, place.listener.gateway),
            listener: place.listener.to_string(),
            rule: place.rule,
            rule_name: rules.get(place.rule).filter(|name| !name.is_empty()).cloned(),
            policy: named_object(policy.enforced.as_ref()).unwrap_or_else(|| "none".to_owned()),
            merged_with: named_object(policy.merged.as_ref()),
            baseline: named_object(policy.baseline.as_ref()),
            shadow: named_object(policy.shadow.as_ref()),
            refuses: policy.refuses,
            enforces,
        }
    }
}

fn named_object(object: Option<&ObjectRef>) -> Option<String> {
    object.map(ToString::to_string)
}

fn features(document: &Document, role: &'static str, into: &mut Vec<Feature>) {
    let counted = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let mut add = |present: bool, feature: String| {
        if present {
            let from = if document.policy == "none" {
                "the route's own filter".to_owned()
            } else {
                document.policy.clone()
            };
            into.push(Feature { feature, from, role });
        }
    };
    add(document.refuse.is_some(), "answers 500".to_owned());
    add(document.cors.is_some(), "cors".to_owned());
    add(document.csrf.is_some(), "csrf".to_owned());
    let any = if document.any_of.is_empty() {
        ""
    } else {
        " (one of anyOf)"
    };
    add(document.api_key.is_some(), format!("apiKeyAuth{any}"));
    add(document.basic_auth.is_some(), format!("basicAuth{any}"));
    if let Some(authorization) = &document.authorization {
        let default = match authorization.default_action {
            Action::Allow => "Allow",
            Action::Deny => "Deny",
        };
        let rules = counted(authorization.rules.len(), "rule");
        add(true, format!("authorization ({rules}, else {default})"));
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
