//! `portcullis explain request`.

use portcullis_engine::{
    document::{Document, Method},
    transaction::Stage,
};
use portcullis_gateway::lookup::{Answer as Told, Decision, End};
use serde::Serialize;

use super::quarantine::Kept;
use crate::{
    Answer,
    answers::{self, Asked, BusyView, Proxies, View},
    check,
    cli::{ExplainRequestArgs, Output},
    failure::Failure,
    print::{self, Style, Tone},
};

/// The stages of a policy, in order.
const STAGES: [Stage; 6] = [
    Stage::StripIdentity,
    Stage::Preflight,
    Stage::EarlyAuthorization,
    Stage::Csrf,
    Stage::Authentication,
    Stage::Authorization,
];

/// Answers a request and says how the answer came about.
pub(crate) fn request(args: &ExplainRequestArgs, style: &Style) -> Result<Answer, Failure> {
    let headers = args.headers.iter().map(|line| (line.name.clone(), line.value.clone()));
    let asked = Asked::new(
        &args.method,
        &args.url,
        headers.collect(),
        args.from,
        args.certificate.shown(),
    );
    let asked = asked.map_err(|why| Failure::new(why, ""))?;
    let told = args.geo.iter().filter_map(|told| told.0.as_ref());
    let asked = if args.geo.is_empty() {
        asked
    } else {
        asked.placed(told.map(|(field, value)| (field.name(), value.as_str())))
    };
    let texts = check::read(&args.manifests)?;
    let kept = args.state_dir.as_deref().map(Kept::read).transpose()?;
    let salt_key = kept.as_ref().map_or([0; 32], |kept| kept.salt_key);
    let mut evaluation = super::evaluate_with(&texts, &args.manifests, salt_key, style)?;
    let closed = kept.map(|kept| kept.close(&mut evaluation)).unwrap_or_default();
    let proxies = Proxies::new(&evaluation);
    let (gateway, told) = proxies.answer(&asked, args.gateway.as_deref(), answers::now())?;
    let mut view = View::new(gateway, &asked, &told);
    let reasons = closed
        .iter()
        .filter_map(|closed| closed.reason(gateway, told.table.as_deref(), told.host.as_deref()));
    view.notes.extend(reasons.map(|reason| format!("Envoy said: {reason}")));
    let stages = told.decision.as_ref().map(stages).unwrap_or_default();
    if style.output == Output::Text {
        text(&told, &view, &stages, style)?;
    } else {
        style.value(&Explained {
            answer: &view,
            stages: &stages,
            why: view.why(),
        })?;
    }
    let good = told.allowed() || told.end == End::Preflight;
    Ok(if good { Answer::Yes } else { Answer::No })
}

#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    answer: &'a View,
    stages: &'a [Line],
    why: String,
}

/// One stage of the policy.
#[derive(Serialize)]
struct Line {
    stage: String,
    state: State,
    detail: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// The policy has nothing to check there.
    Nothing,
    Passed,
    Answered,
    Denied,
    NotReached,
}

impl State {
    const fn word(self) -> (Tone, &'static str) {
        match self {
            Self::Nothing => (Tone::Faint, "-"),
            Self::Passed => (Tone::Good, "passed"),
            Self::Answered => (Tone::Good, "answered"),
            Self::Denied => (Tone::Bad, "denied"),
            Self::NotReached => (Tone::Faint, "not reached"),
        }
    }
}

fn stages(decision: &Decision) -> Vec<Line> {
    let reason = decision.reason.as_str();
    let Some(document) = decision.document.as_ref().filter(|_| !decision.refuses_everything()) else {
        let denied = Line {
            stage: "policy".to_owned(),
            state: State::Denied,
            detail: reason.to_owned(),
        };
        return vec![denied];
    };
    let line = |stage: Stage| {
        let checks = checks(document, stage);
        let (state, detail) = if stage == decision.stage {
            let rule = decision.rule.as_deref().map(|rule| format!(" by rule {rule:?}"));
            let state = if reason == "cors_preflight" {
                State::Answered
            } else {
                State::Denied
            };
            (state, format!("{reason}{}", rule.unwrap_or_default()))
        } else if stage > decision.stage {
            (State::NotReached, checks.unwrap_or_default())
        } else {
            match checks {
                None => (State::Nothing, String::new()),
                Some(checks) => (State::Passed, passed(decision, stage).unwrap_or(checks)),
            }
        };
        Line {
            stage: stage.to_string(),
            state,
            detail,
        }
    };
    STAGES.into_iter().map(line).collect()
}

