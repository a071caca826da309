//! Signatures of anything by any keys: what public test vectors ask for, whose payloads are seldom claims.

use super::{
    algorithm::Algorithm,
    jwk::{KeySet, Source},
    jws::Jws,
    software,
};
use crate::host::{Fault, Host, Signed};

/// A proxy that verifies signatures, and nothing else.
struct Software;

impl Host for Software {
    fn client_address(&self) -> Result<Vec<u8>, Fault> {
        Err(Fault)
    }

    fn now(&self) -> Result<u64, Fault> {
        Err(Fault)
    }

    fn random(&self) -> Result<u64, Fault> {
        Err(Fault)
    }

    fn verify_signature(&self, signed: &Signed<'_>) -> Result<bool, Fault> {
        Ok(software::verify(signed))
    }
}

/// Verifies a signed text in compact form by a local key set.
///
/// # Errors
/// Why it is refused.
pub fn verify(key_set: &str, token: &[u8]) -> Result<(), String> {
    let keys = KeySet::parse(key_set.as_bytes(), Source::Local).map_err(|unusable| unusable.to_string())?;
    let jws = Jws::parse_signed(token).ok_or("it is no token")?;
    let algorithm = Algorithm::parse(&jws.algorithm).ok_or("its algorithm is none of those that verify")?;
    let mut refusal = "no key is for its kid and algorithm";
    for key in keys.candidates(algorithm, jws.kid.as_deref()) {
        match key.verify(&Software, algorithm, jws.signed, &jws.signature) {
            Ok(true) => return Ok(()),
            Ok(false) => refusal = "its signature is wrong",
            Err(Fault) => return Err("the signature cannot be verified here".to_owned()),
        }
    }
    Err(refusal.to_owned())
}
