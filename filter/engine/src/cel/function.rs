//! The functions and operators that expressions may use: those that Envoy evaluates.

use std::{borrow::Cow, cmp::Ordering};

use super::{
    time::{self, SECOND},
    value::{Kind, Value},
};
use crate::policy::told;

/// An operator or function whose operands are all evaluated before it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Negate,
    In,
    Index,
    Size,
    Contains,
    StartsWith,
    EndsWith,
    Int,
    Uint,
    Double,
    Timestamp,
    Duration,
    Dyn,
    Part(Part),
}

/// A part of a point in time or of a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    FullYear,
    Month,
    DayOfYear,
    DayOfMonth,
    Date,
    DayOfWeek,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

use Function as F;

/// Every function with CEL's name for it and the fewest and the most operands.
const ALL: &[(&str, F, usize, usize)] = &[
    ("_==_", F::Equal, 2, 2),
    ("_!=_", F::NotEqual, 2, 2),
    ("_<_", F::Less, 2, 2),
    ("_<=_", F::LessOrEqual, 2, 2),
    ("_>_", F::Greater, 2, 2),
    ("_>=_", F::GreaterOrEqual, 2, 2),
    ("_+_", F::Add, 2, 2),
    ("_-_", F::Subtract, 2, 2),
    ("_*_", F::Multiply, 2, 2),
    ("_/_", F::Divide, 2, 2),
    ("_%_", F::Remainder, 2, 2),
    ("-_", F::Negate, 1, 1),
    ("@in", F::In, 2, 2),
    ("_[_]", F::Index, 2, 2),
    ("size", F::Size, 1, 1),
    ("contains", F::Contains, 2, 2),
    ("startsWith", F::StartsWith, 2, 2),
    ("endsWith", F::EndsWith, 2, 2),
    ("int", F::Int, 1, 1),
    ("uint", F::Uint, 1, 1),
    ("double", F::Double, 1, 1),
    ("timestamp", F::Timestamp, 1, 1),
    ("duration", F::Duration, 1, 1),
    ("dyn", F::Dyn, 1, 1),
    ("getFullYear", F::Part(Part::FullYear), 1, 2),
    ("getMonth", F::Part(Part::Month), 1, 2),
    ("getDayOfYear", F::Part(Part::DayOfYear), 1, 2),
    ("getDayOfMonth", F::Part(Part::DayOfMonth), 1, 2),
    ("getDate", F::Part(Part::Date), 1, 2),
    ("getDayOfWeek", F::Part(Part::DayOfWeek), 1, 2),
    ("getHours", F::Part(Part::Hours), 1, 2),
    ("getMinutes", F::Part(Part::Minutes), 1, 2),
    ("getSeconds", F::Part(Part::Seconds), 1, 2),
    ("getMilliseconds", F::Part(Part::Milliseconds), 1, 2),
];

impl Function {
    /// Returns the function of that name with the fewest and the most operands.
    pub(crate) fn named(name: &str) -> Option<(Self, usize, usize)> {
        let found = ALL.iter().find(|(other, ..)| *other == name)?;
        Some((found.1, found.2, found.3))
    }

