//! The parts of HTTP that decisions rest on, on bytes: nothing that a client sent is known to be UTF-8.

use std::borrow::Cow;

use crate::geography::Geography;

pub mod cookie;
pub mod header;
pub mod origin;
pub mod path;
pub mod query;

/// The head of a request as the proxy received it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// Every header line in wire order, repeated lines apart, with `:method`, `:path`, `:authority` and `:scheme`.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// What databases say of the client's place; `None` where the proxy has none. It stands beside the headers, so that nothing but
    /// rules on places can see it.
    pub geography: Option<Geography>,
}

impl RequestHead {
    /// The head as policies read it: the authority without its port, which tells no hosts apart.
    #[must_use]
    pub fn without_port(mut self) -> Self {
        let authorities = self.headers.iter_mut().filter(|(name, _)| name == b":authority");
        for (_, authority) in authorities {
            let length = origin::without_port(authority).len();
            authority.truncate(length);
        }
        self
    }

    /// Iterates over the values of every line of that name, whatever its case.
    pub fn values<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.headers
            .iter()
            .filter(move |(sent, _)| sent.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// Returns the value of a header that must not be repeated.
    pub(crate) fn single<'a>(&'a self, name: &'a [u8]) -> Single<'a> {
        let mut found = Single::Absent;
        for value in self.values(name) {
            found = match found {
                Single::Absent => Single::One(value),
                Single::One(_) | Single::Repeated => Single::Repeated,
            };
        }
        found
    }

    /// Returns the value of a header whose lines Envoy joins by commas, empty ones left out: `Authorization`, `Origin`,
    /// `Referer`. Joined here too, so that lines apart are read as they arrive through Envoy.
    pub(crate) fn joined<'a>(&'a self, name: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let mut joined: Option<Cow<'a, [u8]>> = None;
        for value in self.values(name) {
            joined = match joined {
                Some(lines) if value.is_empty() => Some(lines),
                Some(lines) if !lines.is_empty() => Some(Cow::Owned([&*lines, &b","[..], value].concat())),
                _ => Some(Cow::Borrowed(value)),
            };
        }
        joined
    }

    /// Returns `:method`.
    pub(crate) fn method(&self) -> Option<&[u8]> {
        self.values(b":method").next()
    }

    /// Returns `:path`, with its query.
    pub(crate) fn path(&self) -> Option<&[u8]> {
        self.values(b":path").next()
    }
}

/// The head of a response, as far as decisions need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The HTTP status.
    pub status: u16,
}

/// A header that has a meaning only when it stands once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Single<'a> {
    Absent,
    One(&'a [u8]),
    Repeated,
}
