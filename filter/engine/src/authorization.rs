//! Ordered rules over what a request is; the first that matches decides (`SecurityPolicy.spec.authorization`).
//!
//! Where a request can be read in several ways, a rule that denies matches if one of the readings does, and a rule that
//! allows only as the request was sent.

mod certificate;
mod claims;
mod header;
mod path;
mod place;
pub(crate) mod regex;

use std::sync::Arc;

use crate::{
    address::{NetworkSet, NoNetwork},
    authentication::Authentication,
    cel::Condition,
    document::{self, Action, PathMatchType},
    host::{Fault, Host},
    http::header::{is_field_value, is_token},
    identity::{Forwarded, IdentityHeaders},
    jwt::{Jwt, KnownToken},
    policy::{PolicyError, at_most, told},
    request::Request,
    texts::Texts,
};
use certificate::CertificateRule;
use claims::{Asked, ClaimRule};
use header::{DeniedHeaders, Found, HeaderRule};
use path::PathRule;
use place::PlaceRule;

/// The most rules of one policy.
const MAX_RULES: usize = 512;
/// The most networks of one policy, over all its rules.
const MAX_CIDRS: usize = 8192;
/// The most places of one policy, over all its rules.
const MAX_PLACES: usize = 1024;
/// The most methods of one policy, over all its rules.
const MAX_METHODS: usize = 4096;
/// The most conditions on headers of one policy, over all its rules.
const MAX_HEADERS: usize = 512;
/// The most values of headers, and of claims, of one policy, over all its rules.
const MAX_VALUES: usize = 4096;
/// The most names of certificates of one policy, over all its rules.
const MAX_CERTIFICATES: usize = 4096;
/// The most conditions on claims and scopes of one policy, over all its rules.
const MAX_CLAIMS: usize = 512;
/// The most regular expressions of one policy, over all its rules.
const MAX_REGEXES: usize = 64;
/// The most that the regular expressions of one policy may take once compiled, in bytes.
const MAX_REGEX_BYTES: usize = 256 * 1024;
/// The most nodes of the expressions of one policy, over all its rules.
const MAX_NODES: usize = 8192;
/// The longest name of a rule, in bytes: the name that Envoy Gateway gives an unnamed rule holds the policy's.
const MAX_NAME: usize = 512;

const RULES: &str = "authorization.rules";

/// Compiled authorization.
#[derive(Debug)]
pub(crate) struct Authorization {
    default_action: Action,
    rules: Vec<Rule>,
    denied_headers: DeniedHeaders,
    regex_bytes: usize,
}

#[derive(Debug)]
struct Rule {
    name: Arc<str>,
    action: Action,
    /// Empty for every method.
    methods: Vec<Box<[u8]>>,
    path: Option<PathRule>,
    clients: Option<NetworkSet>,
    /// Empty for every place.
    places: Vec<PlaceRule>,
    certificate: Option<CertificateRule>,
    headers: Vec<HeaderRule>,
    cel: Option<Condition>,
    token: Option<ClaimRule>,
}

/// What the rules decide, and the rule that did; `None` for the default action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) action: Action,
    pub(crate) rule: Option<Arc<str>>,
    /// Whether the request is denied for nothing but the scopes of its token.
    pub(crate) lacks_scope: bool,
}

/// Who sends a request, which no client can set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    /// The names of the headers that tell it, whichever policy of the request sets them.
    pub(crate) names: &'a IdentityHeaders,
    /// Who verifies identities for the rules' own policy.
    pub(crate) policy: &'a Authentication,
    /// `None` before the authentication.
    pub(crate) verified: Option<Verified<'a>>,
}

/// What the authentication found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verified<'a> {
    /// The headers that tell it, those of the rules' own policy first.
    pub(crate) headers: [&'a Forwarded; 2],
    /// The token that the rules' own policy verified.
    pub(crate) token: Option<&'a KnownToken>,
}

