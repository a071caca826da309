//! From the nodes of an expression to its program.

use super::{
    EachStep, MAX_NODES, PathUse, Program, Step,
    paths::{mixed, truth, use_of},
    wrong::{Wrong, malformed, named, shown, unknown_function, wrong},
};
use crate::{
    authorization::regex::{Regex, RegexError},
    cel::{
        function::{Function, zone_offset},
        value::{Constant, Kind, Value},
        variable::{self, Variable},
    },
    document::{Each, Node},
    policy::told,
};

/// How deeply an expression may be nested.
const MAX_DEPTH: usize = 64;
/// The most bytes of all texts of one expression.
const MAX_TEXT: usize = 16 * 1024;
/// How deeply macros over lists may be nested.
const MAX_LOOPS: usize = 3;

/// A compiled node, and what is known of its value.
#[derive(Clone, Copy)]
struct Typed {
    step: usize,
    kind: Option<Kind>,
    paths: PathUse,
}

struct Compiler<'e> {
    nodes: &'e [Node],
    used: Vec<bool>,
    locals: Vec<&'e str>,
    steps: Vec<Step>,
}

type Compiled = Result<Typed, Wrong>;

/// Makes the program of the nodes of an expression.
pub(super) fn program(nodes: &[Node]) -> Result<Program, Wrong> {
    if nodes.len() > MAX_NODES {
        let message = told!(
            "{} parts are more than the {MAX_NODES} that an expression may have",
            nodes.len()
        );
        return wrong("cel-too-large", message, Some("write several rules"));
    }
    let text: usize = nodes.iter().map(text_bytes).sum();
    if text > MAX_TEXT {
        let message = told!("its texts have {text} bytes, more than the {MAX_TEXT} that they may have");
        return wrong("cel-too-large", message, Some("write several rules"));
    }
    let mut compiler = Compiler {
        nodes,
        used: vec![false; nodes.len()],
        locals: Vec::new(),
        steps: Vec::with_capacity(nodes.len()),
    };
    let root = nodes.len().checked_sub(1);
    let root = match root.and_then(|root| u16::try_from(root).ok()) {
        Some(root) => compiler.node(root, nodes.len(), 0)?,
        None => return malformed(),
    };
    if compiler.used.contains(&false) {
        return malformed();
    }
    if let Some(kind) = root.kind.filter(|kind| *kind != Kind::Bool) {
        let message = told!("the expression is {}, not a condition", kind.noun());
        return wrong("cel-type", message, Some("compare it with something"));
    }
    Ok(Program {
        steps: compiler.steps,
        root: root.step,
        paths: root.paths,
    })
}

fn text_bytes(node: &Node) -> usize {
    match node {
        Node::Text(text) | Node::Name(text) | Node::Field { name: text, .. } | Node::Has { name: text, .. } => {
            text.len()
        }
        Node::Call { function, .. } => function.len(),
        Node::Each { item, .. } => item.len(),
        _ => 0,
    }
}