    /// What it makes of operands of which that much is known; an error tells why it can make nothing of them.
    pub(crate) fn kind(self, operands: &[Option<Kind>]) -> Result<Option<Kind>, String> {
        let first = operands.first().copied().flatten();
        let second = operands.get(1).copied().flatten();
        let both = first.zip(second);
        let wants = |given: Option<Kind>, wanted: &[Kind]| match given {
            Some(given) if !wanted.contains(&given) => Err(told!("{} does not fit here", given.noun())),
            _ => Ok(()),
        };
        const NUMBERS: [Kind; 3] = [Kind::Int, Kind::Uint, Kind::Double];
        const SPANS: [Kind; 5] = [Kind::Int, Kind::Uint, Kind::Double, Kind::Timestamp, Kind::Duration];
        Ok(Some(match self {
            Self::Equal | Self::NotEqual => {
                match both {
                    Some((Kind::Headers, _) | (_, Kind::Headers)) => {
                        return Err(told!("all headers cannot be compared at once"));
                    }
                    Some((one, other)) if one != other && !(one.is_number() && other.is_number()) => {
                        return Err(told!("{} never equals {}", one.noun(), other.noun()));
                    }
                    _ => {}
                }
                Kind::Bool
            }
            Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual => {
                const ORDERED: [Kind; 7] = [
                    Kind::Bool,
                    Kind::Int,
                    Kind::Uint,
                    Kind::Double,
                    Kind::Text,
                    Kind::Timestamp,
                    Kind::Duration,
                ];
                wants(first, &ORDERED)?;
                wants(second, &ORDERED)?;
                match both {
                    Some((one, other)) if one != other && !(one.is_number() && other.is_number()) => {
                        return Err(told!("{} and {} have no order", one.noun(), other.noun()));
                    }
                    _ => Kind::Bool,
                }
            }
            Self::Add | Self::Subtract => {
                if [first, second].contains(&Some(Kind::Text)) || [first, second].contains(&Some(Kind::List)) {
                    return Err(told!("texts and lists cannot be joined, as in Envoy"));
                }
                wants(first, &SPANS)?;
                wants(second, &SPANS)?;
                match both {
                    Some((one, other)) if one == other && one.is_number() => one,
                    Some((one, other)) if one.is_number() || other.is_number() => {
                        return Err(told!(
                            "{} and {} of different types cannot be added or subtracted",
                            one.noun(),
                            other.noun()
                        ));
                    }
                    _ => return Ok(None),
                }
            }
            Self::Multiply | Self::Divide | Self::Remainder => {
                wants(first, &NUMBERS)?;
                wants(second, &NUMBERS)?;
                match both {
                    Some((one, other)) if one != other => {
                        return Err(told!(
                            "numbers of different types: convert one with int(), uint() or double()"
                        ));
                    }
                    Some((Kind::Double, _)) if self == Self::Remainder => {
                        return Err(told!("% needs whole numbers"));
                    }
                    Some((one, _)) => one,
                    None => return Ok(None),
                }
            }
            Self::Negate => {
                wants(first, &[Kind::Int, Kind::Double])?;
                return Ok(first);
            }
            Self::In => {
                wants(second, &[Kind::List, Kind::Map, Kind::Headers])?;
                Kind::Bool
            }
            Self::Index => {
                wants(first, &[Kind::List, Kind::Map, Kind::Headers])?;
                return Ok((first == Some(Kind::Headers)).then_some(Kind::Text));
            }
            Self::Size => {
                wants(first, &[Kind::Text, Kind::List, Kind::Map])?;
                Kind::Int
            }
            Self::Contains | Self::StartsWith | Self::EndsWith => {
                wants(first, &[Kind::Text])?;
                wants(second, &[Kind::Text])?;
                Kind::Bool
            }
            Self::Int => {
                wants(
                    first,
                    &[Kind::Int, Kind::Uint, Kind::Double, Kind::Text, Kind::Timestamp],
                )?;
                Kind::Int
            }
            Self::Uint => {
                wants(first, &[Kind::Int, Kind::Uint, Kind::Double, Kind::Text])?;
                Kind::Uint
            }
            Self::Double => {
                wants(first, &[Kind::Int, Kind::Uint, Kind::Double, Kind::Text])?;
                Kind::Double
            }
            Self::Timestamp => {
                wants(first, &[Kind::Text, Kind::Int, Kind::Timestamp])?;
                Kind::Timestamp
            }
            Self::Duration => {
                wants(first, &[Kind::Text, Kind::Duration])?;
                Kind::Duration
            }
            Self::Dyn => return Ok(None),
            Self::Part(_) => {
                wants(first, &[Kind::Timestamp, Kind::Duration])?;
                wants(second, &[Kind::Text])?;
                Kind::Int
            }
        }))
    }

    /// Applies it to its operands; `None` is CEL's error. [`Self::In`] and [`Self::Index`] of headers are not done here.
    pub(crate) fn apply<'a>(self, first: &Value<'a>, second: Option<&Value<'a>>) -> Option<Value<'a>> {
        match (self, second) {
            (Self::Size, None) => size(first),
            (Self::Negate, None) => match first {
                Value::Int(value) => value.checked_neg().map(Value::Int),
                Value::Double(value) => Some(Value::Double(-value)),
                _ => None,
            },
            (Self::Int, None) => int(first).map(Value::Int),
            (Self::Uint, None) => uint(first).map(Value::Uint),
            (Self::Double, None) => double(first).map(Value::Double),
            (Self::Timestamp, None) => match first {
                Value::Timestamp(nanos) => Some(*nanos),
                Value::Int(seconds) => time::timestamp(i128::from(*seconds) * SECOND),
                Value::Text(text) => time::parse_timestamp(std::str::from_utf8(text).ok()?),
                _ => None,
            }
            .map(Value::Timestamp),
            (Self::Duration, None) => match first {
                Value::Duration(nanos) => Some(*nanos),
                Value::Text(text) => time::parse_duration(std::str::from_utf8(text).ok()?),
                _ => None,
            }
            .map(Value::Duration),
            (Self::Dyn, None) => Some(first.clone()),
            (Self::Part(part), zone) => part.of(first, zone).map(Value::Int),
            (_, Some(second)) => self.apply_to(first, second),
            (_, None) => None,
        }
    }

