//! Key sets that the proxy fetches (`SecurityPolicy.spec.jwt.providers[].remoteJWKS`): what a worker holds of them, how long a
//! set may be used, and when a request is worth holding until there is a newer one.

use std::{fmt, sync::Arc};

use sha2::{Digest, Sha256};

use super::jwk::{KeySet, Source, Unusable};
use crate::{
    credential::{digest::Digest256, second_chance::SecondChance},
    document::RemoteKeySet,
    http::header::is_field_value,
    policy::{PolicyError, told},
};

/// The most that the key sets of one worker may take, in bytes of their text.
const LIMIT: usize = 16 * 1024 * 1024;
/// What an entry weighs beside its text.
const ENTRY: usize = 512;
/// How long after its time for renewal a set is used without asking, beside what one fetch may take, in seconds.
const GRACE: u64 = 2;
/// How long a set is used that cannot be renewed, in seconds.
pub const LONGEST_USE: u64 = 24 * 3600;
/// How often at most a key that no set has makes the proxy fetch, in seconds; oftener if the interval is shorter.
pub const UNKNOWN_KEY_INTERVAL: u64 = 30;
/// The longest interval between fetches, in seconds.
pub const MAX_INTERVAL: u64 = 7 * 24 * 3600;
/// How long one fetch may take, in milliseconds.
const TIMEOUT: std::ops::RangeInclusive<u64> = 1..=60_000;
/// How often a request waits for one thing: newer keys may have come that are not new enough, but not for ever.
const MAX_WAITS: usize = 3;
/// The longest identity, cluster, authority or path, in bytes.
const MAX_NAME: usize = 1024;

/// A server of keys, as a policy names it. Two policies that name the same one share its keys.
#[derive(PartialEq, Eq)]
pub struct KeySource {
    id: Box<str>,
    digest: Digest256,
    cluster: Box<str>,
    authority: Box<str>,
    path: Box<str>,
    interval: u64,
    retry_interval: u64,
    timeout: u64,
}

/// Why a request waits for keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There are none.
    Missing,
    /// Those that there are have not been renewed in time.
    Stale,
    /// None of them is for the token.
    UnknownKey,
}

/// What a request waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The server of keys.
    pub source: Arc<KeySource>,
    /// Why.
    pub why: Why,
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySource")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl KeySource {
    /// Compiles the key set of a document, which stands at that path.
    ///
    /// # Errors
    /// The first field that nobody can fetch by.
    pub fn compile(at: &str, document: &RemoteKeySet) -> Result<Self, PolicyError> {
        let error =
            |field: &str, code, message: &str| Err(PolicyError::new(told!("{at}.{field}"), code, told!("{message}")));
        let texts = [
            ("id", &document.id),
            ("cluster", &document.cluster),
            ("authority", &document.authority),
            ("path", &document.path),
        ];
        for (field, text) in texts {
            if !(1..=MAX_NAME).contains(&text.len()) || !is_field_value(text.as_bytes()) {
                return error(
                    field,
                    "invalid-key-source",
                    "1 to 1024 bytes are needed, none of them a control character",
                );
            }
        }
        if !document.path.starts_with('/') {
            return error("path", "invalid-key-source", "a path begins with a slash");
        }
        for (field, seconds) in [
            ("interval", document.interval),
            ("retryInterval", document.retry_interval),
        ] {
            if !(1..=MAX_INTERVAL).contains(&seconds) {
                return error(
                    field,
                    "invalid-interval",
                    "keys are fetched at least once a week, and at most once a second",
                );
            }
        }
        if !TIMEOUT.contains(&document.timeout) {
            return error("timeout", "invalid-timeout", "a fetch ends within a minute");
        }
        Ok(Self {
            id: document.id.as_str().into(),
            digest: Sha256::digest(&document.id).into(),
            cluster: document.cluster.as_str().into(),
            authority: document.authority.as_str().into(),
            path: document.path.as_str().into(),
            interval: document.interval,
            retry_interval: document.retry_interval,
            timeout: document.timeout,
        })
    }

    pub(crate) const fn digest(&self) -> &Digest256 {
        &self.digest
    }

    /// Returns what tells this server from every other one.
    #[must_use]
    pub const fn id(&self) -> &str {
        &self.id
    }

    /// Returns the proxy's name for where it is reached.
    #[must_use]
    pub const fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Returns the `:authority` of a fetch.
    #[must_use]
    pub const fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the `:path` of a fetch.
    #[must_use]
    pub const fn path(&self) -> &str {
        &self.path
    }

    /// Returns after how long keys are fetched anew, in seconds.
    #[must_use]
    pub const fn interval(&self) -> u64 {
        self.interval
    }

    /// Returns after how long a failed fetch is repeated, in seconds.
    #[must_use]
    pub const fn retry_interval(&self) -> u64 {
        self.retry_interval
    }

    /// Returns how often at most unknown keys make the proxy fetch, in seconds.
    #[must_use]
    pub const fn unknown_key_interval(&self) -> u64 {
        if self.interval < UNKNOWN_KEY_INTERVAL {
            self.interval
        } else {
            UNKNOWN_KEY_INTERVAL
        }
    }

    /// Returns how long a fetch may take, in milliseconds.
    #[must_use]
    pub const fn timeout(&self) -> u64 {
        self.timeout
    }
}

