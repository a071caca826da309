//! Evaluating an expression for one request, within what one request may cost.

use std::{borrow::Cow, sync::Arc};

use super::{
    claims::{Claims, NAMESPACE},
    function::Function,
    program::{EachStep, Program, Step},
    value::Value,
    variable::Variable,
};
use crate::{
    authorization::Identity,
    document::Each,
    host::{Attribute, Fact, Fault, Host},
    jwt::KnownToken,
    request::Request,
};

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// An error of CEL: something is missing, of another type, or out of range.
    Error,
    /// Only the authentication can tell.
    Unknown,
    /// The request has cost as much as one may.
    Spent,
    /// The proxy failed.
    Fault(Fault),
}

/// The path that an expression finds in a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) path: &'a [u8],
    /// What stands behind the path, with its `?`.
    pub(crate) rest: &'a [u8],
}

/// An evaluation of a program.
pub(crate) struct Evaluation<'a, 'r, H> {
    pub(crate) program: &'a Program,
    pub(crate) request: &'a Request<'r, H>,
    pub(crate) identity: Identity<'a>,
    pub(crate) target: Option<Target<'a>>,
    pub(crate) locals: Vec<Value<'a>>,
}

type Evaluated<'a> = Result<Value<'a>, Stop>;

impl<'a, H: Host> Evaluation<'a, '_, H> {
    /// Tells whether the condition holds.
    pub(crate) fn holds(&mut self) -> Result<bool, Stop> {
        self.condition(self.program.root())
    }

    fn condition(&mut self, place: usize) -> Result<bool, Stop> {
        match self.value(place)? {
            Value::Bool(holds) => Ok(holds),
            _ => Err(Stop::Error),
        }
    }

    fn spend(&self, bytes: usize) -> Result<(), Stop> {
        self.request.step(bytes).ok_or(Stop::Spent)
    }

    fn value(&mut self, place: usize) -> Evaluated<'a> {
        self.spend(0)?;
        let program = self.program;
        match program.step(place).ok_or(Stop::Error)? {
            Step::Constant(constant) => Ok(constant.value()),
            Step::Variable(variable) => self.variable(*variable),
            Step::HasVariable(variable) => present(&self.variable(*variable)),
            Step::Local(place) => self.locals.get(*place).cloned().ok_or(Stop::Error),
            Step::Field(of, key) => {
                let of = self.value(*of)?;
                self.at(&of, &key.value())
            }
            Step::Has(of, key) => {
                let of = self.value(*of)?;
                match &of {
                    Value::Headers | Value::Map(_) | Value::Claims(_) => present(&self.at(&of, &key.value())),
                    _ => Err(Stop::Error),
                }
            }
            Step::List(items) => {
                let items = items.iter().map(|item| self.value(*item));
                items.collect::<Result<_, _>>().map(Value::list)
            }
            Step::Map(entries) => self.map(entries),
            Step::And(one, other) => self.decided_by(false, *one, *other),
            Step::Or(one, other) => self.decided_by(true, *one, *other),
            Step::Not(operand) => Ok(Value::Bool(!self.condition(*operand)?)),
            Step::Choose(test, one, other) => {
                let chosen = if self.condition(*test)? { one } else { other };
                self.value(*chosen)
            }
            Step::Call(function, first, second) => self.call(*function, *first, *second),
            Step::Matches(text, regex) => match self.value(*text)? {
                Value::Text(text) => {
                    let text = std::str::from_utf8(&text).map_err(|_| Stop::Error)?;
                    let matches = regex.matches_part(self.request, text).ok_or(Stop::Spent)?;
                    Ok(Value::Bool(matches))
                }
                _ => Err(Stop::Error),
            },
            Step::Each(each) => self.each(*each),
        }
    }

    /// Joins two conditions of which one that is `decisive` decides, whatever the other one is.
    fn decided_by(&mut self, decisive: bool, one: usize, other: usize) -> Evaluated<'a> {
        let one = match self.condition(one) {
            Ok(holds) if holds == decisive => return Ok(Value::Bool(decisive)),
            Err(stop) if stop != Stop::Error => return Err(stop),
            one => one,
        };
        let other = self.condition(other)?;
        if other == decisive {
            return Ok(Value::Bool(decisive));
        }
        one.map(Value::Bool)
    }

    fn map(&mut self, entries: &[(usize, usize)]) -> Evaluated<'a> {
        let mut values: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let (key, value) = (self.value(*key)?, self.value(*value)?);
            self.spend(values.iter().map(|(other, _)| other.size() + key.size()).sum())?;
            let is_key = matches!(key, Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Text(_));
            if !is_key || values.iter().any(|(other, _)| other.equals(&key) == Some(true)) {
                return Err(Stop::Error);
            }
            values.push((key, value));
        }
        Ok(Value::Map(values.into()))
    }

    fn call(&mut self, function: Function, first: usize, second: Option<usize>) -> Evaluated<'a> {
        let first = self.value(first)?;
        let second = second.map(|second| self.value(second)).transpose()?;
        self.spend(first.size() + second.as_ref().map_or(0, Value::size))?;
        match (function, &first, &second) {
            (Function::Index, of, Some(key)) => self.at(of, key),
            (Function::In, key, Some(Value::Headers)) => present(&self.at(&Value::Headers, key)),
            _ => function.apply(&first, second.as_ref()).ok_or(Stop::Error),
        }
    }

    fn at(&self, of: &Value<'a>, key: &Value<'a>) -> Evaluated<'a> {
        match (of, key) {
            (Value::Headers, Value::Text(name)) => self.header(&name.to_ascii_lowercase()),
            (Value::Claims(_), _) => {
                let claim = of.at(key).ok_or(Stop::Error)?;
                // Made just now; an object is not.
                if let Value::List(_) = claim {
                    self.spend(claim.size())?;
                }
                Ok(claim)
            }
            _ => of.at(key).ok_or(Stop::Error),
        }
    }

    fn variable(&self, variable: Variable) -> Evaluated<'a> {
        let text = |text: &'a [u8]| Ok(Value::Text(Cow::Borrowed(text)));
        if let Some(name) = variable.header() {
            return self.header(name);
        }
        match variable {
            Variable::Path => self.header(b":path"),
            Variable::UrlPath => text(self.target()?.path),
            Variable::Query => {
                let query = self.target()?.rest.strip_prefix(b"?").unwrap_or_default();
                text(query.split(|byte| *byte == b'#').next().unwrap_or_default())
            }
            Variable::Size => self.content_length(),
            Variable::Headers => Ok(Value::Headers),
            Variable::Claims => {
                let token = self.token()?.ok_or(Stop::Error)?;
                Ok(Value::Claims(Claims::new(token.claims())))
            }
            Variable::FilterMetadata => self.filter_metadata(),
            Variable::SourceAddress => text(self.request.address().map_err(Stop::Fault)?),
            Variable::DestinationPort => {
                let port = self.request.host.port().map_err(Stop::Fault)?;
                port.map(|port| Value::Int(port.into())).ok_or(Stop::Error)
            }
            Variable::Told(attribute) => {
                let fact = self.request.fact(attribute).map_err(Stop::Fault)?;
                match (attribute, fact.ok_or(Stop::Error)?) {
                    (Attribute::RequestTime, Fact::Number(nanos)) => Ok(Value::Timestamp(i128::from(*nanos))),
                    (Attribute::ConnectionId, Fact::Number(number)) => Ok(Value::Uint(number.cast_unsigned())),
                    (_, Fact::Number(number)) => Ok(Value::Int(*number)),
                    (_, Fact::Flag(flag)) => Ok(Value::Bool(*flag)),
                    (_, Fact::Text(told)) => text(told),
                }
            }
            _ => Err(Stop::Error),
        }
    }

    /// The token, if the request has one, that the rules' own policy verified.
    fn token(&self) -> Result<Option<&'a KnownToken>, Stop> {
        self.identity
            .verified
            .map(|verified| verified.token)
            .ok_or(Stop::Unknown)
    }

    /// What Envoy's own filter writes down of a token; nothing without one.
    fn filter_metadata(&self) -> Evaluated<'a> {
        let map =
            |name: &'a str, value| Value::Map(Arc::new(vec![(Value::Text(Cow::Borrowed(name.as_bytes())), value)]));
        let Some(token) = self.token()? else {
            return Ok(Value::Map(Arc::default()));
        };
        let providers = self.identity.policy.jwt().ok_or(Stop::Error)?.names();
        let provider = providers.into_iter().nth(token.provider()).ok_or(Stop::Error)?;
        let claims = Value::Claims(Claims::in_metadata(token.claims()));
        Ok(map(NAMESPACE, map(provider, claims)))
    }

    fn target(&self) -> Result<Target<'a>, Stop> {
        self.target.ok_or(Stop::Error)
    }

    /// The body's length as the request tells it; none is told of a body in chunks, of which nothing has arrived.
    fn content_length(&self) -> Evaluated<'a> {
        let length = match self.request.head.values(b"content-length").next() {
            None => Some(0),
            Some(text) => std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.trim_ascii().parse().ok()),
        };
        length.map(Value::Int).ok_or(Stop::Error)
    }

    /// A header by its lower-case name, its lines joined by commas.
    fn header(&self, name: &[u8]) -> Evaluated<'a> {
        if name == b":path" {
            let Target { path, rest } = self.target()?;
            self.spend(path.len() + rest.len())?;
            return Ok(Value::Text(if rest.is_empty() {
                Cow::Borrowed(path)
            } else {
                Cow::Owned([path, rest].concat())
            }));
        }
        if self.identity.names.contains(name) {
            return match self.identity.value(name) {
                None => Err(Stop::Unknown),
                Some(None) => Err(Stop::Error),
                Some(Some(value)) => Ok(Value::Text(Cow::Borrowed(value))),
            };
        }
        // A proxy calls the `Host` of HTTP/1 so.
        let name: &[u8] = if name == b"host" { b":authority" } else { name };
        let head: &'a crate::http::RequestHead = self.request.head;
        let mut lines = head
            .headers
            .iter()
            .filter(|(sent, _)| sent.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice());
        let first = lines.next().ok_or(Stop::Error)?;
        let mut value = Cow::Borrowed(first);
        for line in lines {
            self.spend(line.len())?;
            let joined = value.to_mut();
            joined.push(b',');
            joined.extend_from_slice(line);
        }
        self.spend(head.headers.len())?;
        Ok(Value::Text(value))
    }

    fn each(&mut self, each: EachStep) -> Evaluated<'a> {
        let list = self.value(each.list)?;
        let items: Vec<Value<'a>> = match &list {
            Value::List(items) => items.to_vec(),
            Value::Map(entries) => entries.iter().map(|(key, _)| key.clone()).collect(),
            Value::Claims(claims) => claims.names().collect(),
            _ => return Err(Stop::Error),
        };
        self.spend(list.size())?;
        let mut found = Vec::new();
        let mut failed = None;
        for item in items {
            self.locals.push(item.clone());
            let step = self.item(each, item);
            self.locals.pop();
            match (each.what, step) {
                (Each::All, Ok(None)) => return Ok(Value::Bool(false)),
                (Each::Exists, Ok(Some(_))) => return Ok(Value::Bool(true)),
                // As with && and ||, another item may decide.
                (Each::All | Each::Exists, Err(Stop::Error)) => failed = Some(Stop::Error),
                (_, Ok(Some(value))) => found.push(value),
                (_, Ok(None)) => {}
                (_, Err(stop)) => return Err(stop),
            }
        }
        match (each.what, failed) {
            (_, Some(stop)) => Err(stop),
            (Each::All, None) => Ok(Value::Bool(true)),
            (Each::Exists, None) => Ok(Value::Bool(false)),
            (Each::ExistsOne, None) => Ok(Value::Bool(found.len() == 1)),
            (Each::Filter | Each::Map, None) => Ok(Value::list(found)),
        }
    }

    /// What becomes of an item; nothing if the test does not hold.
    fn item(&mut self, each: EachStep, item: Value<'a>) -> Result<Option<Value<'a>>, Stop> {
        if let Some(test) = each.test
            && !self.condition(test)?
        {
            return Ok(None);
        }
        match each.value {
            Some(value) => self.value(value).map(Some),
            None => Ok(Some(item)),
        }
    }
}

fn present<'a>(value: &Evaluated<'a>) -> Evaluated<'a> {
    match value {
        Ok(_) => Ok(Value::Bool(true)),
        Err(Stop::Error) => Ok(Value::Bool(false)),
        Err(stop) => Err(*stop),
    }
}
