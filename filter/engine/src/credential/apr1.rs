//! The MD5-based hash of Apache's `htpasswd -m`: `crypt-md5` of FreeBSD with another name in it.

use md5::{Digest, Md5};

/// How often the digest is run; nothing in a hash can change it.
pub(super) const ROUNDS: u32 = 1000;

/// Hashes a password of at most a few hundred bytes.
pub(super) fn apr1(password: &[u8], salt: &[u8]) -> [u8; 16] {
    let mut digest: [u8; 16] = Md5::new()
        .chain_update(password)
        .chain_update(salt)
        .chain_update(password)
        .finalize()
        .into();
    let mut first = Md5::new()
        .chain_update(password)
        .chain_update(b"$apr1$")
        .chain_update(salt);
    for part in password.chunks(digest.len()) {
        first.update(digest.get(..part.len()).unwrap_or_default());
    }
    let mut length = password.len();
    while length != 0 {
        first.update(if length & 1 == 1 {
            &[0]
        } else {
            password.get(..1).unwrap_or_default()
        });
        length >>= 1;
    }
    digest = first.finalize().into();
    for round in 0..ROUNDS {
        let odd = round & 1 == 1;
        let mut next = Md5::new();
        if odd {
            next.update(password);
        } else {
            next.update(digest);
        }
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        if odd {
            next.update(digest);
        } else {
            next.update(password);
        }
        digest = next.finalize().into();
    }
    digest
}
