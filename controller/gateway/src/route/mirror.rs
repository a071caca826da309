//! `RequestMirror`: copies of requests, whose answers nobody sees.

use envoy_types::pb::envoy::{
    config::{
        common::mutation_rules::v3::{HeaderMutation, header_mutation::Action},
        core::v3::RuntimeFractionalPercent,
        route::v3::route_action::RequestMirrorPolicy,
    },
    r#type::v3::{FractionalPercent, fractional_percent::DenominatorType},
};
use gateway_api::httproutes::HttpRouteRulesFiltersRequestMirror;
use portcullis_engine::document::{Document, KeySource};

use crate::report::Fault;

/// Every request.
const ALL: u32 = 1_000_000;

/// Fields that hold credentials whatever the policy (RFC 9110 §11.6.2, §11.7.2, RFC 6265 §4.2).
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// One backend that gets copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(crate) cluster: String,
    /// Of a million requests.
    pub(crate) share: u32,
}

/// What a copy of a request must not hold: the mirror's owner was not asked for it by the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Withheld {
    /// Header names in lower case, sorted.
    headers: Vec<String>,
    /// Whether the query may hold a credential when it is forwarded.
    query: bool,
}

impl Withheld {
    /// What the requests under a policy may carry: the usual fields, and where the policy, its baseline and its shadow
    /// look for API keys.
    pub(crate) fn of(policy: Option<&Document>) -> Self {
        let mut withheld = Self {
            headers: CREDENTIALS.map(str::to_owned).to_vec(),
            query: false,
        };
        let documents = policy
            .into_iter()
            .flat_map(|document| [Some(document), document.baseline.as_deref(), document.shadow.as_deref()]);
        for (key, document) in documents
            .flatten()
            .filter_map(|document| Some((document.api_key.as_ref()?, document)))
        {
            // A shadow takes nothing out of the request.
            let cut = key.sanitize && !policy.is_some_and(|policy| policy.shadow.as_deref() == Some(document));
            for source in &key.extract_from {
                match source {
                    KeySource::Header(name) => withheld.headers.push(name.to_ascii_lowercase()),
                    KeySource::Param(_) => withheld.query |= !cut,
                    KeySource::Cookie(_) => {}
                }
            }
        }
        withheld.headers.sort();
        withheld.headers.dedup();
        withheld
    }

    /// What the requests under either of two policies may carry.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.headers.extend_from_slice(&other.headers);
        self.headers.sort();
        self.headers.dedup();
        self.query |= other.query;
        self
    }

    /// Whether no copy may be made: Envoy cannot change the path of one.
    pub(crate) const fn everything(&self) -> bool {
        self.query
    }

    fn mutations(&self) -> Vec<HeaderMutation> {
        let removed = self.headers.iter().map(|name| Action::Remove(name.clone()));
        removed.map(|action| HeaderMutation { action: Some(action) }).collect()
    }
}

impl Mirror {
    pub(crate) fn policy(&self, withheld: &Withheld) -> RequestMirrorPolicy {
        RequestMirrorPolicy {
            cluster: self.cluster.clone(),
            runtime_fraction: (self.share < ALL).then(|| RuntimeFractionalPercent {
                default_value: Some(FractionalPercent {
                    numerator: self.share,
                    denominator: DenominatorType::Million.into(),
                }),
                ..RuntimeFractionalPercent::default()
            }),
            request_headers_mutations: withheld.mutations(),
            ..RequestMirrorPolicy::default()
        }
    }
}

/// The share of requests that is copied, of a million; paths of faults are below `requestMirror`.
pub(crate) fn share(spec: &HttpRouteRulesFiltersRequestMirror) -> Result<u32, Fault> {
    let invalid = |path: &str, message: &str| Fault::new("invalid-mirror-share", path, message);
    match (spec.percent, &spec.fraction) {
        (None, None) => Ok(ALL),
        (Some(percent), None) => u32::try_from(percent)
            .ok()
            .filter(|percent| *percent <= 100)
            .map(|percent| percent * (ALL / 100))
            .ok_or_else(|| invalid("percent", "the percentage is not between 0 and 100")),
        (None, Some(fraction)) => {
            let denominator = fraction.denominator.unwrap_or(100);
            let (Ok(numerator), Ok(denominator)) = (u64::try_from(fraction.numerator), u64::try_from(denominator))
            else {
                return Err(invalid("fraction", "numerator or denominator is less than 0"));
            };
            if denominator == 0 || numerator > denominator {
                return Err(invalid("fraction", "the fraction is not between 0 and 1"));
            }
            let share = (numerator * u64::from(ALL)).div_ceil(denominator);
            Ok(u32::try_from(share).unwrap_or(ALL))
        }
        (Some(_), Some(_)) => Err(invalid(
            "fraction",
            "percent says the share already; write one of the two",
        )),
    }
}

#[cfg(test)]
mod tests {
    use gateway_api::httproutes::HttpRouteRulesFiltersRequestMirrorFraction as Fraction;

    use super::*;

    #[test]
    fn shares_are_of_a_million_and_never_less_than_asked() {
        let fraction = |numerator, denominator| Some(Fraction { numerator, denominator });
        let cases = [
            (None, None, Some(ALL)),
            (Some(0), None, Some(0)),
            (Some(42), None, Some(420_000)),
            (Some(100), None, Some(ALL)),
            (Some(101), None, None),
            (Some(-1), None, None),
            (None, fraction(1, None), Some(10_000)),
            (None, fraction(1, Some(3)), Some(333_334)),
            (None, fraction(1, Some(i32::MAX)), Some(1)),
            (None, fraction(i32::MAX, Some(i32::MAX)), Some(ALL)),
            (None, fraction(2, Some(1)), None),
            (None, fraction(0, Some(0)), None),
            (None, fraction(-1, Some(1)), None),
            (None, fraction(1, Some(-1)), None),
            (Some(1), fraction(1, None), None),
        ];
        for (percent, fraction, wanted) in cases {
            let spec = HttpRouteRulesFiltersRequestMirror {
                percent,
                fraction,
                ..HttpRouteRulesFiltersRequestMirror::default()
            };
            assert_eq!(share(&spec).ok(), wanted, "{spec:?}");
        }
    }
}
