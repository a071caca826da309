//! Documents from JSON, by the reader that tokens are read by: a tenth of the code that a general one takes in a filter.
//!
//! Nothing is read but what documents are made of, and nobody is told what is wrong: the controller wrote them, and it told their
//! author.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{
        DeserializeSeed, Deserializer, EnumAccess, Error, Expected, MapAccess, SeqAccess, Unexpected, VariantAccess,
        Visitor,
    },
    forward_to_deserialize_any,
};

use crate::jwt::json::{MAX_DEPTH, Reader};

/// A text is none of what it is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it cannot be read")]
pub(crate) struct Unreadable;

/// Reads a text as JSON.
pub(crate) fn read<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T, Unreadable> {
    let mut json = Json {
        reader: Reader::new(text).ok_or(Unreadable)?,
        depth: 0,
    };
    json.reader.skip_blank();
    let value = T::deserialize(&mut json)?;
    json.reader.skip_blank();
    json.reader.is_at_end().then_some(value).ok_or(Unreadable)
}

/// At the first byte of a value.
struct Json<'de> {
    reader: Reader<'de>,
    depth: usize,
}

impl<'de> Json<'de> {
    /// Takes what stands between two brackets.
    fn within<T>(
        &mut self,
        brackets: (&'static str, &'static str),
        inner: impl FnOnce(Inner<'_, 'de>) -> Result<T, Unreadable>,
    ) -> Result<T, Unreadable> {
        self.open(brackets.0)?;
        let value = inner(Inner {
            json: self,
            end: brackets.1,
            is_first: true,
        })?;
        self.close(brackets.1)?;
        Ok(value)
    }

    fn open(&mut self, bracket: &str) -> Result<(), Unreadable> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Unreadable);
        }
        self.take(bracket)
    }

    fn close(&mut self, bracket: &str) -> Result<(), Unreadable> {
        self.depth -= 1;
        self.reader.skip_blank();
        self.take(bracket)
    }

    fn take(&mut self, expected: &str) -> Result<(), Unreadable> {
        self.reader.take(expected).ok_or(Unreadable)
    }

    fn colon(&mut self) -> Result<(), Unreadable> {
        self.reader.skip_blank();
        self.take(":")?;
        self.reader.skip_blank();
        Ok(())
    }

    fn text(&mut self) -> Result<Cow<'de, str>, Unreadable> {
        self.reader.text().ok_or(Unreadable)
    }
}

/// Whole numbers: what is no `u64` is an `i64`, or nothing.
macro_rules! whole_numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
            let (negative, digits) = self.reader.integer().ok_or(Unreadable)?;
            if negative {
                visitor.visit_i64(0_i64.checked_sub_unsigned(digits).ok_or(Unreadable)?)
            } else {
                visitor.visit_u64(digits)
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Json<'de> {
    type Error = Unreadable;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Unreadable> {
        Err(Unreadable)
    }

    whole_numbers! { deserialize_u16 deserialize_u32 deserialize_u64 deserialize_i64 }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        let value = self.reader.take("true").is_some();
        if !value {
            self.take("false")?;
        }
        visitor.visit_bool(value)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_str(&self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_str(&self.text()?)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_str(&self.text()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        if self.reader.take("null").is_some() {
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        self.within(("[", "]"), |inner| visitor.visit_seq(inner))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Unreadable> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        self.within(("{", "}"), |inner| visitor.visit_map(inner))
    }

    /// `"name"`, or `{"name": value}`.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        if !self.reader.begins_with("{") {
            return visitor.visit_enum(Variant {
                json: self,
                holds: false,
            });
        }
        self.open("{")?;
        self.reader.skip_blank();
        let value = visitor.visit_enum(Variant {
            json: &mut *self,
            holds: true,
        })?;
        self.close("}")?;
        Ok(value)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        self.reader.value(self.depth).ok_or(Unreadable)?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u128 f32 f64 char bytes byte_buf unit unit_struct tuple_struct map
    }
}

/// Between two brackets.
struct Inner<'j, 'de> {
    json: &'j mut Json<'de>,
    end: &'static str,
    is_first: bool,
}

impl Inner<'_, '_> {
    /// Goes to the next item; tells whether there is one.
    fn advance(&mut self) -> Result<bool, Unreadable> {
        self.json.reader.skip_blank();
        if self.json.reader.begins_with(self.end) {
            return Ok(false);
        }
        if !self.is_first {
            self.json.take(",")?;
            self.json.reader.skip_blank();
        }
        self.is_first = false;
        Ok(true)
    }
}

impl<'de> SeqAccess<'de> for Inner<'_, 'de> {
    type Error = Unreadable;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Unreadable> {
        match self.advance()? {
            true => seed.deserialize(&mut *self.json).map(Some),
            false => Ok(None),
        }
    }
}

