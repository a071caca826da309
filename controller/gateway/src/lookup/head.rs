//! A request as it is sent, and as Envoy's connection manager hands it to the filters.

use std::net::IpAddr;

use portcullis_engine::{
    geography::{Geography, PREFIX},
    http::RequestHead,
};

use super::{
    callouts::Callouts,
    certificate::Shown,
    listener::Chain,
    path::{self, Normalized},
    unclear::Unclear,
};

/// Methods that Envoy's HTTP/1.1 parser takes.
const METHODS: [&str; 33] = [
    "ACL",
    "BIND",
    "CHECKOUT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LINK",
    "LOCK",
    "M-SEARCH",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "NOTIFY",
    "OPTIONS",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "TRACE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
];

/// Headers by which a request asks its connection for something, or says where it ends.
const OF_CONNECTION: [&str; 8] = [
    "connection",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// As many headers as Envoy surely takes: it takes 100 with its own.
const MAX_LINES: usize = 80;

/// As many bytes as Envoy surely takes: it takes 60 KiB with its own.
const MAX_SIZE: usize = 48 * 1024;

/// A request as a client sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Whether in TLS.
    pub secure: bool,
    /// The port, if the URL names one.
    pub port: Option<u16>,
    /// The host of the URL, which is also the server name of the TLS greeting; an IPv6 address in brackets.
    pub host: String,
    /// The method.
    pub method: String,
    /// The path with its query.
    pub target: String,
    /// Every other header line, names in lower case; `host` replaces the URL's host in the request, several are joined.
    /// An empty one is a request that names no host.
    pub headers: Vec<(String, String)>,
    /// The address of the peer.
    pub from: IpAddr,
    /// What the proxy's databases say of the client's place; `None` if that is not said.
    pub geography: Option<Geography>,
    /// The certificate that the client shows.
    pub certificate: Shown,
    /// What the servers answer that a policy may have the proxy ask.
    pub callouts: Callouts,
}

impl Sent {
    /// Reads a method and a URL.
    ///
    /// # Errors
    ///
    /// What is wrong, and what to write instead.
    pub fn parse(method: &str, url: &str, headers: Vec<(String, String)>, from: IpAddr) -> Result<Self, String> {
        let (secure, rest) = if let Some(rest) = url.strip_prefix("https://") {
            (true, rest)
        } else if let Some(rest) = url.strip_prefix("http://") {
            (false, rest)
        } else {
            return Err(format!(
                "{url:?} is no URL; write http://HOST/PATH or https://HOST/PATH"
            ));
        };
        let (authority, target) = rest
            .find(['/', '?', '#'])
            .and_then(|at| rest.split_at_checked(at))
            .unwrap_or((rest, "/"));
        let target = if target.starts_with('/') {
            target.to_owned()
        } else {
            format!("/{target}")
        };
        if target.contains('#') {
            return Err(format!("{url:?} has a fragment, which is never sent; remove it"));
        }
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "{url:?} has a character that no request can hold; percent-encode it"
            ));
        }
        let colon = authority
            .rfind(':')
            .filter(|colon| authority.rfind(']').is_none_or(|bracket| bracket < *colon));
        let (host, port) = match colon.and_then(|colon| authority.split_at_checked(colon)) {
            None => (authority, None),
            Some((host, port)) => {
                let digits = port.strip_prefix(':').unwrap_or_default();
                let number = digits.parse::<u16>().ok().filter(|port| *port > 0);
                let number = number.filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
                (
                    host,
                    Some(number.ok_or_else(|| format!("{digits:?} is no port; write a number from 1 to 65535"))?),
                )
            }
        };
        let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let of_address = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
        let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => !address.is_empty() && address.bytes().all(of_address),
            None => !host.is_empty() && host.bytes().all(of_name),
        };
        if !is_host {
            return Err(format!("{host:?} is no host; write a name or an address"));
        }
        let known = METHODS.contains(&method);
        if !known {
            let upper = method.to_ascii_uppercase();
            let fix = if METHODS.contains(&upper.as_str()) {
                format!("write {upper}")
            } else {
                "write a method such as GET".to_owned()
            };
            return Err(format!("{method:?} is not a method that every client can send; {fix}"));
        }
        let mut lines = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            if !portcullis_engine::http::header::is_token(name.as_bytes()) {
                return Err(format!("{name:?} is no header name"));
            }
            if !value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
                return Err(format!(
                    "the value of {name} has a character that a header cannot hold as text"
                ));
            }
            if OF_CONNECTION.contains(&name.as_str()) {
                return Err(format!(
                    "{name} is about the connection and is not known here; remove it"
                ));
            }
            lines.push((name, value.trim_matches([' ', '\t']).to_owned()));
        }
        let size: usize = lines.iter().map(|(name, value)| name.len() + value.len()).sum();
        if lines.len() > MAX_LINES || size + target.len() > MAX_SIZE {
            return Err(format!(
                "the request has more than {MAX_LINES} headers or {MAX_SIZE} bytes, which Envoy may refuse"
            ));
        }
        Ok(Self {
            secure,
            port,
            host: host.to_owned(),
            method: method.to_owned(),
            target,
            headers: lines,
            from,
            geography: None,
            certificate: Shown::default(),
            callouts: Callouts::default(),
        })
    }

    /// The server name of the TLS greeting: a client sends none for an address.
    pub(crate) fn server_name(&self) -> Option<&str> {
        let is_address = self.host.starts_with('[') || self.host.parse::<IpAddr>().is_ok();
        Some(self.host.as_str()).filter(|_| self.secure && !is_address)
    }

    /// The host line, or several as Envoy joins them; else the URL's host and port.
    fn authority(&self) -> String {
        let mut sent = self.headers.iter().filter(|(name, _)| name == "host").peekable();
        if sent.peek().is_none() {
            let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
            return format!("{}{port}", self.host);
        }
        let sent = sent.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty());
        sent.collect::<Vec<_>>().join(",")
    }
}

