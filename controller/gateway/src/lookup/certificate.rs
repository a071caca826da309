//! What a filter chain asks of the certificates of clients.

use envoy_types::pb::envoy::{
    config::core::v3::{TransportSocket, transport_socket},
    extensions::transport_sockets::tls::v3::{
        DownstreamTlsContext, certificate_validation_context::TrustChainVerification,
        common_tls_context::ValidationContextType,
    },
};
use prost::{Message, Name};

use super::unclear::Unclear;

/// The certificate that a client shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// That is not said.
    #[default]
    Unsaid,
    /// None.
    Nothing,
    /// One that an authority which counts has signed, and that has not ended.
    Valid(ClientCertificate),
}

/// The names in a certificate that a proxy sees: the first of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The URI, such as a SPIFFE ID.
    pub uri_san: Option<String>,
    /// The DNS name.
    pub dns_san: Option<String>,
    /// The subject (RFC 2253).
    pub subject: Option<String>,
}

/// What a filter chain does with certificates of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Validation {
    required: bool,
    /// Whether the engine may know that what is shown was verified.
    verifies: bool,
    /// Whether not every certificate of the authorities is taken.
    restricted: bool,
}

/// What becomes of a connection.
pub(crate) enum Connected<'a> {
    /// It is closed.
    Refused,
    /// It stands; whether the certificate that was shown and verified is known, and which it is.
    Stands(Option<Option<&'a ClientCertificate>>),
}

impl Validation {
    /// Reads a filter chain's TLS; `marked` tells whether the chain says of itself that it verifies certificates.
    ///
    /// # Errors
    ///
    /// It says something that is not understood.
    pub(crate) fn read(socket: Option<&TransportSocket>, marked: bool, what: &str) -> Result<Self, Unclear> {
        let unclear = || {
            Unclear::new(format!(
                "{what} verifies certificates of clients in a way that only Envoy knows"
            ))
        };
        let Some(socket) = socket else {
            return if marked { Err(unclear()) } else { Ok(Self::default()) };
        };
        let context = match &socket.config_type {
            Some(transport_socket::ConfigType::TypedConfig(any))
                if any.type_url == DownstreamTlsContext::type_url() =>
            {
                DownstreamTlsContext::decode(any.value.as_slice()).map_err(|_| unclear())?
            }
            _ => return Err(unclear()),
        };
        let required = context.require_client_certificate.is_some_and(|flag| flag.value);
        let common = context.common_tls_context.unwrap_or_default();
        let validation = match common.validation_context_type {
            None if required || marked => return Err(unclear()),
            None => return Ok(Self::default()),
            Some(ValidationContextType::ValidationContext(validation)) => validation,
            Some(_) => return Err(unclear()),
        };
        let checks = validation.trust_chain_verification == i32::from(TrustChainVerification::VerifyTrustChain)
            && validation.trusted_ca.is_some();
        if checks != marked || required && !checks {
            return Err(unclear());
        }
        let restricted = !validation.verify_certificate_spki.is_empty()
            || !validation.verify_certificate_hash.is_empty()
            || !validation.match_typed_subject_alt_names.is_empty();
        Ok(Self {
            // Envoy finds none of what it looks for where no certificate is shown.
            required: required || checks && restricted,
            verifies: checks,
            restricted,
        })
    }

    /// What becomes of the connection of a client.
    ///
    /// # Errors
    ///
    /// That depends on what is not said.
    pub(crate) fn connect<'a>(&self, shown: &'a Shown) -> Result<Connected<'a>, Unclear> {
        match shown {
            _ if !self.verifies => Ok(Connected::Stands(Some(None))),
            Shown::Unsaid if self.required => Err(Unclear::new(
                "the listener asks for a certificate, and the request does not say which one the client shows",
            )),
            Shown::Unsaid => Ok(Connected::Stands(None)),
            Shown::Nothing if self.required => Ok(Connected::Refused),
            Shown::Nothing => Ok(Connected::Stands(Some(None))),
            Shown::Valid(_) if self.restricted => Err(Unclear::new(
                "the listener takes only some certificates of its authorities: those of certain names, keys or digests",
            )),
            Shown::Valid(certificate) => Ok(Connected::Stands(Some(Some(certificate)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher,
    };

    use super::*;
    use crate::xds::{any, inline};

    #[test]
    fn a_certificate_is_optional_only_where_any_of_the_authorities_will_do() {
        let listed = CertificateValidationContext {
            trusted_ca: inline(b"some".to_vec()),
            ..CertificateValidationContext::default()
        };
        let lists = [
            (listed.clone(), false),
            (
                CertificateValidationContext {
                    verify_certificate_spki: vec!["some".to_owned()],
                    ..listed.clone()
                },
                true,
            ),
            (
                CertificateValidationContext {
                    verify_certificate_hash: vec!["some".to_owned()],
                    ..listed.clone()
                },
                true,
            ),
            (
                CertificateValidationContext {
                    match_typed_subject_alt_names: vec![SubjectAltNameMatcher::default()],
                    ..listed
                },
                true,
            ),
        ];
        for (validation, refused) in lists {
            let context = DownstreamTlsContext {
                common_tls_context: Some(CommonTlsContext {
                    validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
                    ..CommonTlsContext::default()
                }),
                ..DownstreamTlsContext::default()
            };
            let socket = TransportSocket {
                config_type: Some(transport_socket::ConfigType::TypedConfig(any(&context))),
                ..TransportSocket::default()
            };
            let Ok(read) = Validation::read(Some(&socket), true, "it") else {
                panic!("it cannot be read");
            };
            let connected = read.connect(&Shown::Nothing);
            assert_eq!(matches!(connected, Ok(Connected::Refused)), refused);
        }
    }
}
