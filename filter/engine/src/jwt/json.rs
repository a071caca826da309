//! JSON (RFC 8259), read so strictly that no other reader finds something else in it.
//!
//! Refused: a name twice in one object, whatever its spelling; anything behind the value; depth beyond [`MAX_DEPTH`]; surrogates
//! that are no pair; numbers beyond what a double can hold. Numbers keep every digit.

use std::{borrow::Cow, fmt};

/// The deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 32;
/// The most digits of a number, and the farthest that its first digit may stand from the point.
const MAX_DIGITS: usize = 310;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    String(Box<str>),
    /// A list.
    Array(Vec<Self>),
    /// An object.
    Object(Object),
}

/// The members of an object, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object(Vec<(Box<str>, Value)>);

/// A number, exactly: digits times a power of ten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    negative: bool,
    /// Neither begins nor ends with a zero; empty for zero itself.
    digits: Box<str>,
    exponent: i32,
}

/// Reads a value.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Value> {
    let mut reader = Reader::new(text)?;
    reader.skip_blank();
    let value = reader.value(0)?;
    reader.skip_blank();
    reader.is_at_end().then_some(value)
}

/// Reads an object.
#[must_use]
pub fn parse_object(text: &[u8]) -> Option<Object> {
    match parse(text)? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

impl Object {
    /// Returns the member of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let at = self.0.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// Iterates over the members by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// About how many bytes the members take.
    #[must_use]
    pub fn weight(&self) -> usize {
        let member = size_of::<(Box<str>, Value)>();
        self.0
            .iter()
            .map(|(name, value)| name.len() + value.heap() + member)
            .sum()
    }
}

impl Value {
    /// Returns the text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    fn heap(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 0,
            Self::Number(number) => number.digits.len(),
            Self::String(text) => text.len(),
            Self::Array(items) => items.iter().map(|item| item.heap() + size_of::<Self>()).sum(),
            Self::Object(object) => object.weight(),
        }
    }

    /// Writes the value without a space, members in the order of their names.
    pub fn write(&self, to: &mut String) {
        match self {
            Self::Null => to.push_str("null"),
            Self::Bool(true) => to.push_str("true"),
            Self::Bool(false) => to.push_str("false"),
            Self::Number(number) => to.push_str(&number.to_string()),
            Self::String(text) => write_string(text, to),
            Self::Array(items) => {
                to.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        to.push(',');
                    }
                    item.write(to);
                }
                to.push(']');
            }
            Self::Object(object) => {
                to.push('{');
                for (index, (name, value)) in object.iter().enumerate() {
                    if index > 0 {
                        to.push(',');
                    }
                    write_string(name, to);
                    to.push(':');
                    value.write(to);
                }
                to.push('}');
            }
        }
    }
}

fn write_string(text: &str, to: &mut String) {
    to.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                to.push('\\');
                to.push(character);
            }
            '\0'..='\x1f' => to.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => to.push(character),
        }
    }
    to.push('"');
}

impl Number {
    /// Reads a number as JSON writes one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader { rest: text };
        let number = reader.number()?;
        reader.is_at_end().then_some(number)
    }

    /// Returns the number without its fraction, if it is between 0 and 2^64 - 1.
    #[must_use]
    pub fn truncated(&self) -> Option<u64> {
        if self.negative {
            return None;
        }
        let text = self.to_string();
        text.split('.').next().unwrap_or_default().parse().ok()
    }

    fn new(negative: bool, whole: &str, fraction: &str, exponent: i32) -> Option<Self> {
        let digits = [whole, fraction].concat();
        let digits = digits.trim_start_matches('0');
        let significant = digits.trim_end_matches('0');
        if significant.is_empty() {
            let digits = Box::default();
            return Some(Self {
                negative: false,
                digits,
                exponent: 0,
            });
        }
        let zeros = i32::try_from(digits.len() - significant.len()).ok()?;
        let exponent = exponent
            .checked_sub(i32::try_from(fraction.len()).ok()?)?
            .checked_add(zeros)?;
        let first = exponent.checked_add(i32::try_from(significant.len()).ok()?)?;
        let most = MAX_DIGITS.try_into().ok()?;
        (significant.len() <= MAX_DIGITS && first.unsigned_abs() <= most).then(|| Self {
            negative,
            digits: significant.into(),
            exponent,
        })
    }
}

