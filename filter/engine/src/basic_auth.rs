//! Basic authentication (`SecurityPolicy.spec.basicAuth`, RFC 7617).
//!
//! Whoever is refused learns nothing about the users: every refusal costs one hash of each sort that the policy's users
//! have, whether the user is unknown or which sort the user's own hash is of.

use std::sync::Arc;

use base64::{
    Engine, alphabet,
    engine::{GeneralPurpose, general_purpose::NO_PAD},
};

use crate::{
    credential::password::{MAX_BCRYPT_COST, MAX_SHA_CRYPT_ROUNDS, PasswordHash, Unusable},
    denial::Reason,
    document,
    host::Host,
    http::{
        RequestHead,
        header::{is_field_value, trim},
    },
    identity::{self, IdentityHeaders},
    policy::{PolicyError, at_most, told},
    request::Request,
    worker::{Credential, Hashing, Unchecked, Worker},
};

/// The most users of one policy.
const MAX_USERS: usize = 4096;
/// What a refusal may cost, in microseconds: bcrypt at its highest cost beside SHA-crypt with its default rounds and apr1.
const MAX_COST: u32 = 125_000;
/// The longest name of a user, in bytes.
const MAX_USER_NAME: usize = 255;
/// The longest encoded name and password that are looked at, in bytes.
const MAX_ENCODED: usize = 2048;

/// The hash of nobody's password.
const NOBODY: PasswordHash = PasswordHash::Sha1([0; 20]);

const USERS: &str = "basicAuth.users";
const FORWARD: &str = "basicAuth.forwardUsernameHeader";

/// Compiled Basic authentication.
#[derive(Debug)]
pub(crate) struct BasicAuth {
    /// By name.
    users: Vec<User>,
    /// One slow hash of each sort that the users have.
    decoys: Vec<PasswordHash>,
    forward: Option<Box<[u8]>>,
}

#[derive(Debug)]
struct User {
    name: Arc<str>,
    hash: PasswordHash,
}

/// The user of a presented password: proof that the password is that user's.
#[derive(Debug)]
pub(crate) struct KnownUser(Arc<str>);

impl KnownUser {
    pub(crate) fn into_name(self) -> Arc<str> {
        self.0
    }
}

impl BasicAuth {
    /// The value of `WWW-Authenticate` in a refusal: the same for every URL, so that a browser asks once.
    pub(crate) const CHALLENGE: &'static [u8] = b"Basic realm=\"api\", charset=\"UTF-8\"";

    pub(crate) fn compile(document: &document::BasicAuth, users: &[document::User]) -> Result<Self, PolicyError> {
        at_most(USERS, "users", users.len(), MAX_USERS)?;
        let mut users = users.iter().map(User::compile).collect::<Result<Vec<_>, _>>()?;
        users.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        if let Some([user, _]) = users.array_windows().find(|[one, other]| one.name == other.name) {
            return Err(invalid("duplicate-user", told!("user {:?} is listed twice", user.name)));
        }
        let mut decoys: Vec<PasswordHash> = Vec::new();
        for User { hash, .. } in &users {
            if hash.cost() > 0 && !decoys.iter().any(|decoy| decoy.is_alike(hash)) {
                decoys.push(hash.clone());
            }
            // Here, so that the list stays short.
            if decoys.iter().map(PasswordHash::cost).sum::<u32>() > MAX_COST {
                let message = "the users' password hashes are of so many sorts that a refusal, which computes one of each, would \
                               hold every request of a worker up";
                return Err(invalid("password-hashes-too-costly", told!("{message}")).fix(told!(
                    "hash all passwords alike: htpasswd -nB -C {MAX_BCRYPT_COST} NAME"
                )));
            }
        }
        let forward = document.forward_username_header.as_deref();
        Ok(Self {
            decoys,
            users,
            forward: forward
                .map(|name| identity::compile_forward(FORWARD, name))
                .transpose()?,
        })
    }

    /// The header that carries the user's name to the backend.
    pub(crate) fn forward(&self) -> Option<&[u8]> {
        self.forward.as_deref()
    }

    /// Names the headers that only this policy may set.
    pub(crate) fn identity_headers(&self, names: &mut IdentityHeaders) {
        if let Some(forward) = &self.forward {
            names.insert(forward);
        }
    }

