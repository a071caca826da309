//! `spec.cors`.

use portcullis_api::security_policy::Cors;
use portcullis_engine::document::{self, Document};

use super::Builder;
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

/// Parses `1h30m` and its like (Gateway API `Duration`): 1 to 4 groups of 1 to 5 digits with h, m, s or ms; whole seconds.
fn seconds(duration: &str) -> Option<u64> {
    let mut milliseconds: u64 = 0;
    let mut rest = duration;
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=5).contains(&digits) {
            return None;
        }
        let (number, after) = rest.split_at_checked(digits)?;
        let number: u64 = number.parse().ok()?;
        let (unit, after) = if let Some(after) = after.strip_prefix("ms") {
            (1, after)
        } else if let Some(after) = after.strip_prefix('s') {
            (1000, after)
        } else if let Some(after) = after.strip_prefix('m') {
            (60_000, after)
        } else {
            (3_600_000, after.strip_prefix('h')?)
        };
        milliseconds += number * unit;
        rest = after;
        if rest.is_empty() {
            return Some(milliseconds / 1000);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        let cases: [(&str, Option<u64>); 13] = [
            ("10m", Some(600)),
            ("1h30m", Some(5400)),
            ("1500ms", Some(1)),
            ("0s", Some(0)),
            ("99999h", Some(359_996_400)),
            ("1h1m1s1ms", Some(3661)),
            ("1h1m1s1ms1ms", None),
            ("100000s", None),
            ("10", None),
            ("1d", None),
            ("-1s", None),
            ("1.5h", None),
            ("", None),
        ];
        for (written, expected) in cases {
            assert_eq!(seconds(written), expected, "{written}");
        }
    }

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
