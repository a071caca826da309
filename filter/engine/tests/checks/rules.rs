//! Authorization once more: each rule is asked by itself, and whatever is not known yet is tried both ways.

use std::net::IpAddr;

use ipnet::IpNet;
use portcullis_engine::document::{
    self, Action, ClaimMatch, ClaimType, HeaderMatch, JwtPrincipal, PathMatch, PathMatchType,
};
use serde_json::Value;

use super::{
    condition::{Condition, Worth},
    expression::Expression,
    oracle::trimmed,
    readings,
};

/// A rule, with the tree of its regular expression.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) written: document::Rule,
    pub(crate) expression: Option<Expression>,
    /// What its `cel` says.
    pub(crate) condition: Option<Condition>,
}

/// A verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) provider: String,
    pub(crate) claims: Value,
}

/// A request, as far as rules look at it.
pub(crate) struct Asked<'a> {
    pub(crate) headers: &'a [(Vec<u8>, Vec<u8>)],
    /// `Err` when the proxy cannot say.
    pub(crate) address: Result<Option<IpAddr>, ()>,
}

/// The headers by which backends are told who calls, by their folded names.
pub(crate) struct Told {
    /// Of all policies of the request.
    pub(crate) names: Vec<Vec<u8>>,
    /// Those of the rules' own policy.
    pub(crate) own_names: Vec<Vec<u8>>,
    /// What the rules' own policy and the other one tell; `None` before the authentication.
    pub(crate) values: Option<[Identities; 2]>,
    /// The token that the rules' own policy verified; `None` before the authentication.
    pub(crate) token: Option<Option<Bearer>>,
}

impl Told {
    /// The value of a header that tells who calls, by its folded name; `None` before the authentication.
    pub(crate) fn of(&self, name: &[u8]) -> Option<Option<&str>> {
        let [own, other] = self.values.as_ref()?;
        let of = |told: &'_ Identities| told.iter().position(|(other, _)| other == name);
        let own_value = of(own).map(|place| own[place].1.as_str());
        let others = || of(other).map(|place| other[place].1.as_str());
        let is_own = self.own_names.iter().any(|own| own == name);
        Some(own_value.or_else(|| if is_own { None } else { others() }))
    }
}

/// Who calls, by the folded names of the headers that tell it.
pub(crate) type Identities = Vec<(Vec<u8>, String)>;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Action(Action),
    /// The proxy cannot say what must be known.
    Fault,
    /// It hangs on who calls.
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    Fault,
    Unknown,
}

/// Decides; with the place of the rule that did.
///
/// Where the answer hangs on who calls, each doubtful rule is taken to match and not to match. If the request is refused
/// either way, it is refused.
pub(crate) fn decide(rules: &[Rule], default: Action, asked: &Asked<'_>, told: &Told) -> (Verdict, Option<usize>) {
    let answers: Vec<Answer> = rules.iter().map(|rule| rule.answer(asked, told)).collect();
    let doubtful: Vec<usize> = (0..rules.len())
        .filter(|place| answers[*place] == Answer::Unknown)
        .collect();
    let mut verdicts: Vec<(Verdict, Option<usize>)> = (0..1 << doubtful.len())
        .map(|taken: u32| {
            let matching = |place: usize| {
                doubtful
                    .iter()
                    .position(|other| *other == place)
                    .map(|at| taken >> at & 1 == 1)
            };
            let first = (0..rules.len()).find(|place| match answers[*place] {
                Answer::Yes | Answer::Fault => true,
                Answer::No => false,
                Answer::Unknown => matching(*place).unwrap(),
            });
            match first {
                None => (Verdict::Action(default), None),
                Some(place) if answers[place] == Answer::Fault => (Verdict::Fault, None),
                Some(place) => (Verdict::Action(rules[place].written.action), Some(place)),
            }
        })
        .collect();
    let differs = verdicts
        .iter()
        .any(|(verdict, _)| *verdict == Verdict::Action(Action::Allow));
    if differs && !doubtful.is_empty() && verdicts.iter().any(|verdict| *verdict != verdicts[0]) {
        return (Verdict::Open, None);
    }
    let fault = verdicts.iter().position(|(verdict, _)| *verdict == Verdict::Fault);
    // Without a fault, the one where no doubtful rule matches: the rule that surely does is the one to name.
    verdicts.swap_remove(fault.unwrap_or(0))
}

impl Rule {
    fn denies(&self) -> bool {
        self.written.action == Action::Deny
    }

