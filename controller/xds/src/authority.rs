//! Certificates of both ends, made by the controller itself: nothing beside it has to exist for mutual TLS. Pure but for the
//! randomness of keys; the time is an argument, in seconds since 1970.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::Identity;

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

/// How long an authority lives. At two thirds of that there is a second one beside it.
const AUTHORITY_LIFE: u64 = 365 * DAY;
/// How long a certificate of an end lives. It is made anew at two thirds of that.
const END_LIFE: u64 = 7 * DAY;
/// How long a new authority is only trusted: every end must know it before any shows a certificate of it.
const SPREAD: u64 = DAY;
/// How far the clocks of both ends may differ.
const SKEW: u64 = 5 * MINUTE;

/// Why certificates cannot be made or read. Holds nothing of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CertificateError(String);

impl CertificateError {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    fn made(error: &rcgen::Error) -> Self {
        Self(format!("no certificate can be made: {error}"))
    }
}

/// The authorities of one installation, the oldest first; there is always one.
#[derive(Clone)]
pub struct Authorities(Vec<Authority>);

#[derive(Clone)]
struct Authority {
    certificate: String,
    key: String,
    begins: u64,
    ends: u64,
}

/// A certificate for one end, its key, and whom that end trusts. Not printable: it holds the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The certificate, in PEM.
    pub certificate: String,
    /// Its key, in PEM.
    pub key: String,
    /// The certificates of all authorities, in PEM.
    pub trusted: String,
}

impl Authorities {
    /// Makes the first authority.
    ///
    /// # Errors
    /// There are no random bytes.
    pub fn generate(now: u64) -> Result<Self, CertificateError> {
        Ok(Self(vec![Authority::generate(now)?]))
    }

    /// Reads what [`Self::text`] wrote.
    ///
    /// # Errors
    /// Says what is wrong, without repeating any of it.
    pub fn read(text: &str) -> Result<Self, CertificateError> {
        let malformed = || CertificateError::new("holds no pairs of certificates and keys in PEM");
        let certificates = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
        let keys = PrivateKeyDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
        let (certificates, keys) = (certificates.map_err(|_| malformed())?, keys.map_err(|_| malformed())?);
        if certificates.is_empty() || certificates.len() != keys.len() {
            return Err(malformed());
        }
        let pairs = certificates.iter().zip(&keys);
        let pairs = pairs.map(|(certificate, key)| Authority::of(certificate, key).ok_or_else(malformed));
        Ok(Self(pairs.collect::<Result<_, _>>()?))
    }

    /// Writes certificates and keys in PEM, to be kept where nobody else reads.
    #[must_use]
    pub fn text(&self) -> String {
        let pairs = self
            .0
            .iter()
            .flat_map(|authority| [&authority.certificate, &authority.key]);
        pairs.map(String::as_str).collect()
    }

    /// Drops what has expired and adds a successor in time; tells whether anything changed.
    ///
    /// # Errors
    /// There are no random bytes. Or the clock contradicts all that was made before: with a wrong clock nothing is dropped, and
    /// nothing added, that others believe.
    pub fn renew(&mut self, now: u64) -> Result<bool, CertificateError> {
        if self.0.iter().any(|authority| now < authority.begins) {
            return Err(CertificateError::new(
                "an authority begins in the future: check the clock",
            ));
        }
        if self.0.iter().all(|authority| authority.ends <= now) {
            return Err(CertificateError::new(
                "every authority has ended: check the clock, or delete them to have new ones made",
            ));
        }
        let before = self.0.len();
        let due = self
            .0
            .last()
            .is_none_or(|newest| is_due(newest.begins, newest.ends, now));
        if due {
            self.0.push(Authority::generate(now)?);
        }
        self.0.retain(|authority| now < authority.ends);
        Ok(due || self.0.len() != before)
    }

    /// Returns the certificates of all authorities, in PEM.
    #[must_use]
    pub fn trusted(&self) -> String {
        self.0.iter().map(|authority| authority.certificate.as_str()).collect()
    }

