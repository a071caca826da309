//! What the proxies of all replicas hold: each replica knows its own streams, and the one that writes statuses must know
//! of all of them.

use std::collections::{BTreeMap, btree_map::Entry};

use serde::{Deserialize, Serialize};

use super::report::{Deliveries, Delivery};

/// What one replica reports.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Report {
    /// By Gateway; those without proxies are left out.
    gateways: BTreeMap<String, Reported>,
    quarantined: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reported {
    /// What is served there.
    digest: String,
    delivery: Delivery,
}

/// The most that a report may come to, in bytes: an object's annotations have 256 KiB for all replicas.
const MAX_BYTES: usize = 32 * 1024;

/// Writes a report of what this replica's proxies hold. `digests` names what is served, by Gateway.
pub(crate) fn report(deliveries: &Deliveries, digests: &BTreeMap<String, String>) -> String {
    let gateways = deliveries.gateways.iter();
    let gateways = gateways
        .filter(|(_, delivery)| **delivery != Delivery::NoProxies)
        .map(|(gateway, delivery)| {
            let digest = digests.get(gateway).cloned().unwrap_or_default();
            (
                gateway.clone(),
                Reported {
                    digest,
                    delivery: delivery.clone(),
                },
            )
        });
    let mut report = Report {
        gateways: gateways.collect(),
        quarantined: deliveries.quarantined.clone(),
    };
    let mut text = serde_json::to_string(&report).unwrap_or_default();
    if text.len() > MAX_BYTES {
        // What is not told in full is told of as not there yet: nothing is taken for enforced that is not.
        report.quarantined.clear();
        for reported in report.gateways.values_mut() {
            if reported.delivery != Delivery::Acknowledged {
                reported.delivery = Delivery::Pending;
            }
        }
        text = serde_json::to_string(&report).unwrap_or_default();
    }
    text
}

/// Adds what other replicas report to what this one's proxies hold. A report about something else than what is served here
/// says that it is on its way; one that cannot be read says so of everything.
pub(crate) fn combine(
    deliveries: &mut Deliveries,
    digests: &BTreeMap<String, String>,
    reports: &BTreeMap<String, String>,
) {
    for text in reports.values() {
        let Ok(report) = serde_json::from_str::<Report>(text) else {
            for delivery in deliveries.gateways.values_mut() {
                *delivery = worse(delivery.clone(), Delivery::Pending);
            }
            continue;
        };
        for (gateway, reported) in report.gateways {
            let delivery = match reported.delivery {
                Delivery::Acknowledged if digests.get(&gateway) != Some(&reported.digest) => Delivery::Pending,
                delivery => delivery,
            };
            if let Entry::Occupied(mut entry) = deliveries.gateways.entry(gateway) {
                let worse = worse(entry.get().clone(), delivery);
                entry.insert(worse);
            }
        }
        for (policy, why) in report.quarantined {
            deliveries.quarantined.entry(policy).or_insert(why);
        }
    }
}

/// The worse of two; where one replica has no proxies, the other's count.
fn worse(one: Delivery, other: Delivery) -> Delivery {
    if one.badness() <= other.badness() { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliveries(delivery: Delivery) -> Deliveries {
        Deliveries {
            gateways: BTreeMap::from([("edge/public".to_owned(), delivery)]),
            ..Deliveries::default()
        }
    }

    fn digests(digest: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("edge/public".to_owned(), digest.to_owned())])
    }

    fn combined(own: Delivery, other: Delivery, digest: &str) -> Delivery {
        let report = report(&deliveries(other), &digests(digest));
        let mut all = deliveries(own);
        combine(
            &mut all,
            &digests("now"),
            &BTreeMap::from([("other".to_owned(), report)]),
        );
        all.gateways["edge/public"].clone()
    }

    #[test]
    fn what_another_replicas_proxies_lack_is_lacking() {
        use Delivery::{Acknowledged, FilterTooOld, NoProxies, Pending};
        assert_eq!(combined(Acknowledged, Acknowledged, "now"), Acknowledged);
        assert_eq!(combined(NoProxies, Acknowledged, "now"), Acknowledged);
        assert_eq!(combined(Acknowledged, NoProxies, "now"), Acknowledged);
        assert_eq!(combined(NoProxies, NoProxies, "now"), NoProxies);
        assert_eq!(
            combined(Acknowledged, Acknowledged, "before"),
            Pending,
            "of something else"
        );
        assert_eq!(combined(Acknowledged, FilterTooOld, "before"), FilterTooOld);
        let rejected = Delivery::Rejected("Route.match: no".to_owned());
        assert_eq!(combined(Acknowledged, rejected.clone(), "now"), rejected);
        let mut all = deliveries(Acknowledged);
        combine(
            &mut all,
            &digests("now"),
            &BTreeMap::from([("other".to_owned(), "?".to_owned())]),
        );
        assert_eq!(all.gateways["edge/public"], Pending);
    }

    #[test]
    fn a_report_that_would_be_too_long_calls_nothing_acknowledged_that_is_not() {
        let long = Delivery::Rejected("x".repeat(MAX_BYTES));
        assert_eq!(combined(Delivery::Acknowledged, long, "now"), Delivery::Pending);
    }
}