    /// Finds the user whose name and password the request carries.
    pub(crate) fn authenticate(
        &self,
        policy: &str,
        request: &Request<'_, impl Host>,
        worker: &mut Worker,
        hashing: Hashing,
    ) -> Result<KnownUser, Reason> {
        let decoded = presented(request.head)?;
        let (name, password) = split(&decoded).ok_or(Reason::BasicMalformed)?;
        let user = self
            .users
            .binary_search_by(|user| user.name.as_bytes().cmp(name))
            .ok()
            .and_then(|at| self.users.get(at));
        // A fast hash is compared even if the user is nobody.
        let own = user.map_or(&NOBODY, |user| &user.hash);
        if own.cost() == 0 && own.matches(password) && user.is_some() {
            return user.map(User::known).ok_or(Reason::BasicWrong);
        }
        if self.decoys.is_empty() {
            return Err(Reason::BasicWrong);
        }
        let credential = Credential {
            policy,
            user: name,
            password,
        };
        let verified = worker.verify(request.host, hashing, &credential, || {
            if own.cost() > 0 && own.matches(password) {
                return true;
            }
            for decoy in self.decoys.iter().filter(|decoy| !decoy.is_alike(own)) {
                std::hint::black_box(decoy.matches(password));
            }
            false
        });
        match verified {
            Ok(true) => user.map(User::known).ok_or(Reason::BasicWrong),
            Ok(false) => Err(Reason::BasicWrong),
            Err(Unchecked::Busy) => Err(Reason::BasicBusy),
            Err(Unchecked::Fault) => Err(Reason::HostFault),
        }
    }
}

impl User {
    fn compile(user: &document::User) -> Result<Self, PolicyError> {
        let name = user.name.as_str();
        let valid = (1..=MAX_USER_NAME).contains(&name.len())
            && !name.contains(':')
            && trim(name.as_bytes()) == name.as_bytes()
            && is_field_value(name.as_bytes());
        if !valid {
            return Err(invalid(
                "invalid-user-name",
                told!(
                    "{name:?} cannot name a user: 1 to {MAX_USER_NAME} bytes, no colon, no control character, no space around"
                ),
            ));
        }
        let hash = PasswordHash::parse(&user.hash).map_err(|reason| unusable(name, reason))?;
        Ok(Self {
            name: name.into(),
            hash,
        })
    }

    fn known(&self) -> KnownUser {
        KnownUser(Arc::clone(&self.name))
    }
}

fn invalid(code: &'static str, message: String) -> PolicyError {
    PolicyError::new(told!("{USERS}"), code, message)
}

fn unusable(name: &str, reason: Unusable) -> PolicyError {
    match reason {
        Unusable::TooCostly => invalid(
            "password-hash-too-costly",
            told!(
                "the password hash of user {name:?} would hold every request of a worker up: the most is cost {MAX_BCRYPT_COST} \
                 of bcrypt and {MAX_SHA_CRYPT_ROUNDS} rounds of SHA-crypt"
            ),
        )
        .fix(told!("hash the password anew: htpasswd -nB -C {MAX_BCRYPT_COST} {name}")),
        Unusable::Malformed => invalid(
            "invalid-password-hash",
            told!("the password hash of user {name:?} is cut off or misspelt: no password can match it"),
        )
        .fix(told!("hash the password anew: htpasswd -nB -C {MAX_BCRYPT_COST} {name}")),
        Unusable::Unsupported => invalid(
            "unsupported-password-hash",
            told!("the password of user {name:?} is not hashed as {{SHA}}, bcrypt ($2y$), $apr1$, $5$ or $6$"),
        )
        .fix(told!("hash the password: htpasswd -nB -C {MAX_BCRYPT_COST} {name}")),
    }
}

/// Decodes the credentials in `Authorization`.
///
/// A repeated header is refused, whatever it says, for no comma belongs into it: a later hop may take the other line.
fn presented(head: &RequestHead) -> Result<Vec<u8>, Reason> {
    // As Envoy reads them: whether padding is complete does not matter, leftover bits do.
    const ENCODING: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, NO_PAD);
    let value = head.joined(b"authorization").ok_or(Reason::BasicMissing)?;
    let value = trim(&value);
    let end = value.iter().position(|byte| matches!(byte, b' ' | b'\t'));
    let (scheme, rest) = value.split_at_checked(end.unwrap_or(value.len())).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return Err(Reason::BasicMissing);
    }
    let mut encoded = rest;
    while let Some(shorter) = encoded.strip_prefix(b" ") {
        encoded = shorter;
    }
    if encoded.len() > MAX_ENCODED {
        return Err(Reason::BasicMalformed);
    }
    for _ in 0..2 {
        encoded = encoded.strip_suffix(b"=").unwrap_or(encoded);
    }
    ENCODING.decode(encoded).map_err(|_| Reason::BasicMalformed)
}

/// Splits at the first colon: a name cannot hold one, a password can.
fn split(decoded: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (name, rest) = decoded.split_at_checked(colon)?;
    Some((name, rest.strip_prefix(b":")?))
}
