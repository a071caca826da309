//! What the VMs of one Envoy know together of a server of keys, and which of them fetches when.

use portcullis_engine::jwt::remote::{KeySource, Why};

/// How much longer than a fetch may take its lock holds, in milliseconds: a VM that died with it must not hold the others up
/// for long.
const SLACK: u64 = 1_000;
const SECOND: u64 = 1_000;
/// The length of everything before the key set, in bytes.
const HEAD: usize = 7 * 8;

/// The shared state of one server of keys. Times are in milliseconds since 1970; 0 for never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Grows whenever the key set is replaced.
    pub(crate) version: u64,
    /// Grows whenever a fetch ends, well or not.
    pub(crate) ended: u64,
    /// When the fetch of the key set began.
    pub(crate) fetched: u64,
    /// When the last fetch began.
    pub(crate) attempted: u64,
    /// Until when nobody else may fetch.
    pub(crate) locked_until: u64,
    /// When an unknown key last made somebody fetch.
    pub(crate) unknown: u64,
    /// Whether the last fetch that ended has failed.
    pub(crate) failed: bool,
    /// The JSON Web Key Set; empty for none.
    pub(crate) jwks: Vec<u8>,
}

/// What is to be done about a server of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Fetch, if no other VM is quicker.
    Fetch,
    /// Another VM, or this one, is fetching.
    Underway,
    /// Nothing, until that time in milliseconds since 1970.
    Nothing(u64),
}

