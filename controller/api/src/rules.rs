//! CEL rules that several definitions share, with Envoy Gateway's messages.

use kube::core::cel::Rule;

/// A rule says whom it is about; [`PRINCIPAL_PRESENT`] where there are no certificates.
pub(crate) fn principal_present() -> Rule {
    Rule::new("has(self.clientCIDRs) || has(self.jwt) || has(self.headers) || has(self.clientIPGeoLocations) || has(self.clientCertificate)")
        .message("at least one of clientCIDRs, jwt, headers, clientIPGeoLocations, or clientCertificate must be specified")
}

/// The rule and the message of a principal in Envoy Gateway's schema.
pub(crate) const PRINCIPAL_PRESENT: (&str, &str) = (
    "(has(self.clientCIDRs) || has(self.jwt) || has(self.headers) || has(self.clientIPGeoLocations))",
    "at least one of clientCIDRs, jwt, headers, or clientIPGeoLocations must be specified",
);

/// A backend is named.
pub(crate) fn backends_present() -> Rule {
    Rule::new("has(self.backendRef) || (has(self.backendRefs) && self.backendRefs.size() > 0)")
        .message("backendRef or backendRefs needs to be set")
}

/// Backends are of the kinds that can be resolved.
pub(crate) fn backend_kinds() -> Rule {
    Rule::new("has(self.backendRefs) ? self.backendRefs.all(f, f.kind == 'Service' || f.kind == 'ServiceImport' || f.kind == 'Backend') : true").message("BackendRefs only supports Service, ServiceImport, and Backend kind.")
}

/// Backends are of the groups that can be resolved.
pub(crate) fn backend_groups() -> Rule {
    Rule::new("has(self.backendRefs) ? (self.backendRefs.all(f, f.group == '' || f.group == 'multicluster.x-k8s.io' || f.group == 'gateway.envoyproxy.io')) : true").message("BackendRefs only supports Core, multicluster.x-k8s.io, and gateway.envoyproxy.io groups.")
}

/// The deprecated single reference is not used.
pub(crate) fn no_backend_ref() -> Rule {
    Rule::new("!has(self.backendRef)").message("BackendRefs must be used, backendRef is not supported.")
}

/// Retries have no timeout of their own.
pub(crate) fn no_retry_timeout() -> Rule {
    Rule::new("has(self.backendSettings) ? (has(self.backendSettings.retry) ? (has(self.backendSettings.retry.perRetry) ? !has(self.backendSettings.retry.perRetry.timeout) : true) : true) : true").message("Retry timeout is not supported.")
}

/// Retries do not depend on the status.
pub(crate) fn no_retry_status_codes() -> Rule {
    Rule::new("has(self.backendSettings) ? (has(self.backendSettings.retry) ? (has(self.backendSettings.retry.retryOn) ? !has(self.backendSettings.retry.retryOn.httpStatusCodes) : true) : true) : true").message("HTTPStatusCodes is not supported.")
}

/// A Service is named with its port.
pub(crate) fn service_port() -> Rule {
    Rule::new("(size(self.group) == 0 && self.kind == 'Service') ? has(self.port) : true")
        .message("Must have port for Service reference")
}