/// The fetched key sets of one worker, and what its request at hand waits for.
pub(crate) struct RemoteKeys {
    sets: SecondChance<Held>,
    may_wait: bool,
    over: Vec<(Digest256, Why)>,
    wanted: Option<Wait>,
}

struct Held {
    keys: Arc<KeySet>,
    /// When it was fetched, in seconds since 1970.
    fetched: u64,
    /// Whether it could not be renewed since.
    failed: bool,
    /// Until when it is pointless to ask for a key that it has not, in seconds since 1970.
    quiet_until: u64,
    used: bool,
}

impl Default for RemoteKeys {
    fn default() -> Self {
        Self {
            sets: SecondChance::new(LIMIT),
            may_wait: false,
            over: Vec::new(),
            wanted: None,
        }
    }
}

impl RemoteKeys {
    /// Begins, or goes on with, a request that has waited for these.
    pub(crate) fn begin(&mut self, over: &[(Digest256, Why)], may_wait: bool) {
        self.over.clear();
        self.over.extend_from_slice(over);
        self.may_wait = may_wait;
        self.wanted = None;
    }

    /// Ends what the request may ask for: what follows does not hold it.
    pub(crate) const fn end(&mut self) {
        self.may_wait = false;
    }

    /// Takes what the request must wait for.
    pub(crate) fn take_wanted(&mut self) -> Option<Wait> {
        self.wanted.take()
    }

    pub(crate) const fn is_wanting(&self) -> bool {
        self.wanted.is_some()
    }

    /// Asks for keys, and tells whether the request must wait: not if it has waited for them already.
    pub(crate) fn want(&mut self, source: &Arc<KeySource>, why: Why, now: u64) -> bool {
        let waits = self.over.iter().filter(|over| **over == (source.digest, why)).count();
        let is_over = waits >= MAX_WAITS;
        let is_quiet = why == Why::UnknownKey && self.held(source).is_some_and(|held| now < held.quiet_until);
        let must_wait = self.may_wait && !is_over && !is_quiet;
        if must_wait && self.wanted.is_none() {
            self.wanted = Some(Wait {
                source: Arc::clone(source),
                why,
            });
        }
        must_wait
    }

    fn held(&mut self, source: &KeySource) -> Option<&mut Held> {
        self.sets.get_mut(&source.digest)
    }

    /// The keys of a server, or why they are not to be used.
    pub(crate) fn get(&mut self, source: &KeySource, now: u64) -> Result<Arc<KeySet>, Why> {
        let was_awaited = !self.may_wait || self.over.contains(&(source.digest, Why::Stale));
        let held = self.held(source).ok_or(Why::Missing)?;
        held.used = true;
        // Where the clock was set back, the keys are as good as new: the proxy renews them by the same clock.
        let age = now.saturating_sub(held.fetched);
        let renewed_within = source.interval + source.timeout.div_ceil(1000) + GRACE;
        let cannot_be_renewed = held.failed || was_awaited;
        if age <= renewed_within || (cannot_be_renewed && age <= LONGEST_USE) {
            Ok(Arc::clone(&held.keys))
        } else {
            Err(Why::Stale)
        }
    }

    /// Takes in what was fetched at that time, in seconds; what is older than what is held changes nothing.
    pub(crate) fn hold(&mut self, source: &KeySource, jwks: &[u8], fetched: u64) -> Result<(), Unusable> {
        let before = self.held(source);
        if before.as_ref().is_some_and(|held| held.fetched > fetched) {
            return Ok(());
        }
        let digest: Digest256 = Sha256::digest(jwks).into();
        match before {
            Some(held) if *held.keys.digest() == digest => {
                held.fetched = fetched;
                held.failed = false;
                Ok(())
            }
            before => {
                let used = before.is_some_and(|held| held.used);
                let held = Held {
                    keys: Arc::new(KeySet::parse(jwks, Source::Remote)?),
                    fetched,
                    failed: false,
                    quiet_until: 0,
                    used,
                };
                self.sets.insert(source.digest, held, jwks.len() + ENTRY, |_| true);
                Ok(())
            }
        }
    }

    /// Notes that keys could not be renewed.
    pub(crate) fn fail(&mut self, source: &KeySource) {
        if let Some(held) = self.held(source) {
            held.failed = true;
        }
    }

    /// Notes until when no fetch will come of unknown keys, in seconds since 1970.
    pub(crate) fn quiet(&mut self, source: &KeySource, until: u64) {
        if let Some(held) = self.held(source) {
            held.quiet_until = until;
        }
    }

    /// Tells whether keys were asked for since this was asked last.
    pub(crate) fn take_used(&mut self, source: &KeySource) -> bool {
        self.held(source).is_some_and(|held| std::mem::take(&mut held.used))
    }
}
