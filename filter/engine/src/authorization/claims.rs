//! Conditions on the claims of a verified token (`authorization.rules[].principal.jwt`).
//!
//! A rule that allows asks for the type that it names; one that denies takes a claim as it is, list or not, and under every reading
//! of its name.

use crate::{
    document::{Action, ClaimMatch, ClaimType, JwtPrincipal},
    jwt::{
        Jwt, KnownToken, claims,
        json::{Number, Object, Value},
    },
    policy::{PolicyError, told},
};

/// The longest name of a claim or a scope, in bytes.
const MAX_NAME: usize = 253;
/// The longest value, in bytes.
const MAX_VALUE: usize = 4096;

/// The claims that are lists of names, however they are written.
const SCOPES: [&str; 2] = ["scope", "scp"];

/// What a rule asks of a token.
#[derive(Debug)]
pub(crate) struct ClaimRule {
    /// The place of the provider among the policy's.
    provider: usize,
    action: Action,
    claims: Vec<Claim>,
    scopes: Vec<Box<str>>,
}

#[derive(Debug)]
struct Claim {
    name: Box<str>,
    r#type: ClaimType,
    values: Vec<Box<str>>,
    /// Those of the values that are numbers.
    numbers: Vec<Number>,
}

/// What a token is to a rule.
pub(crate) enum Asked {
    /// All that is asked for.
    Has,
    /// All but a scope.
    LacksScope,
    /// Another one, or none.
    Other,
}

impl ClaimRule {
    pub(crate) fn compile(
        at: &str,
        action: Action,
        asked: &JwtPrincipal,
        jwt: Option<&Jwt>,
    ) -> Result<Self, PolicyError> {
        let error = |field: &str, code, message: String| Err(PolicyError::new(told!("{at}.{field}"), code, message));
        let provider = jwt.and_then(|jwt| jwt.names().position(|name| name == asked.provider));
        let Some(provider) = provider else {
            let message = told!("{:?} is none of jwt.providers", asked.provider);
            return error("provider", "unknown-provider", message);
        };
        if asked.claims.is_empty() && asked.scopes.is_empty() {
            let message = told!("neither a claim nor a scope is asked for");
            return error("claims", "empty-jwt-principal", message);
        }
        for (index, scope) in asked.scopes.iter().enumerate() {
            if scope.is_empty() || scope.len() > MAX_NAME || scope.contains(' ') {
                let message = told!("a scope has 1 to {MAX_NAME} bytes and no space: {scope:?}");
                return error(&told!("scopes[{index}]"), "invalid-scope", message);
            }
        }
        let claims = asked.claims.iter().enumerate();
        let claims = claims.map(|(index, claim)| Claim::compile(&told!("{at}.claims[{index}]"), claim));
        Ok(Self {
            provider,
            action,
            claims: claims.collect::<Result<_, _>>()?,
            scopes: asked.scopes.iter().map(|scope| scope.as_str().into()).collect(),
        })
    }

    /// Compares the verified token, if there is one.
    pub(crate) fn ask(&self, token: Option<&KnownToken>) -> Asked {
        let Some(token) = token.filter(|token| token.provider() == self.provider) else {
            return Asked::Other;
        };
        let object = token.claims();
        if !self.claims.iter().all(|claim| claim.matches(object, self.action)) {
            return Asked::Other;
        }
        if self.scopes.iter().all(|scope| claims::has_scope(object, scope)) {
            Asked::Has
        } else {
            Asked::LacksScope
        }
    }
}

impl Claim {
    fn compile(at: &str, claim: &ClaimMatch) -> Result<Self, PolicyError> {
        let error = |field: &str, code, message: String| PolicyError::new(told!("{at}.{field}"), code, message);
        if claim.name.is_empty() || claim.name.len() > MAX_NAME {
            let message = told!("a claim's name has 1 to {MAX_NAME} bytes");
            return Err(error("name", "invalid-claim-name", message));
        }
        if claim.values.is_empty() || claim.values.iter().any(|value| value.len() > MAX_VALUE) {
            let message = told!("a claim has one value to have at least, of at most {MAX_VALUE} bytes");
            return Err(error("values", "invalid-claim-values", message));
        }
        if claim.value_type == ClaimType::String && SCOPES.contains(&claim.name.as_str()) {
            let message = told!("{:?} is a list of scopes, which is never one text", claim.name);
            let fix = told!("write the scope under scopes, or valueType: StringArray");
            return Err(error("valueType", "scope-is-a-list", message).fix(fix));
        }
        Ok(Self {
            name: claim.name.as_str().into(),
            r#type: claim.value_type,
            values: claim.values.iter().map(|value| value.as_str().into()).collect(),
            numbers: claim.values.iter().filter_map(|value| Number::parse(value)).collect(),
        })
    }

    fn matches(&self, claims: &Object, action: Action) -> bool {
        if SCOPES.contains(&&*self.name)
            && let Some(Value::String(scopes)) = claims.get(&self.name)
        {
            let mut scopes = scopes.split(' ');
            return scopes.any(|scope| self.values.iter().any(|value| **value == *scope));
        }
        match action {
            Action::Allow => claims::find(claims, &self.name).is_some_and(|claim| match (self.r#type, claim) {
                (ClaimType::StringArray, Value::Array(items)) => items.iter().any(|item| self.is_value(item)),
                (ClaimType::StringArray, _) => false,
                (ClaimType::String, claim) => self.is_value(claim),
            }),
            Action::Deny => claims::any(claims, &self.name, &mut |claim| match claim {
                Value::Array(items) => items.iter().any(|item| self.is_value(item)),
                claim => self.is_value(claim),
            }),
        }
    }

    /// Tells whether a text, number or boolean is one of the values.
    fn is_value(&self, claim: &Value) -> bool {
        let is = |text: &str| self.values.iter().any(|value| **value == *text);
        match claim {
            Value::String(text) => is(text),
            Value::Bool(true) => is("true"),
            Value::Bool(false) => is("false"),
            Value::Number(number) => self.numbers.contains(number),
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        }
    }
}
