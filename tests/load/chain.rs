//! One rendered configuration with different filters in front of the router.

use std::path::Path;

use portcullis_e2e::{
    client,
    controller::Place,
    manifests,
    scratch::{self, Scratch},
    tables,
};
use serde_json::{Value, json};
use std::net::SocketAddr;

use crate::{
    native,
    scenarios::{ORIGIN, Scenario},
};

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chain {
    /// Nobody: the router alone.
    NoFilter,
    /// A wasm filter that says yes to everything without a single call of the host.
    EmptyWasm,
    /// Envoy's own filters, configured as Envoy Gateway 1.9 does for the same policy.
    Native,
    /// The chain of Portcullis, seal included.
    Portcullis,
}

impl Chain {
    /// Every chain, in the order of a round.
    pub(crate) const ALL: &'static [Self] = &[Self::NoFilter, Self::EmptyWasm, Self::Native, Self::Portcullis];

    /// The name in the table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::NoFilter => "no filter",
            Self::EmptyWasm => "an empty wasm filter",
            Self::Native => "Envoy's own filters",
            Self::Portcullis => "Portcullis",
        }
    }

    /// The name in the summary.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::NoFilter => "no_filter",
            Self::EmptyWasm => "empty_wasm",
            Self::Native => "native",
            Self::Portcullis => "portcullis",
        }
    }

    /// Whether this chain is measured in a scenario: what Portcullis is held against is Envoy's own filter where there is
    /// one, and a wasm filter that does nothing elsewhere.
    pub(crate) fn measures(self, scenario: &Scenario) -> bool {
        match self {
            Self::NoFilter | Self::Portcullis => true,
            Self::Native => scenario.native.is_some(),
            Self::EmptyWasm => scenario.native.is_none() || scenario.key == "all",
        }
    }

    /// The rendered configuration with this chain's filters; everything else is the same, access log included.
    pub(crate) fn configure(self, rendered: &Value, scenarios: &[Scenario], empty: &Path) -> Value {
        let mut config = rendered.clone();
        tables::on_free_ports(&mut config);
        if self == Self::Native {
            for scenario in scenarios {
                if let Some(native) = &scenario.native {
                    tables::route(&mut config, &scenario.path())["typed_per_filter_config"] = native.clone();
                }
            }
        }
        if self == Self::EmptyWasm {
            tables::use_filter(&mut config, empty);
        }
        for manager in tables::managers(&mut config) {
            let filters = tables::array(&mut manager["http_filters"]);
            let ours = filters.iter().position(|filter| filter["name"] == "portcullis");
            let ours = ours.map(|at| filters[at].clone()).expect("our filter is in the chain");
            let router = filters.last().cloned().expect("a chain with a router");
            *filters = match self {
                Self::Portcullis => continue,
                Self::NoFilter => vec![router],
                Self::EmptyWasm => vec![ours, router],
                Self::Native => native::chain().into_iter().chain([router]).collect(),
            };
        }
        config
    }

    /// Shows that this chain does what it is measured for: it admits the request, and where someone decides it refuses another.
    pub(crate) fn prove(self, scenario: &Scenario, listener: SocketAddr) {
        let name = format!("{}: {}", scenario.title, self.title());
        let decides = matches!(self, Self::Native | Self::Portcullis);
        let good = client::once(listener, &scenario.request());
        assert_eq!(good.status, 200, "{name}: {}", good.text());
        let (refused, status) = scenario.refused();
        let answer = client::once(listener, &refused);
        assert_eq!(
            answer.status,
            if decides { status } else { 200 },
            "{name}, refused: {}",
            answer.text()
        );
        if scenario.key == "all" {
            let allowed = good.header("access-control-allow-origin");
            assert_eq!(allowed.as_deref(), decides.then_some(ORIGIN), "{name}");
        }
    }
}

/// A backend that does as little as possible: Envoy answering by itself.
pub(crate) fn upstream() -> Value {
    json!({"static_resources": {"listeners": [{
        "name": "upstream",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "upstream",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}}]}]},
            "http_filters": [{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
        }}]}],
    }]}})
}

/// The configuration that `portcullis render` makes of every scenario's policy.
pub(crate) fn render(scratch: &Scratch, upstream: SocketAddr, scenarios: &[Scenario]) -> Value {
    let folder = scratch.join("manifests");
    let mut objects = vec![
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", 18080, None)]),
        manifests::backend("upstream", upstream),
    ];
    objects.extend(scenarios.iter().flat_map(Scenario::objects));
    scratch::write(&folder.join("all.yaml"), &manifests::file(&objects));
    Place::new(scratch, &folder).snippet(scratch)
}

/// A module whose callbacks for the heads of request and response return `Continue`: what entering a virtual machine
/// costs, and nothing else.
pub(crate) fn empty_module() -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    let mut section = |id: u8, content: &[u8]| {
        module.push(id);
        // Every number below 128 is one byte of LEB128.
        module.push(
            u8::try_from(content.len())
                .ok()
                .filter(|length| *length < 128)
                .expect("a short section"),
        );
        module.extend_from_slice(content);
    };
    // Types: (i32) -> i32, (i32, i32) -> (), (i32, i32, i32) -> i32, () -> ().
    section(
        1,
        &[
            4, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 0, 0x60, 3, 0x7f, 0x7f, 0x7f, 1, 0x7f, 0x60, 0, 0,
        ],
    );
    section(3, &[4, 0, 1, 2, 3]);
    // Two pages of memory; an allocation always gets the same place, which nobody reads.
    section(5, &[1, 0, 2]);
    let mut exports = vec![5];
    let all: [(&str, u8, u8); 5] = [
        ("memory", 2, 0),
        ("malloc", 0, 0),
        ("proxy_on_request_headers", 0, 2),
        ("proxy_on_response_headers", 0, 2),
        ("proxy_abi_version_0_2_1", 0, 3),
    ];
    for (name, kind, index) in all {
        exports.push(u8::try_from(name.len()).expect("a short name"));
        exports.extend_from_slice(name.as_bytes());
        exports.extend_from_slice(&[kind, index]);
    }
    section(7, &exports);
    section(
        10,
        &[
            4, 5, 0, 0x41, 0x80, 0x08, 0x0b, 2, 0, 0x0b, 4, 0, 0x41, 0, 0x0b, 2, 0, 0x0b,
        ],
    );
    module
}