/// A request as the filters see it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) head: RequestHead,
    /// The address of the client.
    pub(crate) client: IpAddr,
}

/// What the connection manager makes of a request.
pub(crate) enum Admitted {
    /// It goes to the filters.
    Goes(Received),
    /// Answered before a route is looked for: status, the place to go instead, and why.
    Answered(u16, Option<String>, &'static str),
}

/// Does to a request what the connection manager does first.
///
/// # Errors
///
/// The client's address depends on what is not known.
pub(crate) fn admit(sent: &Sent, chain: &Chain) -> Result<Admitted, Unclear> {
    if sent.headers.iter().any(|(name, _)| name.contains('_')) {
        let why = "a header name with an underscore is refused";
        return Ok(Admitted::Answered(400, None, why));
    }
    if sent.authority().is_empty() {
        return Ok(Admitted::Answered(400, None, "a request without a host is refused"));
    }
    if !sent.authority().bytes().all(of_authority) {
        let why = "a host with a character that no authority holds is refused";
        return Ok(Admitted::Answered(400, None, why));
    }
    let target = match path::normalize(&sent.target) {
        Normalized::Path(target) => target,
        Normalized::Redirect(target) => {
            let why = "a path with an escaped slash is redirected to the one that it stands for";
            return Ok(Admitted::Answered(307, Some(target), why));
        }
        Normalized::Refused => return Ok(Admitted::Answered(400, None, "a path with %00 is refused")),
    };
    let scheme = if sent.secure { "https" } else { "http" };
    let detection = &chain.detection;
    let mut rest = sent.headers.clone();
    detection.mutate(&mut rest);
    if chain.places {
        rest.retain(|(name, _)| !name.starts_with(PREFIX));
    }
    let client = match detection.client(sent.from, &rest)? {
        Ok(client) => client,
        Err(status) => {
            let why = "the header that tells the client's address is missing";
            return Ok(Admitted::Answered(status, None, why));
        }
    };
    let own = ["host", "x-forwarded-client-cert", "x-forwarded-for", "x-request-id"];
    rest.retain(|(name, _)| !own.contains(&name.as_str()));
    // Only a peer whose word counts may say how the request came to it.
    if detection.peer {
        rest.retain(|(name, _)| name != "x-forwarded-proto");
    }
    let told = rest.iter().find(|(name, _)| name == "x-forwarded-proto");
    let told = told.map(|(_, value)| value.clone());
    let scheme = told
        .clone()
        .filter(|told| matches!(told.as_str(), "http" | "https"))
        .unwrap_or_else(|| scheme.to_owned());
    let mut lines = vec![
        (":method".to_owned(), sent.method.clone()),
        (":authority".to_owned(), host(&sent.authority())),
        (":path".to_owned(), target),
        (":scheme".to_owned(), scheme.clone()),
    ];
    lines.extend(rest);
    let forwarded = sent.headers.iter().filter(|(name, _)| name == "x-forwarded-for");
    let forwarded = forwarded.map(|(_, value)| value.clone()).chain([sent.from.to_string()]);
    lines.push(("x-forwarded-for".to_owned(), forwarded.collect::<Vec<_>>().join(",")));
    if told.is_none() {
        lines.push(("x-forwarded-proto".to_owned(), scheme));
    }
    // Its value is made up for each request.
    lines.push((
        "x-request-id".to_owned(),
        "00000000-0000-4000-8000-000000000000".to_owned(),
    ));
    let headers = lines
        .into_iter()
        .map(|(name, value)| (name.into_bytes(), value.into_bytes()));
    Ok(Admitted::Goes(Received {
        head: RequestHead {
            geography: sent.geography.clone().filter(|_| chain.places),
            headers: headers.collect(),
        },
        client,
    }))
}

/// Whether Envoy takes a byte in an authority at all (nghttp2, `VALID_AUTHORITY_CHARS`).
const fn of_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b'-'
                | b'.'
                | b':'
                | b';'
                | b'='
                | b'@'
                | b'['
                | b']'
                | b'_'
                | b'~'
        )
}

