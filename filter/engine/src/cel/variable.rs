//! The variables that expressions may read: of Envoy's those that say something of a request that has just begun.

use super::value::Kind;
use crate::{host::Attribute, policy::told};

/// A variable, most of them by two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variable {
    Path,
    UrlPath,
    Query,
    Host,
    Scheme,
    Method,
    Referer,
    UserAgent,
    RequestId,
    Size,
    Headers,
    SourceAddress,
    DestinationPort,
    /// `claims`
    Claims,
    /// `metadata.filter_metadata`
    FilterMetadata,
    Told(Attribute),
}

const ALL: &[(&str, &str, Variable)] = &[
    ("request", "path", Variable::Path),
    ("request", "url_path", Variable::UrlPath),
    ("request", "query", Variable::Query),
    ("request", "host", Variable::Host),
    ("request", "scheme", Variable::Scheme),
    ("request", "method", Variable::Method),
    ("request", "referer", Variable::Referer),
    ("request", "useragent", Variable::UserAgent),
    ("request", "id", Variable::RequestId),
    ("request", "size", Variable::Size),
    ("request", "headers", Variable::Headers),
    ("source", "address", Variable::SourceAddress),
    ("destination", "port", Variable::DestinationPort),
    ("metadata", "filter_metadata", Variable::FilterMetadata),
];

/// Why a variable that Envoy has is none here.
const REFUSED: &[(&str, &str, &str)] = &[
    ("request", "duration", "is known only when the request is over"),
    ("request", "total_size", "is known only when the request is over"),
    ("response", "", "is known only when the request is over"),
    ("upstream", "", "is known only when the request is over"),
    ("upstream_filter_state", "", "is known only when the request is over"),
    ("filter_state", "", "holds what other filters keep for themselves"),
    ("xds", "", "is the proxy's own configuration"),
];

impl Variable {
    /// Returns the variable of that name; an error says why there is none.
    pub(crate) fn named(root: &str, name: &str) -> Result<Self, String> {
        if let Some((.., variable)) = ALL.iter().find(|known| (known.0, known.1) == (root, name)) {
            return Ok(*variable);
        }
        let told = |attribute: &&Attribute| attribute.name().split_once('.') == Some((root, name));
        if let Some(attribute) = Attribute::ALL.iter().find(told) {
            return Ok(Self::Told(*attribute));
        }
        if let Some(why) = refused(root, name) {
            return Err(told!("{root}.{name} {why}"));
        }
        Err(told!("there is no {root}.{name}"))
    }

    /// The variables of a name, for a person.
    pub(crate) fn of(root: &str) -> Vec<&'static str> {
        let own = ALL.iter().filter(|known| known.0 == root).map(|known| known.1);
        let told = Attribute::ALL
            .iter()
            .filter_map(|attribute| attribute.name().split_once('.'));
        own.chain(told.filter(|(other, _)| *other == root).map(|(_, name)| name))
            .collect()
    }

    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Headers => Kind::Headers,
            Self::Claims | Self::FilterMetadata => Kind::Map,
            Self::Size | Self::DestinationPort | Self::Told(Attribute::SourcePort) => Kind::Int,
            Self::Told(Attribute::RequestTime) => Kind::Timestamp,
            Self::Told(Attribute::ConnectionId) => Kind::Uint,
            Self::Told(Attribute::Mtls) => Kind::Bool,
            _ => Kind::Text,
        }
    }

    /// The header that it is, where it is one.
    pub(crate) const fn header(self) -> Option<&'static [u8]> {
        match self {
            Self::Host => Some(b":authority"),
            Self::Scheme => Some(b":scheme"),
            Self::Method => Some(b":method"),
            Self::Referer => Some(b"referer"),
            Self::UserAgent => Some(b"user-agent"),
            Self::RequestId => Some(b"x-request-id"),
            _ => None,
        }
    }
}

/// Why no part of a variable can be read.
pub(crate) fn refused(root: &str, name: &str) -> Option<&'static str> {
    let known = REFUSED
        .iter()
        .find(|known| known.0 == root && (known.1.is_empty() || known.1 == name));
    known.map(|known| known.2)
}
