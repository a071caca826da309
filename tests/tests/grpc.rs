//! gRPC through a GRPCRoute: a real client and a real backend, so that what a refused caller gets is what its library
//! makes of it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use portcullis_e2e::{
    clock, controller,
    denials::{self, Exchange},
    live::Live,
    manifests,
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    codegen::{Body as _, BoxFuture, BoxStream, Context, Poll, Service, http},
    metadata::MetadataMap,
    server::NamedService,
    transport::{Channel, Endpoint, Server},
};
use tonic_prost::ProstCodec;

/// Answers with what it is told and with the identity that the gateway put beside it. Messages are
/// `google.protobuf.StringValue`.
#[derive(Clone, Default)]
struct Echo {
    calls: Arc<AtomicUsize>,
}

impl NamedService for Echo {
    const NAME: &'static str = "portcullis.test.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut grpc = tonic::server::Grpc::new(ProstCodec::<String, String>::default());
        match request.uri().path() {
            SAY => Box::pin(async move { Ok(grpc.unary(Say, request).await) }),
            CHAT => Box::pin(async move { Ok(grpc.streaming(Chat, request).await) }),
            _ => Box::pin(async move { Ok(Status::unimplemented("no such method").into_http()) }),
        }
    }
}

const SAY: &str = "/portcullis.test.Echo/Say";
const CHAT: &str = "/portcullis.test.Echo/Chat";

/// One question, one answer.
struct Say;

impl Service<Request<String>> for Say {
    type Response = Response<String>;
    type Error = Status;
    type Future = BoxFuture<Self::Response, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let client = client(request.metadata());
        Box::pin(async move { Ok(Response::new(format!("{client}: {}", request.into_inner()))) })
    }
}

/// An answer to each question while the questions are still coming.
struct Chat;

impl Service<Request<Streaming<String>>> for Chat {
    type Response = Response<BoxStream<String>>;
    type Error = Status;
    type Future = BoxFuture<Self::Response, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<String>>) -> Self::Future {
        let client = client(request.metadata());
        let answers = request
            .into_inner()
            .map(move |question| question.map(|question| format!("{client}: {question}")));
        Box::pin(async move { Ok(Response::new(Box::pin(answers) as BoxStream<String>)) })
    }
}

fn client(metadata: &MetadataMap) -> String {
    let client = metadata.get("x-client-id").and_then(|value| value.to_str().ok());
    client.unwrap_or("nobody").to_owned()
}

/// A gateway before the backend; `alice` may call, `bob` is known and may not.
struct Scene {
    gateway: SocketAddr,
    live: Live,
    channel: Channel,
    calls: Arc<AtomicUsize>,
}

impl Scene {
    async fn start() -> Self {
        let echo = Echo::default();
        let calls = Arc::clone(&echo.calls);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let backend = listener.local_addr().expect("a bound socket has an address");
        tokio::spawn(async move {
            let serving = Server::builder().add_service(echo);
            serving.serve_with_incoming(TcpListenerStream::new(listener)).await
        });
        let port = controller::free_port();
        let live = tokio::task::spawn_blocking(move || Live::start(&[("all.yaml", objects(port, backend))], &[port]));
        let live = live.await.expect("the gateway starts");
        let gateway = SocketAddr::from(([127, 0, 0, 1], port));
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("a URI");
        let endpoint = endpoint.timeout(Duration::from_secs(15));
        let channel = endpoint.connect().await.expect("the gateway takes connections");
        Self {
            gateway,
            live,
            channel,
            calls,
        }
    }

    /// Hands in a call that the gateway refused: of gRPC the status is 200 always.
    fn refused(&self, sent: u64, path: &str, key: Option<&str>) {
        let mut headers = vec![("content-type", "application/grpc")];
        headers.extend(key.map(|key| ("x-api-key", key)));
        let authority = self.gateway.to_string();
        headers.push(("host", &authority));
        let lines = headers.into_iter();
        denials::record(Exchange {
            to: self.gateway,
            from: self.gateway.ip(),
            server_name: None,
            certificate: None,
            method: "POST".to_owned(),
            target: path.to_owned(),
            headers: lines.map(|(name, value)| (name.to_owned(), value.into())).collect(),
            status: 200,
            sent,
            answered: clock::milliseconds(),
        });
    }

    async fn say(&self, key: Option<&str>, question: &str) -> Result<String, Status> {
        let mut grpc = self.client().await;
        let sent = clock::milliseconds();
        let path = http::uri::PathAndQuery::from_static(SAY);
        let answer = grpc
            .unary(
                keyed(question.to_owned(), key),
                path,
                ProstCodec::<String, String>::default(),
            )
            .await;
        if answer.is_err() {
            self.refused(sent, SAY, key);
        }
        answer.map(Response::into_inner)
    }

    async fn client(&self) -> tonic::client::Grpc<Channel> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.expect("the connection is kept");
        grpc
    }

    /// The refusal of a call before any library has read it.
    async fn raw(&mut self, key: Option<&str>) -> http::Response<Body> {
        let mut request = http::Request::post(SAY)
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        let request = request.body(Body::empty()).expect("a request");
        std::future::poll_fn(|context| self.channel.poll_ready(context))
            .await
            .expect("the connection is kept");
        let sent = clock::milliseconds();
        let answer = self.channel.call(request).await.expect("an answer");
        self.refused(sent, SAY, key);
        answer
    }
}

fn keyed<T>(message: T, key: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(key) = key {
        let key = key.parse().expect("a key is a header's value");
        request.metadata_mut().insert("x-api-key", key);
    }
    request
}

