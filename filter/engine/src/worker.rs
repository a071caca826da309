//! What one worker remembers between requests: verified and wrong passwords, how long it has been hashing, and verified tokens.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};

use crate::{
    credential::{digest::Digest256, second_chance::SecondChance},
    host::{Fault, Host},
    jwt::{
        Tokens,
        jwk::Unusable,
        remote::{KeySource, RemoteKeys},
    },
};

/// How long a verified password is not hashed again, in nanoseconds.
const VERIFIED_KEPT: u64 = 300 * SECOND;
/// How long a wrong password is not hashed again, in nanoseconds.
const WRONG_KEPT: u64 = 60 * SECOND;
/// The most passwords of each sort; an entry takes about a hundred bytes.
const MAX_REMEMBERED: usize = 4096;

/// The most policies that wait for their turn; more share what is left.
const MAX_WAITING: usize = 64;

/// After a hash that took t, the next may start this many t after its start: a fifth of the worker's time.
const ENFORCED_SHARE: u64 = 5;
/// The same for policies in shadow: a twentieth, which is not taken from the others.
const SHADOW_SHARE: u64 = 20;
/// What a hash is believed to take at least and at most, in nanoseconds: the clock may be set while it runs.
const BELIEVED: std::ops::RangeInclusive<u64> = 100_000..=SECOND;

const SECOND: u64 = 1_000_000_000;

/// The memory of one worker; never shared between workers, bounded, and empty at start.
///
/// It holds no password and no hash of one that could be guessed at: passwords are known by a keyed digest over the
/// policy's identity, the user's name and the password, and the key never leaves the worker.
#[derive(Default)]
pub struct Worker {
    key: Option<Digest256>,
    verified: Remembered,
    wrong: Remembered,
    enforced: Budget,
    shadow: Budget,
    tokens: Tokens,
    remote_keys: RemoteKeys,
}

/// Whether a password that is not remembered may be hashed, and at whose expense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashing {
    /// For a decision that counts.
    Enforced,
    /// For a policy in shadow, on a request that counts.
    Shadow,
    /// Not at all: nothing depends on the answer.
    Never,
}

/// Why a password was not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unchecked {
    /// The worker has hashed enough lately.
    Busy,
    /// The proxy failed.
    Fault,
}

impl From<Fault> for Unchecked {
    fn from(_: Fault) -> Self {
        Self::Fault
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("verified", &self.verified.len())
            .field("wrong", &self.wrong.len())
            .field("tokens", &self.tokens.len())
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// Begins another request. Whoever may hash for a request may do so for each of its policies, a baseline and its route's
    /// own, and waits for all of that afterwards: else one that needs both would be turned away halfway.
    pub(crate) fn begin(&mut self) {
        self.enforced.granted = false;
        self.shadow.granted = false;
    }

    /// The tokens that were verified lately.
    pub(crate) const fn tokens(&mut self) -> &mut Tokens {
        &mut self.tokens
    }

    /// The keys that were fetched.
    pub(crate) const fn remote_keys(&mut self) -> &mut RemoteKeys {
        &mut self.remote_keys
    }

    /// Takes in a JSON Web Key Set that was fetched at that time, in seconds since 1970. What is older than what is held changes
    /// nothing: a removed key does not come back.
    ///
    /// # Errors
    /// Why the set has no usable key; what is held stays.
    pub fn hold_keys(&mut self, source: &KeySource, jwks: &[u8], fetched: u64) -> Result<(), Unusable> {
        self.remote_keys.hold(source, jwks, fetched)
    }

    /// Notes that a server's keys could not be renewed: those that are held serve for a day.
    pub fn fail_keys(&mut self, source: &KeySource) {
        self.remote_keys.fail(source);
    }

    /// Notes that until then, in seconds since 1970, no unknown key will be asked for.
    pub fn quiet_keys(&mut self, source: &KeySource, until: u64) {
        self.remote_keys.quiet(source, until);
    }

    /// Tells whether a server's keys were used since this was asked last.
    pub fn take_keys_used(&mut self, source: &KeySource) -> bool {
        self.remote_keys.take_used(source)
    }

    /// Tells whether a password is right: from memory, or by `check`, which is slow and is run only if there is time.
    ///
    /// # Errors
    /// Why that cannot be told now.
    pub(crate) fn verify(
        &mut self,
        host: &impl Host,
        hashing: Hashing,
        credential: &Credential<'_>,
        check: impl FnOnce() -> bool,
    ) -> Result<bool, Unchecked> {
        let digest = credential.digest(&self.key(host)?);
        let start = host.now()?;
        if self.verified.holds(&digest, start) {
            return Ok(true);
        }
        if self.wrong.holds(&digest, start) {
            return Ok(false);
        }
        let (budget, share) = match hashing {
            Hashing::Enforced => (&mut self.enforced, ENFORCED_SHARE),
            Hashing::Shadow => (&mut self.shadow, SHADOW_SHARE),
            Hashing::Never => return Err(Unchecked::Busy),
        };
        if !budget.admits(start, credential.policy) {
            return Err(Unchecked::Busy);
        }
        let right = check();
        let end = host.now();
        budget.spend(start, end.unwrap_or_default(), share, credential.policy);
        let end = end?;
        if right {
            self.verified.insert(digest, end, VERIFIED_KEPT);
        } else {
            self.wrong.insert(digest, end, WRONG_KEPT);
        }
        Ok(right)
    }

    fn key(&mut self, host: &impl Host) -> Result<Digest256, Fault> {
        if let Some(key) = self.key {
            return Ok(key);
        }
        let mut key = Digest256::default();
        for part in key.as_chunks_mut::<8>().0 {
            *part = host.random()?.to_ne_bytes();
        }
        Ok(*self.key.insert(key))
    }
}

/// A user's password under one policy.
pub(crate) struct Credential<'a> {
    /// The policy's identity: the same user of another policy is somebody else.
    pub(crate) policy: &'a str,
    pub(crate) user: &'a [u8],
    pub(crate) password: &'a [u8],
}

