//! Conditions on headers.
//!
//! A rule that allows compares a header as a whole. The rules that deny look for their values in every line and every
//! element of a header, so what they list of one header is looked for once, whatever their number.

use std::{cell::OnceCell, collections::BTreeMap};

use super::Identity;
use crate::{
    document::{self, Action, HeaderMatch},
    http::{
        RequestHead,
        header::{is_field_value, is_token, same_to_backend, trim},
    },
    policy::{PolicyError, told},
};

/// The longest name, in bytes.
const MAX_NAME: usize = 256;
/// The longest value, in bytes.
const MAX_VALUE: usize = 4096;

/// The header names that begin with a colon, by which a proxy knows a request's first line.
const PSEUDO: &[&str] = &[":authority", ":method", ":path", ":scheme"];
const AUTHORITY: &[u8] = b":authority";

/// One header and the values of which it must have one.
#[derive(Debug)]
pub(crate) enum HeaderRule {
    Allows(Listed),
    Denies {
        /// Its place among [`DeniedHeaders`].
        header: usize,
        /// The places of its values there.
        values: Vec<usize>,
    },
}

/// A header by its lower-case name, `:authority` for `host`, and values of it, sorted.
#[derive(Debug)]
pub(crate) struct Listed {
    name: Box<[u8]>,
    values: Vec<Box<[u8]>>,
}

/// Every header of a rule that denies, with the values of all these rules.
#[derive(Debug, Default)]
pub(crate) struct DeniedHeaders(Vec<Listed>);

/// Which of the denied values one request has, as far as that was asked.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    denied: &'a DeniedHeaders,
    head: &'a RequestHead,
    /// For each header whether each value was found.
    found: Vec<OnceCell<Vec<bool>>>,
}

impl DeniedHeaders {
    pub(crate) fn of(rules: &[document::Rule]) -> Self {
        let mut named: BTreeMap<Box<[u8]>, Vec<&[u8]>> = BTreeMap::new();
        let denying = rules.iter().filter(|rule| rule.action == Action::Deny);
        for header in denying.flat_map(|rule| &rule.headers) {
            let values = header.values.iter().map(|value| value.as_bytes());
            named.entry(name(header)).or_default().extend(values);
        }
        let listed = named.into_iter().map(|(name, values)| Listed::new(name, values));
        Self(listed.collect())
    }

    /// The place of a header, and those of its values.
    fn places(&self, header: &HeaderMatch) -> Option<(usize, Vec<usize>)> {
        let name = name(header);
        let place = self.0.binary_search_by(|other| other.name.cmp(&name)).ok()?;
        let listed = self.0.get(place)?;
        let values = header.values.iter().map(|value| listed.place(value.as_bytes()));
        Some((place, values.collect::<Option<_>>()?))
    }

    pub(crate) fn find<'a>(&'a self, head: &'a RequestHead) -> Found<'a> {
        Found {
            denied: self,
            head,
            found: self.0.iter().map(|_| OnceCell::new()).collect(),
        }
    }
}

impl Listed {
    fn new(name: Box<[u8]>, mut values: Vec<&[u8]>) -> Self {
        values.sort_unstable();
        values.dedup();
        Self {
            name,
            values: values.into_iter().map(Box::from).collect(),
        }
    }

    fn place(&self, value: &[u8]) -> Option<usize> {
        self.values.binary_search_by(|listed| (**listed).cmp(value)).ok()
    }

    /// Tells whether the lines, joined by commas, are one of the values.
    fn holds_whole(&self, head: &RequestHead) -> bool {
        let mut lines = head.values(&self.name);
        match (lines.next(), lines.next()) {
            (None, _) => false,
            (Some(only), None) => self.place(only).is_some(),
            (Some(_), Some(_)) => self
                .values
                .iter()
                .any(|value| is_joined(value, head.values(&self.name))),
        }
    }

    /// Marks the values that a line, an element of a line or all lines together are, for a backend that takes `_` for `-`
    /// in the name too.
    fn find(&self, head: &RequestHead) -> Vec<bool> {
        let mut found = vec![false; self.values.len()];
        let mut mark = |value: &[u8]| {
            if let Some(found) = self.place(value).and_then(|place| found.get_mut(place)) {
                *found = true;
            }
        };
        let lines = || {
            let named = head
                .headers
                .iter()
                .filter(|(name, _)| same_to_backend(name, &self.name));
            named.map(|(_, line)| line.as_slice())
        };
        for line in lines() {
            mark(line);
            line.split(|byte| *byte == b',').map(trim).for_each(&mut mark);
        }
        let several = lines().nth(1).is_some();
        for (value, found) in self.values.iter().zip(&mut found) {
            *found |= several && is_joined(value, lines());
            // Spaces and empty elements make no other list (RFC 9110 §5.6.1).
            *found |= value.contains(&b',')
                && (lines().flat_map(elements).eq(elements(value))
                    || lines().any(|line| elements(line).eq(elements(value))));
            // A host has no case.
            *found |= *self.name == *AUTHORITY && lines().any(|host| host.eq_ignore_ascii_case(value));
        }
        found
    }
}