fn objects(port: u16, backend: SocketAddr) -> String {
    let mut echo = manifests::backend("echo", backend);
    echo["spec"]["appProtocols"] = json!(["gateway.envoyproxy.io/h2c"]);
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GRPCRoute",
        "metadata": {"name": "echo", "namespace": "shop"},
        "spec": {
            "parentRefs": [{"name": "public", "namespace": "edge"}],
            "rules": [{
                "matches": [{"method": {"service": "portcullis.test.Echo"}}],
                "backendRefs": [manifests::backend_ref("echo")],
            }],
        },
    });
    let mut policy = manifests::policy(
        "echo",
        json!({
            "apiKeyAuth": manifests::api_key_auth("clients"),
            "authorization": {"defaultAction": "Deny", "rules": [{
                "name": "alice-alone", "action": "Allow",
                "principal": {"headers": [{"name": "x-client-id", "values": ["alice"]}]},
            }]},
        }),
    );
    policy["spec"]["targetRefs"][0]["kind"] = "GRPCRoute".into();
    manifests::file(&[
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", port, None)]),
        echo,
        manifests::secret("shop", "clients", &[("alice", ALICE), ("bob", BOB)]),
        route,
        policy,
    ])
}

/// The fixed bodies of the gateway's own answers.
const UNAUTHENTICATED: &str = "Client authentication failed.";
const FORBIDDEN: &str = "RBAC: access denied";

const ALICE: &str = "key-of-alice";
const BOB: &str = "key-of-bob";

/// Nothing of why: a caller learns that it was refused, and the body that every other caller gets.
fn assert_refused(status: &Status, code: Code, message: &str) {
    assert_eq!((status.code(), status.message()), (code, message), "{status:?}");
    assert!(status.details().is_empty(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_get_the_status_that_their_library_knows() {
    let mut scene = Scene::start().await;

    assert_eq!(
        scene.say(Some(ALICE), "hello").await.expect("alice may"),
        "alice: hello"
    );
    assert_eq!(scene.calls.load(Ordering::Relaxed), 1);
    // The first look at the log must not find this call's line either.
    assert_eq!(scene.live.envoy.entry(0).reason().as_deref(), Some("allowed"));
    let refusals = [
        (None, Code::Unauthenticated, UNAUTHENTICATED, "api_key_missing"),
        (Some("guess"), Code::Unauthenticated, UNAUTHENTICATED, "api_key_unknown"),
        (Some(BOB), Code::PermissionDenied, FORBIDDEN, "authorization_denied"),
    ];
    for (key, code, message, reason) in refusals {
        let logged = scene.live.envoy.entries().len();
        let status = scene.say(key, "hello").await.expect_err("a refusal");
        assert_refused(&status, code, message);
        assert_eq!(scene.live.envoy.entry(logged).reason().as_deref(), Some(reason));

        // Trailers alone: one frame of headers that ends the stream, with 200 as gRPC wants it.
        let raw = scene.raw(key).await;
        assert_eq!(raw.status(), 200, "{raw:?}");
        let header = |name: &str| {
            raw.headers()
                .get(name)
                .map(|value| value.to_str().expect("text").to_owned())
        };
        assert_eq!(header("grpc-status"), Some((code as i32).to_string()), "{raw:?}");
        assert_eq!(header("content-type").as_deref(), Some("application/grpc"));
        assert!(raw.body().is_end_stream(), "{raw:?}");
        // The next look at the log must not find this call's line.
        assert_eq!(scene.live.envoy.entry(logged + 1).reason().as_deref(), Some(reason));
    }
    assert_eq!(scene.calls.load(Ordering::Relaxed), 1, "the backend saw only alice");

    // A refusal is no reason to lose the connection that others share.
    assert_eq!(
        scene.say(Some(ALICE), "again").await.expect("alice may"),
        "alice: again"
    );
    // A method outside the route's services has no policy and no backend.
    const OTHER: &str = "/portcullis.test.Other/Say";
    let path = http::uri::PathAndQuery::from_static(OTHER);
    let sent = clock::milliseconds();
    let other = scene
        .client()
        .await
        .unary(
            keyed(String::new(), Some(ALICE)),
            path,
            ProstCodec::<String, String>::default(),
        )
        .await;
    assert_eq!(other.expect_err("no such route").code(), Code::Unimplemented);
    scene.refused(sent, OTHER, Some(ALICE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_decided_once_and_then_flows_both_ways() {
    let scene = Scene::start().await;
    let path = http::uri::PathAndQuery::from_static(CHAT);
    let codec = ProstCodec::<String, String>::default;

    let (questions, receiver) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let logged = scene.live.envoy.entries().len();
    let call = tokio::spawn({
        let mut grpc = scene.client().await;
        let path = path.clone();
        async move { grpc.streaming(keyed(stream, Some(ALICE)), path, codec()).await }
    });
    // Each answer comes before the next question is asked.
    questions.send("1".to_owned()).await.expect("the call is open");
    let mut answers = call.await.expect("the call runs").expect("alice may").into_inner();
    for number in 1..=20 {
        let answer = answers.message().await.expect("the call is open").expect("an answer");
        assert_eq!(answer, format!("alice: {number}"));
        questions
            .send((number + 1).to_string())
            .await
            .expect("the call is open");
    }
    drop(questions);
    assert_eq!(
        answers.message().await.expect("the call is open").as_deref(),
        Some("alice: 21")
    );
    assert_eq!(answers.message().await.expect("the end"), None);
    assert_eq!(
        scene.live.envoy.entry(logged).get("rule").as_deref(),
        Some("alice-alone")
    );

    let sent = clock::milliseconds();
    let refused = scene
        .client()
        .await
        .streaming(keyed(tokio_stream::pending::<String>(), None), path, codec())
        .await;
    assert_refused(&refused.expect_err("a refusal"), Code::Unauthenticated, UNAUTHENTICATED);
    scene.refused(sent, CHAT, None);
}
