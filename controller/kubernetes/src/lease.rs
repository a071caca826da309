//! Which replica writes statuses: the holder of a Lease (`coordination.k8s.io/v1`), by the rules of client-go's leader
//! election. What each replica has to report stands beside it, in an annotation of the Lease.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle};

use crate::{Error, brief};

/// How long a lease stays its holder's without being renewed.
pub(crate) const DURATION: Duration = Duration::from_secs(15);

/// How long a holder may fail to renew before it stops to act as one: shorter, for clocks differ and writes are on their way.
const DEADLINE: Duration = Duration::from_secs(10);

/// How often it is renewed, or looked at.
const RETRY: Duration = Duration::from_secs(2);

/// How often a report is repeated, so that others know that its replica lives.
const REPEAT: Duration = Duration::from_secs(10);

/// How long a report counts that is not repeated.
const STALE: Duration = Duration::from_secs(30);

/// How long the API server may be out of reach before a replica says that it is cut off: others must hear of that, or find its
/// proxies with them, before its last report is [`STALE`]. That report may be [`REPEAT`] and [`RETRY`] older than the last contact.
const CUT_OFF: Duration = Duration::from_secs(12);

/// How long a report stays on the Lease that nobody repeats: its replica is gone, and all share one object's room.
const GONE: Duration = Duration::from_secs(300);

/// What annotations with reports begin with.
const REPORTS: &str = "replicas.portcullis.dev/";

/// This replica's part in the election, for as long as this value lives.
#[derive(Debug)]
pub struct Election {
    leads: watch::Receiver<bool>,
    reports: watch::Receiver<Arc<BTreeMap<String, String>>>,
    report: Arc<Mutex<String>>,
    contact: watch::Receiver<Instant>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl Election {
    /// Takes part: `name` is the Lease, in the client's own namespace, and `identity` this replica, such as the pod's name.
    /// `told` hears in words what goes wrong, once.
    #[must_use]
    pub fn start(client: &Client, name: &str, identity: &str, told: impl Fn(String) + Send + Sync + 'static) -> Self {
        let (leading, leads) = watch::channel(false);
        let (heard, reports) = watch::channel(Arc::default());
        let (stop, stopped) = watch::channel(false);
        let (reached, contact) = watch::channel(Instant::now());
        let report = Arc::new(Mutex::new(String::new()));
        let candidate = Candidate {
            leases: Api::default_namespaced(client.clone()),
            name: name.to_owned(),
            identity: identity.to_owned(),
            seen: None,
            renewed: None,
            leading,
            heard,
            heard_at: BTreeMap::new(),
            report: Arc::clone(&report),
            reported: None,
            reached,
            trouble: String::new(),
            told: Box::new(told),
        };
        Self {
            leads,
            reports,
            report,
            contact,
            stop,
            task: Some(tokio::spawn(candidate.run(stopped))),
        }
    }

    /// Whether this replica holds the lease now.
    #[must_use]
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    /// What other replicas that live report, by replica.
    #[must_use]
    pub fn reports(&self) -> watch::Receiver<Arc<BTreeMap<String, String>>> {
        self.reports.clone()
    }

    /// What this replica reports from now on.
    pub fn report(&self, text: String) {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// How long it may still be until this replica counts as cut off from the API server; nothing if it is.
    #[must_use]
    pub fn in_reach(&self) -> Option<Duration> {
        CUT_OFF.checked_sub(self.contact.borrow().elapsed())
    }

    /// Gives the lease back, so that another replica need not wait for it to run out.
    pub async fn end(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            let _ = tokio::time::timeout(RETRY, task).await;
        }
    }
}

impl Drop for Election {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What is to be done about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// There is none: make it.
    Create,
    /// It is ours: renew it.
    Renew,
    /// It was given back or has run out: take it.
    Take,
    /// It is another's.
    Wait,
}

/// A lease as it was seen, and since when it has been like that by this replica's own clock.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) holder: Option<String>,
    renewed: Option<MicroTime>,
    pub(crate) since: Instant,
}

/// Takes in what a lease says; times of other clocks are compared with nothing.
pub(crate) fn see(former: Option<Seen>, spec: Option<&LeaseSpec>, now: Instant) -> Seen {
    let holder = spec.and_then(|spec| spec.holder_identity.clone());
    let renewed = spec.and_then(|spec| spec.renew_time.clone());
    match former {
        Some(former) if former.holder == holder && former.renewed == renewed => former,
        _ => Seen {
            holder,
            renewed,
            since: now,
        },
    }
}

