//! What is wrong with a policy, for conditions in Envoy Gateway's form and for findings.

/// The part of a policy that a fault belongs to, in the order in which Envoy Gateway reports them on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Feature {
    /// What fails before any feature is looked at.
    Whole,
    BasicAuth,
    ApiKeyAuth,
    Authorization,
    ExtAuth,
    Oidc,
    Jwt,
    Cors,
    Csrf,
}

impl Feature {
    /// The order in which Envoy Gateway reports them on a Gateway.
    const ON_GATEWAY: [Self; 9] = [
        Self::Whole,
        Self::Jwt,
        Self::Oidc,
        Self::BasicAuth,
        Self::ApiKeyAuth,
        Self::Authorization,
        Self::ExtAuth,
        Self::Cors,
        Self::Csrf,
    ];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::BasicAuth => "BasicAuth: ",
            Self::ApiKeyAuth => "APIKeyAuth: ",
            Self::Authorization => "Authorization: ",
            Self::ExtAuth => "ExtAuth: ",
            Self::Oidc => "OIDC: ",
            Self::Jwt => "JWT: ",
            Self::Cors => "CORS: ",
            Self::Csrf => "CSRF: ",
        }
    }
}

/// Why a policy cannot be enforced whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) feature: Feature,
    pub(crate) code: &'static str,
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) fix: Option<String>,
    /// The text for the condition; without the feature's name.
    pub(crate) condition: String,
}

/// What is odd about a policy that is enforced nevertheless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) code: &'static str,
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) fix: String,
    /// The reason and the message of a Warning condition, if it deserves one.
    pub(crate) condition: Option<(&'static str, String)>,
}

impl Fault {
    const SCHEMA: &str = "schema";

    /// The fault of a policy that could not be read whole; whoever found that reports it.
    pub(crate) fn of_schema(message: &str) -> Self {
        Self {
            feature: Feature::Whole,
            code: Self::SCHEMA,
            path: String::new(),
            message: message.to_owned(),
            fix: None,
            condition: message.to_owned(),
        }
    }

    /// The fault of a field that this version does not enforce.
    pub(crate) fn unsupported_field(feature: Feature, path: String, what: &str) -> Self {
        Self {
            feature,
            code: "unsupported-field",
            message: format!("{what} is not enforced by this version"),
            fix: Some("remove it: until then the policy's routes answer 500".to_owned()),
            condition: format!("{path} is not enforced by this version"),
            path,
        }
    }

    pub(crate) fn is_of_schema(&self) -> bool {
        self.code == Self::SCHEMA
    }
}

const MESSAGE_LIMIT: usize = 32768;
const TRUNCATED: &str = " (message truncated).";

/// The message of `Accepted=False`, reason `Invalid`, in Envoy Gateway's form.
pub(crate) fn message(faults: &[Fault], on_gateway: bool) -> String {
    let mut features = Feature::ON_GATEWAY;
    if !on_gateway {
        features.sort_unstable();
    }
    let lines: Vec<String> = features
        .into_iter()
        .filter_map(|feature| {
            let fault = faults.iter().find(|fault| fault.feature == feature)?;
            // Envoy Gateway leaves the prefix out there.
            let bare = on_gateway && feature == Feature::Authorization;
            let prefix = if bare { "" } else { feature.prefix() };
            Some(format!("{prefix}{}", fault.condition))
        })
        .collect();
    sentence(&lines.join("\n"))
}

/// Makes a message of an error's text: first letter in upper case unless it belongs to a field's path, a full stop at
/// the end, at most 32768 bytes.
fn sentence(text: &str) -> String {
    let mut sentence = if text.starts_with("spec.") {
        text.to_owned()
    } else {
        let mut rest = text.chars();
        let first = rest.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(rest).collect()
    };
    if !sentence.ends_with('.') {
        sentence.push('.');
    }
    limited(sentence)
}

/// Cuts a condition's message to what Kubernetes admits.
pub(crate) fn limited(mut message: String) -> String {
    if message.len() > MESSAGE_LIMIT {
        let end = message.floor_char_boundary(MESSAGE_LIMIT - TRUNCATED.len());
        message.truncate(end);
        message.push_str(TRUNCATED);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_long_messages_between_characters() {
        let long = sentence(&"ü".repeat(MESSAGE_LIMIT));
        assert!(
            (MESSAGE_LIMIT - 1..=MESSAGE_LIMIT).contains(&long.len()),
            "{}",
            long.len()
        );
        assert!(long.ends_with("ü (message truncated)."));
    }
}
