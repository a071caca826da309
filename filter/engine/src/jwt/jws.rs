//! The compact form of a signed token (RFC 7515 §7.1), read so that every token has one spelling.

use base64::{
    Engine, alphabet,
    engine::{GeneralPurpose, general_purpose::NO_PAD},
};

use super::json::{self, Object, Value};

/// The longest token that is read, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;

/// Without padding, and with no bit left over that could be changed unnoticed.
pub(crate) const BASE64URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, NO_PAD);

/// A token whose signature nobody has looked at yet.
#[derive(Debug)]
pub struct Jws<'a, Payload = Object> {
    /// What the signature covers.
    pub signed: &'a [u8],
    /// The signature.
    pub signature: Vec<u8>,
    /// `alg`
    pub algorithm: Box<str>,
    /// `kid`
    pub kid: Option<Box<str>>,
    /// The claims.
    pub payload: Payload,
}

impl<'a> Jws<'a> {
    /// Reads a token: its payload is a JSON object too.
    #[must_use]
    pub fn parse(token: &'a [u8]) -> Option<Self> {
        let Jws {
            signed,
            signature,
            algorithm,
            kid,
            payload,
        } = Jws::parse_signed(token)?;
        Some(Self {
            signed,
            signature,
            algorithm,
            kid,
            payload: json::parse_object(&payload)?,
        })
    }
}

impl<'a> Jws<'a, Vec<u8>> {
    /// Reads what is signed, whatever it is: three pieces, each of them base64url and none of them empty; the header a JSON object.
    ///
    /// `crit` and `b64` are refused, for they change what a signature means (RFC 7515 §4.1.11, RFC 7797). Keys and places of keys
    /// that the token itself names are not looked at.
    #[must_use]
    pub fn parse_signed(token: &'a [u8]) -> Option<Self> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let mut pieces = token.split(|byte| *byte == b'.');
        let (header, payload, signature) = (pieces.next()?, pieces.next()?, pieces.next()?);
        if pieces.next().is_some() || [header, payload, signature].contains(&&b""[..]) {
            return None;
        }
        let signed = token.get(..header.len() + 1 + payload.len())?;
        let decoded = |piece: &[u8]| BASE64URL.decode(piece).ok();
        let header = json::parse_object(&decoded(header)?)?;
        if header.get("crit").is_some() || header.get("b64").is_some() {
            return None;
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()).filter(|kid| !kid.is_empty()),
            Some(_) => return None,
        };
        Some(Self {
            signed,
            signature: decoded(signature)?,
            algorithm: header.get("alg")?.as_str()?.into(),
            kid,
            payload: decoded(payload)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.c2ln", BASE64URL.encode(header), BASE64URL.encode(payload))
    }

    #[test]
    fn a_token_is_taken_apart() {
        let token = token(
            r#"{"alg":"ES256","kid":"a","jku":"https://evil.example"}"#,
            r#"{"sub":"alice"}"#,
        );
        let jws = Jws::parse(token.as_bytes()).unwrap();
        assert_eq!(jws.signed, token.rsplit_once('.').unwrap().0.as_bytes());
        assert_eq!((&*jws.algorithm, jws.kid.as_deref()), ("ES256", Some("a")));
        assert_eq!(jws.signature, b"sig");
        assert_eq!(jws.payload.get("sub").and_then(Value::as_str), Some("alice"));
    }

    #[test]
    fn whatever_is_not_quite_a_token_is_refused() {
        let good = token(r#"{"alg":"ES256"}"#, "{}");
        assert!(Jws::parse(good.as_bytes()).is_some());
        for wrong in [
            String::new(),
            "..".to_owned(),
            "a.b".to_owned(),
            good.trim_end_matches("c2ln").to_owned(),
            format!("{good}."),
            format!(".{good}"),
            format!("{good}="),
            format!("{good} "),
            format!("{good}.{good}"),
            good.replacen('.', "..", 1),
            good.replace("c2ln", "c2l+"),
            // Two bits are left over.
            good.replace("c2ln", "c2l"),
            token(r#"{"alg":"ES256","alg":"ES256"}"#, "{}"),
            token(r#"{"alg":"ES256","crit":["exp"]}"#, "{}"),
            token(r#"{"alg":"ES256","crit":null}"#, "{}"),
            token(r#"{"alg":"ES256","b64":true}"#, "{}"),
            token(r#"{"alg":7}"#, "{}"),
            token(r#"{"alg":null}"#, "{}"),
            token("{}", "{}"),
            token(r#"["ES256"]"#, "{}"),
            token(r#"{"alg":"ES256","kid":1}"#, "{}"),
            token(r#"{"alg":"ES256","kid":null}"#, "{}"),
            token(r#"{"alg":"ES256"}x"#, "{}"),
            token(r#"{"alg":"ES256"}"#, "[]"),
            token(r#"{"alg":"ES256"}"#, "\"sub\""),
            token(r#"{"alg":"ES256"}"#, r#"{"a":1,"a":2}"#),
        ] {
            assert!(Jws::parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
        let long = token(
            r#"{"alg":"ES256"}"#,
            &format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_TOKEN)),
        );
        assert!(Jws::parse(long.as_bytes()).is_none());
    }

    #[test]
    fn an_empty_kid_is_none() {
        assert_eq!(
            Jws::parse(token(r#"{"alg":"ES256","kid":""}"#, "{}").as_bytes())
                .unwrap()
                .kid,
            None
        );
    }
}