impl Credential<'_> {
    /// Lengths are hashed too, so that no byte can move between the parts.
    fn digest(&self, key: &Digest256) -> Digest256 {
        let mut digest = Sha256::new_with_prefix(key);
        for part in [self.policy.as_bytes(), self.user] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.chain_update(self.password).finalize().into()
    }
}

/// How much time may go into hashes.
#[derive(Default)]
struct Budget {
    since: u64,
    wait: u64,
    /// Whether the request at hand has hashed.
    granted: bool,
    /// The identities of policies that were turned away and have not hashed since, the first of them first.
    waiting: VecDeque<Box<str>>,
}

impl Budget {
    /// Tells whether a hash may start now. If the clock was set back, the wait begins again: it neither ends early nor
    /// lasts until the clock has caught up.
    ///
    /// Policies take turns: for as long again as the wait was, only the one may hash that was turned away first. Guesses at
    /// the passwords of one tenant must not keep the users of the others out.
    fn admits(&mut self, now: u64, policy: &str) -> bool {
        if self.granted {
            return true;
        }
        self.since = self.since.min(now);
        let waited = now - self.since;
        if waited >= self.wait.saturating_mul(2) {
            return true;
        }
        let is_next = self.waiting.front().is_none_or(|next| **next == *policy);
        if waited >= self.wait && is_next {
            return true;
        }
        if self.waiting.len() < MAX_WAITING && !self.waiting.iter().any(|waiting| **waiting == *policy) {
            self.waiting.push_back(policy.into());
        }
        false
    }

    fn spend(&mut self, start: u64, end: u64, share: u64, policy: &str) {
        let took = end.checked_sub(start).unwrap_or(*BELIEVED.end());
        let wait = took.clamp(*BELIEVED.start(), *BELIEVED.end()).saturating_mul(share);
        if self.granted {
            self.wait = self.wait.saturating_add(wait);
        } else {
            // Whoever had its time and did not come back gives its turn up; after a long silence that is everybody.
            let turns = start
                .saturating_sub(self.since)
                .checked_div(self.wait)
                .unwrap_or_default();
            for _ in 1..turns {
                if self.waiting.pop_front().is_none() {
                    break;
                }
            }
            self.since = start;
            self.wait = wait;
            self.granted = true;
        }
        self.waiting.retain(|waiting| **waiting != *policy);
    }
}

/// Digests of passwords, for a time.
struct Remembered(SecondChance<Kept>);

/// In nanoseconds since 1970.
struct Kept {
    from: u64,
    until: u64,
}

impl Default for Remembered {
    fn default() -> Self {
        Self(SecondChance::new(MAX_REMEMBERED))
    }
}

impl Remembered {
    fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether a digest is held. One from the future is not: the clock was set back, and its end is not known.
    fn holds(&mut self, digest: &Digest256, now: u64) -> bool {
        let holds = |kept: &Kept| (kept.from..kept.until).contains(&now);
        self.0.get(digest, holds).is_some()
    }

    fn insert(&mut self, digest: Digest256, now: u64, kept: u64) {
        let kept = Kept {
            from: now,
            until: now.saturating_add(kept),
        };
        self.0.insert(digest, kept, 1, |kept| kept.until > now);
    }
}
