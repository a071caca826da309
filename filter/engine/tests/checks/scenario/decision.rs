//! How a request ends, by the rules as the documentation has them.

use std::collections::BTreeSet;

use portcullis_engine::{
    denial::Reason,
    document::{Action, Csrf, Document, KeySource, Method, Refuse},
};

use super::{
    policy::Side,
    request::{Sent, lines},
    rules::{self, Asked, Bearer, Identities, Told, Verdict},
    token,
};
use crate::checks::{forgery, oracle};

/// How a request ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) reason: Reason,
    /// Which policy ended it.
    pub(super) policy: String,
    /// The place of the rule that did.
    pub(super) rule: Option<usize>,
    pub(super) principal: Option<String>,
    /// Refusals that are only counted.
    pub(super) counted: Vec<(String, Reason)>,
    /// What the backend is told of who calls, by the policy's own headers and by the baseline's.
    pub(super) told: [Identities; 2],
}

/// The identities that one policy verified.
#[derive(Clone, Debug, Default)]
struct Verified {
    client: Option<&'static str>,
    user: Option<&'static str>,
    token: Option<Bearer>,
}

/// Decides a request under a policy and perhaps a baseline; a password is hashed only where that is allowed.
pub(super) fn decide(own: &Side, baseline: Option<&Side>, sent: &Sent, may_hash: bool) -> End {
    let mut end = End {
        reason: Reason::HostFault,
        policy: String::new(),
        rule: None,
        principal: None,
        counted: Vec::new(),
        told: Default::default(),
    };
    let (side, reason) = match judge(own, baseline, sent, may_hash, &mut end) {
        Ok(()) => (own, Reason::Allowed),
        Err(refusal) => refusal,
    };
    end.policy.clone_from(&side.document.policy);
    end.reason = reason;
    end
}

fn judge<'a>(
    own: &'a Side,
    baseline: Option<&'a Side>,
    sent: &Sent,
    may_hash: bool,
    end: &mut End,
) -> Result<(), (&'a Side, Reason)> {
    let sides: Vec<&Side> = baseline.into_iter().chain([own]).collect();
    for side in &sides {
        match side.document.refuse {
            None => {}
            Some(Refuse::PolicyInvalid) => return Err((side, Reason::PolicyInvalid)),
            Some(Refuse::FilterTooOld) => return Err((side, Reason::FilterTooOld)),
        }
    }
    if sent
        .lines(":path")
        .first()
        .is_some_and(|path| oracle::has_hidden_step(path))
    {
        return Err((own, Reason::PathAmbiguous));
    }
    if let Some(reason) = preflight(own, sent) {
        return Err((own, reason));
    }
    let names: Vec<Vec<u8>> = sides.iter().flat_map(|side| side.forwards()).flatten().collect();
    let mut settled = Vec::new();
    for side in &sides {
        let (verdict, rule) = authorize(side, sent, &names, None, None);
        settled.push((verdict != Verdict::Open).then_some((verdict, rule)));
        admitted(side, verdict, rule, end)?;
    }
    for side in &sides {
        if let Some(csrf) = &side.document.csrf
            && let Err(reason) = forged(csrf, sent)
        {
            match csrf.shadow_fraction {
                Some(share) if sent.random % u64::from(share.denominator) < u64::from(share.numerator) => {
                    end.counted.push((side.document.policy.clone(), reason));
                }
                _ => return Err((side, reason)),
            }
        }
    }
    let mut verified = Vec::new();
    for side in &sides {
        match authenticate(side, sent, may_hash) {
            Ok(identity) => verified.push(identity),
            Err(reason) => {
                end.principal = verified.first().and_then(Verified::principal);
                return Err((side, reason));
            }
        }
    }
    let told: Vec<_> = sides
        .iter()
        .zip(&verified)
        .map(|(side, verified)| verified.told(side))
        .collect();
    for (place, side) in sides.iter().enumerate() {
        // Of two, the other one.
        let other = (0..sides.len()).find(|other| *other != place);
        let values = [
            told[place].clone(),
            other.map(|other| told[other].clone()).unwrap_or_default(),
        ];
        let principal = verified[place].principal();
        end.principal = principal.or_else(|| verified[other?].principal());
        let (verdict, rule) = settled[place]
            .unwrap_or_else(|| authorize(side, sent, &names, Some(values), Some(verified[place].token.clone())));
        admitted(side, verdict, rule, end)?;
    }
    end.told[0] = told[sides.len() - 1].clone();
    if sides.len() > 1 {
        // What the policy tells by a header of its own, nobody else does.
        let own_names = own.forwards();
        end.told[1] = told[0].clone();
        end.told[1].retain(|(name, _)| !own_names.contains(&Some(name.clone())));
    }
    Ok(())
}

