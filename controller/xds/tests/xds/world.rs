//! Real Envoy, its resources, and a server in front of it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{Cluster, cluster},
            core::v3::{
                Address, AggregatedConfigSource, ApiVersion, ConfigSource, DataSource, SocketAddress, address,
                config_source, data_source, socket_address,
            },
            endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint},
            listener::v3::{Filter, FilterChain, Listener, filter},
            route::v3::{
                DirectResponseAction, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route,
                route_action, route_match,
            },
        },
        extensions::filters::{
            http::router::v3::Router,
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, Rds, http_connection_manager, http_filter,
            },
        },
    },
    google::protobuf::{Any, Duration as ProtoDuration},
};
use portcullis_xds::{Event, Options, Resource, Server, Socket};
use prost::Message;
use tokio::sync::{mpsc::UnboundedReceiver, oneshot};

pub(crate) const CLUSTER: &str = "edge/public";

/// A directory that goes with its test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pxds-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server that serves, until dropped or stopped.
pub(crate) struct Serving {
    pub(crate) server: Server,
    pub(crate) events: UnboundedReceiver<Event>,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Serving {
    pub(crate) fn start(path: &Path) -> Self {
        let (server, events) = Server::new(Options::default());
        let socket = Socket::bind(path).unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = server.clone();
        let task = tokio::spawn(async move {
            let stopped = async move {
                let _ = stopped.await;
            };
            serving.serve(socket, stopped).await
        });
        Self {
            server,
            events,
            stop: Some(stop),
            task,
        }
    }

    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }

    /// Waits for the first event that `wanted` maps to something.
    pub(crate) async fn event<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        tokio::time::timeout(Duration::from_secs(15), async {
            loop {
                let event = self.events.recv().await.unwrap();
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        })
        .await
        .expect("no such event")
    }

    /// Waits until every connected proxy holds the published version of a resource.
    pub(crate) async fn acknowledged(&self, type_url: &str, name: &str) {
        let version = self.server.version(CLUSTER, type_url, name).expect("published");
        eventually(|| {
            self.server
                .acknowledgement(CLUSTER, type_url, name, &version)
                .is_complete()
                .then_some(())
        })
        .await;
    }
}

pub(crate) async fn eventually<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "did not happen within 15 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A running Envoy that takes its configuration from a socket.
pub(crate) struct Envoy {
    child: Child,
    admin: SocketAddr,
}

impl Envoy {
    pub(crate) async fn start(scratch: &Scratch, xds: &Path) -> Self {
        let bootstrap = scratch.path("bootstrap.yaml");
        std::fs::write(&bootstrap, BOOTSTRAP.replace("XDS", xds.to_str().unwrap())).unwrap();
        let admin_file = scratch.path("admin");
        let log = scratch.path("envoy.log");
        let child = Command::new(binary())
            .arg("--config-path")
            .arg(&bootstrap)
            .arg("--admin-address-path")
            .arg(&admin_file)
            .args(["--concurrency", "2", "--use-dynamic-base-id", "--drain-time-s", "1"])
            .args(["--component-log-level", "config:debug", "--log-path"])
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("PORTCULLIS_ENVOY or the cached Envoy 1.40.0");
        let admin = eventually(|| std::fs::read_to_string(&admin_file).ok()?.trim().parse().ok()).await;
        Self { child, admin }
    }

    /// Fetches a page of the admin interface.
    pub(crate) fn admin(&self, path: &str) -> String {
        get(self.admin, path, &[]).1
    }

    /// Returns a counter or gauge.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        let page = self.admin(&format!("/stats?filter=^{name}$"));
        page.trim()
            .rsplit(": ")
            .next()
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    }

    /// Waits for a listener and returns its address.
    pub(crate) async fn listener(&self, name: &str) -> SocketAddr {
        let marker = format!("{name}::");
        eventually(|| {
            self.admin("/listeners")
                .lines()
                .find_map(|line| line.strip_prefix(&marker)?.parse().ok())
        })
        .await
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary() -> PathBuf {
    std::env::var_os("PORTCULLIS_ENVOY").map_or_else(
        || {
            let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
                || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
                PathBuf::from,
            );
            cache.join("portcullis/envoy/1.40.0/envoy")
        },
        PathBuf::from,
    )
}

