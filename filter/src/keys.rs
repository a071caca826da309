//! The key sets that this Envoy fetches: one fetch for all VMs, and the requests that wait for it.
//!
//! What was fetched stands in the data that the VMs share, under the source's identity. One VM at a time fetches: the one
//! whose compare-and-swap sets the lock. A lock ends by itself, for its VM may die. Only the root context fetches: an answer
//! to a request's own context would be lost with the request.

mod metrics;
mod record;

use crate::host::{self, HostError, Map, Shared};
use crate::http;
use metrics::Metrics;
use portcullis_engine::jwt::jwk::MAX_BYTES;
use portcullis_engine::jwt::remote::{KeySource, Wait, Why};
use portcullis_engine::seal::KEYS_NAMESPACE;
use portcullis_engine::worker::Worker;
use record::{Plan, Record};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

/// How often shared data is looked at while requests wait, in milliseconds.
const FAST: u32 = 10;
/// How often it is looked at otherwise, in milliseconds: so late a removed key may be refused by the other VMs.
const SLOW: u32 = 1_000;
/// The most requests of one VM that wait, each with its head. Further ones are answered without the keys.
const MAX_WAITING: usize = 256;
/// The form of [`Record`]: a filter of another version in the same Envoy must not read it as its own.
const LAYOUT: u32 = 1;
/// How long keys that no request asks for are renewed, in milliseconds, and at least three intervals long.
const IDLE: u64 = 600_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000;

/// What this VM knows of a server of keys.
#[derive(Debug)]
struct Watched {
    source: Arc<KeySource>,
    /// The version of the shared key set that the worker holds.
    seen: u64,
    /// When keys were last asked for, in milliseconds since 1970.
    used: u64,
    /// The fetch of this VM, if one is underway: its number, and when it began.
    fetch: Option<(u32, u64)>,
    waiting: Vec<Waiting>,
    metrics: Metrics,
}

/// A request that waits.
#[derive(Debug)]
struct Waiting {
    context: u32,
    why: Why,
    /// What was known when it began to wait: version of the key set and number of ended fetches.
    known: (u64, u64),
}

thread_local! {
    static WATCHED: RefCell<Vec<Watched>> = RefCell::default();
}

/// Brings the worker what is to be had at once; tells whether the request can go on. If not it must [`wait`].
pub(crate) fn settle(wait: &Wait, worker: &mut Worker) -> Result<bool, HostError> {
    let now = host::now()? / MILLISECOND;
    WATCHED.with(|watched| {
        let mut watched = watched.try_borrow_mut().map_err(|_| HostError)?;
        let waiting: usize = watched.iter().map(|watched| watched.waiting.len()).sum();
        let watched = entry(&mut watched, &wait.source);
        watched.used = now;
        let (mut record, shared) = read(&watched.source)?;
        let mut newer = watched.take_in(&record, worker, wait.why == Why::Missing);
        if !newer
            && let Some((fetched, jwks)) = shipped(&wait.source, now)
            && record.replace(fetched, jwks)
        {
            // If another VM was quicker, what it wrote is seen at the next look.
            let _ = host::set_shared_data(&key(&wait.source), &record.write(), shared.cas);
            newer = watched.take_in(&record, worker, false);
        }
        if newer {
            return Ok(true);
        }
        let until = match record.plan(&wait.source, Some(wait.why), now) {
            Plan::Nothing(until) => until,
            Plan::Fetch | Plan::Underway if waiting >= MAX_WAITING => now + SECOND,
            Plan::Fetch | Plan::Underway => return Ok(false),
        };
        worker.quiet_keys(&wait.source, until / SECOND);
        Ok(true)
    })
}

/// Notes that a request waits. It goes on by [`http::resume`].
pub(crate) fn wait(wait: &Wait, context: u32) -> Result<(), HostError> {
    WATCHED.with(|watched| {
        let mut watched = watched.try_borrow_mut().map_err(|_| HostError)?;
        let watched = entry(&mut watched, &wait.source);
        let (record, _) = read(&watched.source)?;
        watched.waiting.push(Waiting {
            context,
            why: wait.why,
            known: (record.version, record.ended),
        });
        host::set_tick_period(FAST)
    })
}