impl Record {
    /// Reads what [`Record::write`] wrote; `None` for anything else.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (head, jwks) = bytes.split_at_checked(HEAD)?;
        let (numbers, _) = head.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|number| u64::from_le_bytes(*number));
        let mut next = || numbers.next();
        Some(Self {
            version: next()?,
            ended: next()?,
            fetched: next()?,
            attempted: next()?,
            locked_until: next()?,
            unknown: next()?,
            failed: next()? != 0,
            jwks: jwks.to_vec(),
        })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let numbers = [
            self.version,
            self.ended,
            self.fetched,
            self.attempted,
            self.locked_until,
            self.unknown,
            u64::from(self.failed),
        ];
        let mut bytes = Vec::with_capacity(HEAD + self.jwks.len());
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.jwks);
        bytes
    }

    /// What is to be done at that time, for requests that wait for that, or for none.
    pub(crate) fn plan(&self, source: &KeySource, why: Option<Why>, now: u64) -> Plan {
        // Where the clock was set back, nothing that lies in the future holds.
        let since = |time: u64| now.checked_sub(time);
        let longest_lock = source.timeout() + SLACK;
        if self.locked_until > now && self.locked_until - now <= longest_lock {
            return Plan::Underway;
        }
        if why == Some(Why::UnknownKey) {
            let interval = source.unknown_key_interval() * SECOND;
            return match since(self.unknown) {
                Some(age) if age < interval => Plan::Nothing(self.unknown + interval),
                _ => Plan::Fetch,
            };
        }
        let retry = source.retry_interval() * SECOND;
        match since(self.attempted) {
            Some(age) if self.failed && age < retry => return Plan::Nothing(self.attempted + retry),
            _ => {}
        }
        let interval = source.interval() * SECOND;
        match since(self.fetched) {
            Some(age) if !self.jwks.is_empty() && age < interval => Plan::Nothing(self.fetched + interval),
            _ => Plan::Fetch,
        }
    }

    /// Locks the server for one fetch that begins now.
    pub(crate) const fn lock(&mut self, source: &KeySource, unknown: bool, now: u64) {
        self.attempted = now;
        self.locked_until = now + source.timeout() + SLACK;
        if unknown {
            self.unknown = now;
        }
    }

    /// Ends a fetch that began at that time.
    pub(crate) fn end(&mut self, began: u64, jwks: Option<Vec<u8>>) {
        self.ended = self.ended.wrapping_add(1);
        if self.attempted == began {
            self.locked_until = 0;
        }
        self.failed = jwks.is_none();
        if let Some(jwks) = jwks {
            self.replace(began, jwks);
        }
    }

    /// Replaces the key set by one that was fetched at that time, unless it is older.
    pub(crate) fn replace(&mut self, fetched: u64, jwks: Vec<u8>) -> bool {
        let newer = self.jwks.is_empty() || fetched > self.fetched;
        if newer {
            self.version = self.version.wrapping_add(1);
            self.fetched = fetched;
            self.jwks = jwks;
        }
        newer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_engine::document::RemoteKeySet;

    const NOW: u64 = 1_800_000_000_000;

    fn source() -> KeySource {
        let key_set = RemoteKeySet {
            id: "k".to_owned(),
            cluster: "keys/k".to_owned(),
            authority: "idp.example.com".to_owned(),
            path: "/keys".to_owned(),
            interval: 300,
            retry_interval: 1,
            timeout: 2_000,
        };
        KeySource::compile("", &key_set).unwrap()
    }

    fn held() -> Record {
        let mut record = Record::default();
        record.end(NOW, Some(b"{}".to_vec()));
        record
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = Record {
            version: 1,
            ended: 2,
            fetched: 3,
            attempted: 4,
            locked_until: 5,
            unknown: 6,
            failed: true,
            jwks: b"{\"keys\":[]}".to_vec(),
        };
        assert_eq!(Record::read(&record.write()), Some(record));
        assert_eq!(Record::read(&[0; HEAD - 1]), None);
        assert_eq!(Record::read(&[0; HEAD]), Some(Record::default()));
    }

    #[test]
    fn what_nobody_has_is_fetched_once() {
        let source = source();
        let mut record = Record::default();
        assert_eq!(record.plan(&source, Some(Why::Missing), NOW), Plan::Fetch);
        record.lock(&source, false, NOW);
        assert_eq!(record.plan(&source, Some(Why::Missing), NOW + 2_999), Plan::Underway);
        assert_eq!(
            record.plan(&source, Some(Why::Missing), NOW + 3_000),
            Plan::Fetch,
            "whoever fetched is gone"
        );
    }

    #[test]
    fn keys_are_renewed_in_their_turn() {
        let (source, record) = (source(), held());
        assert_eq!(record.plan(&source, None, NOW + 299_999), Plan::Nothing(NOW + 300_000));
        assert_eq!(record.plan(&source, None, NOW + 300_000), Plan::Fetch);
    }

    #[test]
    fn unknown_keys_are_asked_for_once_in_a_while_however_many_there_are() {
        let (source, mut record) = (source(), held());
        let unknown = Some(Why::UnknownKey);
        assert_eq!(record.plan(&source, unknown, NOW + 1_000), Plan::Fetch);
        record.lock(&source, true, NOW + 1_000);
        record.end(NOW + 1_000, Some(b"{}".to_vec()));
        assert_eq!(record.plan(&source, unknown, NOW + 1_001), Plan::Nothing(NOW + 31_000));
        assert_eq!(record.plan(&source, unknown, NOW + 31_000), Plan::Fetch);
    }

    #[test]
    fn a_failure_is_repeated_after_its_own_interval_and_costs_no_keys() {
        let (source, mut record) = (source(), held());
        let later = NOW + 300_000;
        record.lock(&source, false, later);
        record.end(later, None);
        assert!(record.failed && record.jwks == b"{}");
        assert_eq!(record.plan(&source, None, later + 999), Plan::Nothing(later + 1_000));
        assert_eq!(record.plan(&source, None, later + 1_000), Plan::Fetch);
    }

    #[test]
    fn an_older_key_set_does_not_come_back() {
        let mut record = held();
        assert!(!record.replace(NOW - 1, b"old".to_vec()));
        assert!(!record.replace(NOW, b"same".to_vec()));
        assert_eq!((record.version, record.jwks.as_slice()), (1, &b"{}"[..]));
        assert!(record.replace(NOW + 1, b"new".to_vec()));
        assert_eq!((record.version, record.jwks.as_slice()), (2, &b"new"[..]));
        // One that took long, while another VM's was quicker.
        record.end(NOW, Some(b"late".to_vec()));
        assert_eq!(record.jwks, b"new");
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nobody_up() {
        let (source, mut record) = (source(), held());
        record.lock(&source, true, NOW);
        let before = NOW - 3_600_000;
        assert_eq!(record.plan(&source, None, before), Plan::Fetch);
        assert_eq!(record.plan(&source, Some(Why::UnknownKey), before), Plan::Fetch);
    }
}
