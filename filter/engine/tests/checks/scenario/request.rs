//! A request made of bytes, from vocabularies small enough that it meets the policies.

use std::net::IpAddr;

use portcullis_engine::{
    host::{Fault, Host, Signed},
    transaction::RequestHead,
};

use super::{NOW, bytes::Bytes, token};

/// What a proxy tells of clients, and what that is.
const ADDRESSES: &[(&str, Option<&str>)] = &[
    ("10.1.2.3:80", Some("10.1.2.3")),
    ("10.2.0.1", Some("10.2.0.1")),
    ("192.0.2.1:1", Some("192.0.2.1")),
    ("[::ffff:10.1.9.9]:5", Some("10.1.9.9")),
    ("[2001:db8::1]:443", Some("2001:db8::1")),
    ("::1", Some("::1")),
    ("", None),
    ("junk", None),
    ("10.1.2.3:99999", None),
    ("0.0.0.0:80", None),
    ("[::]:80", None),
];
const METHODS: &[&str] = &["GET", "POST", "OPTIONS", "get", "DELETE"];
const HOSTS: &[&str] = &["api.example.com", "API.example.com", "shop.example.com"];
const NAMES: &[&str] = &[
    "x-role",
    "x-role",
    "X_Role",
    "x-api-key",
    "X-Api-Key",
    "x_api_key",
    "authorization",
    "authorization",
    "cookie",
    "Cookie",
    "origin",
    "x-client-id",
    "X_Client_Id",
    "x-user",
    "x_who",
    "referer",
    "sec-fetch-site",
    "upgrade",
    "connection",
    "x-envoy-retry-on",
    "X_Envoy_Internal",
    "X-Envoy-External-Address",
    "access-control-request-method",
    "host",
    "x-sub",
    "accept",
];
const VALUES: &[&str] = &[
    "alice-key",
    "bob-key",
    "Bearer alice-key",
    "bearer  alice-key",
    "key=alice-key; a=1",
    "a=1;key=\"bob-key\"",
    "key=",
    "https://a.example",
    "https://b.example",
    "x-client-id, close, x_who",
    "close, X-Forwarded-For",
    "keep-alive",
    "",
    "GET",
    "\"q\"",
    "wrong",
    "alice",
];
const ROLES: &[&str] = &[
    "admin",
    "guest",
    " guest",
    "admin,guest",
    "guest, admin",
    "guest,,admin",
    "Admin",
    "admin,",
    "",
];
const CREDENTIALS: &[&str] = &[
    "Bearer alice-key",
    "Basic YWxpY2U6eA==",
    "basic  YWxpY2U6eA",
    "Basic Ym9iOg==",
    "Basic YWxpY2U6",
    "Basic Y2Fyb2w6eA==",
    "Basic Y2Fyb2w6",
    "Basic YWxpY2U6eQ==",
    "Basic YWxpY2U=",
    "Basic YWxpY2U6eB==",
    "Basic\tYWxpY2U6eA==",
    "",
];
const PLACES: &[&str] = &[
    "https://a.example",
    "https://b.a.example:443",
    "https://API.example.com",
    "https://api.example.com:8443",
    "http://api.example.com",
    "https://api.example.com/page",
    "null",
    "",
];
const SITES: &[&str] = &["same-origin", "same-site", "cross-site", "none", "other"];
const PATHS: &[&str] = &[
    "/",
    "/?key=alice-key",
    "/o?a=1&key=bob-key&b=%41",
    "/?%6bey=alice%2dkey",
    "/?key=wrong&key=alice-key",
    "/?key=a%26b=c&&",
    "/?key=Bearer alice-key",
    "?",
    "",
    "/o/..;a=1/%6b?key=alice-key",
];
/// Ways to write `/admin` and its like.
const VARIANTS: &[&str] = &[
    "/admin",
    "/admin/",
    "/admin/1?x=1",
    "/admin?x=1",
    "/admin;v=1",
    "/%2561dmin",
    "/admin%20/x",
    "/admin%3fx",
    "/admin%00.png",
    "/admin%2fx",
    "/a b",
    "/a%2520b",
    "/o/%c3%a9",
    "/o/\u{e9}#x",
    "/Admin",
    "/administrator",
    "*",
];
/// Of which paths are put together.
const PIECES: &[&str] = &[
    "/",
    "admin",
    "o",
    "/",
    ";v=1",
    "%20",
    "%3b",
    "%2f",
    "%252f",
    "%2561dmin",
    "\\",
    "?",
    "x=1",
    "key=bob-key",
    "&",
    "#",
    "%00",
    "//",
    ".",
    "%",
    "\u{7f}",
    "a%20b",
];

/// A request, and what the proxy says when it is asked about it.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) head: RequestHead,
    /// In lower case.
    pub(super) host: String,
    address: Option<(&'static str, Option<&'static str>)>,
    pub(super) random: u64,
    /// In nanoseconds since 1970.
    pub(super) now: u64,
}

