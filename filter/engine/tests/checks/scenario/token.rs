//! Tokens in requests, and what a policy makes of them.

use portcullis_engine::{
    denial::Reason,
    document::{ClaimToHeader, Jwt, JwtHeader, JwtProvider, JwtSources, KeySet},
};
use serde_json::Value;

use super::{bytes::Bytes, request::Sent, rules::Bearer};

/// The header that carries tokens, so that they meet no other credential.
pub(super) const HEADER: &str = "x-token";
/// By how many seconds clocks may differ.
const SKEW: u64 = 60;
const KEYS: &str = r#"{"keys":[{"kty":"oct","alg":"HS256","k":"a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s"}]}"#;
/// Providers with their issuers.
const PROVIDERS: [(&str, &str); 2] = [("corp", "idp"), ("partner", "partner")];

/// A token, with what is wrong with it beyond its claims.
struct Token {
    text: &'static str,
    claims: &'static str,
    fault: Option<Reason>,
}

/// All are signed by the policies' key but the one whose signature is wrong.
const TOKENS: &[Token] = &[
    Token {
        text: "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJpZHAiLCJzdWIiOiJhbGljZSIsInJvbGVzIjpbImFkbWluIiwidXNlciJdLCJsZXZlbCI6Nywic2Nvc\
         GUiOiJyZWFkIHdyaXRlIn0.BVv-tjiIL_6QWGFj3a7iDQ1upGdXjZzJpldwHh1JyUU",
        claims: r#"{"iss":"idp","sub":"alice","roles":["admin","user"],"level":7,"scope":"read write"}"#,
        fault: None,
    },
    Token {
        text: "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJpZHAiLCJzdWIiOiJib2IiLCJyb2xlcyI6ImFkbWluIiwibGV2ZWwiOiI3Iiwic2NwIjpbInJlYWQiX\
         X0.kXIH9jpzUAtcSKkWOjs3hElpnElkNTE50KNtfur7Kww",
        claims: r#"{"iss":"idp","sub":"bob","roles":"admin","level":"7","scp":["read"]}"#,
        fault: None,
    },
    Token {
        text: "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJwYXJ0bmVyIiwic3ViIjoiY2Fyb2wiLCJ0ZWFtIjp7Im5hbWUiOiJibHVlIn0sImxldmVsIjo5MDA3M\
         Tk5MjU0NzQwOTkzLCJleHAiOjE3ODk5OTk5ODB9.xMBJOh5Pp3cigMOgI2nq27WDYzzslqUlmS9Mxse2pWQ",
        claims: r#"{"iss":"partner","sub":"carol","team":{"name":"blue"},"level":9007199254740993,"exp":1789999980}"#,
        fault: None,
    },
    Token {
        text: "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJpZHAiLCJzdWIiOiJhbGljZSIsImV4cCI6MTc4OTk5OTkzOX0.DcJ10QrgDGtESL9u_aX1pceLqVtwE\
         m-npy73BZsvR4g",
        claims: r#"{"iss":"idp","sub":"alice","exp":1789999939}"#,
        fault: None,
    },
    Token {
        text: "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJvdGhlciIsInN1YiI6ImFsaWNlIn0.wiDEC2w1bRa5HKB2umcIJ23Hbx0risfYHcsrexWdB9M",
        claims: r#"{"iss":"other","sub":"alice"}"#,
        fault: None,
    },
    Token {
        text: "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJpZHAiLCJzdWIiOiJhbGljZSJ9.PARLNegs9tEeljMvfPf5yF8ciKTIhl9nfzbqldo9L4U",
        claims: r#"{"iss":"idp","sub":"alice"}"#,
        fault: Some(Reason::JwtSignature),
    },
    Token {
        text: "eyJhbGciOiJIUzUxMiJ9.eyJpc3MiOiJpZHAiLCJzdWIiOiJhbGljZSJ9.W7sn_3O3sCiwGoZ23TyID4GBvG2SW12rnJS1ed8KyGU",
        claims: r#"{"iss":"idp","sub":"alice"}"#,
        fault: Some(Reason::JwtKey),
    },
    Token {
        text: "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJpZHAiLCJyb2xlcyI6W119.yqt-XPitj-BOAEzwzsJ6Is_ejFRt-veqdLcNLVcXvfU",
        claims: r#"{"iss":"idp","roles":[]}"#,
        fault: None,
    },
];

