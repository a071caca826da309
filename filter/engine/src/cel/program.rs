//! Expressions made ready to be evaluated: every name is known, every text is checked that can be, and nothing is deep.

mod compile;
mod paths;
mod wrong;

use super::{function::Function, value::Constant, variable::Variable};
use crate::{
    authorization::regex::Regex,
    document::{Each, Expression},
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
