//! What only an AccessPolicy has: `anyOf`, `apiKeyExpiry`, `baseline` and `shadow`; `tokenRequirements` are read with `jwt`.

use std::{collections::BTreeSet, str::FromStr};

use k8s_openapi::jiff::Timestamp;
use portcullis_api::{
    access_policy::{AuthenticationMethod, Extension},
    security_policy::SecurityPolicySpec,
};
use portcullis_engine::document::Method;

use super::Builder;
use crate::{
    fault::{Fault, Feature},
    finding,
};

impl Builder<'_> {
    /// Needs the document's authentication to be built.
    pub(super) fn extension(&mut self, extension: &Extension, spec: &SecurityPolicySpec) {
        self.combinations(extension, spec);
        self.any_of(extension, spec);
        self.expiry(extension, spec);
        if !extension.token_requirements.is_empty() && spec.jwt.is_none() {
            let message = "tokenRequirements can only be used with jwt";
            self.whole("invalid-combination", "spec.tokenRequirements", message, "add jwt");
        }
    }

    fn whole(&mut self, code: &'static str, path: &str, message: &str, fix: &str) {
        self.fault(Fault {
            feature: Feature::Whole,
            code,
            path: path.to_owned(),
            message: message.to_owned(),
            fix: Some(fix.to_owned()),
            condition: format!("{message} ({path})"),
        });
    }

    /// What the schema refuses too: a policy may come past it.
    fn combinations(&mut self, extension: &Extension, spec: &SecurityPolicySpec) {
        let (baseline, shadow) = (extension.is_baseline(), extension.is_shadow());
        let code = "invalid-combination";
        if baseline && spec.cors.is_some() {
            let fix = "remove it, or set it in a policy of the route";
            self.whole(code, "spec.cors", "baseline cannot be used with cors", fix);
        }
        if baseline && shadow {
            let fix = "remove one of the two";
            self.whole(code, "spec.shadow", "baseline and shadow exclude each other", fix);
        }
        if (baseline || shadow) && spec.merge_type.is_some() {
            let message = "mergeType cannot be used with baseline or shadow";
            self.whole(code, "spec.mergeType", message, "remove mergeType");
        }
        let named = spec.target_ref.iter().chain(&spec.target_refs);
        let selected = spec.target_selectors.iter().map(|selector| &selector.kind);
        let elsewhere = named
            .clone()
            .any(|target| target.kind != "Gateway" || target.section_name.is_some())
            || selected.clone().any(|kind| kind != "Gateway");
        if baseline && elsewhere {
            let message = "baseline can only be used with Gateway targets without sectionName";
            self.whole(code, "spec.baseline", message, "target a Gateway as a whole");
        }
    }

    fn any_of(&mut self, extension: &Extension, spec: &SecurityPolicySpec) {
        let mut methods = Vec::new();
        for (index, method) in extension.any_of.iter().enumerate() {
            let path = format!("spec.anyOf[{index}]");
            let (method, present) = match method {
                AuthenticationMethod::ApiKeyAuth => (Method::ApiKey, spec.api_key_auth.is_some()),
                AuthenticationMethod::BasicAuth => (Method::BasicAuth, spec.basic_auth.is_some()),
                AuthenticationMethod::Jwt => (Method::Jwt, spec.jwt.is_some()),
                AuthenticationMethod::Unknown => {
                    self.unsupported_field(Feature::Whole, path, "this method");
                    continue;
                }
            };
            if !present {
                let fix = "add it to the policy, or remove anyOf";
                self.whole("method-not-configured", &path, "the policy has no such method", fix);
            } else if methods.contains(&method) {
                self.whole(
                    "duplicate-method",
                    &path,
                    "the method is named twice",
                    "remove one of the two",
                );
            }
            methods.push(method);
        }
        if methods.len() == 1 && extension.any_of.len() == 1 {
            let fix = "write anyOf: [apiKeyAuth, jwt], or remove it";
            self.whole("too-short", "spec.anyOf", "a choice has two methods at least", fix);
        }
        self.build.document.any_of = methods;
    }

    fn expiry(&mut self, extension: &Extension, spec: &SecurityPolicySpec) {
        if extension.api_key_expiry.is_empty() {
            return;
        }
        if spec.api_key_auth.is_none() {
            let message = "apiKeyExpiry can only be used with apiKeyAuth";
            return self.whole("invalid-combination", "spec.apiKeyExpiry", message, "add apiKeyAuth");
        }
        // A parent's expiry may be of clients that the child does not know, and whom a parent's Secret names is not told. Without the clients, whether an id is known cannot be told: what is wrong with them is told already.
        let known = self.build.document.api_key.is_some();
        let mut seen = BTreeSet::new();
        for (index, expiry) in extension.api_key_expiry.iter().enumerate() {
            let path = format!("spec.apiKeyExpiry[{index}]");
            let id = expiry.client_id.as_str();
            if !seen.insert(id) {
                let message = format!("client {id:?} is named twice");
                self.whole(
                    "duplicate-entry",
                    &format!("{path}.clientID"),
                    &message,
                    "remove one of the two",
                );
            }
            let Some(not_after) = seconds(&expiry.not_after) else {
                let message = format!("{:?} is not a moment", expiry.not_after);
                let fix = "write a moment such as \"2027-01-31T00:00:00Z\"";
                self.whole("invalid-time", &format!("{path}.notAfter"), &message, fix);
                continue;
            };
            let clients = &mut self.build.secrets.api_keys;
            if let Some(client) = clients.iter_mut().find(|client| client.id == id) {
                client.not_after = Some(not_after);
            } else if known && self.owners.expiry == self.author && self.owners.api_key == self.author {
                let ids: Vec<&str> = clients.iter().map(|client| client.id.as_str()).collect();
                let fix = finding::one_of(&ids).unwrap_or_else(|| "remove the entry".to_owned());
                let message = format!("no Secret has a client {id:?}");
                self.whole("unknown-client", &format!("{path}.clientID"), &message, &fix);
            }
        }
    }
}

/// The whole seconds since 1970 of a moment (RFC 3339); one before counts as its beginning.
fn seconds(text: &str) -> Option<u64> {
    let moment = Timestamp::from_str(text).ok()?;
    Some(u64::try_from(moment.as_second()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn reads_moments() {
        let cases: [(&str, Option<u64>); 8] = [
            ("1970-01-01T00:00:01Z", Some(1)),
            ("2027-01-31T00:00:00Z", Some(1_801_353_600)),
            ("2027-01-31T01:00:00+01:00", Some(1_801_353_600)),
            ("2027-01-31T00:00:00.999Z", Some(1_801_353_600)),
            ("1969-12-31T23:59:59Z", Some(0)),
            ("2027-02-30T00:00:00Z", None),
            ("2027-01-31", None),
            ("", None),
        ];
        for (written, expected) in cases {
            assert_eq!(seconds(written), expected, "{written}");
        }
    }
}
