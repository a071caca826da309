//! The server over a unix socket, by a client of its own.

use std::{
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::world::{Scratch, Serving, eventually};
use envoy_types::pb::envoy::{config::core::v3 as core, service::discovery::v3 as discovery};
use portcullis_xds::{
    Acknowledgement, Event, Resource, Socket,
    snapshot::{CLUSTER as CLUSTERS, LISTENER, ROUTES},
    wire,
};
use prost::Message;
use tokio::{net::UnixStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    codegen::http,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

const PATH: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// One stream of a client that speaks by the generated types, not by ours.
pub(crate) struct Stream {
    requests: mpsc::Sender<discovery::DeltaDiscoveryRequest>,
    responses: Streaming<discovery::DeltaDiscoveryResponse>,
}

async fn channel(path: &Path) -> Channel {
    let path = path.to_path_buf();
    // hyper-util is no dependency of this crate, so tonic's own connector for sockets is used.
    Endpoint::try_from(format!("unix://{}", path.display()))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

impl Stream {
    async fn open(path: &Path) -> Self {
        Self::over(channel(path).await).await.unwrap()
    }

    /// Opens a stream; fails if the connection is not kept that long.
    pub(crate) async fn over(channel: Channel) -> Result<Self, Status> {
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let (requests, receiver) = mpsc::channel(8);
        let codec = ProstCodec::<discovery::DeltaDiscoveryRequest, discovery::DeltaDiscoveryResponse>::default();
        let request = tonic::Request::new(ReceiverStream::new(receiver));
        let response = grpc
            .streaming(request, http::uri::PathAndQuery::from_static(PATH), codec)
            .await?;
        Ok(Self {
            requests,
            responses: response.into_inner(),
        })
    }

    pub(crate) async fn introduce(&self, cluster: &str, type_url: &str) {
        self.send(discovery::DeltaDiscoveryRequest {
            node: Some(node(cluster)),
            ..request(type_url)
        })
        .await;
    }

    async fn send(&self, request: discovery::DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> Result<discovery::DeltaDiscoveryResponse, Status> {
        let message = tokio::time::timeout(Duration::from_secs(10), self.responses.message()).await;
        message
            .expect("no answer")
            .map(|message| message.expect("the stream ended"))
    }

    async fn silent(&mut self) {
        let message = tokio::time::timeout(Duration::from_millis(200), self.responses.message()).await;
        assert!(message.is_err(), "{message:?}");
    }

    async fn ack(&self, response: &discovery::DeltaDiscoveryResponse) {
        self.send(discovery::DeltaDiscoveryRequest {
            response_nonce: response.nonce.clone(),
            ..request(&response.type_url)
        })
        .await;
    }
}

fn node(cluster: &str) -> core::Node {
    core::Node {
        id: "proxy-1".to_owned(),
        cluster: cluster.to_owned(),
        ..core::Node::default()
    }
}

fn request(type_url: &str) -> discovery::DeltaDiscoveryRequest {
    discovery::DeltaDiscoveryRequest {
        type_url: type_url.to_owned(),
        ..discovery::DeltaDiscoveryRequest::default()
    }
}

fn clusters(body: &'static str) -> Vec<Resource> {
    vec![Resource::new(CLUSTERS, "c", body)]
}

fn served() -> (Scratch, PathBuf, Serving) {
    let scratch = Scratch::new();
    let path = scratch.path("xds.sock");
    let serving = Serving::start(&path);
    (scratch, path, serving)
}

#[tokio::test]
async fn the_messages_are_those_of_the_api() {
    let metadata = core::Metadata::default();
    assert_eq!(metadata.encoded_len(), 0);
    let theirs = discovery::DeltaDiscoveryRequest {
        node: Some(core::Node {
            metadata: Some(envoy_types::pb::google::protobuf::Struct {
                fields: [(
                    "portcullis".to_owned(),
                    envoy_types::pb::google::protobuf::Value {
                        kind: Some(envoy_types::pb::google::protobuf::value::Kind::StringValue(
                            "yes".to_owned(),
                        )),
                    },
                )]
                .into(),
            }),
            user_agent_name: "envoy".to_owned(),
            ..node("edge/public")
        }),
        type_url: "type".to_owned(),
        resource_names_subscribe: vec!["s".to_owned()],
        resource_names_unsubscribe: vec!["u".to_owned()],
        initial_resource_versions: [("n".to_owned(), "v".to_owned())].into(),
        response_nonce: "nonce".to_owned(),
        error_detail: Some(envoy_types::pb::google::rpc::Status {
            code: 13,
            message: "why".to_owned(),
            details: Vec::new(),
        }),
        ..discovery::DeltaDiscoveryRequest::default()
    };
    let ours = wire::DeltaDiscoveryRequest::decode(theirs.encode_to_vec().as_slice()).unwrap();
    let node = ours.node.unwrap();
    assert_eq!((node.id.as_str(), node.cluster.as_str()), ("proxy-1", "edge/public"));
    assert_eq!(
        node.metadata.unwrap().to_json(),
        serde_json::json!({"portcullis": "yes"})
    );
    assert_eq!(
        (ours.type_url.as_str(), ours.response_nonce.as_str()),
        ("type", "nonce")
    );
    assert_eq!(
        (ours.resource_names_subscribe, ours.resource_names_unsubscribe),
        (vec!["s".into()], vec!["u".into()])
    );
    assert_eq!(ours.initial_resource_versions["n"], "v");
    let status = ours.error_detail.unwrap();
    assert_eq!((status.code, status.message.as_str()), (13, "why"));
}

#[tokio::test]
async fn resources_arrive_change_and_go() {
    let (_scratch, path, mut serving) = served();
    let first = serving.server.publish("edge/public", clusters("one")).unwrap();
    let mut stream = Stream::open(&path).await;
    stream.introduce("edge/public", CLUSTERS).await;
    let response = stream.receive().await.unwrap();
    assert_eq!(response.type_url, CLUSTERS);
    assert_eq!(response.resources[0].name, "c");
    let any = response.resources[0].resource.as_ref().unwrap();
    assert_eq!(
        (any.type_url.as_str(), any.value.as_slice()),
        (CLUSTERS, b"one".as_slice())
    );
    assert_eq!(
        serving
            .event(|event| matches!(event, Event::Connected { .. }).then_some(()))
            .await,
        ()
    );

    let version = serving.server.version("edge/public", CLUSTERS, "c").unwrap();
    assert_eq!(*response.resources[0].version, *version);
    let acknowledgement = || serving.server.acknowledgement("edge/public", CLUSTERS, "c", &version);
    assert_eq!(
        acknowledgement(),
        Acknowledgement {
            connected: 1,
            acknowledged: 0
        }
    );
    stream.ack(&response).await;
    eventually(|| acknowledgement().is_complete().then_some(())).await;
    let generation = serving
        .event(|event| match event {
            Event::Acked { generation, .. } => Some(*generation),
            _ => None,
        })
        .await;
    assert_eq!(generation, first);

    assert_eq!(
        serving.server.publish("edge/public", clusters("one")).unwrap(),
        first,
        "nothing changed"
    );
    stream.silent().await;
    let second = serving.server.publish("edge/public", clusters("two")).unwrap();
    assert!(second > first);
    let response = stream.receive().await.unwrap();
    stream.ack(&response).await;
    serving.server.publish("edge/other", clusters("other")).unwrap();
    stream.silent().await;
    serving.server.publish("edge/public", []).unwrap();
    assert_eq!(stream.receive().await.unwrap().removed_resources, ["c"]);

    drop(stream);
    serving
        .event(|event| matches!(event, Event::Disconnected { .. }).then_some(()))
        .await;
    assert_eq!(serving.server.proxies("edge/public"), []);
}

#[tokio::test]
async fn an_unknown_cluster_waits_without_an_answer() {
    let (_scratch, path, serving) = served();
    let mut stream = Stream::open(&path).await;
    stream.introduce("edge/late", CLUSTERS).await;
    stream.silent().await;
    serving.server.publish("edge/late", clusters("one")).unwrap();
    assert_eq!(stream.receive().await.unwrap().resources[0].name, "c");
}

#[tokio::test]
async fn a_malformed_request_ends_its_own_stream_alone() {
    let (_scratch, path, serving) = served();
    serving.server.publish("edge/public", clusters("one")).unwrap();
    let mut witness = Stream::open(&path).await;
    witness.introduce("edge/public", CLUSTERS).await;
    let response = witness.receive().await.unwrap();
    witness.ack(&response).await;

    let mut stream = Stream::open(&path).await;
    stream.send(request(CLUSTERS)).await;
    assert_eq!(stream.receive().await.unwrap_err().code(), Code::InvalidArgument);

    let mut stream = Stream::open(&path).await;
    stream.introduce("edge/public", CLUSTERS).await;
    stream.receive().await.unwrap();
    let moved = discovery::DeltaDiscoveryRequest {
        node: Some(node("edge/other")),
        ..request(CLUSTERS)
    };
    stream.send(moved).await;
    assert_eq!(stream.receive().await.unwrap_err().code(), Code::InvalidArgument);

    // Bytes that are no request, and a request that is too long.
    for body in [vec![0xff; 8], vec![0; 17 << 20]] {
        let mut grpc = tonic::client::Grpc::new(channel(&path).await);
        grpc.ready().await.unwrap();
        let bytes = tokio_stream::iter([Raw(body.into())]);
        let uri = http::uri::PathAndQuery::from_static(PATH);
        let codec = ProstCodec::<Raw, discovery::DeltaDiscoveryResponse>::default();
        let response = grpc.streaming(tonic::Request::new(bytes), uri, codec).await;
        let status = match response {
            Ok(response) => response.into_inner().message().await.unwrap_err(),
            Err(status) => status,
        };
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }

    serving.server.publish("edge/public", clusters("two")).unwrap();
    assert_eq!(witness.receive().await.unwrap().resources[0].name, "c");
}

/// Any bytes as a message.
#[derive(Clone, Debug, Default)]
struct Raw(bytes::Bytes);

impl Message for Raw {
    fn encode_raw(&self, buffer: &mut impl bytes::BufMut) {
        buffer.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: prost::encoding::WireType,
        _: &mut impl bytes::Buf,
        _: prost::encoding::DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {}
}

#[tokio::test]
async fn a_rejection_is_told_without_what_it_quotes() {
    let (_scratch, path, mut serving) = served();
    serving
        .server
        .publish("edge/public", vec![Resource::new(ROUTES, "r", "one")])
        .unwrap();
    let mut stream = Stream::open(&path).await;
    stream.introduce("edge/public", ROUTES).await;
    let response = stream.receive().await.unwrap();
    stream
        .send(discovery::DeltaDiscoveryRequest {
            response_nonce: response.nonce,
            error_detail: Some(envoy_types::pb::google::rpc::Status {
                code: 13,
                message: "CANARY".to_owned(),
                details: Vec::new(),
            }),
            ..request(ROUTES)
        })
        .await;
    let (told, resource, version) = serving
        .event(|event| match event {
            Event::Nacked { resource, version, .. } => Some((format!("{event:?}"), resource.clone(), version.clone())),
            _ => None,
        })
        .await;
    assert!(!told.contains("CANARY"), "{told}");
    assert_eq!(resource, "r");
    assert_eq!(version, serving.server.version("edge/public", ROUTES, "r"));
    stream.silent().await;
}

#[tokio::test]
async fn stopping_ends_streams_and_removes_the_socket() {
    let (_scratch, path, serving) = served();
    serving.server.publish("edge/public", clusters("one")).unwrap();
    let mut stream = Stream::open(&path).await;
    stream.introduce("edge/public", CLUSTERS).await;
    stream.receive().await.unwrap();
    // A connection that never opens a stream does not hold it up.
    let _idle = UnixStream::connect(&path).await.unwrap();
    let stopping = tokio::spawn(serving.stop());
    assert_eq!(stream.receive().await.unwrap_err().code(), Code::Unavailable);
    tokio::time::timeout(Duration::from_secs(5), stopping)
        .await
        .expect("in time")
        .unwrap();
    eventually(|| (!path.exists()).then_some(())).await;
}

#[tokio::test]
async fn a_client_that_acknowledges_without_reading_is_cut_off() {
    let (_scratch, path, serving) = served();
    let stream = Stream::open(&path).await;
    serving
        .server
        .publish("edge/public", [Resource::new(LISTENER, "l", vec![0; 1 << 20])])
        .unwrap();
    stream.introduce("edge/public", LISTENER).await;
    // Nonces can be guessed, so the number of responses in memory must have another bound.
    for nonce in 1..200_u64 {
        let guess = discovery::DeltaDiscoveryRequest {
            response_nonce: nonce.to_string(),
            resource_names_subscribe: vec!["l".to_owned()],
            ..request(LISTENER)
        };
        if stream.requests.send(guess).await.is_err() {
            return;
        }
    }
    eventually(|| serving.server.proxies("edge/public").is_empty().then_some(())).await;
}

#[tokio::test]
async fn the_socket_is_private_and_replaces_only_a_dead_one() {
    let scratch = Scratch::new();
    let path = scratch.path("xds.sock");
    let socket = Socket::bind(&path).unwrap();
    assert_eq!(socket.path(), path);
    let metadata = std::fs::metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(Socket::bind(&path).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    drop(socket);
    assert!(!path.exists());

    // What a killed server leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let stale = std::fs::metadata(&path).unwrap().ino();
    let socket = Socket::bind(&path).unwrap();
    assert_ne!(std::fs::metadata(&path).unwrap().ino(), stale);
    // A successor's socket survives its predecessor.
    std::fs::remove_file(&path).unwrap();
    let successor = Socket::bind(&path).unwrap();
    drop(socket);
    assert!(path.exists());
    drop(successor);

    std::fs::write(&path, "a file").unwrap();
    assert_eq!(
        Socket::bind(&path).unwrap_err().kind(),
        std::io::ErrorKind::AlreadyExists
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
    let long = scratch.path(&"x".repeat(120));
    assert!(Socket::bind(&long).is_err());
}