impl<'e> Compiler<'e> {
    /// Takes a node as the operand of another one that stands at `before`.
    fn take(&mut self, place: u16, before: usize) -> Result<&'e Node, Wrong> {
        let place = usize::from(place);
        match (self.nodes.get(place), self.used.get_mut(place)) {
            (Some(node), Some(used)) if place < before && !*used => {
                *used = true;
                Ok(node)
            }
            _ => malformed(),
        }
    }

    fn push(&mut self, step: Step, kind: Option<Kind>, paths: PathUse) -> Typed {
        self.steps.push(step);
        Typed {
            step: self.steps.len().saturating_sub(1),
            kind,
            paths,
        }
    }

    fn constant(&mut self, constant: Constant) -> Typed {
        let kind = constant.kind();
        self.push(Step::Constant(constant), Some(kind), PathUse::None)
    }

    fn node(&mut self, place: u16, before: usize, depth: usize) -> Compiled {
        if depth > MAX_DEPTH {
            let message = told!("it is nested more than {MAX_DEPTH} deep");
            return wrong("cel-too-large", message, Some("write several rules"));
        }
        if let Some(variable) = self.variable(place, before)? {
            return Ok(self.push(Step::Variable(variable), Some(variable.kind()), use_of(variable)));
        }
        let (node, here, depth) = (self.take(place, before)?, usize::from(place), depth + 1);
        match node {
            Node::Null => Ok(self.constant(Constant::Null)),
            Node::Bool(value) => Ok(self.constant(Constant::Bool(*value))),
            Node::Int(value) => Ok(self.constant(Constant::Int(*value))),
            Node::Uint(value) => Ok(self.constant(Constant::Uint(*value))),
            Node::Double(bits) => Ok(self.constant(Constant::Double(f64::from_bits(*bits)))),
            Node::Text(text) => Ok(self.constant(Constant::Text(text.as_bytes().into()))),
            Node::Name(name) => self.name(name),
            Node::Field { of, name } => self.field(*of, name, here, depth),
            Node::Has { of, name } => self.has(*of, name, here, depth),
            Node::List(items) => {
                let items = items.iter().map(|item| self.node(*item, here, depth));
                let items = items.collect::<Result<Vec<_>, _>>()?;
                let paths = mixed(items.iter().map(|item| item.paths));
                let items = items.iter().map(|item| item.step).collect();
                Ok(self.push(Step::List(items), Some(Kind::List), paths))
            }
            Node::Map(entries) => {
                let mut steps = Vec::with_capacity(entries.len());
                let mut paths = PathUse::None;
                for (key, value) in entries {
                    let (key, value) = (self.node(*key, here, depth)?, self.node(*value, here, depth)?);
                    if key
                        .kind
                        .is_some_and(|kind| !matches!(kind, Kind::Bool | Kind::Int | Kind::Uint | Kind::Text))
                    {
                        return wrong("cel-type", "a key is a text, a whole number, true or false", None);
                    }
                    paths = paths.max(mixed([key.paths, value.paths]));
                    steps.push((key.step, value.step));
                }
                Ok(self.push(Step::Map(steps), Some(Kind::Map), paths))
            }
            Node::Call { function, operands } => self.call(function, operands, here, depth),
            Node::Each {
                what,
                list,
                item,
                test,
                value,
            } => self.each((*what, *list, *test, *value), item, here, depth),
        }
    }

    /// The variable that a node is, which it takes with the nodes below it.
    fn variable(&mut self, place: u16, before: usize) -> Result<Option<Variable>, Wrong> {
        let (of, name, key) = match self.nodes.get(usize::from(place)) {
            Some(Node::Field { of, name }) => (*of, name, None),
            Some(Node::Call { function, operands }) if function == "_[_]" => match operands.as_slice() {
                [of, key] => match self.nodes.get(usize::from(*key)) {
                    Some(Node::Text(name)) => (*of, name, Some(*key)),
                    _ => return Ok(None),
                },
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let Some(Node::Name(root)) = self.nodes.get(usize::from(of)) else {
            return Ok(None);
        };
        if self.locals.contains(&root.as_str()) || !is_root(root) {
            return Ok(None);
        }
        let variable = named(root, name)?;
        self.take(place, before)?;
        for taken in [Some(of), key].into_iter().flatten() {
            self.take(taken, usize::from(place))?;
        }
        Ok(Some(variable))
    }

    fn name(&mut self, name: &str) -> Compiled {
        if let Some(place) = self.locals.iter().rposition(|local| *local == name) {
            return Ok(self.push(Step::Local(place), None, PathUse::None));
        }
        if name == "claims" {
            let variable = Variable::Claims;
            return Ok(self.push(Step::Variable(variable), Some(variable.kind()), PathUse::None));
        }
        if is_root(name) {
            let message = told!("{name} is not a value by itself");
            let fix = told!("name one of its fields: {}", Variable::of(name).join(", "));
            return Err(Wrong("unknown-variable", message, Some(fix)));
        }
        let message = match variable::refused(name, "") {
            Some(why) => told!("{name} {why}"),
            None => told!("there is no variable {name:?}"),
        };
        wrong(
            "unknown-variable",
            message,
            Some("name a field of request, source, destination, connection, metadata or claims"),
        )
    }

    fn field(&mut self, of: u16, name: &'e str, here: usize, depth: usize) -> Compiled {
        let of = self.node(of, here, depth)?;
        self.key_of(of, name, Step::Field)
    }

    fn has(&mut self, of: u16, name: &'e str, here: usize, depth: usize) -> Compiled {
        if let Some(Node::Name(root)) = self.nodes.get(usize::from(of))
            && !self.locals.contains(&root.as_str())
            && is_root(root)
        {
            let variable = named(root, name)?;
            self.take(of, here)?;
            return Ok(self.push(Step::HasVariable(variable), Some(Kind::Bool), PathUse::None));
        }
        let of = self.node(of, here, depth)?;
        let typed = self.key_of(of, name, Step::Has)?;
        Ok(Typed {
            kind: Some(Kind::Bool),
            paths: mixed([typed.paths]),
            ..typed
        })
    }

    /// Looks a name up in a map or among the headers.
    fn key_of(&mut self, of: Typed, name: &str, step: fn(usize, Constant) -> Step) -> Compiled {
        let kind = match of.kind {
            Some(Kind::Headers) => Some(Kind::Text),
            None | Some(Kind::Map) => None,
            Some(kind) => return wrong("cel-type", told!("{} has no field {name:?}", kind.noun()), None),
        };
        let paths = match name.eq_ignore_ascii_case(":path") {
            true => PathUse::Mixed,
            false => mixed([of.paths]),
        };
        let key = Constant::Text(name.as_bytes().into());
        Ok(self.push(step(of.step, key), kind, paths))
    }

    fn call(&mut self, function: &str, operands: &'e [u16], here: usize, depth: usize) -> Compiled {
        if function == "matches" {
            return self.matches(operands, here, depth);
        }
        let typed = operands.iter().map(|operand| self.node(*operand, here, depth));
        let typed = typed.collect::<Result<Vec<_>, _>>()?;
        let condition = |operand: &Typed| match operand.kind {
            Some(kind) if kind != Kind::Bool => wrong("cel-type", told!("{} is no condition", kind.noun()), None),
            _ => Ok(()),
        };
        match (function, typed.as_slice()) {
            ("_&&_" | "_||_", [one, other]) => {
                condition(one)?;
                condition(other)?;
                let step = if function == "_&&_" { Step::And } else { Step::Or };
                let paths = truth(one.paths).max(truth(other.paths));
                Ok(self.push(step(one.step, other.step), Some(Kind::Bool), paths))
            }
            ("!_", [operand]) => {
                condition(operand)?;
                Ok(self.push(Step::Not(operand.step), Some(Kind::Bool), mixed([operand.paths])))
            }
            ("_?_:_", [test, one, other]) => {
                condition(test)?;
                let kind = one.kind.filter(|_| one.kind == other.kind);
                let paths = mixed([test.paths]).max(one.paths).max(other.paths);
                Ok(self.push(Step::Choose(test.step, one.step, other.step), kind, paths))
            }
            _ => self.apply(function, &typed, operands),
        }
    }

    fn apply(&mut self, name: &str, typed: &[Typed], operands: &[u16]) -> Compiled {
        let Some((function, fewest, most)) = Function::named(name) else {
            return unknown_function(name);
        };
        let (Some(first), true) = (typed.first(), (fewest..=most).contains(&typed.len())) else {
            let message = told!("{} does not take {} operands", shown(name), typed.len());
            return wrong("unknown-function", message, None);
        };
        let kinds: Vec<_> = typed.iter().map(|operand| operand.kind).collect();
        let kind = match function.kind(&kinds) {
            Ok(kind) => kind,
            Err(message) => return wrong("cel-type", told!("{}: {message}", shown(name)), None),
        };
        if let Some(constant) = self.read_text(function, name, operands)? {
            return Ok(self.constant(constant));
        }
        let second = typed.get(1);
        let others = second.map_or(PathUse::None, |second| second.paths);
        let paths = match (function, first.paths, others) {
            (_, PathUse::None, PathUse::None) => PathUse::None,
            (Function::Dyn, paths, _) => paths,
            (Function::Equal, PathUse::Value, PathUse::None)
            | (Function::Equal, PathUse::None, PathUse::Value)
            | (
                Function::In | Function::StartsWith | Function::EndsWith | Function::Contains,
                PathUse::Value,
                PathUse::None,
            ) => PathUse::Positive,
            _ => PathUse::Mixed,
        };
        // Which header it is only the request tells: perhaps `:path`.
        let any_header = kinds.first() == Some(&Some(Kind::Headers)) && function == Function::Index
            || kinds.get(1) == Some(&Some(Kind::Headers));
        let constant = |operand: Option<&u16>| {
            let node = operand.and_then(|operand| self.nodes.get(usize::from(*operand)));
            matches!(node, Some(Node::Text(name)) if !name.eq_ignore_ascii_case(":path"))
        };
        let paths = match any_header && !constant(operands.first()) && !constant(operands.get(1)) {
            true => PathUse::Mixed,
            false => paths,
        };
        let step = Step::Call(function, first.step, second.map(|second| second.step));
        Ok(self.push(step, kind, paths))
    }

    /// Reads a text that stands in the expression for a function that makes something else of it, and refuses those of which
    /// it can make nothing.
    fn read_text(&self, function: Function, name: &str, operands: &[u16]) -> Result<Option<Constant>, Wrong> {
        let text = |place: usize| {
            let operand = operands.get(place)?;
            match self.nodes.get(usize::from(*operand)) {
                Some(Node::Text(text)) => Some(text),
                _ => None,
            }
        };
        if let (Function::Part(_), Some(zone)) = (function, text(1))
            && zone_offset(zone.as_bytes()).is_none()
        {
            let message = told!("there is no table of time zones in which {zone:?} could be looked up");
            let fix = "write its offset from UTC, as in \"+02:00\"";
            return wrong("cel-time-zone", message, Some(fix));
        }
        let makes = [
            Function::Timestamp,
            Function::Duration,
            Function::Int,
            Function::Uint,
            Function::Double,
        ];
        let Some(text) = text(0).filter(|_| makes.contains(&function)) else {
            return Ok(None);
        };
        let value = function.apply(&Value::Text(text.as_bytes().into()), None);
        match value.as_ref().and_then(Constant::of) {
            Some(constant) => Ok(Some(constant)),
            None => wrong("cel-type", told!("{name}: {text:?} is none"), None),
        }
    }

    fn matches(&mut self, operands: &[u16], here: usize, depth: usize) -> Compiled {
        let [text, pattern] = operands else {
            return wrong("unknown-function", "matches takes a text and a pattern", None);
        };
        let text = self.node(*text, here, depth)?;
        if let Some(kind) = text.kind.filter(|kind| *kind != Kind::Text) {
            return wrong("cel-type", told!("matches: {} is no text", kind.noun()), None);
        }
        let Node::Text(pattern) = self.take(*pattern, here)? else {
            let message = "matches: the pattern is not written as a text, so a request could choose it";
            return wrong("invalid-regex", message, Some("write the pattern in quotes"));
        };
        let regex = match Regex::compile_part(pattern) {
            Ok(regex) => regex,
            Err(RegexError::Invalid(message)) => return wrong("invalid-regex", told!("matches: {message}"), None),
            Err(RegexError::TooLarge) => {
                let fix = Some("write smaller repetition counts, or several rules");
                return wrong(
                    "regex-too-large",
                    "matches: the pattern is too large when compiled",
                    fix,
                );
            }
        };
        let paths = match text.paths {
            PathUse::Value => PathUse::Positive,
            paths => mixed([paths]),
        };
        Ok(self.push(Step::Matches(text.step, regex), Some(Kind::Bool), paths))
    }

    fn each(
        &mut self,
        (what, list, test, value): (Each, u16, Option<u16>, Option<u16>),
        item: &'e str,
        here: usize,
        depth: usize,
    ) -> Compiled {
        let list = self.node(list, here, depth)?;
        if let Some(kind) = list.kind.filter(|kind| !matches!(kind, Kind::List | Kind::Map)) {
            let message = told!("{} has no items to go through", kind.noun());
            return wrong("cel-type", message, None);
        }
        if item.is_empty() || is_root(item) {
            return wrong("cel-type", told!("{item:?} cannot be the name of an item"), None);
        }
        let whole = match what {
            Each::Map => value.is_some(),
            Each::All | Each::Exists | Each::ExistsOne | Each::Filter => test.is_some() && value.is_none(),
        };
        if !whole {
            return malformed();
        }
        self.locals.push(item);
        if self.locals.len() > MAX_LOOPS {
            let message = told!("macros over lists are nested more than {MAX_LOOPS} deep");
            return wrong("cel-too-large", message, None);
        }
        let test = test.map(|test| self.node(test, here, depth)).transpose()?;
        let value = value.map(|value| self.node(value, here, depth)).transpose()?;
        self.locals.pop();
        if let Some(kind) = test.and_then(|test| test.kind).filter(|kind| *kind != Kind::Bool) {
            return wrong("cel-type", told!("{} is no condition", kind.noun()), None);
        }
        let tested = test.map_or(PathUse::None, |test| test.paths);
        let (kind, tested) = match what {
            Each::All | Each::Exists => (Kind::Bool, truth(tested)),
            Each::ExistsOne => (Kind::Bool, mixed([tested])),
            Each::Filter | Each::Map => (Kind::List, mixed([tested])),
        };
        let made = value.map_or(PathUse::None, |value| value.paths);
        let paths = mixed([list.paths, made]).max(tested);
        let step = EachStep {
            what,
            list: list.step,
            test: test.map(|test| test.step),
            value: value.map(|value| value.step),
        };
        Ok(self.push(Step::Each(step), Some(kind), paths))
    }
}

fn is_root(name: &str) -> bool {
    matches!(name, "request" | "source" | "destination" | "connection" | "metadata")
}
