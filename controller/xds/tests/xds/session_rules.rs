//! What a client follows and what it is sent of that, rule by rule.

use portcullis_xds::{
    Resource, Snapshot,
    session::{Acknowledged, MAX_NODE, MAX_TYPES, Output, Report, Session, Violation},
    snapshot::{CLUSTER, ENDPOINTS, LISTENER, ROUTES},
    wire::{DeltaDiscoveryRequest, Node},
};

use crate::client::{Client, holding, node, request, snapshot, summary, unsubscribe, version};

#[test]
fn the_first_request_names_the_node_and_later_ones_keep_it() {
    let with = |node: Option<Node>| DeltaDiscoveryRequest {
        node,
        ..request(CLUSTER, &[])
    };
    let first = |node| Session::new().on_request(with(node)).unwrap_err();
    assert_eq!(first(None), Violation::NodeMissing);
    assert_eq!(
        first(Some(Node {
            id: String::new(),
            ..node()
        })),
        Violation::NodeIncomplete
    );
    assert_eq!(
        first(Some(Node {
            cluster: String::new(),
            ..node()
        })),
        Violation::NodeIncomplete
    );

    let forged = Some(Node {
        id: "one\nportcullis: all is well".to_owned(),
        ..node()
    });
    assert_eq!(first(forged), Violation::NodeIncomplete);
    let long = Some(Node {
        id: "x".repeat(MAX_NODE),
        ..node()
    });
    assert_eq!(first(long), Violation::NodeTooLong);
    let mut only = Session::only("edge/other");
    assert_eq!(only.on_request(with(Some(node()))), Err(Violation::NodeForeign));
    assert!(only.node().is_none(), "who is sent away counts nowhere");

    let mut session = Session::new();
    session.on_request(with(Some(node()))).unwrap();
    session.on_request(with(None)).unwrap();
    session.on_request(with(Some(node()))).unwrap();
    let other = Node {
        cluster: "edge/other".to_owned(),
        ..node()
    };
    assert_eq!(session.on_request(with(Some(other))), Err(Violation::NodeChanged));
    let other = Node {
        id: "proxy-2".to_owned(),
        ..node()
    };
    assert_eq!(session.on_request(with(Some(other))), Err(Violation::NodeChanged));
}

#[test]
fn a_request_says_its_type_and_there_are_not_too_many() {
    let mut session = Session::new();
    let untyped = DeltaDiscoveryRequest {
        node: Some(node()),
        ..DeltaDiscoveryRequest::default()
    };
    assert_eq!(session.on_request(untyped), Err(Violation::TypeMissing));
    for number in 0..MAX_TYPES {
        session.on_request(request(&number.to_string(), &[])).unwrap();
    }
    assert_eq!(
        session.on_request(request("one more", &[])),
        Err(Violation::TooManyTypes)
    );
}

#[test]
fn without_a_snapshot_nothing_is_answered() {
    let mut session = Session::new();
    let first = DeltaDiscoveryRequest {
        node: Some(node()),
        ..request(CLUSTER, &[])
    };
    assert_eq!(session.on_request(first).unwrap(), Output::default());
    let output = session.on_snapshot(snapshot(1, &[(CLUSTER, "a", "1")]));
    assert_eq!(summary(&output.responses), [("Cluster", vec!["a"], vec![])]);
}

#[test]
fn naming_nothing_at_first_means_everything() {
    let mut client = Client::new(&[(LISTENER, "a", "1"), (LISTENER, "b", "1")]);
    let responses = client.send(request(LISTENER, &[]));
    assert_eq!(summary(&responses), [("Listener", vec!["a", "b"], vec![])]);
    client.ack(&responses[0]);
    // It stays so when a name is added, and ends by `*`.
    let responses = client.send(request(LISTENER, &["a"]));
    assert_eq!(summary(&responses), [("Listener", vec!["a"], vec![])]);
    client.ack(&responses[0]);
    let responses = client.publish(2, &[(LISTENER, "a", "1"), (LISTENER, "b", "2")]);
    assert_eq!(summary(&responses), [("Listener", vec!["b"], vec![])]);
    client.ack(&responses[0]);
    assert_eq!(client.send(unsubscribe(LISTENER, &["*"])), []);
    let responses = client.publish(3, &[(LISTENER, "a", "3"), (LISTENER, "b", "3")]);
    assert_eq!(summary(&responses), [("Listener", vec!["a"], vec![])]);
}

