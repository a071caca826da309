//! The part of a run that tells the API server what became of its objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use portcullis_kubernetes::{Election, Writer};
use tokio::sync::watch;

use super::{
    enforced::Enforcement,
    metrics::Metrics,
    replicas::{combine, report},
    report::Deliveries,
};
use crate::load::Evaluation;

/// Statuses, as this replica knows them, to whoever writes them.
pub(crate) struct Statuses {
    writer: Writer,
    election: Election,
    leads: watch::Receiver<bool>,
    reports: watch::Receiver<Arc<BTreeMap<String, String>>>,
    enforcement: Enforcement,
    metrics: Metrics,
    /// What was said last rests on this.
    said: Option<(Deliveries, BTreeSet<String>)>,
    /// Since when there is something else to say.
    since: Option<Instant>,
}

/// How long it is put off to say anything while proxies have not answered: mostly they do, and all is said at once.
const PATIENCE: Duration = Duration::from_millis(250);

impl Statuses {
    pub(crate) fn new(writer: Writer, election: Election, metrics: Metrics) -> Self {
        Self {
            writer,
            leads: election.leads(),
            reports: election.reports(),
            election,
            enforcement: Enforcement::new(Instant::now()),
            metrics,
            said: None,
            since: None,
        }
    }

    /// What objects came to is something else now.
    pub(crate) fn forget(&mut self) {
        self.said = None;
    }

    /// Takes in what objects came to and what proxies hold of it.
    pub(crate) fn publish(
        &mut self,
        evaluation: &Evaluation,
        mut deliveries: Deliveries,
        digests: &BTreeMap<String, String>,
    ) {
        self.election.report(report(&deliveries, digests));
        self.metrics.leads(*self.leads.borrow_and_update());
        combine(&mut deliveries, digests, &self.reports.borrow_and_update());
        let now = Instant::now();
        let held = self.enforcement.held(&deliveries, now);
        let waits = !held.is_empty();
        let said = Some((deliveries, held));
        if said == self.said {
            self.since = None;
            return;
        }
        let since = *self.since.get_or_insert(now);
        if waits && now.duration_since(since) < PATIENCE {
            return;
        }
        self.since = None;
        self.said = said;
        let Some((deliveries, held)) = &self.said else { return };
        let statuses = Enforcement::statuses(evaluation, deliveries, held);
        self.metrics.count(&statuses);
        self.writer.publish(statuses);
    }

    /// Whether there is something that is to be said only if it lasts.
    pub(crate) fn waits(&self) -> bool {
        self.since.is_some() || self.enforcement.waits(Instant::now())
    }

    /// Whether the API server has been out of reach for too long to go on as if it were there.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.election.in_reach().is_none()
    }

    /// Waits for what other replicas report, for another one to write statuses, or until this one may be cut off.
    pub(crate) async fn heard(&mut self) {
        let in_reach = self.election.in_reach();
        let cut_off = async {
            match in_reach {
                Some(left) => tokio::time::sleep(left + Duration::from_millis(1)).await,
                None => std::future::pending().await,
            }
        };
        let changed = tokio::select! {
            changed = self.reports.changed() => changed,
            changed = self.leads.changed() => changed,
            () = cut_off => return,
        };
        if changed.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Leaves the writing to another replica.
    pub(crate) async fn end(self) {
        drop(self.writer);
        self.election.end().await;
    }
}
