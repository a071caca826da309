//! Requests that a policy is about: what is left to chance seldom meets a rule.

use super::{bytes::Bytes, policy::Side, request::Sent, rules::Rule, token};

/// What is put behind a path: some of it changes only how the path is read.
const SUFFIXES: &[&str] = &["", "", "?x=1", "/", "/x", ";v", "%20", "%3fx", "%2fx", "/%20x"];

/// Makes a request one that a policy is about.
pub(super) fn aim(sent: &mut Sent, side: &Side, bytes: &mut Bytes<'_>) {
    if let Some(client) = side.clients.first()
        && bytes.odds(3, 4)
    {
        sent.head.headers.push((b"x-api-key".to_vec(), client.key.to_vec()));
    }
    if let Some(user) = side.users.last()
        && bytes.odds(3, 4)
    {
        let credentials = format!("Basic {}", user.encoded).into_bytes();
        sent.head.headers.push((b"authorization".to_vec(), credentials));
    }
    if side.document.jwt.is_some() && bytes.odds(1, 2) {
        sent.put(token::HEADER, token::presented(bytes));
    }
    if !side.rules.is_empty() {
        let rule = &side.rules[bytes.next() % side.rules.len()];
        aim_at(sent, rule, bytes);
    }
}

fn aim_at(sent: &mut Sent, rule: &Rule, bytes: &mut Bytes<'_>) {
    if let Some(path) = &rule.written.path {
        let mut target = match &rule.expression {
            Some(expression) => expression.example(&mut || bytes.next()),
            None => path.value.clone().into_bytes(),
        };
        target.extend(bytes.pick(SUFFIXES).bytes());
        sent.replace(b":path", &target);
    }
    if let Some(method) = rule.written.methods.first() {
        sent.replace(b":method", method.to_ascii_uppercase().as_bytes());
    }
    if let Some(wanted) = &rule.written.jwt {
        sent.put(token::HEADER, token::of(&wanted.provider));
    }
    for header in &rule.written.headers {
        if !header.name.starts_with(':') {
            let value = format!("{}{}", header.values[0], bytes.pick(&["", "", ", guest", ",admin"]));
            sent.head.headers.push((header.name.clone().into(), value.into()));
        }
    }
}