#[test]
fn naming_something_at_first_means_that_alone() {
    let mut client = Client::new(&[(LISTENER, "a", "1"), (LISTENER, "b", "1")]);
    let responses = client.send(request(LISTENER, &["a"]));
    assert_eq!(summary(&responses), [("Listener", vec!["a"], vec![])]);
    client.ack(&responses[0]);
    // Nor does an empty list mean everything from then on.
    assert_eq!(client.send(unsubscribe(LISTENER, &["a"])), []);
    assert_eq!(client.send(request(LISTENER, &[])), []);
}

#[test]
fn the_wildcard_may_be_explicit_and_come_later() {
    let mut client = Client::new(&[(LISTENER, "a", "1"), (LISTENER, "b", "1")]);
    let responses = client.send(request(LISTENER, &["a"]));
    client.ack(&responses[0]);
    let responses = client.send(request(LISTENER, &["*"]));
    assert_eq!(summary(&responses), [("Listener", vec!["b"], vec![])]);
}

#[test]
fn a_client_that_follows_nothing_says_so_by_the_wildcard_in_both_lists() {
    let mut client = Client::new(&[(ENDPOINTS, "a", "1")]);
    let both = DeltaDiscoveryRequest {
        resource_names_unsubscribe: vec!["*".to_owned()],
        ..request(ENDPOINTS, &["*"])
    };
    assert_eq!(client.send(both), []);
}

#[test]
fn a_first_wildcard_is_answered_even_if_there_is_nothing() {
    let mut client = Client::new(&[]);
    let responses = client.send(request(CLUSTER, &[]));
    assert_eq!(summary(&responses), [("Cluster", vec![], vec![])]);
    assert_eq!(client.ack(&responses[0]).responses, []);
    assert_eq!(client.publish(2, &[]), []);
}

#[test]
fn a_name_that_does_not_exist_is_answered_as_removed_once() {
    let mut client = Client::new(&[]);
    let responses = client.send(request(ENDPOINTS, &["ghost"]));
    assert_eq!(summary(&responses), [("ClusterLoadAssignment", vec![], vec!["ghost"])]);
    let output = client.ack(&responses[0]);
    assert_eq!(output.responses, []);
    let told = Acknowledged {
        name: "ghost".to_owned(),
        version: None,
    };
    assert_eq!(
        output.reports,
        [Report::Acked {
            type_url: ENDPOINTS.to_owned(),
            generation: 1,
            resources: vec![told]
        }]
    );
    assert_eq!(client.publish(2, &[]), []);
    let responses = client.publish(3, &[(ENDPOINTS, "ghost", "1")]);
    assert_eq!(summary(&responses), [("ClusterLoadAssignment", vec!["ghost"], vec![])]);
}

#[test]
fn a_name_asked_for_again_is_sent_again() {
    let mut client = Client::new(&[(ENDPOINTS, "a", "1")]);
    let responses = client.send(request(ENDPOINTS, &["a"]));
    client.ack(&responses[0]);
    let responses = client.send(request(ENDPOINTS, &["a"]));
    assert_eq!(summary(&responses), [("ClusterLoadAssignment", vec!["a"], vec![])]);
    client.ack(&responses[0]);
    assert_eq!(client.send(unsubscribe(ENDPOINTS, &["a"])), []);
    assert_eq!(client.publish(2, &[(ENDPOINTS, "a", "2")]), []);
    let responses = client.send(request(ENDPOINTS, &["a"]));
    assert_eq!(summary(&responses), [("ClusterLoadAssignment", vec!["a"], vec![])]);
}