impl fmt::Display for Number {
    /// Writes every digit, and never an exponent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zeros = |f: &mut fmt::Formatter<'_>, count: usize| (0..count).try_for_each(|_| f.write_str("0"));
        if self.digits.is_empty() {
            return f.write_str("0");
        }
        if self.negative {
            f.write_str("-")?;
        }
        let shift = self.exponent.unsigned_abs() as usize;
        if self.exponent >= 0 {
            f.write_str(&self.digits)?;
            return zeros(f, shift);
        }
        match self.digits.len().checked_sub(shift).filter(|whole| *whole > 0) {
            Some(whole) => {
                let (whole, fraction) = self.digits.split_at_checked(whole).unwrap_or_default();
                write!(f, "{whole}.{fraction}")
            }
            None => {
                f.write_str("0.")?;
                zeros(f, shift - self.digits.len())?;
                f.write_str(&self.digits)
            }
        }
    }
}

/// What is left of a text.
pub(crate) struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Option<Self> {
        let rest = std::str::from_utf8(text).ok()?;
        Some(Self { rest })
    }

    pub(crate) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn begins_with(&self, expected: &str) -> bool {
        self.rest.starts_with(expected)
    }

    pub(crate) fn skip_blank(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    pub(crate) fn take(&mut self, expected: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }

    /// Takes what stands before the first byte that is meant, which begins a character.
    fn take_until(&mut self, meant: impl Fn(u8) -> bool) -> &'a str {
        let end = self.rest.bytes().position(meant).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or_default();
        self.rest = rest;
        taken
    }

    pub(crate) fn value(&mut self, depth: usize) -> Option<Value> {
        match self.rest.as_bytes().first()? {
            b'{' => self.object(depth + 1).map(Value::Object),
            b'[' => self.array(depth + 1).map(Value::Array),
            b'"' => self.text().map(|text| Value::String(text.into())),
            b't' => self.take("true").map(|()| Value::Bool(true)),
            b'f' => self.take("false").map(|()| Value::Bool(false)),
            b'n' => self.take("null").map(|()| Value::Null),
            _ => self.number().map(Value::Number),
        }
    }

    fn array(&mut self, depth: usize) -> Option<Vec<Value>> {
        let mut items = Vec::new();
        self.list(depth, ("[", "]"), |reader| {
            items.push(reader.value(depth)?);
            Some(())
        })?;
        items.shrink_to_fit();
        Some(items)
    }

    fn object(&mut self, depth: usize) -> Option<Object> {
        let mut members: Vec<(Box<str>, Value)> = Vec::new();
        self.list(depth, ("{", "}"), |reader| {
            let name = reader.text()?;
            reader.skip_blank();
            reader.take(":")?;
            reader.skip_blank();
            members.push((name.into(), reader.value(depth)?));
            Some(())
        })?;
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        let twice = members.array_windows().any(|[(one, _), (other, _)]| one == other);
        members.shrink_to_fit();
        (!twice).then_some(Object(members))
    }

    fn list(
        &mut self,
        depth: usize,
        (begin, end): (&str, &str),
        mut item: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.take(begin)?;
        self.skip_blank();
        if self.take(end).is_some() {
            return Some(());
        }
        loop {
            item(self)?;
            self.skip_blank();
            if self.take(end).is_some() {
                return Some(());
            }
            self.take(",")?;
            self.skip_blank();
        }
    }

    pub(crate) fn text(&mut self) -> Option<Cow<'a, str>> {
        self.take("\"")?;
        let mut text = Cow::Borrowed(self.unescaped());
        while self.take("\"").is_none() {
            self.take("\\")?;
            let text = text.to_mut();
            text.push(self.escaped()?);
            text.push_str(self.unescaped());
        }
        Some(text)
    }

    fn unescaped(&mut self) -> &'a str {
        self.take_until(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))
    }

    fn escaped(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let kind = characters.next()?;
        self.rest = characters.as_str();
        Some(match kind {
            '"' | '\\' | '/' => kind,
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let first = self.unit()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first);
                }
                self.take("\\u")?;
                let second = self.unit()?.checked_sub(0xdc00).filter(|second| *second < 0x400)?;
                return char::from_u32(0x1_0000 + (first - 0xd800) * 0x400 + second);
            }
            _ => return None,
        })
    }

    /// Four hex digits.
    fn unit(&mut self) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        self.rest = rest;
        let all_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        u32::from_str_radix(digits, 16).ok().filter(|_| all_hex)
    }

    fn digits(&mut self) -> Option<&'a str> {
        Some(self.take_until(|byte| !byte.is_ascii_digit())).filter(|digits| !digits.is_empty())
    }

    /// The digits before the point.
    fn whole(&mut self) -> Option<&'a str> {
        self.digits()
            .filter(|digits| digits.len() == 1 || !digits.starts_with('0'))
    }

    /// Takes a whole number: whether it is below zero, and how far from it.
    pub(crate) fn integer(&mut self) -> Option<(bool, u64)> {
        let negative = self.take("-").is_some();
        Some((negative, self.whole()?.parse().ok()?))
    }

    fn number(&mut self) -> Option<Number> {
        let negative = self.take("-").is_some();
        let whole = self.whole()?;
        let fraction = match self.take(".") {
            Some(()) => self.digits()?,
            None => "",
        };
        let mut exponent = 0;
        if self.take("e").or_else(|| self.take("E")).is_some() {
            let below = self.take("-").is_some();
            if !below {
                let _ = self.take("+");
            }
            let size: i32 = self.digits()?.parse().ok()?;
            exponent = if below { -size } else { size };
        }
        Number::new(negative, whole, fraction, exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_json_is_read() {
        for (text, written) in [
            ("null", "null"),
            (" [ ] ", "[]"),
            ("{\"b\":[1,true,false],\"a\":{}}", "{\"a\":{},\"b\":[1,true,false]}"),
            ("\"\\u00e9\\ud83d\\ude00\\n\\/\\\"\"", "\"é😀\\u000a/\\\"\""),
            ("12345678901234567890123", "12345678901234567890123"),
            ("-0", "0"),
            ("-1.50e1", "-15"),
            ("1e-7", "0.0000001"),
            ("0.10", "0.1"),
            ("123.4e-2", "1.234"),
            ("1E+3", "1000"),
        ] {
            let mut to = String::new();
            parse(text.as_bytes()).unwrap().write(&mut to);
            assert_eq!(to, written, "{text}");
        }
    }

    #[test]
    fn what_another_reader_may_read_otherwise_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "[1",
            "1 2",
            "{}x",
            "{}{}",
            "\u{feff}{}",
            "{'a':1}",
            "{\"a\":1,}",
            "[1,]",
            "[,1]",
            "{\"a\":1,\"a\":1}",
            "{\"a\":1,\"\\u0061\":2}",
            "{\"x\":{\"a\":1,\"b\":2,\"a\":3}}",
            "{\"a\"}",
            "{a:1}",
            "NaN",
            "Infinity",
            "-",
            "+1",
            "01",
            "1.",
            ".5",
            "1e",
            "1e999",
            "1e-999",
            "1e99999999999",
            "0x10",
            "True",
            "nul",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u+123\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "\"unended",
            "/**/1",
            "1\u{a0}",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"\"\xff\""), None);
        assert_eq!(parse(b"\"\xc0\x80\""), None);
    }

    #[test]
    fn nesting_ends() {
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_some());
        assert!(parse(nested(MAX_DEPTH + 1).as_bytes()).is_none());
        assert!(parse(&b"[".repeat(1_000_000)).is_none());
        let objects = [
            r#"{"a":"#.repeat(MAX_DEPTH + 1),
            "1".to_owned(),
            "}".repeat(MAX_DEPTH + 1),
        ]
        .concat();
        assert!(parse(objects.as_bytes()).is_none());
    }

    #[test]
    fn numbers_are_truncated_exactly() {
        let truncated = |text: &str| Number::parse(text).unwrap().truncated();
        for (text, expected) in [
            ("0", Some(0)),
            ("-0.0", Some(0)),
            ("1.9", Some(1)),
            ("0.9", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551615.9", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("1.8446744073709551615e19", Some(u64::MAX)),
            ("9007199254740993", Some(9_007_199_254_740_993)),
            ("-1", None),
            ("-0.5", None),
            ("1e300", None),
        ] {
            assert_eq!(truncated(text), expected, "{text}");
        }
        assert_eq!(Number::parse("4.20e1"), Number::parse("42"));
        assert_eq!(Number::parse(" 1"), None);
    }
}