    fn apply_to<'a>(self, first: &Value<'a>, second: &Value<'a>) -> Option<Value<'a>> {
        let order = || first.order(second);
        // What has no order at all is an error, and a number that is none has an order with nothing.
        let ordered = |holds: fn(Ordering) -> bool| match order() {
            Some(order) => Some(holds(order)),
            None => (first.is_number() && second.is_number()).then_some(false),
        };
        Some(Value::Bool(match self {
            Self::Equal => first.equals(second)?,
            Self::NotEqual => !first.equals(second)?,
            Self::Less => ordered(Ordering::is_lt)?,
            Self::LessOrEqual => ordered(Ordering::is_le)?,
            Self::Greater => ordered(Ordering::is_gt)?,
            Self::GreaterOrEqual => ordered(Ordering::is_ge)?,
            Self::In => match second {
                Value::List(items) => items
                    .iter()
                    .try_fold(false, |found, item| Some(found || item.equals(first)?))?,
                Value::Map(_) | Value::Claims(_)
                    if first.is_number() || matches!(first, Value::Bool(_) | Value::Text(_)) =>
                {
                    second.at(first).is_some()
                }
                _ => return None,
            },
            Self::Contains => {
                let (text, part) = texts(first, second)?;
                contains(text, part)
            }
            Self::StartsWith => {
                let (text, part) = texts(first, second)?;
                text.starts_with(part)
            }
            Self::EndsWith => {
                let (text, part) = texts(first, second)?;
                text.ends_with(part)
            }
            Self::Index => return first.at(second),
            _ => return self.calculate(first, second),
        }))
    }

    fn calculate<'a>(self, first: &Value<'a>, second: &Value<'a>) -> Option<Value<'a>> {
        match (first, second) {
            (Value::Int(one), Value::Int(other)) => match self {
                Self::Add => one.checked_add(*other),
                Self::Subtract => one.checked_sub(*other),
                Self::Multiply => one.checked_mul(*other),
                Self::Divide => one.checked_div(*other),
                Self::Remainder => one.checked_rem(*other),
                _ => None,
            }
            .map(Value::Int),
            (Value::Uint(one), Value::Uint(other)) => match self {
                Self::Add => one.checked_add(*other),
                Self::Subtract => one.checked_sub(*other),
                Self::Multiply => one.checked_mul(*other),
                Self::Divide => one.checked_div(*other),
                Self::Remainder => one.checked_rem(*other),
                _ => None,
            }
            .map(Value::Uint),
            (Value::Double(one), Value::Double(other)) => Some(Value::Double(match self {
                Self::Add => one + other,
                Self::Subtract => one - other,
                Self::Multiply => one * other,
                Self::Divide => one / other,
                _ => return None,
            })),
            (Value::Timestamp(one), Value::Timestamp(other)) if self == Self::Subtract => {
                time::duration(one - other).map(Value::Duration)
            }
            (Value::Timestamp(one), Value::Duration(other)) => match self {
                Self::Add => time::timestamp(one + other),
                Self::Subtract => time::timestamp(one - other),
                _ => None,
            }
            .map(Value::Timestamp),
            (Value::Duration(one), Value::Timestamp(other)) if self == Self::Add => {
                time::timestamp(one + other).map(Value::Timestamp)
            }
            (Value::Duration(one), Value::Duration(other)) => match self {
                Self::Add => time::duration(one + other),
                Self::Subtract => time::duration(one - other),
                _ => None,
            }
            .map(Value::Duration),
            _ => None,
        }
    }
}

impl Value<'_> {
    const fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Uint(_) | Self::Double(_))
    }
}