impl<'de> MapAccess<'de> for Inner<'_, 'de> {
    type Error = Unreadable;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Unreadable> {
        match self.advance()? {
            true => seed.deserialize(&mut *self.json).map(Some),
            false => Ok(None),
        }
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Unreadable> {
        self.json.colon()?;
        seed.deserialize(&mut *self.json)
    }
}

/// At the name of a variant.
struct Variant<'j, 'de> {
    json: &'j mut Json<'de>,
    /// Whether a value follows.
    holds: bool,
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Unreadable;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Unreadable> {
        let variant = seed.deserialize(&mut *self.json)?;
        if self.holds {
            self.json.colon()?;
        }
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Unreadable;

    fn unit_variant(self) -> Result<(), Unreadable> {
        if self.holds { Err(Unreadable) } else { Ok(()) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Unreadable> {
        if self.holds {
            seed.deserialize(self.json)
        } else {
            Err(Unreadable)
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Unreadable> {
        Err(Unreadable)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        if self.holds {
            self.json.deserialize_struct("", fields, visitor)
        } else {
            Err(Unreadable)
        }
    }
}

impl Error for Unreadable {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }

    // The defaults of these write a text first.
    fn invalid_type(_: Unexpected<'_>, _: &dyn Expected) -> Self {
        Self
    }

    fn invalid_value(_: Unexpected<'_>, _: &dyn Expected) -> Self {
        Self
    }

    fn invalid_length(_: usize, _: &dyn Expected) -> Self {
        Self
    }

    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        Self
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self
    }

    fn missing_field(_: &'static str) -> Self {
        Self
    }

    fn duplicate_field(_: &'static str) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Document, Expression, Node, Secrets};

    const DOCUMENT: &str = r#" { "version" : 1 , "policy":"a\/\u0062", "refuse":null, "anyOf":["apiKey","jwt"],
        "apiKey":{"extractFrom":[{"header":"x-é\n"},{"param":""}],"sanitize":true},
        "authorization":{"defaultAction":"Deny","rules":[{"name":"r","action":"Allow","clientCidrs":["::/0","10.0.0.0/8"],
            "cel":["null",{"bool":false},{"int":-9223372036854775808},{"uint":18446744073709551615},{"double":0},
                {"map":[[0,1],[2,3]]},{"field":{"of":5,"name":"a"}},{"each":{"what":"all","list":6,"item":"i"}}]}]},
        "baseline":{"version":1,"policy":"c/d"} }
        "#;

    #[test]
    fn documents_are_read_as_json_is() {
        let document: Document = read(DOCUMENT.as_bytes()).unwrap();
        assert_eq!(document, serde_json::from_str(DOCUMENT).unwrap());
        assert_eq!(document.policy, "a/b");
        let written = serde_json::to_string(&document).unwrap();
        assert_eq!(read(written.as_bytes()), Ok(document));
    }

    #[test]
    fn what_is_cut_off_or_changed_by_a_byte_is_never_read_otherwise() {
        let document = DOCUMENT.as_bytes();
        for place in 0..document.len() {
            assert!(place >= DOCUMENT.trim_end().len() || read::<Document>(&document[..place]).is_err());
            for byte in *b"\0 \",:[]{}\\-.0eu\xff" {
                let mut changed = document.to_vec();
                changed[place] = byte;
                if let Ok(read) = read::<Document>(&changed) {
                    let text = String::from_utf8_lossy(&changed);
                    assert_eq!(serde_json::from_slice::<Document>(&changed).ok(), Some(read), "{text}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for text in [
            "",
            "{}",
            "[]",
            "1",
            r#"{"version":1,"policy":"a"}x"#,
            r#"{"version":1,"policy":"a"}{}"#,
            r#"{"version":1,"policy":"a",}"#,
            r#"{,"version":1,"policy":"a"}"#,
            r#"{"version":1 "policy":"a"}"#,
            r#"{"version" 1,"policy":"a"}"#,
            r#"{"version":1,"version":1,"policy":"a"}"#,
            r#"{"version":1,"policy":"a","unknown":1}"#,
            r#"{"version":"1","policy":"a"}"#,
            r#"{"version":1.0,"policy":"a"}"#,
            r#"{"version":1e0,"policy":"a"}"#,
            r#"{"version":01,"policy":"a"}"#,
            r#"{"version":-1,"policy":"a"}"#,
            r#"{"version":4294967296,"policy":"a"}"#,
            r#"{"version":1,"policy":"a","refuse":{"policyInvalid":null}}"#,
            r#"{"version":1,"policy":"a","anyOf":[{"jwt":1}]}"#,
            r#"{"version":1,"policy":"a","anyOf":["jwt",]}"#,
            r#"{"version":1,"policy":"a","anyOf":["jwt" "jwt"]}"#,
            r#"{"version":1,"policy":"a","cors":["a"]}"#,
        ] {
            assert_eq!(read::<Document>(text.as_bytes()), Err(Unreadable), "{text}");
        }
        for nodes in [
            r#"["bool"]"#,
            r#"[{"bool":1}]"#,
            r#"[{"map":[[1]]}]"#,
            r#"[{"map":[[1,2,3]]}]"#,
        ] {
            assert_eq!(read::<Expression>(nodes.as_bytes()), Err(Unreadable), "{nodes}");
        }
        assert_eq!(read(b"[{\"int\":-0}]"), Ok(Expression(vec![Node::Int(0)])));
    }

    #[test]
    fn nesting_ends() {
        let nested = |depth: usize| {
            [
                r#"{"salt":"","baseline":"#.repeat(depth),
                "null".to_owned(),
                "}".repeat(depth),
            ]
            .concat()
        };
        assert!(read::<Secrets>(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(read::<Secrets>(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(read::<Secrets>(nested(20_000).as_bytes()).is_err());
    }
}
