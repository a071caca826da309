//! Cross-origin resource sharing (`SecurityPolicy.spec.cors`), after the Fetch standard's CORS protocol.

use crate::{
    document,
    http::{
        RequestHead, Single,
        header::{is_token, is_token_list, trim},
        origin::{self, Origin, Pattern},
    },
    policy::{PolicyError, at_most, told},
    step::HeaderEdit,
};

/// The most entries of each list.
const MAX_ENTRIES: usize = 256;
/// The most bytes of an answered list: a proxy refuses a larger header.
const MAX_LIST_BYTES: usize = 8192;

/// Compiled CORS.
#[derive(Debug)]
pub(crate) struct Cors {
    /// A bare `*` is listed.
    any: bool,
    /// Entries that name a host: only these may get credentials.
    named: Vec<Pattern>,
    /// Entries such as `https://*`.
    unnamed: Vec<Pattern>,
    credentials: bool,
    methods: Names,
    headers: Names,
    expose: Option<Vec<u8>>,
    max_age: Option<Vec<u8>>,
}

/// What a preflight's answer lists.
#[derive(Debug)]
enum Names {
    Nothing,
    List(Vec<u8>),
    /// `*`: what the preflight asked for.
    Echo,
}

/// What the response must say, known once the request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    grant: Grant,
    preflight: Option<Preflight>,
}

/// Who may read the response.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Grant {
    /// No origin asks.
    Unasked,
    /// The asking origin is not listed.
    Denied,
    /// Everybody, by a bare `*`.
    Everybody,
    /// This origin, as it was sent.
    Origin { origin: Vec<u8>, credentials: bool },
}

/// What a preflight asked for, where that can be said back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Preflight {
    method: Option<Vec<u8>>,
    headers: Option<Vec<u8>>,
}

impl Exchange {
    /// Tells whether the request is a preflight.
    pub(crate) fn is_preflight(&self) -> bool {
        self.preflight.is_some()
    }

    /// Tells whether the asking origin is not listed.
    pub(crate) fn is_denied(&self) -> bool {
        self.grant == Grant::Denied
    }
}

impl Cors {
    pub(crate) fn compile(document: &document::Cors) -> Result<Self, PolicyError> {
        at_most(
            "cors.allowOrigins",
            "origins",
            document.allow_origins.len(),
            MAX_ENTRIES,
        )?;
        let (mut any, mut named, mut unnamed) = (false, Vec::new(), Vec::new());
        for (index, text) in document.allow_origins.iter().enumerate() {
            match Pattern::parse(text)
                .ok_or_else(|| origin::invalid_pattern(told!("cors.allowOrigins[{index}]"), text))?
            {
                Pattern::Any => any = true,
                pattern if pattern.names_no_host() => unnamed.push(pattern),
                pattern => named.push(pattern),
            }
        }
        let list = |field, code, entries| compile_list(field, code, entries);
        let expose = list("cors.exposeHeaders", "invalid-header-name", &document.expose_headers)?;
        Ok(Self {
            any,
            credentials: document.allow_credentials,
            named,
            unnamed,
            methods: Names::of(&list("cors.allowMethods", "invalid-method", &document.allow_methods)?),
            headers: Names::of(&list(
                "cors.allowHeaders",
                "invalid-header-name",
                &document.allow_headers,
            )?),
            expose: Some(expose.join(&b", "[..])).filter(|list| !list.is_empty()),
            max_age: document.max_age.map(|seconds| seconds.to_string().into_bytes()),
        })
    }

    /// Reads what the request asks for.
    pub(crate) fn on_request(&self, head: &RequestHead) -> Exchange {
        let grant = match head.single(b"origin") {
            Single::Absent | Single::One(b"") => Grant::Unasked,
            Single::One(origin) => self.grant(origin),
            Single::Repeated => self.fallback(),
        };
        let asked = grant != Grant::Unasked && head.single(b":method") == Single::One(b"OPTIONS");
        let preflight = if asked { preflight(head) } else { None };
        Exchange { grant, preflight }
    }

