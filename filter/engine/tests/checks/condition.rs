//! Expressions once more: as trees over a few questions, with answers that are known or not.

use serde_json::Value;

use super::rules::{Asked, Told, fold};

/// A condition.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Question(usize),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

/// What a condition is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    Yes,
    No,
    Error,
    /// Nobody has looked at the token yet.
    Unknown,
}

/// Questions as they are written. Those behind the third are about tokens.
const QUESTIONS: &[&str] = &[
    "request.method == 'GET'",
    "request.headers['x-role'] == 'admin'",
    "'x-role' in request.headers",
    "claims.sub == 'alice'",
    "'admin' in claims.roles",
    "has(claims.level)",
    "claims.level == 7",
    "claims.level > 9007199254740992",
    "metadata.filter_metadata['envoy.filters.http.jwt_authn'].corp.sub == 'alice'",
    "'read' in metadata.filter_metadata['envoy.filters.http.jwt_authn']['corp'].scope",
    "'envoy.filters.http.jwt_authn' in metadata.filter_metadata",
    "request.headers['x-sub'] == 'alice'",
];
/// How many of them need no token.
const PLAIN: usize = 3;

impl Condition {
    /// Makes one as numbers choose.
    pub(crate) fn of(number: &mut dyn FnMut() -> usize, about_tokens: bool, depth: usize) -> Self {
        let inner = |number: &mut dyn FnMut() -> usize| Box::new(Self::of(number, about_tokens, depth - 1));
        match number() % if depth == 0 { 4 } else { 8 } {
            5 => Self::Not(inner(number)),
            6 => Self::And(inner(number), inner(number)),
            7 => Self::Or(inner(number), inner(number)),
            _ => Self::Question(number() % if about_tokens { QUESTIONS.len() } else { PLAIN }),
        }
    }

    /// Writes it down.
    pub(crate) fn written(&self) -> String {
        match self {
            Self::Question(question) => format!("({})", QUESTIONS[*question]),
            Self::Not(inner) => format!("!{}", inner.written()),
            Self::And(one, other) => format!("({} && {})", one.written(), other.written()),
            Self::Or(one, other) => format!("({} || {})", one.written(), other.written()),
        }
    }

    /// What it is worth, looked at from the left.
    pub(crate) fn worth(&self, asked: &Asked<'_>, told: &Told) -> Worth {
        let decided_by = |decisive: Worth, one: &Self, other: &Self| match one.worth(asked, told) {
            one if one == decisive || one == Worth::Unknown => one,
            one => match other.worth(asked, told) {
                Worth::Error => Worth::Error,
                other if other == decisive || other == Worth::Unknown => other,
                _ => one,
            },
        };
        match self {
            Self::Question(question) => answer(*question, asked, told),
            Self::Not(inner) => match inner.worth(asked, told) {
                Worth::Yes => Worth::No,
                Worth::No => Worth::Yes,
                other => other,
            },
            Self::And(one, other) => decided_by(Worth::No, one, other),
            Self::Or(one, other) => decided_by(Worth::Yes, one, other),
        }
    }
}

fn yes(yes: bool) -> Worth {
    if yes { Worth::Yes } else { Worth::No }
}

fn answer(question: usize, asked: &Asked<'_>, told: &Told) -> Worth {
    let header = |name: &[u8], value: &[u8]| match asked.lines(name) {
        lines if lines.is_empty() => Worth::Error,
        lines => yes(lines.join(&b',') == value),
    };
    match question {
        0 => return header(b":method", b"GET"),
        1 => return header(b"x-role", b"admin"),
        2 => return yes(!asked.lines(b"x-role").is_empty()),
        11 => {
            let name = fold(b"x-sub");
            if !told.names.contains(&name) {
                return header(b"x-sub", b"alice");
            }
            return match told.of(&name) {
                None => Worth::Unknown,
                Some(None) => Worth::Error,
                Some(Some(value)) => yes(value == "alice"),
            };
        }
        _ => {}
    }
    let Some(token) = &told.token else {
        return Worth::Unknown;
    };
    if question == 10 {
        return yes(token.is_some());
    }
    let Some(bearer) = token else {
        return Worth::Error;
    };
    let claims = &bearer.claims;
    let of_corp = || (bearer.provider == "corp").then_some(claims);
    let is_text = |claim: Option<&Value>, text: &str| match claim {
        Some(claim) => yes(claim.as_str() == Some(text)),
        None => Worth::Error,
    };
    match question {
        3 => is_text(claims.get("sub"), "alice"),
        4 => match claims.get("roles") {
            Some(Value::Array(roles)) => yes(roles.iter().any(|role| role.as_str() == Some("admin"))),
            _ => Worth::Error,
        },
        5 => yes(claims.get("level").is_some()),
        6 => match claims.get("level") {
            Some(level) => yes(level.as_i64() == Some(7)),
            None => Worth::Error,
        },
        7 => match claims.get("level").and_then(Value::as_i64) {
            Some(level) => yes(level > 9_007_199_254_740_992),
            None => Worth::Error,
        },
        8 => match of_corp() {
            Some(claims) => is_text(claims.get("sub"), "alice"),
            None => Worth::Error,
        },
        _ => match of_corp().and_then(|claims| claims.get("scope")).and_then(Value::as_str) {
            Some(scopes) => yes(scopes.split(' ').any(|scope| scope == "read")),
            None => Worth::Error,
        },
    }
}