/// Forgets a request that has ended.
pub(crate) fn forget(context: u32) {
    WATCHED.with(|watched| {
        if let Ok(mut watched) = watched.try_borrow_mut() {
            for watched in watched.iter_mut() {
                watched.waiting.retain(|waiting| waiting.context != context);
            }
        }
    });
}

/// Looks at every server of keys: takes in what other VMs fetched, fetches what is due, and lets requests go on.
pub(crate) fn tick() {
    let ready = http::with_worker(|worker| {
        WATCHED.with(|watched| {
            let (Ok(mut watched), Ok(now)) = (watched.try_borrow_mut(), host::now()) else {
                return Vec::new();
            };
            let now = now / MILLISECOND;
            let mut ready = Vec::new();
            for watched in watched.iter_mut() {
                watched.look(worker, now, &mut ready);
            }
            watched.retain(|watched| watched.is_in_use(now));
            set_pace(&watched);
            ready
        })
    });
    ready.unwrap_or_default().into_iter().for_each(http::resume);
}

/// Takes the answer to a fetch.
pub(crate) fn answered(token: u32, headers: usize, body: usize) {
    let ready = http::with_worker(|worker| {
        WATCHED.with(|watched| {
            let Ok(mut watched) = watched.try_borrow_mut() else {
                return Vec::new();
            };
            let mut ready = Vec::new();
            for watched in watched.iter_mut() {
                if let Some((number, began)) = watched.fetch
                    && number == token
                {
                    watched.fetch = None;
                    watched.end(worker, began, answer(headers, body), &mut ready);
                }
            }
            set_pace(&watched);
            ready
        })
    });
    ready.unwrap_or_default().into_iter().for_each(http::resume);
}

/// The body of a good answer. A call that failed has no headers at all, or a status of Envoy's own.
fn answer(headers: usize, body: usize) -> Option<Vec<u8>> {
    if headers == 0 || body == 0 || body > MAX_BYTES {
        return None;
    }
    let headers = host::headers(Map::CallResponseHeaders).ok()?;
    let is_good = |(name, value): &(Vec<u8>, Vec<u8>)| name == b":status" && value == b"200";
    if !headers.iter().any(is_good) {
        return None;
    }
    host::answer_body(body).ok()
}

fn set_pace(watched: &[Watched]) {
    let period = if watched.iter().any(|watched| !watched.waiting.is_empty()) {
        FAST
    } else if watched.is_empty() {
        0
    } else {
        SLOW
    };
    // If Envoy does not take it, it keeps the pace that it has.
    let _ = host::set_tick_period(period);
}

fn entry<'w>(watched: &'w mut Vec<Watched>, source: &Arc<KeySource>) -> &'w mut Watched {
    let place = watched.iter().position(|watched| watched.source.id() == source.id());
    let place = place.unwrap_or(watched.len());
    if place == watched.len() {
        watched.push(Watched {
            source: Arc::clone(source),
            seen: 0,
            used: 0,
            fetch: None,
            waiting: Vec::new(),
            metrics: Metrics::new(source),
        });
        // From now on the keys are renewed in their turn.
        let _ = host::set_tick_period(SLOW);
    }
    #[expect(
        clippy::indexing_slicing,
        reason = "the place is that of an entry, or of the one just pushed"
    )]
    &mut watched[place]
}

fn key(source: &KeySource) -> String {
    format!("portcullis.keys.{LAYOUT}/{}", source.id())
}

fn read(source: &KeySource) -> Result<(Record, Shared), HostError> {
    let shared = host::shared_data(&key(source))?.unwrap_or_default();
    // What cannot be read is as good as nothing, and is overwritten.
    Ok((Record::read(&shared.value).unwrap_or_default(), shared))
}

