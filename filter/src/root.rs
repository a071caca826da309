//! The root context: one per plugin and VM.

use crate::{host, http::Http, keys};
use portcullis_engine::geography::{Field, Geography};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

/// The filter state that this filter writes; Envoy knows each as `wasm.<name>`.
pub(crate) mod state {
    /// The hash of the policy that allowed the request. Written on allow only; the native filter behind this one admits
    /// nothing without it.
    pub(crate) const SEAL: &str = "portcullis.seal";
    /// Why the request ended as it did.
    pub(crate) const REASON: &str = "portcullis.reason";
    /// The policy that decided.
    pub(crate) const POLICY: &str = "portcullis.policy";
    /// The verified identity, if there is one.
    pub(crate) const PRINCIPAL: &str = "portcullis.principal";
    /// The authorization rule that decided, if one did.
    pub(crate) const RULE: &str = "portcullis.rule";
    /// The policy in shadow, if there is one.
    pub(crate) const SHADOW_POLICY: &str = "portcullis.shadow_policy";
    /// Why the request would have ended as it would have under the policy in shadow.
    pub(crate) const SHADOW_REASON: &str = "portcullis.shadow_reason";
    /// The authorization rule that would have decided, if one would.
    pub(crate) const SHADOW_RULE: &str = "portcullis.shadow_rule";

    /// The request's first context and the names of its verified headers, once its claims select the route: `17,x-tenant,`.
    /// Routes that such a header leads to are not selected without it.
    pub(crate) const CLAIMS: &str = "portcullis.claims";

    /// All of them.
    pub(crate) const ALL: [&str; 9] = [
        CLAIMS,
        SEAL,
        REASON,
        POLICY,
        PRINCIPAL,
        RULE,
        SHADOW_POLICY,
        SHADOW_REASON,
        SHADOW_RULE,
    ];
}

/// Which of the two instances of this filter a context is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It decides every request.
    First,
    /// It decides again what the first one sent to another route.
    Recheck,
}

/// The configuration of the second instance.
const RECHECK: &[u8] = b"recheck";

/// What the configuration of the first instance begins with where the proxy looks up clients; after it, for which fields.
///
/// It comes with the filter chain, as the look-up does: a connection of a chain without databases cannot make up where it is
/// from, whatever policy its requests meet.
const GEOGRAPHY: &[u8] = b"geography ";

/// The longest configuration that is read, in bytes.
const MAX_CONFIGURATION: usize = 256;

/// The root context. It holds no policy and no source of one: everything is decided from the request's route. It fetches keys.
#[derive(Debug)]
pub(crate) struct Root {
    place: Place,
    /// What the proxy has databases for; `None` where it looks up nobody.
    served: Option<Vec<Field>>,
}

impl Root {
    pub(crate) const fn new() -> Self {
        Self {
            place: Place::First,
            served: None,
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, _trailers: usize) {
        keys::answered(token, headers, body);
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        if (1..=MAX_CONFIGURATION).contains(&size) {
            // What cannot be read is another first instance without databases, which admits less.
            let configuration = host::configuration(size).unwrap_or_default();
            if configuration == RECHECK {
                self.place = Place::Recheck;
            }
            self.served = configuration.strip_prefix(GEOGRAPHY).map(Geography::served);
        }
        for name in state::ALL {
            // A name that is declared already (the same root context configured again) is refused, and stays as it is.
            // If the seal could not be declared, it would not compare equal: the requests are refused.
            let _ = host::declare_string_property(name);
        }
        #[cfg(feature = "faults")]
        if crate::faults::configure_fails() {
            return false;
        }
        // Never false: Envoy then skips the filter on this worker and acknowledges the configuration.
        true
    }

    fn on_tick(&mut self) {
        keys::tick();
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Http::new(id, self.place, self.served.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