    /// Makes a certificate for one end.
    ///
    /// # Errors
    /// There are no random bytes.
    pub fn issue(&self, identity: &Identity, now: u64) -> Result<Credentials, CertificateError> {
        let valid = || {
            let authorities = self.0.iter();
            authorities.filter(|authority| authority.begins <= now && now < authority.ends)
        };
        let spread = |authority: &&Authority| authority.begins + SKEW + SPREAD <= now;
        let signer = valid().rev().find(spread).or_else(|| valid().next());
        let signer = signer.ok_or_else(|| CertificateError::new("no authority is valid now: check the clock"))?;
        let failed = |error: rcgen::Error| CertificateError::made(&error);
        let issuer_key = KeyPair::from_pem(&signer.key).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(&signer.certificate, issuer_key).map_err(failed)?;
        let key = KeyPair::generate().map_err(failed)?;
        let mut parameters = parameters(now, now.saturating_add(END_LIFE).min(signer.ends))?;
        let uri = identity.to_string().try_into().map_err(failed)?;
        parameters.subject_alt_names = vec![SanType::URI(uri)];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.use_authority_key_identifier_extension = true;
        parameters.extended_key_usages = vec![match identity {
            Identity::Controller => ExtendedKeyUsagePurpose::ServerAuth,
            Identity::Gateway { .. } => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let certificate = parameters.signed_by(&key, &issuer).map_err(failed)?;
        Ok(Credentials {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            trusted: self.trusted(),
        })
    }

    /// Tells whether credentials made before will do: of this identity, of an authority that is trusted, with all authorities, and
    /// not yet to be made anew.
    #[must_use]
    pub fn are_current(&self, credentials: &Credentials, identity: &Identity, now: u64) -> bool {
        let Ok(certificate) = CertificateDer::from_pem_slice(credentials.certificate.as_bytes()) else {
            return false;
        };
        let Ok(key) = KeyPair::from_pem(&credentials.key) else {
            return false;
        };
        let Ok((_, read)) = X509Certificate::from_der(&certificate) else {
            return false;
        };
        let Some((begins, ends)) = validity(&read) else {
            return false;
        };
        credentials.trusted == self.trusted()
            && identity_of(&certificate).as_ref() == Some(identity)
            && read.public_key().subject_public_key.data == key.public_key_raw()
            && self.0.iter().any(|authority| authority.signed(&read))
            && !is_due(begins, ends, now)
    }
}

impl Authority {
    fn generate(now: u64) -> Result<Self, CertificateError> {
        let failed = |error: rcgen::Error| CertificateError::made(&error);
        let key = KeyPair::generate().map_err(failed)?;
        let mut parameters = parameters(now, now.saturating_add(AUTHORITY_LIFE))?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Two authorities that live at one time must not have one name: an end's chain is looked for by the name.
        parameters
            .distinguished_name
            .push(DnType::CommonName, format!("portcullis xDS {now}"));
        let certificate = parameters.self_signed(&key).map_err(failed)?;
        let made = Self::of(certificate.der(), &PrivateKeyDer::Pkcs8(key.serialize_der().into()));
        made.ok_or_else(|| CertificateError::new("a certificate that was made cannot be read"))
    }

    fn of(certificate: &CertificateDer<'_>, key: &PrivateKeyDer<'_>) -> Option<Self> {
        let key = KeyPair::try_from(key).ok()?;
        let (_, read) = X509Certificate::from_der(certificate).ok()?;
        let (begins, ends) = validity(&read)?;
        let fits = read.is_ca() && read.public_key().subject_public_key.data == key.public_key_raw();
        fits.then(|| Self {
            certificate: pem(certificate),
            key: key.serialize_pem(),
            begins,
            ends,
        })
    }

    fn signed(&self, certificate: &X509Certificate<'_>) -> bool {
        let Ok(own) = CertificateDer::from_pem_slice(self.certificate.as_bytes()) else {
            return false;
        };
        let Ok((_, own)) = X509Certificate::from_der(&own) else {
            return false;
        };
        own.tbs_certificate.subject.as_raw() == certificate.issuer().as_raw()
    }
}

/// Returns the one identity of a certificate: one with two, or with one that is not understood beside it, has none.
pub(crate) fn identity_of(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut uris = certificate.valid_uri_names();
    let identity = Identity::of_uri(uris.next()?)?;
    uris.next().is_none().then_some(identity)
}

/// Returns when a certificate ends, in seconds since 1970.
pub(crate) fn end_of(certificate: &CertificateDer<'_>) -> Option<u64> {
    let (_, read) = X509Certificate::from_der(certificate).ok()?;
    validity(&read).map(|(_, ends)| ends)
}

fn validity(certificate: &X509Certificate<'_>) -> Option<(u64, u64)> {
    let validity = certificate.validity();
    let begins = u64::try_from(validity.not_before.timestamp()).ok()?;
    let ends = u64::try_from(validity.not_after.timestamp()).ok()?;
    (begins < ends).then_some((begins, ends))
}

/// Whether two thirds of a life are over, or it has not begun.
const fn is_due(begins: u64, ends: u64, now: u64) -> bool {
    let life = ends.saturating_sub(begins);
    now < begins || now.saturating_sub(begins) >= life / 3 * 2
}

fn parameters(now: u64, ends: u64) -> Result<CertificateParams, CertificateError> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.not_before = moment(now.saturating_sub(SKEW))?;
    parameters.not_after = moment(ends)?;
    Ok(parameters)
}

fn moment(seconds: u64) -> Result<OffsetDateTime, CertificateError> {
    let seconds = i64::try_from(seconds).ok();
    let moment = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    moment.ok_or_else(|| CertificateError::new("the clock is wrong"))
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", certificate.as_ref()), lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn gateway() -> Identity {
        Identity::of_cluster("edge/public").expect("a Gateway")
    }

