//! Regular expressions once more: as trees, matched by trying everything.

use std::collections::BTreeSet;

/// A regular expression.
#[derive(Clone, Debug)]
pub(crate) enum Expression {
    Byte(u8),
    Any,
    Class {
        negated: bool,
        bytes: &'static [u8],
    },
    Sequence(Vec<Self>),
    Choice(Vec<Self>),
    Repeat {
        inner: Box<Self>,
        least: usize,
        most: Option<usize>,
        /// Which of several matches is preferred; whether there is one does not hang on it.
        lazy: bool,
    },
}

impl Expression {
    /// A sequence of bytes.
    pub(crate) fn word(word: &[u8]) -> Self {
        match word {
            [byte] => Self::Byte(*byte),
            _ => Self::Sequence(word.iter().copied().map(Self::Byte).collect()),
        }
    }

    /// As often as one likes.
    pub(crate) fn repeated(self) -> Self {
        Self::Repeat {
            inner: Box::new(self),
            least: 0,
            most: None,
            lazy: false,
        }
    }

    /// Tells whether the whole text is one of those that are meant.
    pub(crate) fn is_match(&self, text: &[u8]) -> bool {
        self.ends(text, &BTreeSet::from([0])).contains(&text.len())
    }

    /// Makes a text that is meant, as numbers choose.
    pub(crate) fn example(&self, number: &mut dyn FnMut() -> usize) -> Vec<u8> {
        match self {
            Self::Byte(byte) => vec![*byte],
            Self::Any => vec![b"x/\n\xe9"[number() % 4]],
            Self::Class { negated: false, bytes } => vec![bytes[number() % bytes.len()]],
            Self::Class { negated: true, bytes } => {
                let other = b"x/0?".iter().find(|byte| !bytes.contains(byte));
                vec![*other.unwrap()]
            }
            Self::Sequence(parts) => parts.iter().flat_map(|part| part.example(number)).collect(),
            Self::Choice(parts) => parts[number() % parts.len()].example(number),
            Self::Repeat { inner, least, most, .. } => {
                let more = most.unwrap_or(least + 2) - least;
                let times = least + number() % (more + 1);
                (0..times).flat_map(|_| inner.example(number)).collect()
            }
        }
    }

    /// Where it may end that begins at one of these places.
    fn ends(&self, text: &[u8], starts: &BTreeSet<usize>) -> BTreeSet<usize> {
        let one = |is_meant: &dyn Fn(u8) -> bool| {
            let met = starts
                .iter()
                .filter(|start| text.get(**start).is_some_and(|byte| is_meant(*byte)));
            met.map(|start| start + 1).collect()
        };
        match self {
            Self::Byte(byte) => one(&|other| other == *byte),
            Self::Any => one(&|_| true),
            Self::Class { negated, bytes } => one(&|byte| bytes.contains(&byte) != *negated),
            Self::Sequence(parts) => parts
                .iter()
                .fold(starts.clone(), |starts, part| part.ends(text, &starts)),
            Self::Choice(parts) => parts.iter().flat_map(|part| part.ends(text, starts)).collect(),
            Self::Repeat { inner, least, most, .. } => {
                let mut places = (0..*least).fold(starts.clone(), |starts, _| inner.ends(text, &starts));
                // No repetition is longer than the text, but those of nothing, which lead nowhere.
                for _ in *least..most.unwrap_or(least + text.len()) {
                    places.extend(inner.ends(text, &places));
                }
                places
            }
        }
    }

    /// Writes it down in the syntax of RE2.
    pub(crate) fn written(&self) -> String {
        match self {
            Self::Byte(byte) if byte.is_ascii_alphanumeric() || b"/-_%~ ;=&".contains(byte) => {
                char::from(*byte).to_string()
            }
            Self::Byte(byte) if byte.is_ascii_graphic() => format!("\\{}", char::from(*byte)),
            Self::Byte(byte) => format!("\\x{byte:02x}"),
            Self::Any => ".".to_owned(),
            Self::Class { negated, bytes } => {
                let listed: String = bytes.iter().map(|byte| Self::Byte(*byte).written()).collect();
                format!("[{}{listed}]", if *negated { "^" } else { "" })
            }
            Self::Sequence(parts) => parts
                .iter()
                .map(|part| match part {
                    Self::Choice(_) => format!("({})", part.written()),
                    _ => part.written(),
                })
                .collect(),
            Self::Choice(parts) => parts.iter().map(Self::written).collect::<Vec<_>>().join("|"),
            Self::Repeat {
                inner,
                least,
                most,
                lazy,
            } => {
                let inner = match &**inner {
                    Self::Byte(_) | Self::Any | Self::Class { .. } => inner.written(),
                    _ => format!("(?:{})", inner.written()),
                };
                let times = match (least, most) {
                    (0, None) => "*".to_owned(),
                    (1, None) => "+".to_owned(),
                    (0, Some(1)) => "?".to_owned(),
                    (least, None) => format!("{{{least},}}"),
                    (least, Some(most)) if least == most => format!("{{{least}}}"),
                    (least, Some(most)) => format!("{{{least},{most}}}"),
                };
                format!("{inner}{times}{}", if *lazy { "?" } else { "" })
            }
        }
    }
}
