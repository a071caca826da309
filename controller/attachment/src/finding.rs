//! What is wrong with a manifest, in one shape for the command line and for conditions.

use crate::object::ObjectRef;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Something is not enforced or not served.
    Error,
    /// Something has no effect or may surprise.
    Warning,
}

/// One fault at one place of one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The stable code, `kebab-case`, such as `invalid-cidr`.
    pub code: &'static str,
    /// The object at fault.
    pub object: ObjectRef,
    /// The field, as `spec.rules[0].name`; empty for the object as a whole.
    pub path: String,
    /// What is wrong: lower case, no full stop, never holds a secret.
    pub message: String,
    /// What to write instead, if that can be told: `write "10.0.0.0/8"`.
    pub fix: Option<String>,
}

/// How many names a fix lists.
pub(crate) const SHOWN: usize = 5;

/// The fix for a name that does not exist: the names that do, if there are any.
pub(crate) fn one_of(names: &[&str]) -> Option<String> {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("{name:?}")).collect();
    match shown.as_slice() {
        [] => None,
        [name] => Some(format!("write {name}")),
        _ => Some(format!(
            "write one of {}{}",
            shown.join(", "),
            if names.len() > shown.len() { ", ..." } else { "" }
        )),
    }
}

/// Every code with one sentence on what it means, sorted by code.
pub const CODES: &[(&str, &str)] = &[
    (
        "backend-not-found",
        "A route refers to a Service or a Backend that does not exist.",
    ),
    (
        "backend-port-not-found",
        "A route refers to a port that the Service does not have.",
    ),
    (
        "cel-missing-header",
        "An expression of a rule that denies has no answer for a request without a header, and so denies it.",
    ),
    (
        "cel-time-zone",
        "An expression names a time zone otherwise than by its offset from UTC.",
    ),
    (
        "cel-too-large",
        "An expression is too long, too deep, or has too many parts.",
    ),
    (
        "cel-type",
        "An expression compares or calls what does not fit together, or is no condition.",
    ),
    (
        "certificate-never-verified",
        "A policy has rules on certificates of clients where no listener verifies any.",
    ),
    (
        "certificate-not-found",
        "A listener refers to a Secret or a ConfigMap that does not exist.",
    ),
    (
        "claims-without-jwt",
        "An expression reads claims, and the policy verifies no token.",
    ),
    (
        "clock-skew-too-large",
        "The clocks of issuer and proxy may differ by less than an hour.",
    ),
    (
        "config-map-not-found",
        "A ConfigMap that a policy refers to does not exist.",
    ),
    (
        "connections-admitted",
        "A policy without authorization admits every connection of a TCPRoute.",
    ),
    (
        "connections-refused",
        "A policy asks of connections what only requests can answer, so TCPRoutes that it covers refuse them.",
    ),
    (
        "cors-wildcard-credentials",
        "Credentials are asked for together with an origin that names no host, which never gets them.",
    ),
    ("deprecated-field", "A field still works but has a successor."),
    (
        "duplicate-api-key",
        "Two clients have the same API key, so which of them calls cannot be told.",
    ),
    ("duplicate-entry", "Two entries of a list have the same name."),
    (
        "duplicate-filter",
        "A filter that may stand once in a rule stands there twice.",
    ),
    ("duplicate-identity-header", "One header is to carry two identities."),
    (
        "duplicate-key",
        "A field is given twice, so which of the two counts cannot be told.",
    ),
    ("duplicate-method", "A list of authentication methods names one twice."),
    (
        "duplicate-object",
        "An object is there twice, so which of the two counts cannot be told.",
    ),
    ("duplicate-provider", "Two providers of tokens have the same name."),
    ("duplicate-target", "A policy names one target twice."),
    (
        "duplicate-user",
        "A file names one user twice, so which password counts cannot be told.",
    ),
    ("empty-api-key", "A client's API key is empty."),
    (
        "empty-certificate-principal",
        "A rule asks a client's certificate for no name.",
    ),
    (
        "empty-jwt-principal",
        "A rule asks a token for neither a claim nor a scope.",
    ),
    (
        "empty-rule",
        "An authorization rule says nothing about whom it matches.",
    ),
    (
        "external-name-service",
        "A route refers to a Service that stands for a name outside the cluster.",
    ),
    ("field-ignored", "A field is known and has no effect here."),
    (
        "gateway-class-not-found",
        "A Gateway is of a class that does not exist.",
    ),
    (
        "hostname-taken",
        "A listener of another ListenerSet or Gateway has a hostname of a route, which the route does not get.",
    ),
    ("immutable-header", "A filter sets a header that the proxy owns."),
    ("incompatible-filters", "Two filters of a rule exclude each other."),
    ("invalid-address", "A text is not an IP address."),
    (
        "invalid-audience",
        "An audience is empty, too long, or has control characters.",
    ),
    ("invalid-backend-kind", "A route refers to a kind that is no backend."),
    (
        "invalid-backend-override",
        "An endpoint on the command line is not an address and a port.",
    ),
    (
        "invalid-backend-tls",
        "How a backend proves itself cannot be followed, so nothing is sent to it.",
    ),
    ("invalid-base64", "The data of a Secret is not base64."),
    ("invalid-cel", "A text is not an expression of CEL."),
    (
        "invalid-certificate",
        "A Secret does not hold a certificate chain and its key.",
    ),
    (
        "invalid-certificate-kind",
        "A listener refers to a kind that holds no certificate.",
    ),
    (
        "invalid-certificate-uri",
        "A text is not a URI as certificates have it, or has nothing below it.",
    ),
    ("invalid-cidr", "An address range is not in CIDR notation."),
    ("invalid-claim-name", "A claim's name is empty or too long."),
    (
        "invalid-claim-values",
        "A rule on a claim lists no value, or one that is too long.",
    ),
    ("invalid-client-id", "An API client's id cannot stand in a header."),
    ("invalid-combination", "Fields of an object exclude or need each other."),
    (
        "invalid-cookie-name",
        "A cookie's name has characters that no cookie name has.",
    ),
    ("invalid-dns-name", "A text is not a DNS name as certificates have it."),
    (
        "invalid-duration",
        "A duration is not written as hours, minutes, seconds or milliseconds.",
    ),
    (
        "invalid-fraction",
        "The numerator of a share is greater than its denominator.",
    ),
    ("invalid-geo-location", "A place is none that a database could tell."),
    (
        "invalid-grpc-method",
        "A match names no service and method of gRPC, or what is no name.",
    ),
    (
        "invalid-header-name",
        "A header's name has characters that no header name has, or belongs to the proxy.",
    ),
    ("invalid-header-value", "A text is not the value of a header."),
    ("invalid-hostname", "A text is not a hostname."),
    (
        "invalid-htpasswd",
        "A file of users and password hashes has a line that is neither.",
    ),
    ("invalid-interval", "Keys would be fetched too often, or too seldom."),
    (
        "invalid-issuer",
        "An issuer is neither a URI nor an e-mail address nor a plain name, or is too long.",
    ),
    ("invalid-key-set", "A text is not a JSON Web Key Set."),
    (
        "invalid-key-source",
        "An extractFrom entry does not name exactly one kind of place.",
    ),
    (
        "invalid-listener",
        "A listener's protocol, port or TLS mode is not one that is served.",
    ),
    ("invalid-method", "A method's name has characters that no method has."),
    (
        "invalid-mirror-share",
        "The share of requests that a mirror gets is not between none and all.",
    ),
    ("invalid-name", "A text is not the name of an object."),
    (
        "invalid-origin",
        "An origin is not a scheme, a host and an optional port.",
    ),
    ("invalid-param-name", "A query parameter's name is empty or too long."),
    ("invalid-password-hash", "A password hash is cut off or misspelt."),
    ("invalid-path", "A text is not a path."),
    (
        "invalid-policy-name",
        "A policy's namespace or name has characters that Kubernetes would refuse.",
    ),
    ("invalid-port", "A number is not a port that can be used there."),
    (
        "invalid-provider-name",
        "A provider's name is not a qualified name of Kubernetes.",
    ),
    (
        "invalid-query-parameter",
        "A text is not the name of a query parameter.",
    ),
    ("invalid-redirect-code", "A status is not one of a redirect."),
    ("invalid-regex", "A text is not a regular expression of RE2."),
    ("invalid-retry", "A retry's attempts or codes are out of range."),
    (
        "invalid-route-kind",
        "A listener admits a kind of route that is not served.",
    ),
    (
        "invalid-rule-name",
        "A rule's name is empty, too long, or has control characters.",
    ),
    ("invalid-scope", "A scope is empty, too long, or has a space."),
    ("invalid-subject", "A text is not the subject of a certificate."),
    ("invalid-time", "A text is not a moment in time."),
    ("invalid-uri", "A text is not an address that can be fetched."),
    ("invalid-user-name", "A line does not begin with the name of a user."),
    ("invalid-value", "A value has not the form that its field demands."),
    (
        "invalid-value-prefix",
        "What stands before a token cannot stand in a header.",
    ),
    ("invalid-weight", "The weights of a rule's backends are too large."),
    ("kind-ignored", "An object is of a kind that is not used."),
    (
        "listener-conflict",
        "Two listeners of a port exclude each other, so neither is served.",
    ),
    (
        "listener-set-not-allowed",
        "A ListenerSet joins a Gateway that does not admit it.",
    ),
    ("malformed-cel", "The nodes of an expression are no tree."),
    (
        "merge-default-action",
        "A merge leaves out the action for requests that no rule matches, which makes it Deny.",
    ),
    ("merge-failed", "A policy could not be merged with the one above it."),
    (
        "merge-jwt",
        "A merge takes over from the policy above that requests pass without a token.",
    ),
    (
        "merge-namespace",
        "A merge gives a reference the namespace of the policy above.",
    ),
    (
        "method-not-configured",
        "A list of authentication methods names one that the policy does not have.",
    ),
    (
        "mirror-withheld",
        "Nothing is mirrored, because a copy would hold a credential.",
    ),
    ("missing-api-version", "An object does not say its apiVersion."),
    ("missing-backend-port", "A reference to a Service names no port."),
    ("missing-certificate", "A listener for HTTPS has no certificate."),
    ("missing-field", "A field that is required is absent."),
    ("missing-filter-settings", "A filter lacks the settings of its type."),
    ("missing-kind", "An object does not say its kind."),
    ("missing-name", "An object has no name."),
    ("no-api-key", "No Secret holds an API key, so every request is refused."),
    (
        "no-client-ca",
        "A listener is to verify certificates of clients, and trusts nobody to sign them.",
    ),
    ("no-endpoints", "A backend has no endpoint that is ready."),
    ("no-gateway", "No Gateway belongs to this controller."),
    (
        "no-geo-database",
        "A rule asks where a client is, and the proxies have no database that tells it.",
    ),
    (
        "no-key-for-algorithms",
        "No key of a set is for an algorithm that is accepted, so every token is refused.",
    ),
    (
        "no-key-set",
        "Where the key set of a provider stands is not said, or there is none.",
    ),
    (
        "no-key-source",
        "API keys are wanted, but no place to look for them is named.",
    ),
    (
        "no-matching-hostname",
        "A route and the listeners it refers to share no hostname.",
    ),
    (
        "no-matching-parent",
        "A route's parentRef names a listener that the Gateway does not have.",
    ),
    ("no-provider", "Tokens are wanted, but nobody who issues them is named."),
    (
        "no-ready-listeners",
        "Every listener that a route's parentRef selects is invalid or in conflict.",
    ),
    (
        "no-system-certificates",
        "Where the proxies' system keeps the certificates that it trusts is not known.",
    ),
    ("no-target", "A policy targets nothing."),
    ("no-usable-key", "No key of a set can verify tokens."),
    ("no-user", "No Secret names a user."),
    (
        "not-allowed-by-listeners",
        "The listeners that a route refers to do not admit routes of its kind or namespace.",
    ),
    ("not-an-object", "A document is not a Kubernetes object."),
    (
        "optional-alternative",
        "One of several methods lets anybody in, which makes the others pointless.",
    ),
    (
        "optional-and-fail-open",
        "Tokens are optional, and their faults are to be overlooked: the second includes the first.",
    ),
    ("out-of-range", "A number is too small or too large."),
    (
        "parameters-not-found",
        "A Gateway or its class refers to an EnvoyProxy that does not exist.",
    ),
    (
        "parent-invalid",
        "A policy is to be merged with one that is invalid itself.",
    ),
    (
        "parent-not-found",
        "A route's parentRef names a Gateway that does not exist.",
    ),
    (
        "password-hash-too-costly",
        "A password hash takes so long to compare that it would hold up every request of a worker.",
    ),
    (
        "password-hashes-too-costly",
        "Password hashes are of so many sorts that a refusal, which computes one of each, would hold up every request of a worker.",
    ),
    ("policy-conflict", "Two policies target the same thing."),
    (
        "policy-too-large",
        "A policy with its secrets exceeds what a proxy accepts.",
    ),
    (
        "prefix-rewrite-without-prefix",
        "A filter replaces the prefix of a path that is not matched by prefix.",
    ),
    (
        "reference-not-permitted",
        "A reference into another namespace has no ReferenceGrant there.",
    ),
    (
        "regex-too-large",
        "A regular expression is too large once it is compiled.",
    ),
    (
        "request-only-rule",
        "A rule asks for what only requests have, so it allows no connection, or denies more of them.",
    ),
    (
        "reserved-header-name",
        "A header that frames requests or steers the proxy is named for something else.",
    ),
    (
        "route-not-programmed",
        "Another TCPRoute has the listener, so this one gets no connections.",
    ),
    ("scope-is-a-list", "A rule compares scopes as if they were one text."),
    ("secret-not-found", "A Secret that a policy refers to does not exist."),
    (
        "section-not-found",
        "A policy names a listener or a rule that its target does not have.",
    ),
    (
        "shadow-of-connections",
        "A shadow covers TCPRoutes, whose connections it is not evaluated for.",
    ),
    (
        "shared-policy-name",
        "An AccessPolicy and a SecurityPolicy have the same name, by which logs and metrics call both.",
    ),
    ("target-not-found", "A policy targets an object that does not exist."),
    ("too-long", "A text or a list is longer than its field allows."),
    (
        "too-many",
        "Something is longer, or comes to more, than a proxy accepts.",
    ),
    ("too-short", "A text or a list is shorter than its field allows."),
    (
        "unknown-algorithm",
        "Tokens are not verified by an algorithm of that name.",
    ),
    ("unknown-client", "An expiry names a client that has no API key."),
    ("unknown-field", "An object has no such field."),
    ("unknown-function", "An expression calls a function that there is not."),
    ("unknown-kind", "A kind does not exist; one with a similar name does."),
    (
        "unknown-metadata",
        "An expression reads metadata that is not a token's.",
    ),
    (
        "unknown-provider",
        "Something names a provider of tokens that the policy does not have.",
    ),
    ("unknown-value", "A value is not among those that are allowed."),
    ("unknown-variable", "An expression reads a variable that there is not."),
    ("unreadable-object", "An object fits its schema but cannot be read."),
    (
        "unseen-names",
        "A rule denies names that a certificate may hold where they are not seen.",
    ),
    (
        "unsupported-backend",
        "A backend asks for something that is not served.",
    ),
    (
        "unsupported-field",
        "A field asks for something that is not enforced yet.",
    ),
    ("unsupported-filter", "A filter is of a type that is not served."),
    (
        "unsupported-for-tcp",
        "A policy of a TCPRoute asks of connections what only requests can answer.",
    ),
    (
        "unsupported-parent-kind",
        "A route's parentRef is of a kind that is not served.",
    ),
    (
        "unsupported-password-hash",
        "A password is hashed in a way that is not enforced.",
    ),
    (
        "unsupported-protocol",
        "A backend speaks a protocol that its route is not sent by.",
    ),
    (
        "unsupported-reference",
        "A reference is to a group or kind that cannot be used there.",
    ),
    (
        "unsupported-target",
        "A policy targets a group or kind that is not served.",
    ),
    ("unsupported-version", "A kind has no such version here."),
    ("wrong-type", "A value is of another type than its field."),
    ("yaml-syntax", "A file is not YAML."),
    (
        "zero-lifetime",
        "A token may not live at all, so every token is refused.",
    ),
];

#[cfg(test)]
mod tests {
    use super::CODES;

    #[test]
    fn codes_are_sorted_and_unique() {
        assert!(CODES.is_sorted_by(|(one, _), (other, _)| one < other));
    }
}
