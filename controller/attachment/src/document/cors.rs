//! `spec.cors`.

use portcullis_api::security_policy::Cors;
use portcullis_engine::document::{self, Document};

use super::{Builder, duration::seconds};
use crate::fault::{Fault, Feature, Notice};

impl Builder<'_> {
    pub(super) fn cors(&mut self, cors: &Cors) {
        let max_age = match cors.max_age.as_deref().map(seconds) {
            Some(None) => {
                let written = cors.max_age.clone().unwrap_or_default();
                self.fault(Fault {
                    feature: Feature::Cors,
                    code: "invalid-duration",
                    path: "spec.cors.maxAge".to_owned(),
                    message: format!("{written:?} is not a duration"),
                    fix: Some("write \"10m\" or \"1h30m\"".to_owned()),
                    condition: format!("{written:?} is not a duration (spec.cors.maxAge)"),
                });
                return;
            }
            Some(seconds) => seconds,
            None => None,
        };
        let part = document::Cors {
            allow_origins: cors.allow_origins.clone(),
            allow_methods: cors.allow_methods.clone(),
            allow_headers: cors.allow_headers.clone(),
            expose_headers: cors.expose_headers.clone(),
            max_age,
            allow_credentials: cors.allow_credentials.unwrap_or_default(),
        };
        let alone = Document {
            cors: Some(part.clone()),
            ..Document::default()
        };
        if !self.compile(Feature::Cors, &alone, |path| path) {
            return;
        }
        if part.allow_credentials
            && let Some(index) = part.allow_origins.iter().position(|origin| is_any_host(origin))
        {
            let origin = part.allow_origins.get(index).cloned().unwrap_or_default();
            self.build.notices.push(Notice {
                code: "cors-wildcard-credentials",
                path: format!("spec.cors.allowOrigins[{index}]"),
                message: format!("{origin:?} names no host, so origins that only it covers get no credentials"),
                fix: "list the origins that may send credentials, or leave out allowCredentials".to_owned(),
                condition: Some((
                    "WildcardCredentials",
                    format!(
                        "spec.cors.allowCredentials has no effect for origins that only {origin:?} covers, because it names no host"
                    ),
                )),
            });
        }
        self.build.document.cors = Some(part);
    }
}

/// Whether an origin stands for every host of a scheme, or for everything.
fn is_any_host(origin: &str) -> bool {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    host == "*" || host.starts_with("*:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_origins_that_cover_every_host() {
        let cases: [(&str, bool); 5] = [
            ("*", true),
            ("https://*", true),
            ("https://*:8443", true),
            ("https://*.example.com", false),
            ("https://example.com", false),
        ];
        for (origin, expected) in cases {
            assert_eq!(is_any_host(origin), expected, "{origin}");
        }
    }
}
