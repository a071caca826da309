//! What the adapter must do next: effects as data.

use std::borrow::Cow;

use crate::{denial::Reason, jwt::remote::Wait};

/// The next action on a request. Only the engine makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// The request is allowed: apply the edits, seal it, let it go on.
    Continue(RequestEdits),
    /// The request is answered here and never reaches a backend.
    Reply(LocalReply),
    /// The request waits for keys: once there are newer ones, or none are to be had, it goes on with
    /// `Transaction::on_keys`.
    Await(Wait),
}

/// Changes to the request that goes upstream, in the order in which they are applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestEdits {
    /// Header changes.
    pub headers: Vec<HeaderEdit>,
    /// Whether the route must be selected again, because a header that could have chosen it was removed or was made of a claim.
    pub clear_route_cache: bool,
    /// Whether that is so because of a claim: then the request must pass the policy of its new route too
    /// (`Transaction::reroute`).
    pub recompute: bool,
}

/// A name or value of a header; what every request shares is not copied.
pub type Text = Cow<'static, [u8]>;

/// One change of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderEdit {
    /// Adds a line, whatever is there.
    Add(Text, Text),
    /// Removes every line of that name.
    Remove(Text),
    /// Replaces every line of that name by one.
    Set(Text, Text),
}

/// Applies edits to the lines of a head, as a proxy does.
pub fn apply(edits: &[HeaderEdit], lines: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    for edit in edits {
        if let HeaderEdit::Remove(name) | HeaderEdit::Set(name, _) = edit {
            lines.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        }
        if let HeaderEdit::Add(name, value) | HeaderEdit::Set(name, value) = edit {
            lines.push((name.to_vec(), value.to_vec()));
        }
    }
}

impl HeaderEdit {
    /// The header's name.
    pub(crate) fn name(&self) -> &[u8] {
        match self {
            Self::Add(name, _) | Self::Remove(name) | Self::Set(name, _) => name,
        }
    }

    pub(crate) fn add(name: impl IntoText, value: impl IntoText) -> Self {
        Self::Add(name.into_text(), value.into_text())
    }

    pub(crate) fn remove(name: impl IntoText) -> Self {
        Self::Remove(name.into_text())
    }

    pub(crate) fn set(name: impl IntoText, value: impl IntoText) -> Self {
        Self::Set(name.into_text(), value.into_text())
    }
}

/// What a [`Text`] is made of.
pub(crate) trait IntoText {
    fn into_text(self) -> Text;
}

impl IntoText for &'static str {
    fn into_text(self) -> Text {
        Cow::Borrowed(self.as_bytes())
    }
}

impl IntoText for Vec<u8> {
    fn into_text(self) -> Text {
        Cow::Owned(self)
    }
}

/// An answer made by the gateway itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// The HTTP status.
    pub status: u16,
    /// Headers of the answer, CORS headers excluded: those come from `Transaction::on_response`.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The fixed body; never says more than the status does.
    pub body: &'static [u8],
    /// Why, for logs and metrics.
    pub reason: Reason,
}

/// Changes to the response, in the order in which they are applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseEdits {
    /// Header changes.
    pub headers: Vec<HeaderEdit>,
}

/// How a request ended, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It went on to the route.
    Allow,
    /// It was answered without a refusal: a preflight.
    Answer,
    /// It was refused.
    Deny,
}

/// What is known about a decided request, for the access log and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The policy's identity, [`crate::document::Document::policy`].
    pub policy: &'a str,
    /// How the request ended.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// The authorization rule that decided, if one did.
    pub rule: Option<&'a str>,
    /// The verified identity, if there is one: the API client's id.
    pub principal: Option<&'a str>,
}
