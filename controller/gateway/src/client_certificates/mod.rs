//! Certificates of clients: who asks for them on an HTTPS listener, whose signatures count, and what becomes of clients
//! without one (Gateway API, `Gateway.spec.tls.frontend`; Envoy Gateway, `ClientTrafficPolicy.spec.tls.clientValidation`).
//!
//! A listener that is to ask for certificates asks as it was told to or is not served: without them it would be open.

mod authorities;
mod settings;

use envoy_types::pb::envoy::{
    config::{
        core::v3::{DataSource, SubstitutionFormatString, data_source::Specifier, substitution_format_string::Format},
        listener::v3::{Filter, filter},
    },
    extensions::{
        filters::{
            common::set_filter_state::v3::{
                FilterStateValue,
                filter_state_value::{Key, Value},
            },
            network::set_filter_state::v3::Config,
        },
        transport_sockets::tls::v3::{
            CertificateValidationContext, DownstreamTlsContext, SubjectAltNameMatcher,
            certificate_validation_context::TrustChainVerification, common_tls_context::ValidationContextType,
            downstream_tls_context::SessionTicketKeysType,
        },
    },
};
use gateway_api::gateways::{
    Gateway, GatewayTlsFrontendDefaultValidationMode as DefaultMode,
    GatewayTlsFrontendPerPortTlsValidationMode as PortMode,
};
use portcullis_attachment::object::{self, GATEWAY_GROUP, ListenerRef, POLICY_GROUP};
use portcullis_engine::host::{CERTIFICATES_STATE, CERTIFICATES_VERIFIED};

pub(crate) use self::authorities::{ConfigMaps, config_maps};
use self::authorities::{Owner, Reference};
pub(crate) use self::settings::not_optional;
use crate::{
    client_policy::{ClientPolicies, Holder},
    gateway::World,
    report::Fault,
    xds::{any, inline, no, yes},
};

/// What a listener asks of the certificates of clients.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Validation {
    pub(crate) mode: Mode,
    /// PEM text (RFC 7468) of those whose signatures count.
    authorities: Vec<u8>,
    /// SHA-256 of public keys in base64, and of certificates in hex, of which a certificate has one where any is listed.
    keys: Vec<String>,
    certificates: Vec<String>,
    /// Names of which a certificate has one where any is listed.
    names: Vec<SubjectAltNameMatcher>,
}

/// What becomes of clients without a certificate that can be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Their connection is closed.
    Required,
    /// Those without any are served, those with another one are not.
    Optional,
    /// All are served, and Envoy does not tell which is which.
    Unverified,
}

/// Why a listener that asks for certificates is not served, or not as it was told to.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The reason of `Accepted`.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// What was found out about a listener.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Nothing where nobody asks.
    pub(crate) validation: Result<Option<Validation>, Refused>,
    /// A reference that leads nowhere, for `ResolvedRefs`.
    pub(crate) unresolved: Option<(&'static str, String)>,
    /// Faults of the object that the listener stands in.
    pub(crate) faults: Vec<Fault>,
}

impl Asked {
    const fn of(validation: Result<Option<Validation>, Refused>) -> Self {
        Self {
            validation,
            unresolved: None,
            faults: Vec::new(),
        }
    }

    fn unsupported(at: &str, message: String) -> Self {
        Self {
            faults: vec![Fault::new("unsupported-field", at, message.clone())],
            ..Self::of(Err(Refused {
                reason: "UnsupportedValue",
                message,
            }))
        }
    }
}

/// The validation of one port, whichever of the two places it stands in.
struct Frontend {
    path: String,
    references: Vec<Reference>,
    insecure: bool,
}

