//! Expressions as they are written: read by the parser of the `cel` crate, which only a controller needs.

use cel::{
    Env, IdedExpr, ParseErrors,
    common::ast::{EntryExpr, Expr, LiteralValue},
};

use super::program::MAX_NODES;
use crate::document::{Each, Expression, Node};

/// The longest expression, in characters: as in Envoy Gateway's schema.
pub const MAX_SOURCE: usize = 4096;
/// How deeply the parser may descend.
const MAX_DEPTH: u16 = 96;

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// What is wrong, for a person.
    pub message: String,
    /// The line and the column at fault, from 1; absent where that cannot be told.
    pub place: Option<(usize, usize)>,
}

/// Parses an expression.
///
/// # Errors
/// The first thing that is no expression, or that no document can hold.
pub fn parse(text: &str) -> Result<Expression, SourceError> {
    let error = |message: String| SourceError { message, place: None };
    if text.chars().count() > MAX_SOURCE {
        return Err(error(format!("it is longer than {MAX_SOURCE} characters")));
    }
    // The parser descends for each of these before it counts.
    if let Some(place) = too_deep(text) {
        return Err(SourceError {
            message: format!("it is nested more than {MAX_DEPTH} deep"),
            place: Some(place),
        });
    }
    // Without macros: `has` and `exists` stay the calls that they are written as.
    let environment = Env::default().with_optional_support(false);
    let parser = environment
        .parser()
        .max_recursion_depth(MAX_DEPTH)
        .error_recovery_limit(1);
    let parsed = parser.parse(text).map_err(|errors| first(&errors))?;
    let mut nodes = Vec::new();
    convert(&parsed, &mut nodes).map_err(error)?;
    Ok(Expression(nodes))
}

fn first(errors: &ParseErrors) -> SourceError {
    let Some(first) = errors.errors.first() else {
        return SourceError {
            message: "it is no expression".to_owned(),
            place: None,
        };
    };
    let place = |place: isize| usize::try_from(place).ok();
    let place = place(first.pos.0).filter(|line| *line > 0).zip(place(first.pos.1));
    // What would have been right is most of the language.
    let message = first.msg.split(" expecting {").next().unwrap_or_default();
    SourceError {
        message: message.to_owned(),
        place,
    }
}

/// Where brackets are nested too deeply, if they are; those in texts count too, which only makes it stricter.
fn too_deep(text: &str) -> Option<(usize, usize)> {
    let mut depth = 0_u16;
    for (line, text) in text.lines().enumerate() {
        for (column, character) in text.chars().enumerate() {
            match character {
                '(' | '[' | '{' => depth = depth.saturating_add(1),
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > MAX_DEPTH {
                return Some((line + 1, column + 1));
            }
        }
    }
    None
}

/// Adds an expression's nodes and returns the place of the last one.
fn convert(expression: &IdedExpr, nodes: &mut Vec<Node>) -> Result<u16, String> {
    let node = match &expression.expr {
        Expr::Ident(name) => Node::Name(name.clone()),
        Expr::Literal(literal) => match literal {
            LiteralValue::Null => Node::Null,
            LiteralValue::Boolean(value) => Node::Bool(*value.inner()),
            LiteralValue::Int(value) => Node::Int(*value.inner()),
            LiteralValue::UInt(value) => Node::Uint(*value.inner()),
            LiteralValue::Double(value) => Node::Double(value.inner().to_bits()),
            LiteralValue::String(value) => Node::Text(value.inner().to_owned()),
            LiteralValue::Bytes(_) => return Err("bytes are of no use: what a request holds is text".to_owned()),
        },
        Expr::Select(select) => Node::Field {
            of: convert(&select.operand, nodes)?,
            name: select.field.clone(),
        },
        Expr::List(list) => Node::List(all(&list.elements, nodes)?),
        Expr::Map(map) => {
            let mut entries = Vec::with_capacity(map.entries.len());
            for entry in &map.entries {
                let EntryExpr::MapEntry(entry) = &entry.expr else {
                    return Err("an entry of a map has a key and a value".to_owned());
                };
                entries.push((convert(&entry.key, nodes)?, convert(&entry.value, nodes)?));
            }
            Node::Map(entries)
        }
        Expr::Call(call) => match (call.func_name.as_str(), call.target.as_deref(), call.args.as_slice()) {
            ("has", None, [operand]) => match &operand.expr {
                Expr::Select(select) => Node::Has {
                    of: convert(&select.operand, nodes)?,
                    name: select.field.clone(),
                },
                _ => return Err("has() takes a field, as in has(request.headers.authorization)".to_owned()),
            },
            (name @ ("all" | "exists" | "exists_one" | "filter" | "map"), Some(list), [item, rest @ ..]) => {
                let Expr::Ident(item) = &item.expr else {
                    return Err(format!("{name}: its first operand is the name of an item"));
                };
                let list = convert(list, nodes)?;
                let (what, test, value) = match (name, rest) {
                    ("map", [value]) => (Each::Map, None, Some(value)),
                    ("map", [test, value]) => (Each::Map, Some(test), Some(value)),
                    ("all", [test]) => (Each::All, Some(test), None),
                    ("exists", [test]) => (Each::Exists, Some(test), None),
                    ("exists_one", [test]) => (Each::ExistsOne, Some(test), None),
                    ("filter", [test]) => (Each::Filter, Some(test), None),
                    _ => return Err(format!("{name} does not take {} operands", rest.len() + 1)),
                };
                Node::Each {
                    what,
                    list,
                    item: item.clone(),
                    test: test.map(|test| convert(test, nodes)).transpose()?,
                    value: value.map(|value| convert(value, nodes)).transpose()?,
                }
            }
            ("int" | "uint" | "double" | "timestamp" | "duration" | "dyn", Some(_), _) => {
                let name = &call.func_name;
                return Err(format!("{name} is written in front of its operand: {name}(...)"));
            }
            (name, target, arguments) => {
                let mut operands = Vec::new();
                if let Some(target) = target {
                    operands.push(convert(target, nodes)?);
                }
                operands.extend(all(arguments, nodes)?);
                Node::Call {
                    function: name.to_owned(),
                    operands,
                }
            }
        },
        Expr::Struct(object) => return Err(format!("there is no type {:?}", object.type_name)),
        Expr::Comprehension(_) | Expr::Unspecified => return Err("it is no expression".to_owned()),
    };
    if nodes.len() >= MAX_NODES {
        return Err(format!("it has more than {MAX_NODES} parts"));
    }
    nodes.push(node);
    u16::try_from(nodes.len() - 1).map_err(|error| error.to_string())
}

fn all(expressions: &[IdedExpr], nodes: &mut Vec<Node>) -> Result<Vec<u16>, String> {
    expressions
        .iter()
        .map(|expression| convert(expression, nodes))
        .collect()
}
