//! Protection against cross-site request forgery (`SecurityPolicy.spec.csrf`).
//!
//! A browser says where a request comes from in three ways that a page cannot forge: `Origin`, else `Referer`, and
//! `Sec-Fetch-Site` (Fetch Metadata) to origins that are secure. The first two name a place, which must be the request's own
//! host or a listed one; the third can only confirm it, or stand in where no place is named.

use crate::{
    denial::Reason,
    document,
    host::{Fault, Host},
    http::{
        RequestHead, Single,
        origin::{self, Origin, Pattern},
    },
    policy::{PolicyError, at_most, told},
    request::Request,
};

/// The most additional origins, as in Envoy Gateway's type.
const MAX_ORIGINS: usize = 16;

/// Compiled protection.
#[derive(Debug)]
pub(crate) struct Csrf {
    origins: Vec<Pattern>,
    shadow: Option<document::Fraction>,
}

/// What `Sec-Fetch-Site` says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Site {
    /// The page's origin is the request's, as the browser sees both.
    Same,
    /// No page made the request: its user did.
    User,
    /// A page of another origin made it, even if of the same site.
    Other,
    /// Nothing that could be trusted.
    Unsaid,
}

/// The place that a request says it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source<'a> {
    Named(Origin<'a>),
    /// An origin that is none, or two of them.
    Malformed,
    /// `Origin: null`: a place that the browser hides.
    Hidden,
    Nothing,
}

impl<'a> Source<'a> {
    /// Reads `Origin`.
    fn of(origin: &'a [u8]) -> Self {
        match origin {
            b"" => Self::Nothing,
            b"null" => Self::Hidden,
            text => Origin::parse(text).map_or(Self::Malformed, Self::Named),
        }
    }
}

impl Csrf {
    pub(crate) fn compile(document: &document::Csrf) -> Result<Self, PolicyError> {
        let listed = &document.additional_origins;
        at_most("csrf.additionalOrigins", "origins", listed.len(), MAX_ORIGINS)?;
        let origins = listed.iter().enumerate().map(|(index, text)| {
            Pattern::parse(text).ok_or_else(|| origin::invalid_pattern(told!("csrf.additionalOrigins[{index}]"), text))
        });
        let shadow = document.shadow_fraction;
        if shadow.is_some_and(|share| share.denominator == 0 || share.numerator > share.denominator) {
            return Err(PolicyError::new(
                told!("csrf.shadowFraction"),
                "invalid-fraction",
                told!("the numerator is at most the denominator, and that at least 1"),
            ));
        }
        Ok(Self {
            origins: origins.collect::<Result<_, _>>()?,
            shadow: shadow.filter(|share| share.numerator != 0),
        })
    }

    /// Decides by where the request says it comes from.
    ///
    /// # Errors
    /// The reason to refuse it; [`Reason::HostFault`] if the proxy could not tell the port that the request came to.
    pub(crate) fn decide(&self, request: &Request<'_, impl Host>) -> Result<(), Reason> {
        let head = request.head;
        let upgrade = match method(head) {
            Method::Unsafe => false,
            Method::Upgrade => true,
            Method::Safe => return Ok(()),
        };
        let referer;
        let origin = head.joined(b"origin").unwrap_or_default();
        let mut source = Source::of(&origin);
        if source == Source::Nothing {
            referer = head.joined(b"referer").unwrap_or_default();
            source = Origin::of_url(&referer).map_or(Source::Nothing, Source::Named);
        }
        let site = site(head);
        match (source, site) {
            (Source::Named(named), _) => {
                let allowed = self.origins.iter().any(|pattern| pattern.matches(&named))
                    || is_own(&named, site, request).map_err(|Fault| Reason::HostFault)?;
                allowed.then_some(()).ok_or(Reason::CsrfOriginDenied)
            }
            (Source::Hidden | Source::Nothing, Site::Same) | (Source::Nothing, Site::User) => Ok(()),
            (Source::Malformed, _) | (Source::Hidden | Source::Nothing, Site::Other) => Err(Reason::CsrfOriginDenied),
            // Every browser names the origin of a WebSocket (RFC 6455 §4.1): this is no browser.
            (Source::Nothing, Site::Unsaid) if upgrade => Ok(()),
            (Source::Hidden, Site::User | Site::Unsaid) | (Source::Nothing, Site::Unsaid) => {
                Err(Reason::CsrfOriginMissing)
            }
        }
    }

    /// Tells whether a refusal is among the share that is only counted.
    pub(crate) fn only_counts(&self, request: &Request<'_, impl Host>) -> Result<bool, Fault> {
        match self.shadow {
            None => Ok(false),
            Some(share) if share.numerator == share.denominator => Ok(true),
            Some(share) => Ok(request.host.random()? % u64::from(share.denominator) < u64::from(share.numerator)),
        }
    }
}

/// What a method may do, as far as forgery is concerned.
enum Method {
    Safe,
    /// A safe method that opens a connection on which anything may follow.
    Upgrade,
    Unsafe,
}

/// Only the methods of RFC 9110 §9.2.1 are safe; there are more unsafe ones than anybody can list.
fn method(head: &RequestHead) -> Method {
    let safe = matches!(
        head.single(b":method"),
        Single::One(b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
    );
    if !safe {
        Method::Unsafe
    } else if head.values(b"upgrade").any(|value| !value.is_empty()) {
        Method::Upgrade
    } else {
        Method::Safe
    }
}

/// Reads `Sec-Fetch-Site`: a page cannot set it, for its name begins with `Sec-`.
fn site(head: &RequestHead) -> Site {
    match head.single(b"sec-fetch-site") {
        Single::One(b"same-origin") => Site::Same,
        Single::One(b"none") => Site::User,
        Single::One(b"cross-site" | b"same-site") => Site::Other,
        Single::One(_) | Single::Absent | Single::Repeated => Site::Unsaid,
    }
}

/// Tells whether a place is the request's own host.
///
/// The scheme counts only if the request's is known to be the safer one: TLS may have ended before the proxy. The host
/// is read without its port, so a port that is not the scheme's default must be confirmed, by the browser or by the port
/// that the request came to.
fn is_own(named: &Origin<'_>, site: Site, request: &Request<'_, impl Host>) -> Result<bool, Fault> {
    let head = request.head;
    let Single::One(authority) = head.single(b":authority") else {
        return Ok(false);
    };
    let web = named.is_web() && !(named.is_plain() && head.single(b":scheme") == Single::One(b"https"));
    let same_host = origin::host_of(authority).is_some_and(|own| named.host.eq_ignore_ascii_case(own));
    if site == Site::Other || !web || !same_host {
        return Ok(false);
    }
    match named.port {
        None => Ok(true),
        Some(_) if site == Site::Same => Ok(true),
        Some(port) => Ok(request.host.port()? == Some(port)),
    }
}
