//! `spec.basicAuth`.

use std::collections::BTreeMap;

use portcullis_api::security_policy::BasicAuth;
use portcullis_engine::{
    document::{self, Document, Secrets, User},
    policy::{Policy, PolicyError},
};

use super::{Builder, salted};
use crate::{
    fault::{Fault, Feature},
    object,
    reference::entries,
};

/// The entry of the Secret, as in Envoy Gateway.
const KEY: &str = ".htpasswd";
const PATH: &str = "spec.basicAuth.users";
/// How many lines of one file are told of.
const SHOWN: usize = 10;

/// One line of the file that names a user.
struct Line {
    number: usize,
    user: User,
}

impl Builder<'_> {
    pub(super) fn basic_auth(&mut self, auth: &BasicAuth) {
        let before = self.build.faults.len();
        let Some((secret, lines)) = self.lines(auth) else {
            return;
        };
        let part = document::BasicAuth {
            forward_username_header: auth.forward_username_header.clone(),
        };
        let alone = Document {
            basic_auth: Some(part.clone()),
            ..Document::default()
        };
        // Without users first: what is left is the header's fault.
        if !self.compile(Feature::BasicAuth, &alone, |path| path) {
            return;
        }
        let compiled = |users: Vec<User>| {
            let secrets = Secrets { users, ..salted() };
            Policy::compile(&self.labelled(&alone), &secrets).err()
        };
        let users: Vec<User> = lines.iter().map(|line| line.user.clone()).collect();
        let Some(error) = compiled(users.clone()) else {
            if self.build.faults.len() == before {
                self.build.document.basic_auth = Some(part);
                self.build.secrets.users = users;
            }
            return;
        };
        let mut faulty: Vec<(&Line, PolicyError)> = Vec::new();
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        let mut twice = Vec::new();
        for line in &lines {
            if let Some(number) = first.get(line.user.name.as_str()) {
                twice.push((line, *number));
            } else {
                first.insert(&line.user.name, line.number);
                faulty.extend(compiled(vec![line.user.clone()]).map(|error| (line, error)));
            }
        }
        if faulty.is_empty() && twice.is_empty() {
            return self.refused(Feature::BasicAuth, error, PATH.to_owned());
        }
        for (line, number) in twice.into_iter().take(SHOWN) {
            let what = format!("names the user of line {number} again");
            self.line(&secret, line.number, "duplicate-user", &what, "remove one of the two");
        }
        for (line, error) in faulty.into_iter().take(SHOWN) {
            // A line in the wrong order has its hash where the name should be.
            let (what, fix) = if error.code == "invalid-user-name" || is_hash(&line.user.name) {
                let what = "does not begin with the name of a user".to_owned();
                (what, "write the name, a colon and the password's hash".to_owned())
            } else {
                (error.message, error.fix.unwrap_or_default())
            };
            self.line(&secret, line.number, error.code, &what, &fix);
        }
    }

    /// Records what is wrong with one line; never what stands in it.
    fn line(&mut self, secret: &str, number: usize, code: &'static str, what: &str, fix: &str) {
        let message = format!("line {number} of {KEY} in secret {secret}: {what}");
        self.fault(Fault {
            feature: Feature::BasicAuth,
            code,
            path: PATH.to_owned(),
            condition: format!("invalid htpasswd format: {message} ({PATH})"),
            message,
            fix: Some(fix.to_owned()),
        });
    }

    /// The users of the Secret, with its name; nothing if there is no file to read.
    fn lines(&mut self, auth: &BasicAuth) -> Option<(String, Vec<Line>)> {
        let owner = self.owners.basic_auth;
        let secret = match self.references.secret(owner.kind, owner.namespace, &auth.users) {
            Ok(secret) => secret,
            Err(unresolved) => {
                self.fault(Fault {
                    feature: Feature::BasicAuth,
                    code: unresolved.code,
                    path: PATH.to_owned(),
                    condition: unresolved.message.clone(),
                    message: unresolved.message,
                    fix: Some(unresolved.fix),
                });
                return None;
            }
        };
        let at = format!(
            "{}/{}",
            object::namespace(&secret.metadata),
            object::name(&secret.metadata)
        );
        let entries = entries(secret);
        let file = entries.get(KEY).copied().unwrap_or_default();
        let Ok(file) = std::str::from_utf8(file) else {
            let message = format!("{KEY} in secret {at} is not UTF-8");
            self.fault(Fault {
                feature: Feature::BasicAuth,
                code: "invalid-htpasswd",
                path: PATH.to_owned(),
                condition: format!("invalid htpasswd format: {message} ({PATH})"),
                message,
                fix: Some("write the names of users in UTF-8".to_owned()),
            });
            return None;
        };
        let mut lines = Vec::new();
        let mut unreadable = Vec::new();
        for (index, line) in file.lines().enumerate() {
            let written = line.trim();
            if written.is_empty() || written.starts_with('#') {
                continue;
            }
            match line.trim_end().split_once(':') {
                Some((name, hash)) => lines.push(Line {
                    number: index + 1,
                    user: User {
                        name: name.to_owned(),
                        hash: hash.to_owned(),
                    },
                }),
                None => unreadable.push(index + 1),
            }
        }
        for number in unreadable.iter().take(SHOWN) {
            self.fault(Fault {
                feature: Feature::BasicAuth,
                code: "invalid-htpasswd",
                path: PATH.to_owned(),
                message: format!("line {number} of {KEY} in secret {at} has no colon"),
                fix: Some("write the name, a colon and the password's hash".to_owned()),
                condition: format!(
                    "invalid htpasswd format: each line must be in the format 'username:password' (line {number} of secret {at}, {PATH})"
                ),
            });
        }
        if lines.is_empty() && unreadable.is_empty() {
            let message = format!("secret {at} must contain a non-empty {KEY:?} key");
            self.fault(Fault {
                feature: Feature::BasicAuth,
                code: "no-user",
                path: PATH.to_owned(),
                condition: message.clone(),
                message,
                fix: Some("write one line for each user, as htpasswd -nB prints it".to_owned()),
            });
            return None;
        }
        Some((at, lines))
    }
}

/// Whether a text looks like a password's hash, whole or cut.
fn is_hash(text: &str) -> bool {
    text.trim_start().starts_with(['$', '{'])
}