/// What an HTTPS listener asks for; `at` is its own path in the object that it stands in.
pub(crate) fn of_listener(
    gateway: &Gateway,
    listener: &ListenerRef,
    port: i32,
    at: &str,
    world: &World<'_>,
    clients: &ClientPolicies<'_>,
) -> Asked {
    let frontend = match frontend(gateway, port) {
        Ok(frontend) => frontend,
        Err(fault) => {
            let at = if listener.set.is_none() {
                fault.path.as_str()
            } else {
                at
            };
            return Asked::unsupported(at, fault.message);
        }
    };
    let policy = match clients.client_validation(listener) {
        Holder::Silent => None,
        Holder::Asks {
            namespace,
            name,
            settings,
        } => Some((namespace, name, settings)),
        Holder::Unclear(why) => {
            let message = format!("{why}: whether it asks for certificates of clients cannot be told");
            return Asked::unsupported(at, message);
        }
    };
    match (frontend, policy) {
        (None, None) => Asked::of(Ok(None)),
        (Some(_), Some((namespace, name, _))) => Asked::unsupported(
            at,
            format!(
                "the Gateway (spec.tls.frontend) and ClientTrafficPolicy {namespace}/{name} (spec.tls.clientValidation) both ask for certificates of clients; let one of them"
            ),
        ),
        (Some(frontend), None) => {
            let owner = Owner {
                group: GATEWAY_GROUP,
                kind: "Gateway",
                namespace: object::namespace(&gateway.metadata),
            };
            let at = if listener.set.is_none() {
                frontend.path.as_str()
            } else {
                at
            };
            let validation = Validation {
                mode: if frontend.insecure {
                    Mode::Unverified
                } else {
                    Mode::Required
                },
                authorities: Vec::new(),
                keys: Vec::new(),
                certificates: Vec::new(),
                names: Vec::new(),
            };
            resolved(
                validation,
                owner,
                &frontend.references,
                at,
                listener.set.is_none(),
                world,
            )
        }
        (None, Some((namespace, name, written))) => {
            let whose = format!("ClientTrafficPolicy {namespace}/{name}");
            let (validation, references) = match settings::read(written) {
                Ok(read) => read,
                Err(fault) => {
                    let message = format!("{whose}: {}: {}", fault.path, fault.message);
                    return Asked::unsupported(at, message);
                }
            };
            let owner = Owner {
                group: POLICY_GROUP,
                kind: "ClientTrafficPolicy",
                namespace,
            };
            resolved(validation, owner, &references, at, false, world)
        }
    }
}

/// Puts the authorities in that references lead to.
fn resolved(
    mut validation: Validation,
    owner: Owner<'_>,
    references: &[Reference],
    at: &str,
    own: bool,
    world: &World<'_>,
) -> Asked {
    let mut faults = Vec::new();
    let mut unresolved = None;
    for (index, reference) in references.iter().enumerate() {
        match authorities::resolve(world, owner, reference) {
            Ok(pem) => validation.authorities.extend(pem),
            Err((reason, fault)) => {
                unresolved.get_or_insert_with(|| (reason, fault.message.clone()));
                // Of another object only the message means something.
                let place = if own {
                    fault.below(&format!("{at}.caCertificateRefs[{index}]"))
                } else {
                    Fault {
                        path: at.to_owned(),
                        ..fault
                    }
                };
                faults.push(place);
            }
        }
    }
    let validation = if validation.authorities.is_empty() {
        let message = "none of the CA certificates for clients can be used".to_owned();
        if faults.is_empty() {
            faults.push(Fault::new("no-client-ca", at, message.clone()));
        }
        Err(Refused {
            reason: "NoValidCACertificate",
            message,
        })
    } else {
        Ok(Some(validation))
    };
    Asked {
        validation,
        unresolved,
        faults,
    }
}