    fn grant(&self, sent: &[u8]) -> Grant {
        let Some(origin) = Origin::parse(sent) else {
            return self.fallback();
        };
        let lists = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(&origin));
        if lists(&self.named) {
            Grant::Origin {
                origin: sent.to_vec(),
                credentials: self.credentials,
            }
        } else if self.any {
            Grant::Everybody
        } else if lists(&self.unnamed) {
            Grant::Origin {
                origin: sent.to_vec(),
                credentials: false,
            }
        } else {
            Grant::Denied
        }
    }

    /// The grant of whatever is no origin with a host, such as `null`.
    fn fallback(&self) -> Grant {
        if self.any { Grant::Everybody } else { Grant::Denied }
    }

    /// Tells whether every origin gets the same answer, so that a cache may keep it for all.
    fn is_uniform(&self) -> bool {
        self.any && (self.named.is_empty() || !self.credentials)
    }

    /// Writes the response's CORS headers.
    pub(crate) fn on_response(&self, exchange: &Exchange, edits: &mut Vec<HeaderEdit>) {
        let grant = match exchange.grant {
            // A cache may give this response to a script of another origin, and may: everybody is let in.
            Grant::Unasked | Grant::Origin { .. } if self.is_uniform() => &Grant::Everybody,
            _ => &exchange.grant,
        };
        match grant {
            Grant::Unasked => {}
            Grant::Denied => {
                edits.push(HeaderEdit::remove("access-control-allow-origin"));
                edits.push(HeaderEdit::remove("access-control-allow-credentials"));
            }
            Grant::Everybody => {
                edits.push(HeaderEdit::set("access-control-allow-origin", "*"));
                edits.push(HeaderEdit::remove("access-control-allow-credentials"));
            }
            Grant::Origin { origin, credentials } => {
                edits.push(HeaderEdit::set("access-control-allow-origin", origin.clone()));
                edits.push(if *credentials {
                    HeaderEdit::set("access-control-allow-credentials", "true")
                } else {
                    HeaderEdit::remove("access-control-allow-credentials")
                });
            }
        }
        if let Some(preflight) = &exchange.preflight
            && !exchange.is_denied()
        {
            let mut answer = |name: &'static str, value: Option<&[u8]>| {
                if let Some(value) = value {
                    edits.push(HeaderEdit::set(name, value.to_vec()));
                }
            };
            answer(
                "access-control-allow-methods",
                self.methods.answer(preflight.method.as_deref()),
            );
            answer(
                "access-control-allow-headers",
                self.headers.answer(preflight.headers.as_deref()),
            );
            answer("access-control-max-age", self.max_age.as_deref());
        }
        if let Some(expose) = &self.expose
            && !matches!(grant, Grant::Unasked | Grant::Denied)
        {
            edits.push(HeaderEdit::set("access-control-expose-headers", expose.clone()));
        }
        self.vary(exchange, edits);
    }

    fn vary(&self, exchange: &Exchange, edits: &mut Vec<HeaderEdit>) {
        let names = match (self.is_uniform(), exchange.is_preflight()) {
            (true, false) => return,
            (false, false) => "Origin",
            (true, true) => "Access-Control-Request-Method, Access-Control-Request-Headers",
            (false, true) => "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        };
        edits.push(HeaderEdit::add("vary", names));
    }
}

impl Names {
    fn of(entries: &[&[u8]]) -> Self {
        if entries.is_empty() {
            Self::Nothing
        } else if entries.contains(&&b"*"[..]) {
            Self::Echo
        } else {
            Self::List(entries.join(&b", "[..]))
        }
    }

    fn answer<'a>(&'a self, asked: Option<&'a [u8]>) -> Option<&'a [u8]> {
        match self {
            Self::Nothing => None,
            Self::List(list) => Some(list),
            Self::Echo => asked,
        }
    }
}

/// A preflight asks for one method and perhaps for headers; what is malformed is never said back.
fn preflight(head: &RequestHead) -> Option<Preflight> {
    let method = match head.single(b"access-control-request-method") {
        Single::Absent | Single::One(b"") => return None,
        Single::One(method) => Some(method).filter(|method| is_token(method)),
        Single::Repeated => None,
    };
    let headers = match head.single(b"access-control-request-headers") {
        Single::One(headers) => Some(headers).filter(|headers| is_token_list(headers)),
        Single::Absent | Single::Repeated => None,
    };
    Some(Preflight {
        method: method.map(<[u8]>::to_vec),
        headers: headers.map(<[u8]>::to_vec),
    })
}

/// Splits entries at their commas, which Envoy Gateway lets through, into tokens.
fn compile_list<'a>(field: &str, code: &'static str, entries: &'a [String]) -> Result<Vec<&'a [u8]>, PolicyError> {
    at_most(field, "entries", entries.len(), MAX_ENTRIES)?;
    at_most(
        field,
        "bytes",
        entries.iter().map(|entry| entry.len() + 2).sum(),
        MAX_LIST_BYTES,
    )?;
    let mut tokens = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        if !is_token_list(entry.as_bytes()) {
            return Err(PolicyError::new(
                told!("{field}[{index}]"),
                code,
                told!("{entry:?} is not a name"),
            ));
        }
        tokens.extend(entry.as_bytes().split(|byte| *byte == b',').map(trim));
    }
    Ok(tokens)
}