impl<'a> Identity<'a> {
    /// The value of such a header, if the request has one; `None` before the authentication.
    pub(crate) fn value(&self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        let [own, others] = self.verified?.headers;
        // Of a header that the rules' own policy sets, another policy's value says nothing about whom this one verified.
        let others = Some(others).filter(|_| !self.policy.sets(name));
        Some(own.value(name).or_else(|| others?.value(name)))
    }
}

impl Authorization {
    /// Compiles rules; `jwt` is what verifies the tokens that they ask about.
    pub(crate) fn compile(document: &document::Authorization, jwt: Option<&Jwt>) -> Result<Self, PolicyError> {
        let rules = &document.rules;
        at_most(RULES, "rules", rules.len(), MAX_RULES)?;
        let sum = |count: fn(&document::Rule) -> usize| rules.iter().map(count).sum();
        at_most(RULES, "clientCIDRs", sum(|rule| rule.client_cidrs.len()), MAX_CIDRS)?;
        let places = sum(|rule| rule.geo_locations.len());
        at_most(RULES, "clientIPGeoLocations", places, MAX_PLACES)?;
        let certificates = |rule: &document::Rule| rule.certificate.as_ref().map_or(0, certificate::names);
        at_most(RULES, "names of certificates", sum(certificates), MAX_CERTIFICATES)?;
        at_most(RULES, "methods", sum(|rule| rule.methods.len()), MAX_METHODS)?;
        at_most(RULES, "headers", sum(|rule| rule.headers.len()), MAX_HEADERS)?;
        let values = |rule: &document::Rule| rule.headers.iter().map(|header| header.values.len()).sum();
        at_most(RULES, "values of headers", sum(values), MAX_VALUES)?;
        let asked = |rule: &document::Rule| rule.jwt.as_ref().map_or(0, |jwt| jwt.claims.len() + jwt.scopes.len());
        at_most(RULES, "claims and scopes", sum(asked), MAX_CLAIMS)?;
        let claims = |rule: &document::Rule| {
            rule.jwt
                .iter()
                .flat_map(|jwt| &jwt.claims)
                .map(|claim| claim.values.len())
                .sum()
        };
        at_most(RULES, "values of claims", sum(claims), MAX_VALUES)?;
        let is_regex = |path: &document::PathMatch| path.r#type == PathMatchType::RegularExpression;
        let regexes = rules
            .iter()
            .filter(|rule| rule.path.as_ref().is_some_and(is_regex))
            .count();
        at_most(RULES, "regular expressions", regexes, MAX_REGEXES)?;
        let nodes = |rule: &document::Rule| rule.cel.as_ref().map_or(0, |cel| cel.0.len());
        at_most(RULES, "parts of expressions", sum(nodes), MAX_NODES)?;
        let denied_headers = DeniedHeaders::of(rules);
        let compiled = rules.iter().enumerate();
        let compiled: Vec<Rule> = compiled
            .map(|(index, rule)| Rule::compile(index, rule, &denied_headers, jwt))
            .collect::<Result<_, _>>()?;
        let conditions = || {
            compiled
                .iter()
                .filter_map(|rule| rule.cel.as_ref())
                .map(Condition::regexes)
        };
        let in_conditions = conditions().map(|(count, _)| count).sum::<usize>();
        at_most(RULES, "regular expressions", regexes + in_conditions, MAX_REGEXES)?;
        let paths = compiled.iter().filter_map(|rule| rule.path.as_ref());
        let in_conditions = conditions().map(|(_, bytes)| bytes).sum::<usize>();
        let regex_bytes = paths.map(PathRule::regex_bytes).sum::<usize>() + in_conditions;
        at_most(
            RULES,
            "bytes of compiled regular expressions",
            regex_bytes,
            MAX_REGEX_BYTES,
        )?;
        Ok(Self {
            default_action: document.default_action,
            rules: compiled,
            denied_headers,
            regex_bytes,
        })
    }