/// The authority without a trailing dot (`strip_trailing_host_dot`).
fn host(authority: &str) -> String {
    let mut host = authority.to_owned();
    if let Some(dot) = host.rfind('.') {
        let after = host.get(dot + 1..).unwrap_or_default();
        if after.is_empty() || after.starts_with(':') {
            host.remove(dot);
        }
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Sent, String> {
        Sent::parse("GET", url, Vec::new(), IpAddr::from([203, 0, 113, 9]))
    }

    #[test]
    fn a_url_is_taken_apart() {
        let sent = parse("https://API.example.com:8443/a?b").unwrap();
        assert_eq!(
            (sent.secure, sent.port, sent.host.as_str(), sent.target.as_str()),
            (true, Some(8443), "API.example.com", "/a?b")
        );
        assert_eq!(sent.server_name(), Some("API.example.com"));
        assert_eq!(parse("http://[::1]:80?x").unwrap().target, "/?x");
        assert_eq!(parse("https://10.0.0.1").unwrap().server_name(), None);
        for wrong in [
            "api.example.com/",
            "ftp://a/",
            "http:///",
            "http://a:0/",
            "http://a:+1/",
            "http://a:x/",
            "http://u@a/",
            "http://a/#b",
            "http://a/ b",
            "http://a/é",
            "http://[x]/",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_sent_by_every_client_is_refused() {
        let send = |method: &str, name: &str, value: &str| {
            let headers = vec![(name.to_owned(), value.to_owned())];
            Sent::parse(method, "http://a/", headers, IpAddr::from([203, 0, 113, 9]))
        };
        assert!(send("GET", "x", "1").is_ok());
        for (method, name, value) in [
            ("get", "x", "1"),
            ("CONNECT", "x", "1"),
            ("GET", "x y", "1"),
            ("GET", "x", "é"),
            ("GET", "Connection", "upgrade"),
        ] {
            assert!(send(method, name, value).is_err(), "{method} {name} {value}");
        }
        assert!(send("GET", "x", &"1".repeat(MAX_SIZE)).is_err());
    }

    #[test]
    fn an_authority_loses_its_dot() {
        // As read from Envoy 1.40.0.
        let cases = [
            ("X.Y", "X.Y"),
            ("x.y.", "x.y"),
            ("x.y:80", "x.y:80"),
            ("x.y.:80", "x.y:80"),
            ("x.y:abc", "x.y:abc"),
            ("x.y:", "x.y:"),
            ("u@x.y", "u@x.y"),
            ("[::1]:80", "[::1]:80"),
            ("[::1]", "[::1]"),
            ("x..", "x."),
            ("x:1:2", "x:1:2"),
        ];
        for (authority, expected) in cases {
            assert_eq!(host(authority), expected, "{authority}");
        }
    }
}