/// What a stage has to check; nothing if it has nothing.
fn checks(document: &Document, stage: Stage) -> Option<String> {
    let own = match stage {
        Stage::StripIdentity => Some("path and identity headers".to_owned()),
        Stage::Preflight => document.cors.as_ref().map(|_| "cors".to_owned()),
        Stage::EarlyAuthorization | Stage::Authorization => {
            document
                .authorization
                .as_ref()
                .map(|authorization| match authorization.rules.len() {
                    1 => "1 rule".to_owned(),
                    rules => format!("{rules} rules"),
                })
        }
        Stage::Csrf => document.csrf.as_ref().map(|_| "csrf".to_owned()),
        Stage::Authentication => {
            let configured = [
                document.api_key.as_ref().map(|_| (Method::ApiKey, "apiKeyAuth")),
                document.basic_auth.as_ref().map(|_| (Method::BasicAuth, "basicAuth")),
                document.jwt.as_ref().map(|_| (Method::Jwt, "jwt")),
            ];
            let (any, each): (Vec<_>, Vec<_>) = configured
                .into_iter()
                .flatten()
                .partition(|(method, _)| document.any_of.contains(method));
            let names = |methods: Vec<(Method, &'static str)>, joint: &str| {
                let names: Vec<&str> = methods.into_iter().map(|(_, name)| name).collect();
                names.join(joint)
            };
            match (names(any, " or "), names(each, " and ")) {
                (any, each) if any.is_empty() && each.is_empty() => None,
                (any, each) if any.is_empty() => Some(each),
                (any, each) if each.is_empty() => Some(any),
                (any, each) => Some(format!("({any}) and {each}")),
            }
        }
        _ => None,
    };
    let baseline = document
        .baseline
        .as_deref()
        .filter(|_| stage != Stage::StripIdentity)
        .and_then(|baseline| Some(format!("{} of {}", checks(baseline, stage)?, baseline.policy)));
    match (own, baseline) {
        (Some(own), Some(baseline)) => Some(format!("{own}, and {baseline}")),
        (own, baseline) => own.or(baseline),
    }
}

/// What a stage found out that is worth more than what it checked.
fn passed(decision: &Decision, stage: Stage) -> Option<String> {
    match stage {
        Stage::Preflight => Some("no preflight".to_owned()),
        Stage::Authentication => decision.principal.as_ref().map(|principal| format!("as {principal:?}")),
        Stage::Authorization => decision.rule.as_ref().map(|rule| format!("by rule {rule:?}")),
        _ => None,
    }
}

fn text(told: &Told, view: &View, stages: &[Line], style: &Style) -> Result<(), Failure> {
    let row = |what: &str, detail: &str| print::line(format!("{what:<9} {detail}").trim_end());
    row("gateway", &view.gateway)?;
    let chain = view.chain.as_deref().unwrap_or("no listener has the server name");
    row("listener", &format!("port {}, {chain}", view.port))?;
    if let Some(host) = &view.host {
        row("host", host)?;
    }
    if let Some(route) = &view.route {
        let matched = route
            .r#match
            .map(|matched| format!(" match {matched}"))
            .unwrap_or_default();
        let name = format!(
            "{} {}/{} rule {}{matched}",
            route.kind, route.namespace, route.name, route.rule
        );
        row("route", &name)?;
    } else if let Some(route) = &told.route {
        row("route", &format!("none ({route})"))?;
    }
    if let Some(client) = &view.client {
        row("client", &client.to_string())?;
    }
    if let Some(policy) = &view.policy {
        row("policy", policy)?;
    }
    for Line { stage, state, detail } in stages {
        let (tone, word) = state.word();
        let padding = " ".repeat(12_usize.saturating_sub(word.len()));
        let line = format!("  {stage:<20} {}{padding}{detail}", style.paint(tone, word));
        print::line(line.trim_end())?;
    }
    if let Some(upstream) = &view.upstream {
        row(
            "upstream",
            &format!("{} {}", upstream.clusters.join(" or "), upstream.path),
        )?;
        for (name, value) in &upstream.set {
            print::line(&format!("  set      {name}: {value}"))?;
        }
        for name in &upstream.removed {
            print::line(&format!("  removed  {name}"))?;
        }
    }
    if let Some(BusyView { status, reason, stage }) = &view.busy {
        row(
            "perhaps",
            &format!("{status} {reason} in {stage}, while too many other passwords are checked"),
        )?;
    }
    if let Some(shadow) = &view.shadow {
        let word = if shadow.allow {
            "would admit it"
        } else {
            "would refuse it"
        };
        row("shadow", &format!("{} {word}: {}", shadow.policy, shadow.reason))?;
    }
    for (name, values) in &view.headers {
        for value in values {
            row("header", &format!("{name}: {value}"))?;
        }
    }
    let good = told.allowed() || told.end == End::Preflight;
    let tone = if good { Tone::Good } else { Tone::Bad };
    print::line(&format!(
        "{:<9} {}: {}",
        "answer",
        style.paint(tone, &view.brief()),
        view.why()
    ))
}
