//! Values of expressions, and how they compare.

use std::{borrow::Cow, cmp::Ordering, sync::Arc};

use super::claims::Claims;

/// A value while an expression is evaluated. Texts are bytes: nothing that a client sent is known to be UTF-8.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Cow<'a, [u8]>),
    /// Nanoseconds since 1970.
    Timestamp(i128),
    /// Nanoseconds.
    Duration(i128),
    List(Arc<Vec<Self>>),
    Map(Arc<Vec<(Self, Self)>>),
    /// `request.headers`, of which only single headers can be asked for.
    Headers,
    /// An object of a token.
    Claims(Claims<'a>),
}

/// A value that stands in an expression.
#[derive(Clone, Debug)]
pub(crate) enum Constant {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Box<[u8]>),
    Timestamp(i128),
    Duration(i128),
}

/// What is known of a value's type before anything is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Timestamp,
    Duration,
    List,
    Map,
    Headers,
}

impl Kind {
    /// What a person calls such a value.
    pub(crate) const fn noun(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Int | Self::Uint | Self::Double => "a number",
            Self::Text => "a text",
            Self::Timestamp => "a point in time",
            Self::Duration => "a duration",
            Self::List => "a list",
            Self::Map => "a map",
            Self::Headers => "all headers",
        }
    }

    pub(crate) const fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }
}

impl Constant {
    /// What can stand in a program of a value; nothing for a list or a map.
    pub(crate) fn of(value: &Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Uint(value) => Self::Uint(*value),
            Value::Double(value) => Self::Double(*value),
            Value::Text(value) => Self::Text((**value).into()),
            Value::Timestamp(value) => Self::Timestamp(*value),
            Value::Duration(value) => Self::Duration(*value),
            Value::List(_) | Value::Map(_) | Value::Headers | Value::Claims(_) => return None,
        })
    }

    pub(crate) fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Uint(value) => Value::Uint(*value),
            Self::Double(value) => Value::Double(*value),
            Self::Text(value) => Value::Text(Cow::Borrowed(value)),
            Self::Timestamp(value) => Value::Timestamp(*value),
            Self::Duration(value) => Value::Duration(*value),
        }
    }

    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Null => Kind::Null,
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) => Kind::Int,
            Self::Uint(_) => Kind::Uint,
            Self::Double(_) => Kind::Double,
            Self::Text(_) => Kind::Text,
            Self::Timestamp(_) => Kind::Timestamp,
            Self::Duration(_) => Kind::Duration,
        }
    }
}

impl<'a> Value<'a> {
    pub(crate) fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(items))
    }

    /// How much there is to look at, in bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::List(items) => items.iter().map(|item| 32 + item.size()).sum(),
            Self::Map(entries) => entries.iter().map(|(key, value)| 64 + key.size() + value.size()).sum(),
            Self::Claims(claims) => claims.weight(),
            _ => 0,
        }
    }

    /// Compares by `==`: numbers of every kind by what they are worth, values of different kinds never equal.
    ///
    /// `None` for what cannot be compared.
    pub(crate) fn equals(&self, other: &Self) -> Option<bool> {
        Some(match (self, other) {
            (Self::Headers, _) | (_, Self::Headers) => return None,
            (Self::Claims(claims), other) => return claims.to_map()?.equals(other),
            (one, Self::Claims(claims)) => return one.equals(&claims.to_map()?),
            (Self::List(one), Self::List(other)) => {
                one.len() == other.len()
                    && one
                        .iter()
                        .zip(&**other)
                        .try_fold(true, |all, (one, other)| Some(all && one.equals(other)?))?
            }
            (Self::Map(one), Self::Map(other)) => {
                one.len() == other.len()
                    && one.iter().try_fold(true, |all, (key, value)| {
                        let found = entry(other, key);
                        Some(all && found.map_or(Some(false), |found| found.equals(value))?)
                    })?
            }
            (Self::Null, Self::Null) => true,
            _ => self.order(other) == Some(Ordering::Equal),
        })
    }

    /// Orders two values; `None` where they have no order.
    pub(crate) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => Some(one.cmp(other)),
            (Self::Text(one), Self::Text(other)) => Some(one.cmp(other)),
            (Self::Timestamp(one), Self::Timestamp(other)) | (Self::Duration(one), Self::Duration(other)) => {
                Some(one.cmp(other))
            }
            (Self::Double(one), Self::Double(other)) => one.partial_cmp(other),
            (Self::Double(one), other) => order_double(*one, other.integer()?),
            (one, Self::Double(other)) => order_double(*other, one.integer()?).map(Ordering::reverse),
            (one, other) => Some(one.integer()?.cmp(&other.integer()?)),
        }
    }

    const fn integer(&self) -> Option<i128> {
        match self {
            Self::Int(value) => Some(*value as i128),
            Self::Uint(value) => Some(*value as i128),
            _ => None,
        }
    }

    /// Returns what a list or map holds under a key; `None` if there is none, or no such thing as keys.
    pub(crate) fn at(&self, key: &Self) -> Option<Self> {
        match (self, key) {
            (Self::List(items), key) => {
                let place = match key {
                    Self::Int(place) => usize::try_from(*place).ok()?,
                    Self::Uint(place) => usize::try_from(*place).ok()?,
                    _ => return None,
                };
                items.get(place).cloned()
            }
            (Self::Map(entries), key) => entry(entries, key).cloned(),
            (Self::Claims(claims), Self::Text(name)) => claims.get(std::str::from_utf8(name).ok()?),
            _ => None,
        }
    }
}

fn entry<'v, 'a>(entries: &'v [(Value<'a>, Value<'a>)], key: &Value<'a>) -> Option<&'v Value<'a>> {
    let same = |(other, _): &&(Value<'a>, Value<'a>)| other.equals(key) == Some(true);
    entries.iter().find(same).map(|(_, value)| value)
}

fn order_double(one: f64, other: i128) -> Option<Ordering> {
    // Beyond 2^65 no integer is as large; below, the conversion is exact but for the fraction.
    const BEYOND: f64 = 36_893_488_147_419_103_232.0;
    if one.is_nan() {
        return None;
    }
    if one.abs() >= BEYOND {
        return Some(if one > 0.0 { Ordering::Greater } else { Ordering::Less });
    }
    let whole = one.floor();
    #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
    let order = (whole as i128).cmp(&other);
    Some(order.then(if one > whole {
        Ordering::Greater
    } else {
        Ordering::Equal
    }))
}
