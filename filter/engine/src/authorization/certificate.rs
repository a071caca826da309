//! Conditions on the certificate of a client (`authorization.rules[].principal.clientCertificate`).
//!
//! Only a certificate that the proxy verified counts, and a client without one matches no rule, whatever its action. A
//! proxy tells the first name of each kind and no other: names of which a certificate usually has several say nothing in a
//! rule that denies, and are refused there.

use crate::{
    document::{Action, CertificatePrincipal, UriMatch, UriMatchType},
    host::{Attribute, Fact, Fault, Host},
    policy::{PolicyError, told},
    request::Request,
};

/// The longest URI, in bytes: a SPIFFE ID has at most 2048 (SPIFFE-ID §2.3).
const MAX_URI: usize = 2048;
/// The longest DNS name, in bytes (RFC 1035 §2.3.4).
const MAX_DNS: usize = 253;
/// The longest subject, in bytes.
const MAX_SUBJECT: usize = 1024;

/// What a rule asks of a certificate.
#[derive(Debug)]
pub(crate) struct CertificateRule {
    action: Action,
    uris: Vec<Uri>,
    dns: Vec<Box<str>>,
    subjects: Vec<Box<str>>,
}

#[derive(Debug)]
struct Uri {
    r#type: UriMatchType,
    /// A prefix without its last slash.
    value: Box<str>,
}

/// How many names are asked for.
pub(crate) fn names(asked: &CertificatePrincipal) -> usize {
    asked.uri_sans.len() + asked.dns_sans.len() + asked.subjects.len()
}

impl CertificateRule {
    pub(crate) fn compile(at: &str, action: Action, asked: &CertificatePrincipal) -> Result<Self, PolicyError> {
        if names(asked) == 0 {
            let message = told!("no name of a certificate is asked for");
            return Err(PolicyError::new(at.to_owned(), "empty-certificate-principal", message)
                .fix(told!("write uriSANs, dnsSANs or subjects")));
        }
        if action == Action::Deny && !asked.dns_sans.is_empty() {
            let message = told!(
                "a certificate may hold the name behind others, where it is not seen: the rule would not deny it"
            );
            return Err(PolicyError::new(told!("{at}.dnsSANs"), "unseen-names", message)
                .fix(told!("allow the names that may, and deny by default")));
        }
        let uris = asked.uri_sans.iter().enumerate();
        let dns = asked.dns_sans.iter().enumerate();
        let subjects = asked.subjects.iter().enumerate();
        Ok(Self {
            action,
            uris: uris
                .map(|(index, uri)| Uri::compile(&told!("{at}.uriSANs[{index}].value"), uri))
                .collect::<Result<_, _>>()?,
            dns: dns
                .map(|(index, name)| {
                    if is_dns_name(name) {
                        return Ok(name.to_ascii_lowercase().into());
                    }
                    let message = told!("{name:?} is no DNS name as certificates have it");
                    Err(
                        PolicyError::new(told!("{at}.dnsSANs[{index}]"), "invalid-dns-name", message)
                            .fix(told!("write a whole name, as in \"orders.example.com\"")),
                    )
                })
                .collect::<Result<_, _>>()?,
            subjects: subjects
                .map(|(index, subject)| {
                    if is_subject(subject) {
                        return Ok(subject.as_str().into());
                    }
                    let message = told!("a subject has 1 to {MAX_SUBJECT} bytes, a = and no control character");
                    Err(
                        PolicyError::new(told!("{at}.subjects[{index}]"), "invalid-subject", message)
                            .fix(told!("write it as in \"CN=orders,O=shop\"")),
                    )
                })
                .collect::<Result<_, _>>()?,
        })
    }