    fn answer(&self, asked: &Asked<'_>, told: &Told) -> Answer {
        if !self.has_method(asked) || !self.has_path(asked) {
            return Answer::No;
        }
        if !self.written.client_cidrs.is_empty() {
            let held = match asked.address {
                Err(()) => return Answer::Fault,
                Ok(None) => self.denies(),
                Ok(Some(address)) => self.written.client_cidrs.iter().any(|network| holds(network, address)),
            };
            if !held {
                return Answer::No;
            }
        }
        let headers = self.written.headers.iter();
        let mut answers: Vec<Answer> = headers.map(|header| self.header(header, asked, told)).collect();
        answers.extend(
            self.condition
                .as_ref()
                .map(|condition| match condition.worth(asked, told) {
                    Worth::Yes => Answer::Yes,
                    Worth::No => Answer::No,
                    Worth::Error if self.denies() => Answer::Yes,
                    Worth::Error => Answer::No,
                    Worth::Unknown => Answer::Unknown,
                }),
        );
        answers.extend(self.written.jwt.as_ref().map(|wanted| match &told.token {
            None => Answer::Unknown,
            Some(Some(bearer)) if self.is_borne_by(wanted, bearer) => Answer::Yes,
            Some(_) => Answer::No,
        }));
        *[Answer::No, Answer::Unknown]
            .iter()
            .find(|answer| answers.contains(answer))
            .unwrap_or(&Answer::Yes)
    }

    /// Tells whether a token has what is asked for.
    fn is_borne_by(&self, wanted: &JwtPrincipal, bearer: &Bearer) -> bool {
        let scopes: Vec<&str> = ["scope", "scp"]
            .iter()
            .flat_map(|name| match &bearer.claims[*name] {
                Value::String(scopes) => scopes.split(' ').collect(),
                Value::Array(scopes) => scopes.iter().filter_map(Value::as_str).collect(),
                _ => Vec::new(),
            })
            .collect();
        wanted.provider == bearer.provider
            && wanted.claims.iter().all(|claim| self.has_claim(claim, &bearer.claims))
            && wanted.scopes.iter().all(|scope| scopes.contains(&scope.as_str()))
    }

    fn has_claim(&self, wanted: &ClaimMatch, claims: &Value) -> bool {
        let claim = match wanted.name.split_once('.') {
            Some((outer, inner)) => &claims[outer][inner],
            None => &claims[&wanted.name],
        };
        let is_value = |claim: &Value| match claim {
            Value::String(text) => wanted.values.contains(text),
            Value::Number(number) => wanted.values.contains(&number.to_string()),
            _ => false,
        };
        match claim {
            Value::String(scopes) if wanted.name == "scope" => scopes
                .split(' ')
                .any(|scope| wanted.values.iter().any(|value| value == scope)),
            Value::Array(items) => {
                (self.denies() || wanted.value_type == ClaimType::StringArray) && items.iter().any(is_value)
            }
            claim => (self.denies() || wanted.value_type == ClaimType::String) && is_value(claim),
        }
    }

    fn has_method(&self, asked: &Asked<'_>) -> bool {
        let listed = &self.written.methods;
        match asked.lines(b":method").first() {
            _ if listed.is_empty() => true,
            None => self.denies(),
            Some(method) => listed
                .iter()
                .any(|other| other.to_ascii_lowercase().as_bytes() == method.to_ascii_lowercase()),
        }
    }

    fn has_path(&self, asked: &Asked<'_>) -> bool {
        let Some(path) = &self.written.path else {
            return true;
        };
        let targets = asked.lines(b":path");
        let Some(target) = targets.first() else {
            return self.denies();
        };
        match (self.denies(), path.invert) {
            (false, false) => self.is_literally(path, target),
            (true, false) => self.is_perhaps(path, target),
            (false, true) => !self.is_perhaps(path, target),
            (true, true) => !self.is_surely(path, target),
        }
    }

    /// Tells whether the path is meant, as it was sent.
    pub(crate) fn is_literally(&self, path: &PathMatch, target: &[u8]) -> bool {
        let sent = readings::parts(target).0;
        match &self.expression {
            Some(expression) => expression.is_match(target),
            None => is_at(path, &value(path), sent),
        }
    }

