//! Expressions made ready to be evaluated: every name is known, every text is checked that can be, and nothing is deep.

mod compile;
mod paths;
mod wrong;

use super::{claims::NAMESPACE, function::Function, value::Constant, variable::Variable};
use crate::{
    authorization::regex::Regex,
    document::{Each, Expression},
    jwt::Jwt,
    policy::{PolicyError, told},
};
pub(crate) use paths::PathUse;
use wrong::Wrong;

/// The most nodes of one expression.
pub(crate) const MAX_NODES: usize = 1024;

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Program {
    steps: Vec<Step>,
    root: usize,
    paths: PathUse,
}

/// One node; operands are places in the program.
#[derive(Debug)]
pub(crate) enum Step {
    Constant(Constant),
    Variable(Variable),
    /// Whether a variable has a value.
    HasVariable(Variable),
    /// An item of an [`Step::Each`], by how many of them stand around it.
    Local(usize),
    Field(usize, Constant),
    Has(usize, Constant),
    List(Vec<usize>),
    Map(Vec<(usize, usize)>),
    And(usize, usize),
    Or(usize, usize),
    Not(usize),
    Choose(usize, usize, usize),
    Call(Function, usize, Option<usize>),
    Matches(usize, Regex),
    Each(EachStep),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct EachStep {
    pub(crate) what: Each,
    pub(crate) list: usize,
    pub(crate) test: Option<usize>,
    pub(crate) value: Option<usize>,
}

impl Program {
    /// Compiles an expression whose place is `at`.
    pub(crate) fn compile(at: &str, expression: &Expression) -> Result<Self, PolicyError> {
        compile::program(&expression.0).map_err(|Wrong(code, message, fix)| {
            let error = PolicyError::new(told!("{at}"), code, message);
            match fix {
                Some(fix) => error.fix(fix),
                None => error,
            }
        })
    }

    /// Refuses what asks about tokens that nobody verifies, and about what Envoy's own filters write down beside them.
    pub(crate) fn check_tokens(&self, at: &str, jwt: Option<&Jwt>) -> Result<(), PolicyError> {
        let asks = |step: &Step| {
            matches!(
                step,
                Step::Variable(Variable::Claims | Variable::FilterMetadata)
                    | Step::HasVariable(Variable::FilterMetadata)
            )
        };
        if !self.steps.iter().any(asks) {
            return Ok(());
        }
        let Some(jwt) = jwt else {
            let message = told!("this policy verifies no token, so there is no claim");
            let error = PolicyError::new(told!("{at}"), "claims-without-jwt", message);
            return Err(error.fix(told!("configure jwt")));
        };
        for step in &self.steps {
            let Some((of, key)) = self.lookup(step) else {
                continue;
            };
            if matches!(of, Step::Variable(Variable::FilterMetadata)) && key != NAMESPACE.as_bytes() {
                let message = told!("there is no metadata of {:?}", String::from_utf8_lossy(key));
                let error = PolicyError::new(told!("{at}"), "unknown-metadata", message);
                return Err(error.fix(told!("there is {NAMESPACE:?}")));
            }
            let is_of_tokens = self
                .lookup(of)
                .is_some_and(|(of, _)| matches!(of, Step::Variable(Variable::FilterMetadata)));
            if is_of_tokens && !jwt.names().any(|name| name.as_bytes() == key) {
                let message = told!("{:?} is none of jwt.providers", String::from_utf8_lossy(key));
                return Err(PolicyError::new(told!("{at}"), "unknown-provider", message));
            }
        }
        Ok(())
    }

    /// What a step looks a name up in that stands in the expression, and the name.
    fn lookup<'s>(&'s self, step: &'s Step) -> Option<(&'s Step, &'s [u8])> {
        let (of, key) = match step {
            Step::Field(of, key) | Step::Has(of, key) => (*of, key),
            Step::Call(Function::Index, of, Some(key)) | Step::Call(Function::In, key, Some(of)) => {
                match self.step(*key)? {
                    Step::Constant(key) => (*of, key),
                    _ => return None,
                }
            }
            _ => return None,
        };
        match key {
            Constant::Text(key) => Some((self.step(of)?, key)),
            _ => None,
        }
    }

    pub(crate) const fn root(&self) -> usize {
        self.root
    }

    pub(crate) const fn paths(&self) -> PathUse {
        self.paths
    }

    pub(crate) fn step(&self, place: usize) -> Option<&Step> {
        self.steps.get(place)
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How many regular expressions it has, and an upper bound for what they take, in bytes.
    pub(crate) fn regexes(&self) -> (usize, usize) {
        let regexes = self.steps.iter().filter_map(|step| match step {
            Step::Matches(_, regex) => Some(regex.bytes()),
            _ => None,
        });
        regexes.fold((0, 0), |(count, bytes), regex| (count + 1, bytes + regex))
    }
}