/// What a Gateway asks for on a port: what it says of the port, and nothing else, or what it says of all others.
fn frontend(gateway: &Gateway, port: i32) -> Result<Option<Frontend>, Fault> {
    let Some(frontend) = gateway.spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref()) else {
        return Ok(None);
    };
    let of_port = frontend.per_port.iter().flatten().enumerate();
    let mut of_port = of_port.filter(|(_, of_port)| of_port.port == port);
    let (first, second) = (of_port.next(), of_port.next());
    if let Some((index, _)) = second {
        let path = format!("spec.tls.frontend.perPort[{index}].port");
        let message = format!("an entry before it is for port {port} too: which of the two counts cannot be told");
        return Err(Fault::new("unsupported-field", path, message));
    }
    let Some((index, of_port)) = first else {
        return Ok(frontend.default.validation.as_ref().map(|validation| {
            let references = validation.ca_certificate_refs.iter();
            Frontend {
                path: "spec.tls.frontend.default.validation".to_owned(),
                references: references
                    .map(|to| Reference::new(&to.group, &to.kind, &to.name, to.namespace.as_deref()))
                    .collect(),
                insecure: validation.mode == Some(DefaultMode::AllowInsecureFallback),
            }
        }));
    };
    Ok(of_port.tls.validation.as_ref().map(|validation| {
        let references = validation.ca_certificate_refs.iter();
        Frontend {
            path: format!("spec.tls.frontend.perPort[{index}].tls.validation"),
            references: references
                .map(|to| Reference::new(&to.group, &to.kind, &to.name, to.namespace.as_deref()))
                .collect(),
            insecure: validation.mode == Some(PortMode::AllowInsecureFallback),
        }
    }))
}

impl Validation {
    /// Whether every certificate that a client can have shown was verified.
    pub(crate) fn verifies(&self) -> bool {
        self.mode != Mode::Unverified
    }

    /// Asks for certificates where TLS is terminated. A session that is taken up again would not be asked again: its
    /// certificate may have ended since, so none is.
    pub(crate) fn apply(&self, context: &mut DownstreamTlsContext) {
        let verification = if self.verifies() {
            TrustChainVerification::VerifyTrustChain
        } else {
            TrustChainVerification::AcceptUntrusted
        };
        let validation = CertificateValidationContext {
            trusted_ca: inline(self.authorities.clone()),
            verify_certificate_spki: self.keys.clone(),
            verify_certificate_hash: self.certificates.clone(),
            match_typed_subject_alt_names: self.names.clone(),
            trust_chain_verification: verification.into(),
            ..CertificateValidationContext::default()
        };
        if let Some(common) = context.common_tls_context.as_mut() {
            common.validation_context_type = Some(ValidationContextType::ValidationContext(validation));
        }
        let required = self.mode == Mode::Required;
        context.require_client_certificate = if required { yes() } else { no() };
        context.disable_stateful_session_resumption = true;
        context.session_ticket_keys_type = Some(SessionTicketKeysType::DisableStatelessSessionResumption(true));
    }

    /// The network filter that tells the engine that the certificates of a filter chain are verified: it stands beside the
    /// TLS context that verifies them, so that the two cannot be told of different ones.
    pub(crate) fn mark(&self) -> Option<Filter> {
        let text = |text: &str| SubstitutionFormatString {
            format: Some(Format::TextFormatSource(DataSource {
                specifier: Some(Specifier::InlineString(text.to_owned())),
                ..DataSource::default()
            })),
            ..SubstitutionFormatString::default()
        };
        let config = Config {
            on_new_connection: vec![FilterStateValue {
                key: Some(Key::ObjectKey(CERTIFICATES_STATE.to_owned())),
                factory_key: "envoy.string".to_owned(),
                value: Some(Value::FormatString(text(CERTIFICATES_VERIFIED))),
                ..FilterStateValue::default()
            }],
            ..Config::default()
        };
        self.verifies().then(|| Filter {
            name: MARK.to_owned(),
            config_type: Some(filter::ConfigType::TypedConfig(any(&config))),
        })
    }
}

/// The name of the filter of [`Validation::mark`].
pub(crate) const MARK: &str = "verified-certificates";