    fn der(text: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(text.as_bytes()).expect("a certificate")
    }

    #[test]
    fn a_certificate_names_its_end_and_lives_a_week() {
        let authorities = Authorities::generate(NOW).expect("random bytes");
        let credentials = authorities.issue(&gateway(), NOW).expect("random bytes");
        let certificate = der(&credentials.certificate);
        assert_eq!(identity_of(&certificate), Some(gateway()));
        assert_eq!(end_of(&certificate), Some(NOW + END_LIFE));
        assert!(authorities.are_current(&credentials, &gateway(), NOW));
        assert!(authorities.are_current(&credentials, &gateway(), NOW + 4 * DAY));
        assert!(!authorities.are_current(&credentials, &gateway(), NOW + 5 * DAY));
        assert!(
            !authorities.are_current(&credentials, &gateway(), NOW - DAY),
            "the clock went back"
        );
        let other = Identity::of_cluster("edge/other").expect("a Gateway");
        assert!(!authorities.are_current(&credentials, &other, NOW));
        assert!(!authorities.are_current(&credentials, &Identity::Controller, NOW));
        let mut mixed = credentials.clone();
        mixed.key = authorities.issue(&gateway(), NOW).expect("random bytes").key;
        assert!(
            !authorities.are_current(&mixed, &gateway(), NOW),
            "the key is of another one"
        );
        let stranger = Authorities::generate(NOW + 1).expect("random bytes");
        let mut foreign = stranger.issue(&gateway(), NOW).expect("random bytes");
        foreign.trusted = authorities.trusted();
        assert!(!authorities.are_current(&foreign, &gateway(), NOW));
    }

    #[test]
    fn authorities_are_read_as_they_are_written() {
        let authorities = Authorities::generate(NOW).expect("random bytes");
        let text = authorities.text();
        let read = Authorities::read(&text).expect("authorities");
        assert_eq!(read.text(), text);
        let credentials = read.issue(&gateway(), NOW).expect("random bytes");
        assert!(authorities.are_current(&credentials, &gateway(), NOW));
        let leaf = format!("{}{}", credentials.certificate, credentials.key);
        let swapped = format!("{}{}", read.trusted(), credentials.key);
        for wrong in ["", "x", &read.trusted(), &leaf, &swapped] {
            assert!(Authorities::read(wrong).is_err());
        }
    }

    #[test]
    fn a_successor_is_trusted_before_it_signs_and_the_predecessor_until_it_ends() {
        let mut authorities = Authorities::generate(NOW).expect("random bytes");
        let first = authorities.trusted();
        assert_eq!(authorities.renew(NOW + 100 * DAY), Ok(false));
        let due = NOW + 244 * DAY;
        assert_eq!(authorities.renew(due), Ok(true));
        assert_eq!(authorities.renew(due), Ok(false));
        assert!(authorities.trusted().starts_with(&first) && authorities.trusted().len() > first.len());
        let second = authorities
            .trusted()
            .strip_prefix(&first)
            .expect("the first one")
            .to_owned();
        let signer = |authorities: &Authorities, now: u64| {
            let credentials = authorities.issue(&gateway(), now).expect("random bytes");
            let certificate = der(&credentials.certificate);
            let (_, read) = X509Certificate::from_der(&certificate).expect("a certificate");
            let signed = |text: &str| {
                let own = der(text);
                let (_, own) = X509Certificate::from_der(&own).expect("a certificate");
                own.tbs_certificate.subject.as_raw() == read.issuer().as_raw()
            };
            (signed(&first), signed(&second))
        };
        assert_eq!(signer(&authorities, due), (true, false));
        assert_eq!(signer(&authorities, due + SPREAD), (false, true));
        assert_eq!(
            authorities.renew(NOW + AUTHORITY_LIFE),
            Ok(true),
            "the first one is over"
        );
        assert_eq!(authorities.trusted(), second);
    }

    #[test]
    fn a_wrong_clock_changes_nothing() {
        let mut authorities = Authorities::generate(NOW).expect("random bytes");
        let before = authorities.text();
        for now in [NOW - DAY, NOW + 2 * AUTHORITY_LIFE] {
            assert!(authorities.renew(now).is_err());
            assert!(authorities.issue(&gateway(), now).is_err());
        }
        assert_eq!(authorities.text(), before);
        assert_eq!(authorities.renew(NOW - MINUTE), Ok(false), "clocks differ a little");
    }

    #[test]
    fn a_certificate_never_outlives_its_authority() {
        let authorities = Authorities::generate(NOW).expect("random bytes");
        let late = NOW + AUTHORITY_LIFE - DAY;
        let credentials = authorities.issue(&gateway(), late).expect("random bytes");
        assert_eq!(end_of(&der(&credentials.certificate)), Some(NOW + AUTHORITY_LIFE));
    }
}
