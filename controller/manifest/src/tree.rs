//! YAML text to trees in which every key and value knows where it stands. JSON is YAML and needs nothing else.

use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Marker, Options, Parser, ScalarStyle, Tag};
use granit_parser::{StrInput, StructureStyle};
use serde_json::Value as Json;

use crate::{
    place::{self, Position},
    scalar,
};

/// Values that anchors and aliases of one file may add; a few lines of aliases to aliases, or of one long text, would
/// otherwise fill the memory.
const ALIAS_BUDGET: usize = 100_000;
/// Bytes of text that count as one more value.
const TEXT_PER_VALUE: usize = 64;
/// Collections inside collections; deeper ones are refused, so that no walk over a tree can exhaust the stack.
const NESTING: usize = 64;

/// A value and where it stands. Not printable: it may hold a Secret.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) position: Position,
    /// Written as a block collection, which starts below its key.
    pub(crate) block: bool,
    pub(crate) value: Value,
}

#[derive(Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A key and its value; a repeated key stays, so that it can be reported.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) position: Position,
    pub(crate) repeated: bool,
    pub(crate) node: Node,
}

impl Node {
    /// A value that stands nowhere.
    pub(crate) fn from_json(json: &Json) -> Self {
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => number
                .as_i64()
                .map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)), Value::Int),
            Json::String(text) => Value::String(text.clone()),
            Json::Array(values) => Value::Sequence(values.iter().map(Self::from_json).collect()),
            Json::Object(fields) => Value::Mapping(
                fields
                    .iter()
                    .map(|(key, value)| Entry {
                        key: key.clone(),
                        position: Position::default(),
                        repeated: false,
                        node: Self::from_json(value),
                    })
                    .collect(),
            ),
        };
        Self {
            position: Position::default(),
            block: false,
            value,
        }
    }

    /// The entry of a mapping; the first one if its key is repeated.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The value of a mapping's entry.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.node)
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Where to point for the value under a key: at a value on the key's line, else at the key.
    pub(crate) fn position_under(&self, key: Position) -> Position {
        if self.block || self.position.line != key.line || matches!(self.value, Value::Null) {
            key
        } else {
            self.position
        }
    }

    /// How many collections it nests, itself included.
    fn depth(&self) -> usize {
        match &self.value {
            Value::Sequence(nodes) => 1 + nodes.iter().map(Self::depth).max().unwrap_or_default(),
            Value::Mapping(entries) => 1 + entries.iter().map(|entry| entry.node.depth()).max().unwrap_or_default(),
            _ => 0,
        }
    }

    /// The memory that a copy takes, in values.
    fn size(&self) -> usize {
        1 + match &self.value {
            Value::String(text) => text.len() / TEXT_PER_VALUE,
            Value::Sequence(nodes) => nodes.iter().map(Self::size).sum(),
            Value::Mapping(entries) => entries
                .iter()
                .map(|entry| entry.key.len() / TEXT_PER_VALUE + entry.node.size())
                .sum(),
            _ => 0,
        }
    }
}

/// What is wrong with a text.
pub(crate) struct SyntaxError {
    pub(crate) position: Position,
    /// The field that was being read.
    pub(crate) path: String,
    pub(crate) message: String,
}

/// The documents of a file that could be read, and the faults of the others.
#[derive(Default)]
pub(crate) struct Documents {
    pub(crate) roots: Vec<Node>,
    pub(crate) errors: Vec<SyntaxError>,
}

/// Reads all documents; one that is malformed does not hide the next.
pub(crate) fn parse(text: &str) -> Documents {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = NESTING;
    options.block_nesting_limit = NESTING;
    // The text of a file that editors of Windows saved.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut documents = Documents::default();
    let mut budget = ALIAS_BUDGET;
    loop {
        let fault = match document(&mut parser, &mut budget) {
            Ok(Some(Some(root))) => {
                documents.roots.push(root);
                continue;
            }
            Ok(Some(None)) => continue,
            Ok(None) => break,
            Err(fault) => fault,
        };
        documents.errors.push(fault);
        match parser.proceed_next_document() {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                documents.errors.push(syntax(&error));
                break;
            }
        }
    }
    documents
}

type Source<'text> = Parser<'text, StrInput<'text>>;

/// A collection whose end was not reached yet.
enum Open {
    Sequence {
        position: Position,
        block: bool,
        anchor: usize,
        nodes: Vec<Node>,
    },
    Mapping {
        position: Position,
        block: bool,
        anchor: usize,
        entries: Vec<Entry>,
        keys: HashSet<String>,
        key: Option<(String, Position)>,
    },
}

/// Reads one document: `None` at the end of the file, `Some(None)` for an empty document.
fn document(parser: &mut Source<'_>, budget: &mut usize) -> Result<Option<Option<Node>>, SyntaxError> {
    let mut open: Vec<Open> = Vec::new();
    read(parser, budget, &mut open).map_err(|(position, message)| SyntaxError {
        position,
        path: path(&open),
        message,
    })
}

/// The field that is being read.
fn path(open: &[Open]) -> String {
    open.iter().fold(String::new(), |path, open| match open {
        Open::Sequence { nodes, .. } => place::index(&path, nodes.len()),
        Open::Mapping {
            key: Some((key, _)), ..
        } => place::field(&path, key),
        Open::Mapping { key: None, .. } => path,
    })
}

