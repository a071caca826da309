use serde::{Deserialize, Serialize};

/// A condition in the Common Expression Language, parsed (`authorization.rules[].cel`).
///
/// A tree as a list: the last node is the condition, and each other one is the operand of exactly one node behind it. So
/// nothing is nested on the wire, whatever was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expression(pub Vec<Node>);

/// One node of an [`Expression`]; operands are places in its list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Node {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer, `1u`.
    Uint(u64),
    /// A floating-point number, by its bits (IEEE 754 binary64).
    Double(u64),
    /// A text.
    Text(String),
    /// A variable.
    Name(String),
    /// `of.name`
    Field {
        /// The operand.
        of: u16,
        /// The field.
        name: String,
    },
    /// `has(of.name)`
    Has {
        /// The operand.
        of: u16,
        /// The field.
        name: String,
    },
    /// `[a, b]`
    List(Vec<u16>),
    /// `{a: b}`
    Map(Vec<(u16, u16)>),
    /// An operator or a function; the receiver of `a.f(b)` is the first operand.
    Call {
        /// The name, for an operator CEL's own: `_==_`.
        function: String,
        /// The operands.
        operands: Vec<u16>,
    },
    /// `list.all(item, test)` and the like.
    Each {
        /// What becomes of the items.
        what: Each,
        /// The list, or the map whose keys are the items.
        list: u16,
        /// The item's variable.
        item: String,
        /// The test; absent for [`Each::Map`] without one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        test: Option<u16>,
        /// What an item becomes, for [`Each::Map`] only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<u16>,
    },
}

/// What a [`Node::Each`] makes of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Each {
    /// Whether the test holds for every item.
    All,
    /// Whether the test holds for an item.
    Exists,
    /// Whether the test holds for exactly one item.
    ExistsOne,
    /// The items for which the test holds.
    Filter,
    /// What the items become, those for which the test holds.
    Map,
}