/// The key set that the controller sent along, with the time when it fetched it in milliseconds since 1970: never later than
/// now, for then it could not be replaced.
fn shipped(source: &KeySource, now: u64) -> Option<(u64, Vec<u8>)> {
    let path = format!(
        "xds\0virtual_host_metadata\0filter_metadata\0{KEYS_NAMESPACE}\0{}",
        source.id()
    );
    let text = host::property(path.as_bytes()).ok()??;
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let (seconds, jwks) = text.split_at_checked(end)?;
    let seconds: u64 = std::str::from_utf8(seconds).ok()?.parse().ok()?;
    Some((seconds.saturating_mul(SECOND).min(now), jwks.get(1..)?.to_vec()))
}

impl Watched {
    /// Takes in what the VMs know together; tells whether the worker holds other keys than before.
    fn take_in(&mut self, record: &Record, worker: &mut Worker, anew: bool) -> bool {
        let newer = !record.jwks.is_empty() && (anew || record.version != self.seen);
        if newer {
            self.seen = record.version;
            // Whoever fetched it has read it: it can be used.
            if worker
                .hold_keys(&self.source, &record.jwks, record.fetched / SECOND)
                .is_err()
            {
                return false;
            }
            self.metrics.note(record.fetched / SECOND);
        }
        if record.failed {
            worker.fail_keys(&self.source);
        }
        newer
    }

    fn look(&mut self, worker: &mut Worker, now: u64, ready: &mut Vec<u32>) {
        let Ok((mut record, shared)) = read(&self.source) else {
            return;
        };
        self.take_in(&record, worker, false);
        if worker.take_keys_used(&self.source) {
            self.used = now;
        }
        let unknown = self.waiting.iter().any(|waiting| waiting.why == Why::UnknownKey);
        let plans = [unknown.then_some(Why::UnknownKey), None].map(|why| record.plan(&self.source, why, now));
        if self.fetch.is_none() && plans.contains(&Plan::Fetch) {
            record.lock(&self.source, unknown, now);
            // If another VM was quicker, it fetches for this one too.
            if host::set_shared_data(&key(&self.source), &record.write(), shared.cas).is_ok() {
                self.fetch(worker, now, ready);
            }
            return;
        }
        let underway = plans.contains(&Plan::Underway);
        self.wake(&record, underway, ready);
    }

    fn fetch(&mut self, worker: &mut Worker, now: u64, ready: &mut Vec<u32>) {
        let source = &self.source;
        let timeout = Duration::from_millis(source.timeout());
        match host::get(source.cluster(), source.authority(), source.path(), timeout) {
            Ok(token) => self.fetch = Some((token, now)),
            // There is no such cluster yet, or none of its hosts is there.
            Err(HostError) => self.end(worker, now, None, ready),
        }
    }

    /// Ends a fetch of this VM.
    fn end(&mut self, worker: &mut Worker, began: u64, jwks: Option<Vec<u8>>, ready: &mut Vec<u32>) {
        let readable = |jwks: &Vec<u8>| worker.hold_keys(&self.source, jwks, began / SECOND).is_ok();
        let jwks = jwks.filter(readable);
        self.metrics.count(jwks.is_some());
        // Another VM may write at the same time: what the controller sent along.
        for _ in 0..4 {
            let Ok((mut record, shared)) = read(&self.source) else {
                return;
            };
            record.end(began, jwks.clone());
            if host::set_shared_data(&key(&self.source), &record.write(), shared.cas).is_ok() {
                self.take_in(&record, worker, false);
                self.wake(&record, false, ready);
                return;
            }
        }
    }

    /// Picks the requests that have waited long enough: something has come, or nothing will.
    fn wake(&mut self, record: &Record, underway: bool, ready: &mut Vec<u32>) {
        self.waiting.retain(|waiting| {
            let waits = underway && waiting.known == (record.version, record.ended);
            if !waits {
                ready.push(waiting.context);
            }
            waits
        });
    }

    fn is_in_use(&self, now: u64) -> bool {
        let idle = IDLE.max(self.source.interval().saturating_mul(3 * SECOND));
        self.fetch.is_some() || !self.waiting.is_empty() || now.saturating_sub(self.used) < idle
    }
}