#[test]
fn a_name_dropped_beside_a_wildcard_is_told_about() {
    let mut client = Client::new(&[(LISTENER, "a", "1")]);
    let responses = client.send(request(LISTENER, &["*", "a", "ghost"]));
    client.ack(&responses[0]);
    let responses = client.send(unsubscribe(LISTENER, &["a", "ghost"]));
    assert_eq!(summary(&responses), [("Listener", vec!["a"], vec!["ghost"])]);
}

#[test]
fn a_reconnection_brings_the_difference_alone() {
    let mut client = Client::new(&[(ROUTES, "same", "1"), (ROUTES, "changed", "2"), (ROUTES, "new", "1")]);
    let held = [("same", "1"), ("changed", "1"), ("gone", "1")];
    let responses = client.send(holding(ROUTES, &["same", "changed", "gone", "new"], &held));
    assert_eq!(
        summary(&responses),
        [("RouteConfiguration", vec!["changed", "new"], vec!["gone"])]
    );

    // It is told as held, or nobody would know that it is.
    let mut client = Client::new(&[(CLUSTER, "same", "1"), (CLUSTER, "changed", "2")]);
    let output = client
        .0
        .on_request(holding(CLUSTER, &[], &[("same", "1"), ("changed", "1")]))
        .unwrap();
    assert_eq!(summary(&output.responses), [("Cluster", vec!["changed"], vec![])]);
    let same = Acknowledged {
        name: "same".to_owned(),
        version: Some(version("1").into()),
    };
    let told = Report::Acked {
        type_url: CLUSTER.to_owned(),
        generation: 1,
        resources: vec![same],
    };
    assert_eq!(output.reports, std::slice::from_ref(&told));
    assert_eq!(
        client.0.held(CLUSTER, "same").map(|held| held.to_string()),
        Some(version("1"))
    );

    // Also when the first snapshot comes later than the client.
    let mut session = Session::new();
    let request = DeltaDiscoveryRequest {
        node: Some(node()),
        ..holding(CLUSTER, &[], &[("same", "1")])
    };
    assert_eq!(session.on_request(request).unwrap(), Output::default());
    let resources = [(CLUSTER, "same", "1")];
    assert_eq!(
        session.on_snapshot(snapshot(1, &resources)),
        Output {
            responses: vec![],
            reports: vec![told]
        }
    );
    assert_eq!(session.on_snapshot(snapshot(2, &resources)), Output::default());
}

#[test]
fn two_resources_of_one_name_are_no_snapshot() {
    let twice = [Resource::new(CLUSTER, "a", "1"), Resource::new(CLUSTER, "a", "2")];
    let duplicate = Snapshot::new(1, twice).unwrap_err();
    assert_eq!((duplicate.type_url, duplicate.name.as_str()), (CLUSTER, "a"));
    assert!(Snapshot::new(1, [Resource::new(CLUSTER, "a", "1"), Resource::new(ROUTES, "a", "1")]).is_ok());
}

#[test]
fn versions_depend_on_content_alone() {
    let one = Resource::new(CLUSTER, "a", "body");
    assert_eq!(one.version(), Resource::new(ROUTES, "b", "body").version());
    assert_ne!(one.version(), Resource::new(CLUSTER, "a", "body ").version());
    // SHA-256 of "body", first half.
    assert_eq!(&**one.version(), "230d8358dc8e8890b4c58deeb62912ee");
    let first = snapshot(1, &[(CLUSTER, "a", "1"), (ROUTES, "b", "2")]);
    assert!(first.same_content(&snapshot(2, &[(ROUTES, "b", "2"), (CLUSTER, "a", "1")])));
    assert!(!first.same_content(&snapshot(1, &[(CLUSTER, "b", "1"), (ROUTES, "b", "2")])));
}
