//! Where a request comes from, once more: on owned text, and with nothing shared with the engine.

use portcullis_engine::denial::Reason;

use super::oracle;

/// What a request says about itself.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) method: String,
    pub(crate) is_upgrade: bool,
    /// Of the request, in lower case.
    pub(crate) host: String,
    pub(crate) is_secure: bool,
    /// On which it came.
    pub(crate) port: u32,
    pub(crate) origins: Vec<String>,
    pub(crate) referers: Vec<String>,
    pub(crate) sites: Vec<String>,
}

impl Claim {
    /// Decides by the table of `docs/differences.md`.
    pub(crate) fn judge(&self, listed: &[String]) -> Result<(), Reason> {
        if ["GET", "HEAD", "OPTIONS", "TRACE"].contains(&self.method.as_str()) && !self.is_upgrade {
            return Ok(());
        }
        let is_unsafe = ["GET", "HEAD", "OPTIONS", "TRACE"]
            .iter()
            .all(|method| self.method != *method);
        let site = match &self.sites[..] {
            [site] => site.as_str(),
            _ => "",
        };
        let foreign = ["cross-site", "same-site"].contains(&site);
        let joined = |lines: &[String]| {
            let lines = lines.iter().filter(|line| !line.is_empty());
            lines.map(String::as_str).collect::<Vec<_>>().join(",")
        };
        let (origin, referer) = (joined(&self.origins), joined(&self.referers));
        let place = if origin.is_empty() {
            place_of(&referer)
        } else if origin == "null" {
            None
        } else if is_place(&origin) {
            Some(origin.clone())
        } else {
            return Err(Reason::CsrfOriginDenied);
        };
        let allowed = match &place {
            Some(place) => {
                listed.iter().any(|entry| oracle::origin_is_allowed(entry, place))
                    || (!foreign && self.is_own(place, site))
            }
            None if origin == "null" => site == "same-origin",
            None => ["same-origin", "none"].contains(&site) || (!is_unsafe && !foreign),
        };
        match (allowed, place) {
            (true, _) => Ok(()),
            (false, None) if !foreign => Err(Reason::CsrfOriginMissing),
            _ => Err(Reason::CsrfOriginDenied),
        }
    }

    fn is_own(&self, place: &str, site: &str) -> bool {
        let place = place.to_ascii_lowercase();
        let (scheme, authority) = place.split_once("://").unwrap();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap()),
            _ => (authority, 0),
        };
        let expected_port = match scheme {
            "https" => port == 0 || port == 443,
            "http" if self.is_secure => return false,
            "http" => port == 0 || port == 80,
            _ => return false,
        };
        host == self.host && (expected_port || port == self.port || site == "same-origin")
    }
}

/// What precedes the path of a URL.
fn place_of(url: &str) -> Option<String> {
    if url.chars().any(|c| !c.is_ascii_graphic() || "#\\".contains(c)) {
        return None;
    }
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next().unwrap();
    let place = format!("{scheme}://{authority}");
    is_place(&place).then_some(place)
}

/// Tells whether a text is `scheme://host[:port]`.
pub(crate) fn is_place(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let starts = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let continues = scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else {
                return false;
            };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("v6", port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let labels = host
        .split('.')
        .all(|label| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)));
    let ported = port.is_empty()
        || port.strip_prefix(':').is_some_and(|digits| {
            (1..=5).contains(&digits.len())
                && digits.chars().all(|c| c.is_ascii_digit())
                && (1..=65535).contains(&digits.parse::<u32>().unwrap())
        });
    text.len() <= 512 && starts && continues && labels && ported
}
