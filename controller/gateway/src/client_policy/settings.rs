//! What a ClientTrafficPolicy asks for.

use portcullis_api::client_traffic_policy::{ClientIpDetection, ClientTrafficPolicySpec};
use portcullis_engine::address::parse_network;

use crate::{
    client_certificates::not_optional,
    detection::Detection,
    report::{Fault, ignored},
};

/// Reads the settings of a policy.
///
/// # Errors
///
/// Says which one cannot be followed, below `spec.clientIPDetection`.
pub(super) fn read(settings: Option<&ClientIpDetection>) -> Result<Detection, Fault> {
    let Some(settings) = settings else {
        return Ok(Detection::default());
    };
    if let Some(forwarded) = &settings.x_forwarded_for {
        let append = forwarded.disable_x_forwarded_for_append != Some(true);
        let hops = forwarded
            .num_trusted_hops
            .map(|hops| u32::try_from(hops).unwrap_or_default());
        return match hops {
            Some(0) => Ok(Detection::Peer { append }),
            Some(hops) => Ok(Detection::Hops { hops, append }),
            None => {
                let mut networks = Vec::with_capacity(forwarded.trusted_cidrs.len());
                for (index, text) in forwarded.trusted_cidrs.iter().enumerate() {
                    let path = format!("xForwardedFor.trustedCIDRs[{index}]");
                    let network = parse_network(text).map_err(|meant| {
                        let mut fault = Fault::new("invalid-cidr", path, format!("{text:?} is not a CIDR"));
                        fault.fix = meant.map(|meant| format!("write {meant:?}"));
                        fault
                    })?;
                    networks.push((network.network().to_string(), u32::from(network.prefix_len())));
                }
                networks.sort();
                networks.dedup();
                // A filter chain for no network would be one for all.
                if networks.is_empty() {
                    return Ok(Detection::Peer { append });
                }
                Ok(Detection::Proxies { networks, append })
            }
        };
    }
    let Some(header) = &settings.custom_header else {
        return Ok(Detection::default());
    };
    let name = header.name.to_ascii_lowercase();
    if name.starts_with("x-envoy-") {
        let message = format!("{name:?} belongs to the proxy, which removes what clients send in it");
        return Err(Fault::new("invalid-header-name", "customHeader.name", message).fix("use another header"));
    }
    Ok(Detection::Header {
        name,
        reject: header.fail_closed == Some(true),
    })
}

/// Fields that have no effect.
pub(super) fn unused(spec: &ClientTrafficPolicySpec) -> Vec<Fault> {
    let set = [
        ("tcpKeepalive", spec.tcp_keepalive.is_some()),
        ("enableProxyProtocol", spec.enable_proxy_protocol.is_some()),
        ("proxyProtocol", spec.proxy_protocol.is_some()),
        ("path", spec.path.is_some()),
        ("headers", spec.headers.is_some()),
        ("timeout", spec.timeout.is_some()),
        ("connection", spec.connection.is_some()),
        ("http1", spec.http1.is_some()),
        ("http2", spec.http2.is_some()),
        ("http3", spec.http3.is_some()),
        ("grpc", spec.grpc.is_some()),
        ("healthCheck", spec.health_check.is_some()),
        ("scheme", spec.scheme.is_some()),
    ];
    let of_tls = spec.tls.iter().flatten().map(|(name, _)| name.as_str());
    let of_tls = of_tls
        .filter(|name| *name != "clientValidation")
        .map(|name| format!("spec.tls.{name}"));
    let validation = spec.tls.as_ref().and_then(|tls| tls.get("clientValidation"));
    let optional = validation.and_then(not_optional).map(|list| {
        let why = format!("with {list} Envoy serves no client without a certificate");
        ignored("spec.tls.clientValidation.optional", &why)
    });
    let set = set.into_iter().filter(|(_, set)| *set);
    set.map(|(name, _)| format!("spec.{name}"))
        .chain(of_tls)
        .map(|path| ignored(&path, "only clientIPDetection and tls.clientValidation are enforced"))
        .chain(optional)
        .collect()
}