impl Found<'_> {
    fn has(&self, header: usize, values: &[usize]) -> bool {
        let (Some(listed), Some(found)) = (self.denied.0.get(header), self.found.get(header)) else {
            // Cannot be, and then nobody can tell.
            return true;
        };
        let found = found.get_or_init(|| listed.find(self.head));
        values.iter().any(|value| found.get(*value).copied().unwrap_or(true))
    }
}

impl HeaderRule {
    /// Compiles a condition of a rule with that action; `at` is the condition's place.
    pub(crate) fn compile(
        at: &str,
        action: Action,
        header: &HeaderMatch,
        denied: &DeniedHeaders,
    ) -> Result<Self, PolicyError> {
        check(at, header)?;
        match (action, denied.places(header)) {
            (Action::Deny, Some((header, values))) => Ok(Self::Denies { header, values }),
            _ => {
                let values = header.values.iter().map(|value| value.as_bytes()).collect();
                Ok(Self::Allows(Listed::new(name(header), values)))
            }
        }
    }

    /// Tells whether the header has one of the values; `None` while its value is an identity that is not verified yet.
    pub(crate) fn matches(&self, found: &Found<'_>, identity: Identity<'_>) -> Option<bool> {
        let listed = match self {
            Self::Allows(listed) => Some(listed),
            Self::Denies { header, .. } => found.denied.0.get(*header),
        };
        if let Some(listed) = listed.filter(|listed| identity.names.contains(&listed.name)) {
            let place = identity.value(&listed.name)?.and_then(|value| listed.place(value));
            return Some(match self {
                Self::Allows(_) => place.is_some(),
                Self::Denies { values, .. } => place.is_some_and(|place| values.contains(&place)),
            });
        }
        Some(match self {
            Self::Allows(listed) => listed.holds_whole(found.head),
            Self::Denies { header, values } => found.has(*header, values),
        })
    }
}

/// The name to look for.
fn name(header: &HeaderMatch) -> Box<[u8]> {
    let name = header.name.to_ascii_lowercase();
    // A proxy calls the `Host` of HTTP/1 so.
    if name == "host" {
        AUTHORITY.into()
    } else {
        name.into_bytes().into()
    }
}

fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let elements = list.split(|byte| *byte == b',').map(trim);
    elements.filter(|element| !element.is_empty())
}

fn is_joined<'a>(value: &[u8], lines: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut rest = value;
    for (index, line) in lines.enumerate() {
        let begun = if index == 0 {
            Some(rest)
        } else {
            rest.strip_prefix(b",")
        };
        match begun.and_then(|begun| begun.strip_prefix(line)) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

/// A host as the router leaves it: without its port and without a dot at its end.
fn bare_host(host: &str) -> &str {
    let bare = match host.rsplit_once(':') {
        Some((bare, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && (!bare.contains(':') || bare.ends_with(']')) =>
        {
            bare
        }
        _ => host,
    };
    bare.trim_end_matches('.')
}

/// Refuses a condition that no request can meet.
fn check(at: &str, header: &HeaderMatch) -> Result<(), PolicyError> {
    let name = header.name.to_ascii_lowercase();
    if name.len() > MAX_NAME || !(is_token(name.as_bytes()) || PSEUDO.contains(&name.as_str())) {
        let message = told!("{:?} is not a header name", header.name);
        return Err(PolicyError::new(told!("{at}.name"), "invalid-header-name", message));
    }
    if header.values.is_empty() {
        let message = told!("a header without a value to have would match no request");
        return Err(PolicyError::new(told!("{at}.values"), "empty-values", message));
    }
    for (index, value) in header.values.iter().enumerate() {
        let error = |message: String| PolicyError::new(told!("{at}.values[{index}]"), "invalid-header-value", message);
        let trimmed = value.trim_matches([' ', '\t']);
        if value.len() > MAX_VALUE {
            return Err(error(told!("the value is longer than {MAX_VALUE} bytes")));
        }
        if !is_field_value(value.as_bytes()) {
            return Err(error(told!("no header's value has a control character")));
        }
        if trimmed != value {
            let message = told!("no header's value begins or ends with a space");
            return Err(error(message).fix(told!("write {trimmed:?}")));
        }
        let bare = bare_host(value);
        if name.as_bytes() == b"host" || name.as_bytes() == AUTHORITY {
            if value.contains('*') {
                let message = told!("{value:?} is compared as it stands, and no host holds a \"*\"");
                return Err(error(message).fix(told!("write each host, or name the hosts in the route")));
            }
            if bare != value {
                let message = told!("no request has the host {value:?}: ports and dots at the end are cut off");
                return Err(error(message).fix(told!("write {bare:?}")));
            }
        }
    }
    Ok(())
}