type Fault = (Position, String);

fn read(parser: &mut Source<'_>, budget: &mut usize, open: &mut Vec<Open>) -> Result<Option<Option<Node>>, Fault> {
    let mut anchors: HashMap<usize, Node> = HashMap::new();
    let mut root = None;
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| (position(*error.marker()), error.info()))?;
        let position = position(span.start);
        let node = match event {
            Event::StreamEnd => return Ok(None),
            Event::DocumentEnd => return Ok(Some(root)),
            Event::SequenceStart(style, anchor, _) => {
                open.push(Open::Sequence {
                    position,
                    block: style == StructureStyle::Block,
                    anchor,
                    nodes: Vec::new(),
                });
                continue;
            }
            Event::MappingStart(style, anchor, _) => {
                open.push(Open::Mapping {
                    position,
                    block: style == StructureStyle::Block,
                    anchor,
                    entries: Vec::new(),
                    keys: HashSet::new(),
                    key: None,
                });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(ended) = open.pop() else { continue };
                let (node, anchor) = close(ended);
                remember(&mut anchors, anchor, &node, budget)?;
                node
            }
            Event::Scalar(text, style, anchor, tag) => {
                let node = Node {
                    position,
                    block: false,
                    value: value(&text, style, tag.as_deref()),
                };
                // A key keeps its text: `on: x` has the key "on", `80: x` the key "80".
                let node = match open.last() {
                    Some(Open::Mapping { key: None, .. }) => Node {
                        value: Value::String(text.into_owned()),
                        ..node
                    },
                    _ => node,
                };
                remember(&mut anchors, anchor, &node, budget)?;
                node
            }
            Event::Alias(id) => {
                let Some(node) = anchors.get(&id) else {
                    return Err((position, "an alias refers to the value that it is part of".to_owned()));
                };
                if open.len() + node.depth() > NESTING {
                    return Err((position, format!("an alias nests more than {NESTING} collections")));
                }
                copy(node, position, budget)?
            }
            // Starts and comments hold no data.
            _ => continue,
        };
        match open.last_mut() {
            None => root = Some(node),
            Some(Open::Sequence { nodes, .. }) => nodes.push(node),
            Some(Open::Mapping { entries, keys, key, .. }) => match key.take() {
                Some((key, position)) => entries.push(Entry {
                    repeated: !keys.insert(key.clone()),
                    key,
                    position,
                    node,
                }),
                None => match node.value {
                    Value::String(text) => *key = Some((text, node.position)),
                    _ => {
                        return Err((node.position, "a key must be a plain text".to_owned()));
                    }
                },
            },
        }
    }
    Ok(None)
}

fn close(ended: Open) -> (Node, usize) {
    match ended {
        Open::Sequence {
            position,
            block,
            anchor,
            nodes,
        } => {
            let node = Node {
                position,
                block,
                value: Value::Sequence(nodes),
            };
            (node, anchor)
        }
        Open::Mapping {
            position,
            block,
            anchor,
            entries,
            ..
        } => {
            let node = Node {
                position,
                block,
                value: Value::Mapping(merged(entries)),
            };
            (node, anchor)
        }
    }
}

/// Resolves merge keys (`<<: *base`), which YAML 1.2 dropped and every Kubernetes tool still reads: own keys win.
fn merged(entries: Vec<Entry>) -> Vec<Entry> {
    if entries.iter().all(|entry| entry.key != "<<") {
        return entries;
    }
    let (merges, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.key == "<<");
    let mut known: HashSet<String> = own.iter().map(|entry| entry.key.clone()).collect();
    for merge in merges {
        let sources = match merge.node.value {
            Value::Sequence(nodes) => nodes,
            _ => vec![merge.node],
        };
        for source in sources {
            if let Value::Mapping(inherited) = source.value {
                for entry in inherited {
                    if known.insert(entry.key.clone()) {
                        own.push(entry);
                    }
                }
            }
        }
    }
    own
}

fn remember(anchors: &mut HashMap<usize, Node>, anchor: usize, node: &Node, budget: &mut usize) -> Result<(), Fault> {
    if anchor != 0 {
        anchors.insert(anchor, copy(node, node.position, budget)?);
    }
    Ok(())
}

fn copy(node: &Node, position: Position, budget: &mut usize) -> Result<Node, Fault> {
    *budget = budget
        .checked_sub(node.size())
        .ok_or_else(|| (position, format!("aliases add more than {ALIAS_BUDGET} values")))?;
    Ok(node.clone())
}

fn value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let text_only = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str") || tag.is_yaml_core_schema_tag("binary"));
    if style == ScalarStyle::Plain && !text_only {
        scalar::resolve(text)
    } else {
        Value::String(text.to_owned())
    }
}

fn position(marker: Marker) -> Position {
    Position {
        line: marker.line(),
        column: marker.col() + 1,
    }
}

fn syntax(error: &granit_parser::ScanError) -> SyntaxError {
    SyntaxError {
        position: position(*error.marker()),
        path: String::new(),
        message: error.info(),
    }
}
