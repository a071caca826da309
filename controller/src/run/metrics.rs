//! What a run counts and measures, for Prometheus.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use portcullis_attachment::status::{ConditionStatus, ObjectStatus};
use portcullis_kubernetes::Outcome;
use portcullis_xds::Event;
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::answers;

type Label = [(&'static str, &'static str); 1];

/// All measures; copies share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    reconcile: Histogram,
    push: Histogram,
    streams: Gauge,
    acks: Counter,
    nacks: Counter,
    policies: Family<Label, Gauge>,
    status_writes: Family<Label, Counter>,
    leads: Gauge,
    key_set_age: Family<[(&'static str, String); 1], Gauge>,
    /// When the key set of each server was fetched last, in seconds since 1970.
    fetched: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        // 1 ms to 16 s.
        let buckets = || exponential_buckets(0.001, 2.0, 15);
        let mut registry = Registry::with_prefix("portcullis");
        let mut metrics = Self {
            registry: Arc::default(),
            reconcile: Histogram::new(buckets()),
            push: Histogram::new(buckets()),
            streams: Gauge::default(),
            acks: Counter::default(),
            nacks: Counter::default(),
            policies: Family::default(),
            status_writes: Family::default(),
            leads: Gauge::default(),
            key_set_age: Family::default(),
            fetched: Arc::default(),
        };
        registry.register_with_unit(
            "reconcile",
            "From a change of manifests to what is served of it",
            Unit::Seconds,
            metrics.reconcile.clone(),
        );
        registry.register_with_unit(
            "push",
            "From the publication of a Gateway's configuration until every connected Envoy holds it",
            Unit::Seconds,
            metrics.push.clone(),
        );
        registry.register("xds_streams", "Connected Envoys", metrics.streams.clone());
        registry.register("xds_acks", "Responses that an Envoy took", metrics.acks.clone());
        registry.register("xds_nacks", "Resources that an Envoy refused", metrics.nacks.clone());
        registry.register(
            "policies",
            "Policies by state: known; accepted; enforced, which is told by the replica that writes statuses",
            metrics.policies.clone(),
        );
        registry.register(
            "status_writes",
            "Statuses that were written, by what became of it",
            metrics.status_writes.clone(),
        );
        registry.register("leader", "Whether this replica writes statuses", metrics.leads.clone());
        registry.register_with_unit(
            "key_set_age",
            "How long ago the key set of a server was fetched last",
            Unit::Seconds,
            metrics.key_set_age.clone(),
        );
        metrics.registry = Arc::new(registry);
        metrics
    }

    /// The text format of OpenMetrics.
    pub(crate) fn text(&self) -> String {
        self.measure_ages(answers::seconds());
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    fn measure_ages(&self, now: u64) {
        self.key_set_age.clear();
        let fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        for (server, fetched) in fetched.iter() {
            let age = i64::try_from(now.saturating_sub(*fetched)).unwrap_or(i64::MAX);
            self.key_set_age.get_or_create(&[("server", server.clone())]).set(age);
        }
    }

    /// Takes in when the key set of each server was fetched last.
    pub(crate) fn key_sets(&self, fetched: BTreeMap<String, u64>) {
        *self.fetched.lock().unwrap_or_else(PoisonError::into_inner) = fetched;
    }

    pub(crate) fn reconciled(&self, took: Duration) {
        self.reconcile.observe(took.as_secs_f64());
    }

    pub(crate) fn pushed(&self, took: Duration) {
        self.push.observe(took.as_secs_f64());
    }

    pub(crate) fn event(&self, event: &Event) {
        match event {
            Event::Connected { .. } => {
                self.streams.inc();
            }
            Event::Disconnected { .. } => {
                self.streams.dec();
            }
            Event::Acked { .. } => {
                self.acks.inc();
            }
            Event::Nacked { .. } => {
                self.nacks.inc();
            }
        }
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.leads.set(leads.into());
    }

    pub(crate) fn status_written(&self, outcome: Outcome) {
        let result = match outcome {
            Outcome::Written => "written",
            Outcome::Conflict => "conflict",
            Outcome::Failed => "failed",
        };
        self.status_writes.get_or_create(&[("result", result)]).inc();
    }

    /// Counts policies by what is said of them: one is what it is at all of its ancestors.
    pub(crate) fn count(&self, statuses: &[ObjectStatus]) {
        let mut counts = BTreeMap::from([("known", 0_i64), ("accepted", 0), ("enforced", 0)]);
        let policies = statuses
            .iter()
            .filter(|status| ["AccessPolicy", "SecurityPolicy"].contains(&status.object.kind));
        for policy in policies {
            let everywhere = |r#type: &str| {
                policy.scopes.iter().all(|scope| {
                    let mut conditions = scope.conditions.iter();
                    conditions.any(|condition| condition.r#type == r#type && condition.status == ConditionStatus::True)
                })
            };
            for (state, holds) in [
                ("known", true),
                ("accepted", everywhere("Accepted")),
                ("enforced", everywhere("Enforced")),
            ] {
                *counts.entry(state).or_default() += i64::from(holds);
            }
        }
        for (state, count) in counts {
            self.policies.get_or_create(&[("state", state)]).set(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_counted() {
        let metrics = Metrics::new();
        metrics.event(&Event::Connected {
            cluster: "edge/public".to_owned(),
            node_id: "one".to_owned(),
            metadata: serde_json::Value::Null,
        });
        metrics.pushed(Duration::from_millis(3));
        metrics.status_written(Outcome::Conflict);
        let text = metrics.text();
        assert!(text.contains("portcullis_xds_streams 1\n"), "{text}");
        assert!(text.contains("portcullis_push_seconds_count 1\n"), "{text}");
        assert!(
            text.contains("portcullis_status_writes_total{result=\"conflict\"} 1\n"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
        assert!(!text.contains("portcullis_key_set_age_seconds{"), "{text}");
        metrics.key_sets(BTreeMap::from([("idp.example.com/keys".to_owned(), 100)]));
        metrics.measure_ages(170);
        let age = |metrics: &Metrics| {
            metrics
                .key_set_age
                .get(&[("server", "idp.example.com/keys".to_owned())])
                .map(|age| age.get())
        };
        assert_eq!(age(&metrics), Some(70));
        assert!(
            metrics
                .text()
                .contains("portcullis_key_set_age_seconds{server=\"idp.example.com/keys\"} ")
        );
        metrics.key_sets(BTreeMap::new());
        metrics.measure_ages(180);
        assert_eq!(age(&metrics), None, "nobody asks for it any more");
    }
}