fn admitted<'a>(
    side: &'a Side,
    verdict: Verdict,
    rule: Option<usize>,
    end: &mut End,
) -> Result<(), (&'a Side, Reason)> {
    end.rule = rule;
    match verdict {
        Verdict::Open | Verdict::Action(Action::Allow) => Ok(()),
        Verdict::Action(Action::Deny) => Err((side, Reason::AuthorizationDenied)),
        Verdict::Fault => Err((side, Reason::HostFault)),
    }
}

fn preflight(own: &Side, sent: &Sent) -> Option<Reason> {
    let cors = own.document.cors.as_ref()?;
    let says_something = |name: &str| {
        let lines = sent.lines(name);
        lines.len() > 1 || lines.iter().any(|line| !line.is_empty())
    };
    if !says_something("origin")
        || !says_something("access-control-request-method")
        || sent.lines(":method") != [b"OPTIONS"]
    {
        return None;
    }
    let origins = sent.texts("origin");
    let allowed = cors.allow_origins.iter().any(|entry| match &origins[..] {
        [origin] => entry == "*" || (forgery::is_place(origin) && oracle::origin_is_allowed(entry, origin)),
        _ => entry == "*",
    });
    Some(if allowed {
        Reason::CorsPreflight
    } else {
        Reason::CorsOriginDenied
    })
}

fn authorize(
    side: &Side,
    sent: &Sent,
    names: &[Vec<u8>],
    values: Option<[Identities; 2]>,
    token: Option<Option<Bearer>>,
) -> (Verdict, Option<usize>) {
    let Some(default) = side.default_action else {
        return (Verdict::Action(Action::Allow), None);
    };
    let asked = Asked {
        headers: &sent.head.headers,
        address: sent.client(),
    };
    let told = Told {
        names: names.to_vec(),
        own_names: side.forwards().into_iter().flatten().collect(),
        values,
        token,
    };
    rules::decide(&side.rules, default, &asked, &told)
}

fn forged(csrf: &Csrf, sent: &Sent) -> Result<(), Reason> {
    let claim = forgery::Claim {
        method: sent.texts(":method").concat(),
        is_upgrade: sent.lines("upgrade").iter().any(|line| !line.is_empty()),
        host: sent.host.clone(),
        is_secure: true,
        port: 8443,
        origins: sent.texts("origin"),
        referers: sent.texts("referer"),
        sites: sent.texts("sec-fetch-site"),
    };
    claim.judge(&csrf.additional_origins)
}

fn authenticate(side: &Side, sent: &Sent, may_hash: bool) -> Result<Verified, Reason> {
    let Document {
        api_key,
        basic_auth,
        jwt,
        any_of,
        ..
    } = &side.document;
    let mut verified = Verified::default();
    let mut refusal = None;
    // First those that must succeed each.
    for is_choice in [false, true] {
        for method in [Method::ApiKey, Method::Jwt, Method::BasicAuth] {
            let is_configured = match method {
                Method::ApiKey => api_key.is_some(),
                Method::Jwt => jwt.is_some(),
                Method::BasicAuth => basic_auth.is_some(),
            };
            if !is_configured || any_of.contains(&method) != is_choice {
                continue;
            }
            let done = match method {
                Method::ApiKey => client(side, &api_key.as_ref().unwrap().extract_from, sent)
                    .map(|client| verified.client = Some(client)),
                Method::Jwt => token::verify(jwt.as_ref().unwrap(), sent).map(|token| verified.token = token),
                Method::BasicAuth => user(side, sent, may_hash).map(|user| verified.user = Some(user)),
            };
            match done {
                Ok(()) if is_choice => return Ok(verified),
                Ok(()) => {}
                Err(reason) if !is_choice => return Err(reason),
                Err(Reason::ApiKeyMissing | Reason::BasicMissing | Reason::JwtMissing) => {
                    refusal.get_or_insert(Reason::CredentialMissing);
                }
                Err(reason) => refusal = Some(reason),
            }
        }
    }
    refusal.map_or(Ok(verified), Err)
}