fn decide(seen: &Seen, spec: Option<&LeaseSpec>, identity: &str, now: Instant) -> Decision {
    let holder = seen.holder.as_deref().unwrap_or_default();
    if holder == identity {
        return Decision::Renew;
    }
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
    let duration = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let duration = duration.map_or(DURATION, Duration::from_secs);
    if holder.is_empty() || now.duration_since(seen.since) >= duration {
        Decision::Take
    } else {
        Decision::Wait
    }
}

struct Candidate {
    leases: Api<Lease>,
    name: String,
    identity: String,
    seen: Option<Seen>,
    /// When the lease was last renewed.
    renewed: Option<Instant>,
    leading: watch::Sender<bool>,
    heard: watch::Sender<Arc<BTreeMap<String, String>>>,
    /// When each report was last another one.
    heard_at: BTreeMap<String, (String, Instant)>,
    report: Arc<Mutex<String>>,
    reported: Option<(String, Instant)>,
    /// When the API server was last asked something that it answered.
    reached: watch::Sender<Instant>,
    trouble: String,
    told: Box<dyn Fn(String) + Send + Sync>,
}

impl Candidate {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            // A call that hangs must not outlast the right to write.
            let left = self.renewed.map(|renewed| DEADLINE.saturating_sub(renewed.elapsed()));
            let left = left.filter(|left| !left.is_zero()).unwrap_or(DEADLINE);
            tokio::select! {
                tried = tokio::time::timeout(left, self.attempt()) => match tried {
                    Ok(Ok(())) => self.trouble.clear(),
                    Ok(Err(error)) => self.complain(&error),
                    Err(_) => self.complain(&Error::Api("no answer".to_owned())),
                },
                _ = stopped.wait_for(|stopped| *stopped) => break,
            }
            let lead = self.renewed.is_some_and(|renewed| renewed.elapsed() < DEADLINE);
            self.leading
                .send_if_modified(|leads| std::mem::replace(leads, lead) != lead);
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                _ = stopped.wait_for(|stopped| *stopped) => break,
            }
        }
        self.release().await;
    }

    fn complain(&mut self, error: &Error) {
        let text = error.to_string();
        if text != self.trouble {
            (self.told)(format!("lease {}: {text}", self.name));
            self.trouble = text;
        }
    }

    async fn attempt(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        let lease = self.leases.get_opt(&self.name).await?;
        // Who can read hears of edits, whatever becomes of a write.
        self.reached.send_replace(began);
        let now = Instant::now();
        let spec = lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let seen = see(self.seen.take(), spec, now);
        let decision = match &lease {
            None => Decision::Create,
            Some(_) => decide(&seen, spec, &self.identity, now),
        };
        self.seen = Some(seen);
        if let Some(lease) = &lease {
            self.hear(lease, now);
        }
        let written = match (decision, lease) {
            (Decision::Create, _) | (_, None) => {
                let lease = self.lease(None);
                self.leases.create(&PostParams::default(), &lease).await.map(|_| true)
            }
            (Decision::Wait, _) => Ok(false),
            (Decision::Renew | Decision::Take, Some(former)) => {
                // With the version that was read: of two that take it, one does.
                let lease = self.lease(Some(former));
                self.leases
                    .replace(&self.name, &PostParams::default(), &lease)
                    .await
                    .map(|_| true)
            }
        };
        match written {
            Ok(true) => self.renewed = Some(now),
            Ok(false) => self.renewed = None,
            // Another replica was faster, or wrote a report: it is looked at again.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
        self.tell(now).await
    }

    /// The lease as this replica's.
    fn lease(&self, former: Option<Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let mut lease = former.unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        if let Some(annotations) = &mut lease.metadata.annotations {
            let silent = |name: &str| {
                let heard = name.strip_prefix(REPORTS).and_then(|name| self.heard_at.get(name));
                heard.is_some_and(|(_, since)| since.elapsed() >= GONE)
            };
            annotations.retain(|name, _| !silent(name));
        }
        let spec = lease.spec.get_or_insert_default();
        let ours = spec.holder_identity.as_deref() == Some(&self.identity);
        if !ours {
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |count| count.saturating_add(1)));
            spec.acquire_time = Some(now.clone());
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        lease
    }

    fn annotation(&self) -> String {
        // A name has 63 characters at most, and the end of a pod's tells it from others.
        let skipped = self.identity.len().saturating_sub(63);
        let part = self.identity.get(skipped..).unwrap_or(&self.identity);
        format!("{REPORTS}{}", part.trim_start_matches(['-', '.']))
    }

    /// Takes in what other replicas report.
    fn hear(&mut self, lease: &Lease, now: Instant) {
        let own = self.annotation();
        let annotations = lease.metadata.annotations.iter().flatten();
        let reports: BTreeMap<&str, &str> = annotations
            .filter(|(name, _)| **name != own)
            .filter_map(|(name, text)| Some((name.strip_prefix(REPORTS)?, text.as_str())))
            .collect();
        self.heard_at.retain(|name, _| reports.contains_key(name.as_str()));
        for (name, text) in reports {
            let known = self.heard_at.get(name);
            if known.is_none_or(|(known, _)| known != text) {
                self.heard_at.insert(name.to_owned(), (text.to_owned(), now));
            }
        }
        let alive = self.heard_at.iter();
        let alive = alive.filter(|(_, (_, since))| now.duration_since(*since) < STALE);
        // What is before the line is only there to differ.
        let text = |text: &str| text.split_once('\n').map_or(text, |(_, text)| text).to_owned();
        let alive: BTreeMap<String, String> = alive.map(|(name, (report, _))| (name.clone(), text(report))).collect();
        self.heard.send_if_modified(|heard| {
            let news = **heard != alive;
            if news {
                *heard = Arc::new(alive);
            }
            news
        });
    }

    /// Writes this replica's report, if it is another one or has become old.
    async fn tell(&mut self, now: Instant) -> Result<(), Error> {
        let text = self.report.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = self.reported.as_ref();
        if known.is_some_and(|(known, since)| *known == text && now.duration_since(*since) < REPEAT) {
            return Ok(());
        }
        // Nothing to report, and nothing was.
        if text.is_empty() && known.is_none_or(|(known, _)| known.is_empty()) {
            return Ok(());
        }
        self.annotate(Some(&format!("{}\n{text}", Timestamp::now()))).await?;
        self.reported = Some((text, now));
        Ok(())
    }

    async fn annotate(&self, text: Option<&str>) -> Result<(), Error> {
        let patch = json!({"metadata": {"annotations": {self.annotation(): text}}});
        let patch = Patch::Merge(&patch);
        self.leases.patch(&self.name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Gives the lease back. What fails here runs out by itself.
    async fn release(mut self) {
        self.leading.send_replace(false);
        if self.reported.is_some() {
            let _ = self.annotate(None).await;
        }
        if self.renewed.take().is_none() {
            return;
        }
        let Ok(Some(mut lease)) = self.leases.get_opt(&self.name).await else {
            return;
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.identity) {
            spec.holder_identity = Some(String::new());
            if let Err(error) = self.leases.replace(&self.name, &PostParams::default(), &lease).await {
                (self.told)(format!("lease {}: not given back: {}", self.name, brief(&error)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(holder: &str, second: i64) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            renew_time: Some(MicroTime(Timestamp::from_second(second).unwrap())),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_when_its_holder_was_silent_for_its_duration_by_our_own_clock() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        // However wrong the other's clock is.
        for renewed in [0, 4_000_000_000] {
            let first = spec("other", renewed);
            let seen = see(None, Some(&first), start);
            assert_eq!(decide(&seen, Some(&first), "me", start), Decision::Wait);
            let seen = see(Some(seen), Some(&first), after(14));
            assert_eq!(decide(&seen, Some(&first), "me", after(14)), Decision::Wait);
            assert_eq!(decide(&seen, Some(&first), "me", after(15)), Decision::Take);
            let second = spec("other", renewed + 1);
            let seen = see(Some(seen), Some(&second), after(15));
            assert_eq!(
                decide(&seen, Some(&second), "me", after(15)),
                Decision::Wait,
                "it was renewed"
            );
        }
    }

    #[test]
    fn a_lease_that_was_given_back_is_taken_at_once_and_ones_own_is_renewed() {
        let now = Instant::now();
        let released = spec("", 1);
        assert_eq!(
            decide(&see(None, Some(&released), now), Some(&released), "me", now),
            Decision::Take
        );
        assert_eq!(decide(&see(None, None, now), None, "me", now), Decision::Take);
        let own = spec("me", 1);
        assert_eq!(
            decide(&see(None, Some(&own), now), Some(&own), "me", now),
            Decision::Renew
        );
    }
}
