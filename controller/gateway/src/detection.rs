//! How a listener finds out the address of a client, in Envoy's terms.
//!
//! The address is the connection's peer, unless a ClientTrafficPolicy names somebody whose word is taken for it. Then a
//! request for which nobody gives that word has no address at all: the peer is a proxy, and rules that allow addresses
//! usually name the proxies too. The filter reads the unspecified address as none.

use envoy_types::pb::{
    envoy::{
        config::{
            common::mutation_rules::v3::{HeaderMutation as Mutation, header_mutation::Action},
            core::v3::{CidrRange, TypedExtensionConfig, header_value_option::HeaderAppendAction},
        },
        extensions::{
            filters::network::http_connection_manager::v3::HttpConnectionManager,
            http::{
                early_header_mutation::header_mutation::v3::HeaderMutation,
                original_ip_detection::{
                    custom_header::v3::CustomHeaderConfig,
                    xff::v3::{XffConfig, XffTrustedCidrs},
                },
            },
        },
        r#type::v3::HttpStatus,
    },
    google::protobuf::BoolValue,
};

use crate::xds::{any, header, number, yes};

/// Where Envoy finds the address of a request that has none. The filter removes every `x-envoy-*` before a backend sees it.
const UNKNOWN: &str = "x-envoy-client-address-unknown";

/// The name of filter chains for connections from trusted proxies.
const TRUSTED: &str = "trusted";

/// How the address of a client is found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Detection {
    /// The connection's peer.
    Peer {
        /// Whether backends read the peer in `X-Forwarded-For`.
        append: bool,
    },
    /// The entry of `X-Forwarded-For` so many from the right, one or more.
    Hops { hops: u32, append: bool },
    /// Entries of `X-Forwarded-For` as far as proxies of these networks wrote them.
    Proxies { networks: Vec<(String, u32)>, append: bool },
    /// A header that holds nothing else.
    Header {
        name: String,
        /// Whether a request without an address is answered 403.
        reject: bool,
    },
    /// No request has one.
    Unknown,
}

impl Default for Detection {
    fn default() -> Self {
        Self::Peer { append: true }
    }
}

/// Which connections of a listener one connection manager serves.
pub(crate) struct Peers<'a> {
    /// What is added to the filter chain's name.
    pub(crate) suffix: Option<&'static str>,
    /// The peers' networks; all other connections if absent.
    pub(crate) networks: Option<Vec<CidrRange>>,
    detection: &'a Detection,
    trusted: bool,
}

impl Detection {
    /// Tells connections apart by whether their peer's word on the client is taken.
    pub(crate) fn peers(&self) -> Vec<Peers<'_>> {
        let of = |suffix, networks, trusted| Peers {
            suffix,
            networks,
            detection: self,
            trusted,
        };
        match self {
            Self::Peer { .. } | Self::Unknown => vec![of(None, None, false)],
            Self::Hops { .. } | Self::Header { .. } => vec![of(None, None, true)],
            // A chain of their own, so that an untrusted peer's `x-forwarded-proto` is overwritten as on any listener.
            Self::Proxies { networks, .. } => {
                vec![of(Some(TRUSTED), Some(ranges(networks)), true), of(None, None, false)]
            }
        }
    }
}

impl Peers<'_> {
    /// Completes a connection manager.
    pub(crate) fn apply(&self, manager: &mut HttpConnectionManager) {
        // Envoy writes it only where the address is the peer's, and the filter lets it pass for that.
        let mut mutations = vec![remove("x-envoy-external-address")];
        if !self.trusted {
            mutations.push(remove("x-forwarded-host"));
        }
        let append = match self.detection {
            Detection::Peer { append } | Detection::Proxies { append, .. } | Detection::Hops { append, .. } => *append,
            Detection::Header { .. } | Detection::Unknown => false,
        };
        let own = match self.detection {
            Detection::Proxies { networks, .. } if self.trusted => Some(xff(&XffConfig {
                xff_trusted_cidrs: Some(XffTrustedCidrs {
                    cidrs: ranges(networks),
                }),
                skip_xff_append: skip(append),
                ..XffConfig::default()
            })),
            Detection::Hops { hops, .. } => Some(xff(&XffConfig {
                // Envoy counts from zero.
                xff_num_trusted_hops: hops.saturating_sub(1),
                skip_xff_append: skip(append),
                ..XffConfig::default()
            })),
            Detection::Header { name, reject } => Some(from_header(name, *reject)),
            Detection::Unknown => {
                // Without `use_remote_address` Envoy keeps what a client says.
                mutations.push(remove("x-forwarded-proto"));
                None
            }
            Detection::Peer { .. } | Detection::Proxies { .. } => {
                manager.use_remote_address = yes();
                manager.skip_xff_append = !append;
                manager.early_header_mutation_extensions = vec![early(mutations)];
                return;
            }
        };
        mutations.push(Mutation {
            action: Some(Action::Append(header(
                UNKNOWN,
                "0.0.0.0",
                HeaderAppendAction::OverwriteIfExistsOrAdd,
            ))),
        });
        manager.early_header_mutation_extensions = vec![early(mutations)];
        // The first that finds an address decides; one that rejects is the last.
        manager.original_ip_detection_extensions = own.into_iter().chain([from_header(UNKNOWN, false)]).collect();
    }
}

fn ranges(networks: &[(String, u32)]) -> Vec<CidrRange> {
    let range = |(address, length): &(String, u32)| CidrRange {
        address_prefix: address.clone(),
        prefix_len: number(*length),
    };
    networks.iter().map(range).collect()
}

const fn skip(append: bool) -> Option<BoolValue> {
    Some(BoolValue { value: !append })
}

fn remove(name: &str) -> Mutation {
    Mutation {
        action: Some(Action::Remove(name.to_owned())),
    }
}

fn early(mutations: Vec<Mutation>) -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: "envoy.http.early_header_mutation.header_mutation".to_owned(),
        typed_config: Some(any(&HeaderMutation { mutations })),
    }
}

fn xff(config: &XffConfig) -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: "envoy.http.original_ip_detection.xff".to_owned(),
        typed_config: Some(any(config)),
    }
}

fn from_header(name: &str, reject: bool) -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: "envoy.http.original_ip_detection.custom_header".to_owned(),
        typed_config: Some(any(&CustomHeaderConfig {
            header_name: name.to_owned(),
            reject_with_status: reject.then_some(HttpStatus { code: 403 }),
            ..CustomHeaderConfig::default()
        })),
    }
}