    /// Tells whether the verified certificate of the client, if it has one, has a name of each kind that is asked for.
    pub(crate) fn matches(&self, request: &Request<'_, impl Host>) -> Result<bool, Fault> {
        if !request.has_certificate()? {
            return Ok(false);
        }
        let name = |attribute, is: &dyn Fn(&str) -> bool| match request.fact(attribute)? {
            None => Ok(false),
            // What is no text is no name; without a name of the kind Envoy tells an empty one.
            Some(Fact::Text(name)) => Ok(std::str::from_utf8(name).is_ok_and(|name| !name.is_empty() && is(name))),
            Some(_) => Err(Fault),
        };
        let uri = |uri: &str| self.uris.iter().any(|asked| asked.is(uri, self.action));
        let dns = |name: &str| self.dns.iter().any(|asked| asked.eq_ignore_ascii_case(name));
        let subject = |subject: &str| match self.action {
            Action::Allow => self.subjects.iter().any(|asked| **asked == *subject),
            Action::Deny => self.subjects.iter().any(|asked| asked.eq_ignore_ascii_case(subject)),
        };
        Ok((self.uris.is_empty() || name(Attribute::UriSanPeerCertificate, &uri)?)
            && (self.dns.is_empty() || name(Attribute::DnsSanPeerCertificate, &dns)?)
            && (self.subjects.is_empty() || name(Attribute::SubjectPeerCertificate, &subject)?))
    }
}

impl Uri {
    fn compile(at: &str, uri: &UriMatch) -> Result<Self, PolicyError> {
        let invalid = |message| {
            let error = PolicyError::new(at.to_owned(), "invalid-certificate-uri", message);
            Err(error.fix(told!("write it as in \"spiffe://example.org/ns/shop\"")))
        };
        let value = uri.value.as_str();
        let plain = value.len() <= MAX_URI && value.bytes().all(|byte| byte.is_ascii_graphic());
        let Some((scheme, rest)) = value.split_once(':').filter(|_| plain) else {
            return invalid(told!("{value:?} is no URI of at most {MAX_URI} bytes"));
        };
        if !is_scheme(scheme) || rest.is_empty() {
            return invalid(told!("{value:?} is no URI"));
        }
        if scheme.eq_ignore_ascii_case("spiffe") {
            let domain = rest.strip_prefix("//").and_then(|rest| rest.split('/').next());
            if !domain.is_some_and(is_trust_domain) || scheme != "spiffe" {
                return invalid(told!(
                    "{value:?} has no trust domain of lower-case letters, digits, '.', '-' and '_'"
                ));
            }
        }
        let value = match uri.r#type {
            UriMatchType::Exact => value,
            UriMatchType::Prefix => value.strip_suffix('/').unwrap_or(value),
        };
        // What is not hierarchical has nothing below it, and a prefix without an authority would be every one.
        let authority = value.split_once("://").map(|(_, rest)| rest.split('/').next());
        if uri.r#type == UriMatchType::Prefix && authority.flatten().is_none_or(str::is_empty) {
            return invalid(told!("a prefix names an authority: {:?} does not", uri.value));
        }
        Ok(Self {
            r#type: uri.r#type,
            value: value.into(),
        })
    }

    /// Tells whether a URI is meant. Of those below a prefix a rule that allows takes none that is another one once it is
    /// put in its normal form; a rule that denies looks at no case.
    fn is(&self, uri: &str, action: Action) -> bool {
        let same = |text: &str| match action {
            Action::Allow => *text == *self.value,
            Action::Deny => text.eq_ignore_ascii_case(&self.value),
        };
        if self.r#type == UriMatchType::Exact {
            return same(uri);
        }
        let Some((beginning, below)) = uri.split_at_checked(self.value.len()) else {
            return false;
        };
        let below = match below.strip_prefix('/') {
            Some(below) => below,
            None if below.is_empty() => "",
            None => return false,
        };
        let plain = !below.contains(['%', '?', '#', '\\']) && !below.split('/').any(|part| part == "." || part == "..");
        same(beginning) && (plain || action == Action::Deny)
    }
}

/// RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// SPIFFE-ID §2.1.
fn is_trust_domain(text: &str) -> bool {
    let of_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    (1..=255).contains(&text.len()) && text.bytes().all(of_domain)
}

/// A wildcard is none: what a certificate stands for is no pattern for whom it names.
fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    text.len() <= MAX_DNS && text.split('.').all(label)
}

fn is_subject(text: &str) -> bool {
    (1..=MAX_SUBJECT).contains(&text.len()) && text.contains('=') && !text.chars().any(char::is_control)
}