fn user(side: &Side, sent: &Sent, may_hash: bool) -> Result<&'static str, Reason> {
    let (name, password) = oracle::basic(&sent.lines("authorization"))?;
    let is_slow = |hash: &str| !hash.starts_with("{SHA}");
    let known = side
        .users
        .iter()
        .find(|user| user.name.as_bytes() == name && user.password.as_bytes() == password);
    let is_hashed = match known {
        Some(user) => is_slow(user.hash),
        None => side.users.iter().any(|user| is_slow(user.hash)),
    };
    if is_hashed && !may_hash {
        return Err(Reason::BasicBusy);
    }
    known.map(|user| user.name).ok_or(Reason::BasicWrong)
}

fn client(side: &Side, sources: &[KeySource], sent: &Sent) -> Result<&'static str, Reason> {
    let mut presented = false;
    let mut found = BTreeSet::new();
    for source in sources {
        let mut values = presented_in(source, &sent.head.headers);
        values.retain(|value| !value.is_empty());
        if values.iter().any(|value| *value != values[0]) {
            return Err(Reason::ApiKeyUnknown);
        }
        let Some(value) = values.first() else {
            continue;
        };
        presented = true;
        let known = |key: &[u8]| side.clients.iter().find(|client| client.key == key).copied();
        let stripped = match source {
            KeySource::Header(name) if name == "authorization" => {
                let is_bearer = value.to_ascii_lowercase().starts_with(b"bearer ");
                is_bearer.then(|| value[7..].trim_ascii_start())
            }
            KeySource::Header(_) => value.strip_prefix(b"Bearer "),
            _ => None,
        };
        found.extend(stripped.and_then(known).or_else(|| known(value)));
    }
    match (found.len(), presented, found.first()) {
        (1, _, Some(client)) if client.not_after.is_some_and(|end| sent.now >= end * 1_000_000_000) => {
            Err(Reason::ApiKeyExpired)
        }
        (1, _, Some(client)) => Ok(client.id),
        (0, false, _) => Err(Reason::ApiKeyMissing),
        _ => Err(Reason::ApiKeyUnknown),
    }
}

/// What stands in a place of a request that may hold a key.
pub(super) fn presented_in(source: &KeySource, headers: &[(Vec<u8>, Vec<u8>)]) -> Vec<Vec<u8>> {
    match source {
        KeySource::Header(name) => lines(headers, name).into_iter().map(<[u8]>::to_vec).collect(),
        KeySource::Param(name) => {
            let path = lines(headers, ":path").first().copied().unwrap_or_default();
            oracle::parameters(path)
                .into_iter()
                .filter(|(_, sent, _)| sent == name.as_bytes())
                .map(|(_, _, value)| value)
                .collect()
        }
        KeySource::Cookie(name) => {
            let lines: Vec<_> = lines(headers, "cookie").into_iter().map(<[u8]>::to_vec).collect();
            oracle::cookies(&lines, name.as_bytes())
        }
    }
}

impl Verified {
    fn principal(&self) -> Option<String> {
        let client = self.client.map(str::to_owned);
        let user = self.user.map(str::to_owned);
        user.or_else(|| self.subject()).or(client)
    }

    fn subject(&self) -> Option<String> {
        let subject = self.token.as_ref()?.claims["sub"].as_str();
        subject.map(str::to_owned)
    }

    fn told(&self, side: &Side) -> Identities {
        let [client, user] = [self.client, self.user].map(|name| name.map(str::to_owned));
        side.forwards()
            .into_iter()
            .zip([client, user, self.subject()])
            .filter_map(|(name, identity)| Some((name?, identity?)))
            .collect()
    }
}