impl Token {
    fn claims(&self) -> Value {
        serde_json::from_str(self.claims).unwrap()
    }
}

/// A token that a request may carry, or something that is none.
pub(super) fn presented(bytes: &mut Bytes<'_>) -> &'static [u8] {
    match bytes.next() % 16 {
        0 => b"a.b.c",
        1 => b"",
        2 => b" ",
        _ => TOKENS[bytes.next() % TOKENS.len()].text.as_bytes(),
    }
}

/// A token that a provider accepts.
pub(super) fn of(provider: &str) -> &'static [u8] {
    let issuer = PROVIDERS.iter().find(|known| known.0 == provider).unwrap().1;
    let token = TOKENS.iter().find(|token| token.claims()["iss"] == issuer);
    token.unwrap().text.as_bytes()
}

/// What a policy asks of tokens.
pub(super) fn policy(bytes: &mut Bytes<'_>) -> Jwt {
    let count = bytes.pick(&[2, 2, 1]);
    let header = JwtHeader {
        name: HEADER.to_owned(),
        value_prefix: None,
    };
    let tells = bytes.flip();
    let provider = |(name, issuer): &(&str, &str)| JwtProvider {
        name: (*name).to_owned(),
        issuer: Some((*issuer).to_owned()),
        key_set: "k".to_owned(),
        extract_from: Some(JwtSources {
            headers: vec![header.clone()],
            ..JwtSources::default()
        }),
        claim_to_headers: tells
            .then(|| ClaimToHeader {
                header: "X-Sub".to_owned(),
                claim: "sub".to_owned(),
            })
            .into_iter()
            .collect(),
        ..JwtProvider::default()
    };
    let (optional, fail_open) = bytes.pick(&[(false, false), (true, false), (false, true)]);
    Jwt {
        providers: PROVIDERS.iter().take(count).map(provider).collect(),
        optional,
        fail_open,
        ..Jwt::default()
    }
}

/// The keys of a policy that asks for tokens.
pub(super) fn key_sets(jwt: Option<&Jwt>) -> Vec<KeySet> {
    let set = KeySet {
        id: "k".to_owned(),
        jwks: KEYS.to_owned(),
    };
    jwt.map(|_| set).into_iter().collect()
}

/// The token that a policy verifies, if the request may go on.
pub(super) fn verify(jwt: &Jwt, sent: &Sent) -> Result<Option<Bearer>, Reason> {
    let mut lines: Vec<&[u8]> = sent.lines(HEADER).into_iter().map(<[u8]>::trim_ascii).collect();
    lines.retain(|line| !line.is_empty());
    let verified = match lines.split_first() {
        None => Err(Reason::JwtMissing),
        Some((first, others)) if others.iter().any(|other| other != first) => Err(Reason::JwtMalformed),
        Some((text, _)) => match TOKENS.iter().find(|token| token.text.as_bytes() == *text) {
            None => Err(Reason::JwtMalformed),
            Some(token) => accepted(jwt, token, sent),
        },
    };
    match verified {
        Ok(bearer) => Ok(Some(bearer)),
        Err(_) if jwt.fail_open => Ok(None),
        Err(Reason::JwtMissing) if jwt.optional => Ok(None),
        Err(reason) => Err(reason),
    }
}

fn accepted(jwt: &Jwt, token: &Token, sent: &Sent) -> Result<Bearer, Reason> {
    let claims = token.claims();
    let of = |provider: &&JwtProvider| provider.issuer.as_deref() == claims["iss"].as_str();
    let provider = jwt.providers.iter().find(of).ok_or(Reason::JwtIssuer)?;
    let now = sent.now / 1_000_000_000;
    if claims["exp"].as_u64().is_some_and(|end| now > end + SKEW) {
        return Err(Reason::JwtExpired);
    }
    match token.fault {
        Some(fault) => Err(fault),
        None => Ok(Bearer {
            provider: provider.name.clone(),
            claims,
        }),
    }
}