impl Part {
    fn of(self, value: &Value<'_>, zone: Option<&Value<'_>>) -> Option<i64> {
        let offset = match zone {
            None => 0,
            Some(Value::Text(zone)) => zone_offset(zone)?,
            Some(_) => return None,
        };
        let nanos = match (value, zone) {
            (Value::Timestamp(nanos), _) => *nanos,
            (Value::Duration(nanos), None) => return self.of_duration(*nanos),
            _ => return None,
        };
        let civil = time::civil(nanos, offset);
        Some(match self {
            Self::FullYear => civil.year,
            Self::Month => civil.month - 1,
            Self::DayOfYear => civil.day_of_year,
            Self::DayOfMonth => civil.day - 1,
            Self::Date => civil.day,
            Self::DayOfWeek => civil.day_of_week,
            Self::Hours => civil.hour,
            Self::Minutes => civil.minute,
            Self::Seconds => civil.second,
            Self::Milliseconds => civil.millisecond,
        })
    }

    fn of_duration(self, nanos: i128) -> Option<i64> {
        let unit = match self {
            Self::Hours => 3600 * SECOND,
            Self::Minutes => 60 * SECOND,
            Self::Seconds => SECOND,
            // What is left of a second, as in Envoy.
            Self::Milliseconds => return i64::try_from(nanos % SECOND / 1_000_000).ok(),
            _ => return None,
        };
        i64::try_from(nanos / unit).ok()
    }
}

/// The offset of a time zone from UTC, in seconds; `None` for what is named otherwise than by its offset.
pub(crate) fn zone_offset(zone: &[u8]) -> Option<i64> {
    match zone {
        b"" | b"UTC" => Some(0),
        zone => time::offset(std::str::from_utf8(zone).ok()?),
    }
}

fn texts<'v>(first: &'v Value<'_>, second: &'v Value<'_>) -> Option<(&'v [u8], &'v [u8])> {
    match (first, second) {
        (Value::Text(first), Value::Text(second)) => Some((first, second)),
        _ => None,
    }
}

/// Looks for a part of a text in linear time.
fn contains(text: &[u8], part: &[u8]) -> bool {
    match (std::str::from_utf8(text), std::str::from_utf8(part)) {
        (Ok(text), Ok(part)) => text.contains(part),
        _ => latin1(text).contains(&*latin1(part)),
    }
}

/// Reads bytes as Latin-1.
fn latin1(bytes: &[u8]) -> Cow<'_, str> {
    Cow::Owned(bytes.iter().copied().map(char::from).collect())
}

fn size<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    let size = match value {
        Value::Text(text) => std::str::from_utf8(text).ok()?.chars().count(),
        Value::List(items) => items.len(),
        Value::Map(entries) => entries.len(),
        Value::Claims(claims) => claims.len(),
        _ => return None,
    };
    i64::try_from(size).ok().map(Value::Int)
}

fn int(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Int(value) => Some(*value),
        Value::Uint(value) => i64::try_from(*value).ok(),
        Value::Double(value) => whole(*value).and_then(|value| i64::try_from(value).ok()),
        Value::Timestamp(nanos) => i64::try_from(nanos.div_euclid(SECOND)).ok(),
        Value::Text(text) => number(text)?.parse().ok(),
        _ => None,
    }
}

fn uint(value: &Value<'_>) -> Option<u64> {
    match value {
        Value::Int(value) => u64::try_from(*value).ok(),
        Value::Uint(value) => Some(*value),
        Value::Double(value) => whole(*value).and_then(|value| u64::try_from(value).ok()),
        Value::Text(text) => number(text)?.parse().ok(),
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "so CEL defines the conversion")]
fn double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Int(value) => Some(*value as f64),
        Value::Uint(value) => Some(*value as f64),
        Value::Double(value) => Some(*value),
        Value::Text(text) => number(text)?.parse().ok(),
        _ => None,
    }
}

/// The text of a number, without the spaces that are allowed around it.
fn number(text: &[u8]) -> Option<&str> {
    std::str::from_utf8(text).ok().map(str::trim_ascii)
}

/// Cuts the fraction off.
#[expect(clippy::cast_possible_truncation, reason = "bounded")]
fn whole(value: f64) -> Option<i128> {
    // The next number below 2^63 or 2^64 is far enough away for both.
    (value.abs() < 1.9e19).then_some(value.trunc() as i128)
}
