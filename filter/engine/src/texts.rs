//! Many short texts in one piece of memory.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error, SeqAccess, Visitor},
};

/// A list of texts, serialized like one of [`String`]s: thousands of them take two allocations instead of one each.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Texts {
    text: String,
    /// Where each one ends in `text`.
    ends: Vec<usize>,
}

impl Texts {
    /// Returns how many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Tells whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Iterates over them in their order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let text = self.text.get(start..*end).unwrap_or_default();
            start = *end;
            text
        })
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: AsRef<str>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let mut all = Self::default();
        for text in texts {
            all.push(text.as_ref());
        }
        all
    }
}

impl Serialize for Texts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List)
    }
}

struct List;

impl<'de> Visitor<'de> for List {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
        let mut all = Texts::default();
        while list.next_element_seed(Next(&mut all))?.is_some() {}
        Ok(all)
    }
}

/// Appends one text.
struct Next<'a>(&'a mut Texts);

impl<'de> DeserializeSeed<'de> for Next<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Next<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.push(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_and_written_like_strings() {
        for json in [r#"[]"#, r#"[""]"#, r#"["a","","bc","\u00e9\n"]"#] {
            let (texts, strings): (Texts, Vec<String>) =
                (serde_json::from_str(json).unwrap(), serde_json::from_str(json).unwrap());
            assert_eq!(texts.iter().collect::<Vec<_>>(), strings);
            assert_eq!((texts.len(), texts.is_empty()), (strings.len(), strings.is_empty()));
            assert_eq!(format!("{texts:?}"), format!("{strings:?}"));
            assert_eq!(
                serde_json::to_string(&texts).unwrap(),
                serde_json::to_string(&strings).unwrap()
            );
            assert_eq!(strings.iter().collect::<Texts>(), texts);
            assert_eq!(
                serde_json::from_value::<Texts>(serde_json::json!(strings)).unwrap(),
                texts
            );
        }
    }

    #[test]
    fn where_one_ends_and_the_next_begins_makes_a_difference() {
        assert_ne!(["a", "bc"].iter().collect::<Texts>(), ["ab", "c"].iter().collect());
    }

    #[test]
    fn what_is_no_list_of_strings_is_refused() {
        for json in [
            "null",
            "\"a\"",
            "{}",
            "[1]",
            "[null]",
            "[[\"a\"]]",
            "[\"a\"",
            "[\"a\",]",
        ] {
            let error = serde_json::from_str::<Texts>(json).unwrap_err().to_string();
            assert!(!error.is_empty(), "{json}");
        }
        let error = serde_json::from_str::<Texts>("[1]").unwrap_err().to_string();
        assert!(error.contains("expected a string"), "{error}");
        let error = serde_json::from_str::<Texts>("1").unwrap_err().to_string();
        assert!(error.contains("expected a list of strings"), "{error}");
    }
}