    /// An upper bound for what the regular expressions take, in bytes: the only part that is larger than its text.
    pub(crate) const fn regex_bytes(&self) -> usize {
        self.regex_bytes
    }

    /// Decides by the rules; `None` while that hangs on an identity that is not verified yet.
    ///
    /// What nobody can tell, as an address that cannot be read, matches every rule that denies by it and none that allows.
    pub(crate) fn decide(
        &self,
        request: &Request<'_, impl Host>,
        identity: Identity<'_>,
    ) -> Result<Option<Verdict>, Fault> {
        let found = self.denied_headers.find(request.head);
        let (mut open, mut lacks_scope) = (false, false);
        for rule in &self.rules {
            match rule.matches(request, &found, identity)? {
                Match::No => {}
                Match::Yes => return Ok(settled(open, rule.action, Some(&rule.name), false)),
                Match::LacksScope => lacks_scope |= rule.action == Action::Allow,
                // Whether or not this one denies: if the first that surely matches denies, the request is denied.
                Match::Open if rule.action == Action::Deny => open = true,
                Match::Open => return Ok(None),
            }
        }
        Ok(settled(open, self.default_action, None, lacks_scope))
    }
}

/// Whether a request is what a rule asks for.
enum Match {
    Yes,
    No,
    /// All but the scopes of its token.
    LacksScope,
    /// That only the identity can tell.
    Open,
}

fn settled(open: bool, action: Action, rule: Option<&Arc<str>>, lacks_scope: bool) -> Option<Verdict> {
    (!open || action == Action::Deny).then(|| Verdict {
        action,
        rule: rule.map(Arc::clone),
        lacks_scope: lacks_scope && action == Action::Deny,
    })
}

impl Rule {
    fn compile(
        index: usize,
        rule: &document::Rule,
        denied: &DeniedHeaders,
        jwt: Option<&Jwt>,
    ) -> Result<Self, PolicyError> {
        let at = told!("{RULES}[{index}]");
        if rule.name.is_empty() || rule.name.len() > MAX_NAME || !is_field_value(rule.name.as_bytes()) {
            return Err(PolicyError::new(
                told!("{at}.name"),
                "invalid-rule-name",
                told!("the name of a rule has 1 to {MAX_NAME} bytes and no control character"),
            ));
        }
        let conditions = [
            !rule.methods.is_empty(),
            rule.path.is_some(),
            !rule.client_cidrs.is_empty(),
            !rule.geo_locations.is_empty(),
            rule.certificate.is_some(),
            !rule.headers.is_empty(),
            rule.cel.is_some(),
            rule.jwt.is_some(),
        ];
        if !conditions.contains(&true) {
            return Err(PolicyError::new(
                told!("{at}.principal.clientCIDRs"),
                "empty-rule",
                told!("a rule without a condition would match every request"),
            )
            .fix(told!("write \"0.0.0.0/0\" and \"::/0\" for every client")));
        }
        let methods = rule.methods.iter().enumerate();
        let headers = rule.headers.iter().enumerate();
        let places = rule.geo_locations.iter().enumerate();
        Ok(Self {
            name: rule.name.as_str().into(),
            action: rule.action,
            methods: methods
                .map(|(j, method)| compile_method(&at, j, method))
                .collect::<Result<_, _>>()?,
            path: rule
                .path
                .as_ref()
                .map(|path| PathRule::compile(&at, rule.action, path))
                .transpose()?,
            clients: compile_clients(&at, &rule.client_cidrs)?,
            places: places
                .map(|(j, place)| PlaceRule::compile(&told!("{at}.principal.clientIPGeoLocations[{j}]"), place))
                .collect::<Result<_, _>>()?,
            certificate: rule
                .certificate
                .as_ref()
                .map(|asked| CertificateRule::compile(&told!("{at}.principal.clientCertificate"), rule.action, asked))
                .transpose()?,
            headers: headers
                .map(|(j, header)| {
                    let at = told!("{at}.principal.headers[{j}]");
                    HeaderRule::compile(&at, rule.action, header, denied)
                })
                .collect::<Result<_, _>>()?,
            cel: rule
                .cel
                .as_ref()
                .map(|cel| Condition::compile(&told!("{at}.cel"), rule.action, cel, jwt))
                .transpose()?,
            token: rule
                .jwt
                .as_ref()
                .map(|asked| ClaimRule::compile(&told!("{at}.principal.jwt"), rule.action, asked, jwt))
                .transpose()?,
        })
    }

