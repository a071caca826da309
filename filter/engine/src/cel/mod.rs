//! Conditions in the Common Expression Language (`authorization.rules[].cel`), evaluated as Envoy evaluates them.
//!
//! An expression comes parsed. It reads only what a list allows, calls only what Envoy calls, and costs only what one
//! request may cost; the proxy is asked only for what it reads. A rule that denies matches where there is no answer, and one
//! that allows does not.

mod claims;
mod evaluate;
mod function;
mod program;
#[cfg(feature = "cel-source")]
pub mod source;
mod time;
mod value;
mod variable;

use crate::{
    authorization::Identity,
    document::{Action, Expression},
    host::{Attribute, Fault, Host},
    http::path::split,
    jwt::Jwt,
    policy::PolicyError,
    request::Request,
};
use evaluate::{Evaluation, Stop, Target};
use program::{PathUse, Program, Step};
use variable::Variable;

/// The condition of one rule.
#[derive(Debug)]
pub(crate) struct Condition {
    program: Program,
    denies: bool,
}

impl Condition {
    /// Compiles the condition of a rule with that action; `at` is its place, and `jwt` verifies the tokens that it asks about.
    pub(crate) fn compile(
        at: &str,
        action: Action,
        expression: &Expression,
        jwt: Option<&Jwt>,
    ) -> Result<Self, PolicyError> {
        let program = Program::compile(at, expression)?;
        program.check_tokens(at, jwt)?;
        Ok(Self {
            program,
            denies: action == Action::Deny,
        })
    }

    /// How many regular expressions it has, and an upper bound for what they take, in bytes.
    pub(crate) fn regexes(&self) -> (usize, usize) {
        self.program.regexes()
    }

    /// Tells whether it holds, for its rule; `None` when only the identity can tell.
    ///
    /// Of a path that can be read in several ways, one reading is enough for a rule that denies. A rule that allows goes by
    /// the path that was sent, but where it excludes paths, each reading must hold.
    pub(crate) fn holds(
        &self,
        request: &Request<'_, impl Host>,
        identity: Identity<'_>,
    ) -> Result<Option<bool>, Fault> {
        let paths = self.program.paths();
        if paths == PathUse::None || (paths == PathUse::Positive && !self.denies) {
            let target = request.head.path().map(|target| {
                let (path, rest) = at_query(target);
                Target { path, rest }
            });
            return self.holds_for(request, identity, target);
        }
        if request.head.path().is_none() {
            return self.holds_for(request, identity, None);
        }
        let rest = request.readings().query().unwrap_or_default();
        let mut known = true;
        for path in request.readings().iter() {
            // Denying `/a` denies `/a/`: the same place to most backends.
            let short = path.strip_suffix(b"/").filter(|short| !short.is_empty());
            let short = short.filter(|_| self.denies && paths == PathUse::Positive);
            for path in [Some(path), short].into_iter().flatten() {
                match self.holds_for(request, identity, Some(Target { path, rest }))? {
                    Some(holds) if holds == self.denies => return Ok(Some(holds)),
                    Some(_) => {}
                    None => known = false,
                }
            }
        }
        Ok(known.then_some(!self.denies))
    }

    fn holds_for(
        &self,
        request: &Request<'_, impl Host>,
        identity: Identity<'_>,
        target: Option<Target<'_>>,
    ) -> Result<Option<bool>, Fault> {
        let mut evaluation = Evaluation {
            program: &self.program,
            request,
            identity,
            target,
            locals: Vec::new(),
        };
        match evaluation.holds() {
            Ok(holds) => Ok(Some(holds)),
            Err(Stop::Unknown) => Ok(None),
            Err(Stop::Error | Stop::Spent) => Ok(Some(self.denies)),
            Err(Stop::Fault(fault)) => Err(fault),
        }
    }
}

/// Splits a target at its query, as Envoy does for expressions: a fragment is a part of the path.
fn at_query(target: &[u8]) -> (&[u8], &[u8]) {
    let (path, rest) = split(target);
    if rest.starts_with(b"#") {
        (target, b"")
    } else {
        (path, rest)
    }
}

/// What an expression reads of a request, beside its path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Headers, by their lower-case names.
    pub headers: Vec<String>,
    /// Those of them without which it has no answer, and for which it does not look whether they are there.
    pub needed: Vec<String>,
    /// Whether only the request tells which headers it reads.
    pub any_header: bool,
    /// The client's address.
    pub address: bool,
    /// What else the proxy must tell.
    pub attributes: Vec<Attribute>,
}

/// Tells what an expression reads.
///
/// # Errors
/// Why it cannot be compiled.
pub fn reads(expression: &Expression) -> Result<Reads, PolicyError> {
    let program = Program::compile("", expression)?;
    let is_headers = |place: &usize| matches!(program.step(*place), Some(Step::Variable(Variable::Headers)));
    let constant = |place: &usize| match program.step(*place) {
        Some(Step::Constant(key)) => text_of(key),
        _ => None,
    };
    let mut reads = Reads::default();
    let mut tested = Vec::new();
    for step in program.steps() {
        // The name of a header, and whether it is only asked for.
        let (name, only_asked) = match step {
            Step::Field(of, key) if is_headers(of) => (text_of(key), false),
            Step::Has(of, key) if is_headers(of) => (text_of(key), true),
            Step::Call(_, of, Some(key)) if is_headers(of) => (constant(key), false),
            Step::Call(_, key, Some(of)) if is_headers(of) => (constant(key), true),
            Step::Variable(variable) | Step::HasVariable(variable) => {
                match variable {
                    Variable::SourceAddress => reads.address = true,
                    Variable::Told(told) => reads.attributes.push(*told),
                    _ => {}
                }
                let Some(header) = variable.header() else {
                    continue;
                };
                let name = String::from_utf8_lossy(header).into_owned();
                (Some(name), matches!(step, Step::HasVariable(_)))
            }
            _ => continue,
        };
        match name {
            None => reads.any_header = true,
            Some(name) if only_asked => {
                tested.push(name.clone());
                reads.headers.push(name);
            }
            Some(name) => {
                reads.needed.push(name.clone());
                reads.headers.push(name);
            }
        }
    }
    // Every request has a first line and a host.
    let is_certain = |name: &String| name.starts_with(':') || name == "host" || name == "x-request-id";
    reads.needed.retain(|name| !tested.contains(name) && !is_certain(name));
    reads.needed.dedup();
    Ok(reads)
}

fn text_of(key: &value::Constant) -> Option<String> {
    match key {
        value::Constant::Text(name) => Some(String::from_utf8_lossy(name).to_ascii_lowercase()),
        _ => None,
    }
}