impl Sent {
    pub(super) fn read(bytes: &mut Bytes<'_>) -> Self {
        let host = bytes.pick(HOSTS);
        let path = match bytes.next() % 4 {
            0 => bytes.text(PATHS),
            1 => {
                let pieces: String = (0..bytes.next() % 6).map(|_| bytes.pick(PIECES)).collect();
                format!("/{pieces}").into_bytes()
            }
            _ => bytes.pick(VARIANTS).into(),
        };
        // A preflight.
        let asks = bytes.odds(1, 16);
        let pseudo: [(&str, Vec<u8>); 4] = [
            (":authority", host.into()),
            (":scheme", b"https".to_vec()),
            (":method", if asks { "OPTIONS" } else { bytes.pick(METHODS) }.into()),
            (":path", path),
        ];
        let absent = bytes.odds(1, 16).then(|| bytes.pick(&[":path", ":method"]));
        let mut headers: Vec<(Vec<u8>, Vec<u8>)> = pseudo
            .into_iter()
            .filter(|(name, _)| Some(*name) != absent)
            .map(|(name, value)| (name.into(), value))
            .collect();
        if asks {
            headers.push((b"origin".to_vec(), bytes.pick(PLACES).into()));
            headers.push((b"access-control-request-method".to_vec(), b"PUT".to_vec()));
        }
        for _ in 0..bytes.pick(&[1, 0, 0, 1, 1, 2]) {
            headers.push((token::HEADER.into(), token::presented(bytes).to_vec()));
        }
        let lines = bytes.next() % 8;
        headers.extend((0..lines).map(|_| {
            let name = bytes.pick(NAMES);
            let values = match name {
                "authorization" if bytes.odds(3, 4) => CREDENTIALS,
                "origin" | "referer" if bytes.flip() => PLACES,
                "sec-fetch-site" => SITES,
                "x-role" | "X_Role" => ROLES,
                _ => VALUES,
            };
            (name.into(), bytes.text(values))
        }));
        Self {
            head: RequestHead {
                headers,
                geography: None,
            },
            host: host.to_ascii_lowercase(),
            address: (!bytes.odds(1, 16)).then(|| bytes.pick(ADDRESSES)),
            random: u64::from(bytes.flip()),
            now: NOW * 1_000_000_000,
        }
    }

    /// A request with these headers and from nowhere.
    pub(super) const fn with(headers: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        Self {
            head: RequestHead {
                headers,
                geography: None,
            },
            host: String::new(),
            address: None,
            random: 0,
            now: NOW * 1_000_000_000,
        }
    }

    /// Gives another value to a header that is there.
    pub(super) fn replace(&mut self, name: &[u8], value: &[u8]) {
        for (_, old) in self.head.headers.iter_mut().filter(|(sent, _)| sent == name) {
            *old = value.to_vec();
        }
    }

    /// Sends a header with that value, and no other of the name.
    pub(super) fn put(&mut self, name: &str, value: &[u8]) {
        self.head.headers.retain(|(sent, _)| sent != name.as_bytes());
        self.head.headers.push((name.into(), value.to_vec()));
    }

    pub(super) fn after(&self, seconds: u64) -> Self {
        Self {
            now: self.now + seconds * 1_000_000_000,
            ..self.clone()
        }
    }

    /// The client's address, if it has one; `Err` when the proxy cannot say.
    pub(super) fn client(&self) -> Result<Option<IpAddr>, ()> {
        let (_, address) = self.address.ok_or(())?;
        Ok(address.map(|address| address.parse().unwrap()))
    }

    /// The lines of a header, by its lower-case name.
    pub(super) fn lines(&self, name: &str) -> Vec<&[u8]> {
        lines(&self.head.headers, name)
    }

    /// The same, each byte a character.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let latin = |line: &[u8]| line.iter().map(|byte| char::from(*byte)).collect();
        self.lines(name).into_iter().map(latin).collect()
    }
}

/// The lines of a header, by its lower-case name.
pub(super) fn lines<'a>(headers: &'a [(Vec<u8>, Vec<u8>)], name: &str) -> Vec<&'a [u8]> {
    let named = headers
        .iter()
        .filter(|(sent, _)| sent.to_ascii_lowercase() == name.as_bytes());
    named.map(|(_, value)| value.as_slice()).collect()
}

impl Host for Sent {
    fn client_address(&self) -> Result<Vec<u8>, Fault> {
        self.address.map(|(text, _)| text.into()).ok_or(Fault)
    }

    fn port(&self) -> Result<Option<u16>, Fault> {
        Ok(Some(8443))
    }

    fn now(&self) -> Result<u64, Fault> {
        Ok(self.now)
    }

    fn random(&self) -> Result<u64, Fault> {
        Ok(self.random)
    }

    fn verify_signature(&self, _signed: &Signed<'_>) -> Result<bool, Fault> {
        Err(Fault)
    }
}
