//! `portcullis explain reason`.

use portcullis_engine::{denial::Reason, refusal};
use serde::Serialize;

use super::details::{self, Details};
use crate::{
    Answer,
    cli::Output,
    failure::Failure,
    print::{self, Style, Tone},
};

/// What Envoy's access log says where the seal refused.
const SEAL_DETAILS: &str = "rbac_access_denied_matched_policy[none]";

/// A reason for people and programs.
#[derive(Serialize)]
struct Entry {
    reason: &'static str,
    /// `policy` if one decides so, `envoy` if Envoy does by itself.
    of: &'static str,
    /// How it comes about.
    cause: &'static str,
    /// What the client gets.
    client: String,
    /// What to do.
    remedy: &'static str,
}

/// Explains one reason, or lists all.
pub(crate) fn reason(code: Option<&str>, style: &Style) -> Result<Answer, Failure> {
    let Some(code) = code else {
        let all: Vec<Entry> = Reason::ALL
            .iter()
            .map(|reason| entry(*reason))
            .chain([seal()])
            .chain(
                details::ALL
                    .iter()
                    .flat_map(|found| found.codes.iter().map(|code| of_envoy(code, found))),
            )
            .collect();
        if style.output != Output::Text {
            style.value(&all)?;
            return Ok(Answer::Yes);
        }
        for entry in all {
            print::line(&format!("{:<22}  {}", entry.reason, entry.cause))?;
        }
        return Ok(Answer::Yes);
    };
    let name = code.strip_prefix("portcullis_").unwrap_or(code);
    let known = Reason::ALL.iter().find(|reason| reason.as_str() == name);
    let entry = match (known, details::find(name)) {
        (Some(reason), _) => entry(*reason),
        (None, Some((code, found))) => of_envoy(code, found),
        (None, None) if matches!(name, "seal" | SEAL_DETAILS) => seal(),
        (None, None) => {
            let codes = details::ALL.iter().flat_map(|found| found.codes).copied();
            let names = Reason::ALL
                .iter()
                .map(|reason| reason.as_str())
                .chain(["seal"])
                .chain(codes);
            let fix = portcullis_manifest::nearest(name, names).map_or_else(
                || "`portcullis explain reason` lists all".to_owned(),
                |meant| format!("did you mean {meant}?"),
            );
            return Err(Failure::new(format!("{code} is not a reason"), fix));
        }
    };
    if style.output == Output::Text {
        print::line(&style.paint(Tone::Good, entry.reason))?;
        for (what, text) in [
            ("cause", entry.cause),
            ("client", &entry.client),
            ("to do", entry.remedy),
        ] {
            print::line(&format!("  {what:<7} {text}"))?;
        }
    } else {
        style.value(&entry)?;
    }
    Ok(Answer::Yes)
}

fn of_envoy(code: &'static str, details: &Details) -> Entry {
    Entry {
        reason: code,
        of: "envoy",
        cause: details.cause,
        client: details.client.to_owned(),
        remedy: details.remedy,
    }
}

fn seal() -> Entry {
    Entry {
        reason: "seal",
        of: "envoy",
        cause: "The request goes to a route whose policy did not decide it: a header that a client may not set had chosen another route, or the filter did not run. The access log says rbac_access_denied_matched_policy[none].",
        client: "403 with the body \"RBAC: access denied\".".to_owned(),
        remedy: "Do not match routes by headers that a policy sets; if it happens to every request, see Envoy's log for the filter.",
    }
}

fn entry(reason: Reason) -> Entry {
    let (cause, remedy) = text(reason);
    Entry {
        reason: reason.as_str(),
        of: "policy",
        cause,
        client: client(reason),
        remedy,
    }
}

fn client(reason: Reason) -> String {
    if reason == Reason::Allowed {
        return "What the route does: the backend's answer, a redirect, or 404 where no route takes the request."
            .to_owned();
    }
    let reply = refusal::refuse(reason);
    let body = String::from_utf8_lossy(reply.body);
    let challenge = match (reply.status, reason) {
        (401, _) | (_, Reason::JwtAudience) => " and a WWW-Authenticate challenge",
        (_, Reason::BasicBusy) => " and Retry-After",
        (_, Reason::CorsPreflight) => " and the CORS headers",
        _ => "",
    };
    if body.is_empty() {
        format!("{}{challenge}, without a body.", reply.status)
    } else {
        format!("{}{challenge} with the body {body:?}.", reply.status)
    }
}

