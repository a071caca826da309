//! A session, and what a test drives it by.

use std::sync::Arc;

use portcullis_xds::{
    Resource, Snapshot,
    session::{Output, Session},
    snapshot::{CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET},
    wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Status},
};

pub(crate) fn node() -> Node {
    Node {
        id: "proxy-1".to_owned(),
        cluster: "edge/public".to_owned(),
        metadata: None,
    }
}

pub(crate) fn snapshot(generation: u64, resources: &[(&'static str, &str, &str)]) -> Arc<Snapshot> {
    let resources = resources
        .iter()
        .map(|(type_url, name, body)| Resource::new(type_url, *name, body.to_string()));
    Arc::new(Snapshot::new(generation, resources).unwrap())
}

pub(crate) fn version(body: &str) -> String {
    Resource::new(CLUSTER, "", body.to_owned()).version().to_string()
}

/// A session with what the test drives it by.
pub(crate) struct Client(pub(crate) Session);

impl Client {
    pub(crate) fn new(resources: &[(&'static str, &str, &str)]) -> Self {
        let mut session = Session::new();
        assert_eq!(session.on_snapshot(snapshot(1, resources)), Output::default());
        let mut client = Self(session);
        let request = DeltaDiscoveryRequest {
            node: Some(node()),
            ..request("type.googleapis.com/any", &["nothing"])
        };
        let output = client.0.on_request(request).unwrap();
        client.ack(&output.responses[0]);
        client
    }

    pub(crate) fn publish(
        &mut self,
        generation: u64,
        resources: &[(&'static str, &str, &str)],
    ) -> Vec<DeltaDiscoveryResponse> {
        self.0.on_snapshot(snapshot(generation, resources)).responses
    }

    pub(crate) fn send(&mut self, request: DeltaDiscoveryRequest) -> Vec<DeltaDiscoveryResponse> {
        self.0.on_request(request).unwrap().responses
    }

    pub(crate) fn ack(&mut self, response: &DeltaDiscoveryResponse) -> Output {
        self.0.on_request(answer(response)).unwrap()
    }

    pub(crate) fn nack(&mut self, response: &DeltaDiscoveryResponse) -> Output {
        let error_detail = Some(Status {
            code: 13,
            message: "missing ): (CANARY".to_owned(),
        });
        self.0
            .on_request(DeltaDiscoveryRequest {
                error_detail,
                ..answer(response)
            })
            .unwrap()
    }
}

pub(crate) fn request(type_url: &str, subscribe: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url.to_owned(),
        resource_names_subscribe: subscribe.iter().map(ToString::to_string).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

pub(crate) fn unsubscribe(type_url: &str, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        resource_names_unsubscribe: names.iter().map(ToString::to_string).collect(),
        ..request(type_url, &[])
    }
}

pub(crate) fn holding(type_url: &str, subscribe: &[&str], held: &[(&str, &str)]) -> DeltaDiscoveryRequest {
    let versions = held
        .iter()
        .map(|(name, body)| ((*name).to_owned(), version(body)))
        .collect();
    DeltaDiscoveryRequest {
        initial_resource_versions: versions,
        ..request(type_url, subscribe)
    }
}

pub(crate) fn answer(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        response_nonce: response.nonce.clone(),
        ..request(&response.type_url, &[])
    }
}

/// Type, names sent, names removed.
pub(crate) fn summary(responses: &[DeltaDiscoveryResponse]) -> Vec<(&str, Vec<&str>, Vec<&str>)> {
    responses
        .iter()
        .map(|response| {
            (
                response.type_url.rsplit('.').next().unwrap(),
                response
                    .resources
                    .iter()
                    .map(|resource| resource.name.as_str())
                    .collect(),
                response.removed_resources.iter().map(String::as_str).collect(),
            )
        })
        .collect()
}

/// A client that follows all five types and holds `resources`.
pub(crate) fn settled(resources: &[(&'static str, &str, &str)]) -> Client {
    let mut client = Client::new(resources);
    for type_url in [CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET] {
        let held: Vec<_> = resources
            .iter()
            .filter(|resource| resource.0 == type_url)
            .map(|resource| (resource.1, resource.2))
            .collect();
        let names: Vec<_> = ["*"].into_iter().chain(held.iter().map(|(name, _)| *name)).collect();
        for response in client.send(holding(type_url, &names, &held)) {
            client.ack(&response);
        }
    }
    client
}