const BOOTSTRAP: &str = r#"
node: {id: proxy-1, cluster: edge/public, metadata: {portcullis: {version: 0.1.0, documents: [1]}}}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services: [{envoy_grpc: {cluster_name: xds}}]
  lds_config: {ads: {}, resource_api_version: V3}
  cds_config: {ads: {}, resource_api_version: V3}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: xds
      endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: "XDS"}}}}]}]
"#;

/// Sends a GET and returns status and body.
pub(crate) fn get(address: SocketAddr, path: &str, headers: &[&str]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return (status, body.to_owned());
    }
    let mut rest = body;
    let mut whole = String::new();
    while let Some((length, data)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap_or(0);
        if length == 0 {
            break;
        }
        whole.push_str(data.get(..length).unwrap_or(data));
        rest = data.get(length + 2..).unwrap_or("");
    }
    (status, whole)
}

pub(crate) fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

pub(crate) fn loopback(port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: "127.0.0.1".to_owned(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
            ..SocketAddress::default()
        })),
    }
}

/// A listener on a port of the kernel's choice, with a route table from the server.
pub(crate) fn listener(name: &str, routes: &str) -> Listener {
    let manager = HttpConnectionManager {
        stat_prefix: "test".to_owned(),
        route_specifier: Some(http_connection_manager::RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: routes.to_owned(),
        })),
        http_filters: vec![HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(http_filter::ConfigType::TypedConfig(Any {
                type_url: "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router".to_owned(),
                value: Router::default().encode_to_vec(),
            })),
            ..HttpFilter::default()
        }],
        ..HttpConnectionManager::default()
    };
    Listener {
        name: name.to_owned(),
        address: Some(loopback(0)),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "envoy.filters.network.http_connection_manager".to_owned(),
                config_type: Some(filter::ConfigType::TypedConfig(Any {
                    type_url: "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
                        .to_owned(),
                    value: manager.encode_to_vec(),
                })),
            }],
            ..FilterChain::default()
        }],
        ..Listener::default()
    }
}

/// A route of every path to a fixed answer.
pub(crate) fn answer(status: u32, body: &str) -> Route {
    Route {
        r#match: Some(everything()),
        action: Some(route::Action::DirectResponse(DirectResponseAction {
            status,
            body: Some(DataSource {
                specifier: Some(data_source::Specifier::InlineString(body.to_owned())),
                ..DataSource::default()
            }),
            ..DirectResponseAction::default()
        })),
        ..Route::default()
    }
}

/// A route of every path to a cluster.
pub(crate) fn to_cluster(name: &str) -> Route {
    Route {
        r#match: Some(everything()),
        action: Some(route::Action::Route(RouteAction {
            cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(name.to_owned())),
            ..RouteAction::default()
        })),
        ..Route::default()
    }
}

pub(crate) fn everything() -> RouteMatch {
    RouteMatch {
        path_specifier: Some(route_match::PathSpecifier::Prefix("/".to_owned())),
        ..RouteMatch::default()
    }
}

pub(crate) fn virtual_host(name: &str, domain: &str, routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name: name.to_owned(),
        domains: vec![domain.to_owned()],
        routes,
        ..VirtualHost::default()
    }
}

pub(crate) fn routes(name: &str, virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts,
        ..RouteConfiguration::default()
    }
}

/// A cluster whose endpoints come from the server.
pub(crate) fn cluster(name: &str, connect_timeout: i64) -> Cluster {
    Cluster {
        name: name.to_owned(),
        connect_timeout: Some(ProtoDuration {
            seconds: connect_timeout,
            nanos: 0,
        }),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(cluster::EdsClusterConfig {
            eds_config: Some(ads()),
            service_name: String::new(),
        }),
        ..Cluster::default()
    }
}

pub(crate) fn endpoints(cluster: &str, port: u16) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![LbEndpoint {
                host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
                    address: Some(loopback(port)),
                    ..Endpoint::default()
                })),
                ..LbEndpoint::default()
            }],
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    }
}

/// A message to publish.
pub(crate) fn resource(type_url: &'static str, name: &str, message: &impl Message) -> Resource {
    Resource::new(type_url, name, message.encode_to_vec())
}
