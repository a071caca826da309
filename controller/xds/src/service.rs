//! The gRPC service: bytes and clock around a session.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::{Service, StdError, http},
    server::{Grpc, NamedService, StreamingService},
};
use tonic_prost::ProstCodec;

use crate::{
    connection::Peer,
    server::{OpenStream, Shared},
    session::{MAX_TYPES, Output, Violation},
    snapshot::Snapshot,
    wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
};

const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// How long a client that does not read holds up the end of its stream.
const FAREWELL: Duration = Duration::from_secs(1);

type Responses = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// `envoy.service.discovery.v3.AggregatedDiscoveryService`, its delta method alone.
#[derive(Clone, Debug)]
pub(crate) struct AggregatedDiscovery {
    shared: Arc<Shared>,
    max_request: usize,
}

impl AggregatedDiscovery {
    pub(crate) const fn new(shared: Arc<Shared>, max_request: usize) -> Self {
        Self { shared, max_request }
    }
}

impl NamedService for AggregatedDiscovery {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl<B> Service<http::Request<B>> for AggregatedDiscovery
where
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if request.uri().path() != METHOD {
            return Box::pin(async { Ok(Status::unimplemented("only delta ADS is served").into_http()) });
        }
        let method = DeltaAggregatedResources(Arc::clone(&self.shared));
        let mut grpc = Grpc::new(ProstCodec::default()).max_decoding_message_size(self.max_request);
        Box::pin(async move { Ok(grpc.streaming(method, request).await) })
    }
}

struct DeltaAggregatedResources(Arc<Shared>);

impl StreamingService<DeltaDiscoveryRequest> for DeltaAggregatedResources {
    type Response = DeltaDiscoveryResponse;
    type ResponseStream = Responses;
    type Future = BoxFuture<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            // With one outstanding response per type, a client that reads can never fill this.
            let (responses, receiver) = mpsc::channel(MAX_TYPES + 1);
            let peer = request.extensions().get::<Peer>().cloned();
            // A transport that does not say who is there would let anybody have anything.
            let peer = peer.ok_or_else(|| Status::permission_denied("nobody knows who you are"))?;
            tokio::spawn(run(shared, peer, request.into_inner(), responses));
            let responses: Responses = Box::pin(ReceiverStream::new(receiver));
            Ok(Response::new(responses))
        })
    }
}

/// Runs one stream to its end.
async fn run(
    shared: Arc<Shared>,
    peer: Peer,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
) {
    let mut stream = shared.open(&peer);
    if let Err(status) = converse(&shared, &mut stream, &mut requests, &responses).await {
        if let Some((cluster, node_id)) = stream.names() {
            tracing::info!(cluster, node_id, code = ?status.code(), message = status.message(), "stream ended");
        }
        // The client may be gone already, or not reading.
        let _ = responses.send_timeout(Err(status), FAREWELL).await;
    }
}

async fn converse(
    shared: &Arc<Shared>,
    stream: &mut OpenStream,
    requests: &mut Streaming<DeltaDiscoveryRequest>,
    responses: &mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
) -> Result<(), Status> {
    let mut snapshots = shared.snapshots();
    let mut stopping = shared.stopping();
    let mut generation = 0;
    let mut deadline: Option<Instant> = None;
    loop {
        let impatience = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let output = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return Err(Status::unavailable("the server is stopping")),
            () = responses.closed() => return Ok(()),
            () = impatience => stream.session().on_impatience(),
            changed = snapshots.changed() => match changed {
                // Below.
                Ok(()) => Output::default(),
                Err(_) => return Err(Status::unavailable("the server is gone")),
            },
            request = requests.message() => match request {
                Ok(Some(request)) => {
                    let output = stream.session().on_request(request);
                    output.map_err(|violation| refusal(&violation))?
                }
                Ok(None) => return Ok(()),
                // Undecodable bytes come as INTERNAL from the decoder, an oversized message as OUT_OF_RANGE.
                Err(status) if matches!(status.code(), tonic::Code::Internal | tonic::Code::OutOfRange) => {
                    return Err(Status::invalid_argument("the request is malformed or too long"));
                }
                Err(status) => return Err(status),
            },
        };
        stream.announce();
        send(stream, output, responses)?;
        if let Some((cluster, _)) = stream.names() {
            let snapshot: Option<Arc<Snapshot>> = snapshots.borrow_and_update().get(&cluster).cloned();
            if let Some(snapshot) = snapshot.filter(|snapshot| snapshot.generation() != generation) {
                generation = snapshot.generation();
                let output = stream.session().on_snapshot(snapshot);
                send(stream, output, responses)?;
            }
        }
        deadline = if stream.session().is_holding() {
            deadline.or_else(|| Some(Instant::now() + shared.options.patience))
        } else {
            None
        };
    }
}

fn refusal(violation: &Violation) -> Status {
    let message = violation.to_string();
    match violation {
        Violation::NodeForeign => Status::permission_denied(message),
        _ => Status::invalid_argument(message),
    }
}

fn send(
    stream: &OpenStream,
    Output {
        responses: outgoing,
        reports,
    }: Output,
    responses: &mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
) -> Result<(), Status> {
    stream.tell(reports);
    for response in outgoing {
        if responses.try_send(Ok(response)).is_err() {
            return Err(Status::resource_exhausted(
                "responses are acknowledged without being read",
            ));
        }
    }
    Ok(())
}