/// How a reason comes about, and what to do about it.
const fn text(reason: Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::Allowed => ("The request passed every check.", "Nothing."),
        Reason::ApiKeyExpired => (
            "The API key is the right one of a client whose key has ended (apiKeyExpiry).",
            "Give the client a new key, or a later notAfter.",
        ),
        Reason::ApiKeyMissing => (
            "No place that apiKeyAuth.extractFrom names holds a key.",
            "Send the key in one of these places; `portcullis explain route` shows them.",
        ),
        Reason::ApiKeyUnknown => (
            "The key is not one of the policy's Secrets, or keys of two clients or two different values were sent.",
            "Compare the key with the Secret; send one key, once.",
        ),
        Reason::AuthorizationDenied => (
            "A rule with action Deny took the request, or none with Allow did and defaultAction is Deny.",
            "`portcullis explain request` names the rule; add one with action Allow, or ask from an address that has one.",
        ),
        Reason::BasicBusy => (
            "Too many passwords that were not seen before are being checked at once; this one was not looked at.",
            "Try again after a moment. If it goes on, somebody is guessing passwords.",
        ),
        Reason::BasicMalformed => (
            "The Authorization header does not hold Basic, a space, and base64 of user:password; or there are two.",
            "Let the client send the header as RFC 7617 has it.",
        ),
        Reason::BasicMissing => (
            "There is no Authorization header with a user's name and password.",
            "Send one; browsers ask for it by themselves.",
        ),
        Reason::BasicWrong => (
            "The user is not in the policy's Secret, or the password is another.",
            "Compare with the .htpasswd in the Secret.",
        ),
        Reason::CorsOriginDenied => (
            "A browser asked whether a page of an origin may send its request, and cors.allowOrigins does not list it.",
            "Add the origin as the browser sends it: scheme, host and port.",
        ),
        Reason::CorsPreflight => (
            "A browser asked whether a page may send its request, and was answered by cors.",
            "Nothing: the request itself follows.",
        ),
        Reason::CredentialMissing => (
            "The policy accepts one of several credentials (anyOf), and the request has none of them.",
            "Send an API key, a token or a user's name and password; the challenges name the ways.",
        ),
        Reason::CsrfOriginDenied => (
            "A request that changes something comes from a page of another origin (Origin or Sec-Fetch-Site).",
            "Add the page's origin to csrf.additionalOrigins if it may.",
        ),
        Reason::CsrfOriginMissing => (
            "A request that changes something does not say which page it comes from.",
            "Send an Origin header; a client that is no browser needs a route without csrf.",
        ),
        Reason::FilterTooOld => (
            "The filter in this Envoy cannot read the policy whole.",
            "Upgrade the filter first, then the controller.",
        ),
        Reason::HostFault => (
            "Envoy did not answer a question of the filter, so nothing could be decided; where a rule asks for the client's place, the listener has no database that tells it.",
            "See Envoy's log, and whether it refused the listener; report it with the request if it goes on.",
        ),
        Reason::JwtAlgorithm => (
            "The token's alg is none of RFC 7518 or not one of the provider's.",
            "Have tokens signed by RS256, ES256 or another algorithm that the provider takes.",
        ),
        Reason::JwtAudience => (
            "The token's aud names none of the provider's audiences.",
            "Ask the issuer for a token for this API, or add its audience to jwt.providers[].audiences.",
        ),
        Reason::JwtExpired => (
            "The token's exp has passed, by more than clocks may differ.",
            "Get a new token; if it is new, compare the clocks of issuer and proxy.",
        ),
        Reason::JwtIssuer => (
            "The token's iss is not the issuer of any of jwt.providers.",
            "Compare the two, letter by letter; a slash at the end counts.",
        ),
        Reason::JwtKey => (
            "No key of the provider's set has the token's kid and is for the token's algorithm.",
            "Compare the token's header with the key set: kid, alg, and kty.",
        ),
        Reason::JwtKeysUnavailable => (
            "The issuer's keys could not be fetched, and none of the last day are there.",
            "Look at the controller's lines and at the cluster keys/... in Envoy: name, certificate and answer of the server of keys.",
        ),
        Reason::JwtLifetime => (
            "The token has no exp and needs one, or is valid for longer than maxLifetime.",
            "Have the issuer give out tokens that live shorter.",
        ),
        Reason::JwtMalformed => (
            "What was sent is no token as RFC 7515 has it, tokens of two subjects or two texts in one place were sent, or a claim cannot \
             stand in a header.",
            "Send one token, once, as the issuer wrote it.",
        ),
        Reason::JwtMissing => (
            "No place that jwt.providers[].extractFrom names holds a token; by default that is Authorization: Bearer.",
            "Send the token in one of these places; `portcullis explain route` shows them.",
        ),
        Reason::JwtNotYet => (
            "The token's nbf is to come, by more than clocks may differ.",
            "Compare the clocks of issuer and proxy.",
        ),
        Reason::JwtSignature => (
            "The token was not signed by the key that it names, or was changed.",
            "Compare the provider's key set with the issuer's; get a new token.",
        ),
        Reason::PathAmbiguous => (
            "The path hides a step to another place, as /open/..;/admin does, and a backend may serve that.",
            "Let the client send the path plainly.",
        ),
        Reason::PolicyInvalid => (
            "The policy is wrong, shares its target with another, or names a section that is not there; nobody gets in.",
            "`portcullis check` names the field, `portcullis status` the condition.",
        ),
        Reason::PolicyMismatch => (
            "The policy that Envoy has is not the one that its route names.",
            "Restart Envoy; if it goes on, something changes its configuration on the way.",
        ),
        Reason::PolicyMissing => (
            "The route names no policy: it was not made by this controller, or the metadata was left out.",
            "Put the metadata of `portcullis render --snippet` on the route.",
        ),
        Reason::PolicyUndecodable => (
            "The filter cannot read the policy: it was left out, cut, or written by another version.",
            "Use a filter and a controller of the same version.",
        ),
        Reason::PolicyUnknown => (
            "The route names a policy that did not come with its virtual host.",
            "Put the metadata of `portcullis render --snippet` on the virtual host.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_says_how_it_comes_about_and_what_to_do() {
        let of_envoy = details::ALL
            .iter()
            .flat_map(|found| found.codes.iter().map(|code| of_envoy(code, found)));
        let mut names = std::collections::BTreeSet::new();
        for entry in Reason::ALL
            .iter()
            .map(|reason| entry(*reason))
            .chain([seal()])
            .chain(of_envoy)
        {
            assert!(names.insert(entry.reason), "{} is there once", entry.reason);
            for text in [entry.cause, &entry.client, entry.remedy] {
                assert!(text.ends_with('.'), "{}: {text}", entry.reason);
            }
        }
        assert_eq!(
            client(Reason::ApiKeyMissing),
            "401 and a WWW-Authenticate challenge with the body \"Client authentication failed.\"."
        );
    }
}