    /// Tells whether every part matches.
    fn matches(
        &self,
        request: &Request<'_, impl Host>,
        found: &Found<'_>,
        identity: Identity<'_>,
    ) -> Result<Match, Fault> {
        if !self.methods.is_empty() && !self.matches_method(request.head.method()) {
            return Ok(Match::No);
        }
        if let Some(path) = &self.path
            && !path.matches(request)
        {
            return Ok(Match::No);
        }
        if let Some(clients) = &self.clients {
            let held = match request.client()? {
                Some(client) => clients.contains(client),
                None => self.action == Action::Deny,
            };
            if !held {
                return Ok(Match::No);
            }
        }
        if !self.places.is_empty() && !self.is_in_place(request)? {
            return Ok(Match::No);
        }
        if let Some(certificate) = &self.certificate
            && !certificate.matches(request)?
        {
            return Ok(Match::No);
        }
        let mut known = true;
        for header in &self.headers {
            match header.matches(found, identity) {
                Some(true) => {}
                Some(false) => return Ok(Match::No),
                None => known = false,
            }
        }
        if let Some(cel) = &self.cel {
            match cel.holds(request, identity)? {
                Some(true) => {}
                Some(false) => return Ok(Match::No),
                None => known = false,
            }
        }
        let Some(asked) = &self.token else {
            return Ok(if known { Match::Yes } else { Match::Open });
        };
        Ok(match identity.verified.map(|verified| asked.ask(verified.token)) {
            Some(Asked::Other) => Match::No,
            _ if !known => Match::Open,
            Some(Asked::Has) => Match::Yes,
            Some(Asked::LacksScope) => Match::LacksScope,
            None => Match::Open,
        })
    }

    /// Tells whether the client is in one of the places. Where nobody can tell the address, a database was asked for nothing.
    fn is_in_place(&self, request: &Request<'_, impl Host>) -> Result<bool, Fault> {
        let told = request.head.geography.as_ref().ok_or(Fault)?;
        if request.client()?.is_none() {
            return Ok(self.action == Action::Deny);
        }
        for place in &self.places {
            if place.holds(told)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn matches_method(&self, method: Option<&[u8]>) -> bool {
        match method {
            Some(method) => self.methods.iter().any(|listed| method.eq_ignore_ascii_case(listed)),
            None => self.action == Action::Deny,
        }
    }
}

fn compile_method(at: &str, index: usize, method: &str) -> Result<Box<[u8]>, PolicyError> {
    if method.len() <= 64 && is_token(method.as_bytes()) {
        return Ok(method.as_bytes().into());
    }
    Err(PolicyError::new(
        told!("{at}.operation.methods[{index}]"),
        "invalid-method",
        told!("{method:?} is not a method"),
    )
    .fix(told!("write a method such as \"GET\"")))
}

fn compile_clients(at: &str, cidrs: &Texts) -> Result<Option<NetworkSet>, PolicyError> {
    if cidrs.is_empty() {
        return Ok(None);
    }
    let networks = NetworkSet::parse(cidrs.iter()).map_err(|NoNetwork { index, text, fix }| {
        let error = PolicyError::new(
            told!("{at}.principal.clientCIDRs[{index}]"),
            "invalid-cidr",
            told!("{text:?} is not a CIDR"),
        );
        match fix {
            Some(fix) => error.fix(told!("write {fix:?}")),
            None => error,
        }
    });
    networks.map(Some)
}