    /// Tells whether somebody may read a path that is meant.
    fn is_perhaps(&self, path: &PathMatch, target: &[u8]) -> bool {
        let (sent, query) = readings::parts(target);
        readings::of(sent).iter().any(|reading| match &self.expression {
            Some(expression) => [reading.as_slice(), without_slash(reading)]
                .iter()
                .filter(|path| !path.is_empty() || reading.is_empty())
                .any(|path| {
                    expression.is_match(path) || (!query.is_empty() && expression.is_match(&[path, query].concat()))
                }),
            None => readings::decoded(&value(path)).iter().any(|value| {
                is_at(path, value, reading)
                    || (path.r#type == PathMatchType::Exact && without_slash(value) == without_slash(reading))
            }),
        })
    }

    /// Tells whether nobody can read a path but one that is meant.
    fn is_surely(&self, path: &PathMatch, target: &[u8]) -> bool {
        let (sent, query) = readings::parts(target);
        let all = readings::of(sent);
        match &self.expression {
            Some(expression) => all
                .iter()
                .all(|reading| expression.is_match(&[reading.as_slice(), query].concat())),
            None => {
                self.is_literally(path, target)
                    && all.iter().all(|reading| {
                        readings::decoded(&value(path))
                            .iter()
                            .any(|value| is_at(path, value, reading))
                    })
            }
        }
    }

    fn header(&self, header: &HeaderMatch, asked: &Asked<'_>, told: &Told) -> Answer {
        let name = match header.name.to_ascii_lowercase() {
            name if name == "host" => ":authority".to_owned(),
            name => name,
        };
        let folded = fold(name.as_bytes());
        let is_listed = |value: &[u8]| header.values.iter().any(|listed| listed.as_bytes() == value);
        let yes = |yes: bool| if yes { Answer::Yes } else { Answer::No };
        if told.names.contains(&folded) {
            return match told.of(&folded) {
                None => Answer::Unknown,
                Some(value) => yes(value.is_some_and(|value| is_listed(value.as_bytes()))),
            };
        }
        if !self.denies() {
            let lines = asked.lines(name.as_bytes());
            return yes(!lines.is_empty() && is_listed(&lines.join(&b',')));
        }
        let lines: Vec<&[u8]> = asked
            .headers
            .iter()
            .filter(|(sent, _)| fold(sent) == folded)
            .map(|(_, line)| line.as_slice())
            .collect();
        let mut texts: Vec<Vec<u8>> = lines.iter().map(|line| line.to_vec()).collect();
        texts.extend(lines.iter().flat_map(|line| elements(line)));
        if lines.len() > 1 {
            texts.push(lines.join(&b','));
        }
        let same_list = |one: &[u8], other: &[u8]| list(one) == list(other);
        yes(header.values.iter().map(String::as_bytes).any(|value| {
            texts.iter().any(|text| {
                text == value
                    || (value.contains(&b',') && same_list(text, value))
                    || (name == ":authority" && text.eq_ignore_ascii_case(value))
            })
        }))
    }
}

impl Asked<'_> {
    /// The values of a header, by its exact name in any case.
    pub(crate) fn lines(&self, name: &[u8]) -> Vec<&[u8]> {
        let named = self
            .headers
            .iter()
            .filter(|(sent, _)| sent.to_ascii_lowercase() == name);
        named.map(|(_, value)| value.as_slice()).collect()
    }
}

/// Writes a header's name as a backend may know it that knows no `_`.
pub(crate) fn fold(name: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(name)
        .to_ascii_lowercase()
        .replace('_', "-")
        .into_bytes()
}

fn elements(line: &[u8]) -> Vec<Vec<u8>> {
    let elements = line.split(|byte| *byte == b',');
    elements.map(|element| trimmed(element).to_vec()).collect()
}

fn list(line: &[u8]) -> Vec<Vec<u8>> {
    let mut elements = elements(line);
    elements.retain(|element| !element.is_empty());
    elements
}

fn value(path: &PathMatch) -> Vec<u8> {
    match path.r#type {
        PathMatchType::PathPrefix => without_slash(path.value.as_bytes()).to_vec(),
        _ => path.value.as_bytes().to_vec(),
    }
}

/// Tells whether a path is the value, or below it where that is a prefix.
fn is_at(path: &PathMatch, value: &[u8], reading: &[u8]) -> bool {
    let below = [value, b"/"].concat();
    reading == value || (path.r#type == PathMatchType::PathPrefix && (value.is_empty() || reading.starts_with(&below)))
}

fn without_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

fn holds(network: &str, address: IpAddr) -> bool {
    let network = match network {
        "::ffff:10.1.0.0/112" => "10.1.0.0/16",
        other => other,
    };
    network
        .parse::<IpNet>()
        .unwrap()
        .trunc()
        .contains(&address.to_canonical())
}
