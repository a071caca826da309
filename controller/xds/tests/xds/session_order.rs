//! Acknowledgements, rejections, and the order of types.

use std::sync::Arc;

use portcullis_xds::{
    Resource, Snapshot,
    session::{Acknowledged, Output, Report, Session},
    snapshot::{CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET},
    wire::{self, DeltaDiscoveryRequest},
};
use prost::Message;

use crate::client::{Client, answer, node, request, settled, summary, version};

#[test]
fn one_response_per_type_is_outstanding_and_the_last_state_follows() {
    let mut client = Client::new(&[(ROUTES, "a", "1")]);
    let first = client.send(request(ROUTES, &["a"]));
    assert_eq!(client.publish(2, &[(ROUTES, "a", "2")]), []);
    assert_eq!(client.publish(3, &[(ROUTES, "a", "3")]), []);
    let output = client.ack(&first[0]);
    assert_eq!(output.responses[0].resources[0].version, version("3"));
    let held = Acknowledged {
        name: "a".to_owned(),
        version: Some(version("1").into()),
    };
    assert_eq!(
        output.reports,
        [Report::Acked {
            type_url: ROUTES.to_owned(),
            generation: 1,
            resources: vec![held]
        }]
    );
}

#[test]
fn a_nonce_settles_its_own_response_alone() {
    let mut client = Client::new(&[(ROUTES, "a", "1"), (CLUSTER, "c", "1")]);
    let routes = client.send(request(ROUTES, &["a"]));
    let clusters = client.send(request(CLUSTER, &[]));
    for nonce in ["", "0", "99", clusters[0].nonce.as_str()] {
        let stray = DeltaDiscoveryRequest {
            response_nonce: nonce.to_owned(),
            ..request(ROUTES, &[])
        };
        assert_eq!(client.0.on_request(stray).unwrap(), Output::default(), "{nonce}");
    }
    assert_eq!(client.0.held(ROUTES, "a"), None);
    assert_eq!(client.ack(&routes[0]).reports.len(), 1);
    assert!(client.0.held(ROUTES, "a").is_some());
    // Nor does it count twice.
    assert_eq!(client.nack(&routes[0]), Output::default());
}

#[test]
fn a_rejected_version_is_not_sent_again_until_it_changes() {
    let mut client = Client::new(&[(ROUTES, "a", "1")]);
    let responses = client.send(request(ROUTES, &["a"]));
    client.ack(&responses[0]);
    let responses = client.publish(2, &[(ROUTES, "a", "bad")]);
    let output = client.nack(&responses[0]);
    assert_eq!(output.responses, []);
    assert_eq!(
        output.reports,
        [Report::Nacked {
            type_url: ROUTES.to_owned(),
            generation: 2,
            resource: "a".to_owned(),
            version: Some(version("bad").into()),
            message: "invalid regular expression: missing )".to_owned(),
        }]
    );
    assert_eq!(
        client.0.held(ROUTES, "a").map(|held| held.to_string()),
        Some(version("1"))
    );
    assert_eq!(client.publish(3, &[(ROUTES, "a", "bad"), (CLUSTER, "c", "1")]), []);
    // Back to what the client has: nothing to send. Forward: the change.
    assert_eq!(client.publish(4, &[(ROUTES, "a", "1")]), []);
    let responses = client.publish(5, &[(ROUTES, "a", "good")]);
    assert_eq!(summary(&responses), [("RouteConfiguration", vec!["a"], vec![])]);
    client.ack(&responses[0]);
    // Once another version was taken, the rejected one gets another chance.
    let responses = client.publish(6, &[(ROUTES, "a", "bad")]);
    assert_eq!(summary(&responses), [("RouteConfiguration", vec!["a"], vec![])]);
}

#[test]
fn a_rejected_group_is_divided_until_the_culprit_stands_alone() {
    let all: Vec<_> = ["a", "b", "c", "d"].map(|name| (ROUTES, name, "1")).to_vec();
    let mut client = Client::new(&all);
    let whole = client.send(request(ROUTES, &["a", "b", "c", "d"]));
    let output = client.nack(&whole[0]);
    assert_eq!(output.reports, []);
    assert_eq!(
        summary(&output.responses),
        [("RouteConfiguration", vec!["a", "b"], vec![])]
    );
    let output = client.nack(&output.responses[0]);
    assert_eq!(
        summary(&output.responses),
        [("RouteConfiguration", vec!["c", "d"], vec![])]
    );
    let output = client.ack(&output.responses[0]);
    assert_eq!(summary(&output.responses), [("RouteConfiguration", vec!["a"], vec![])]);
    let output = client.ack(&output.responses[0]);
    assert_eq!(summary(&output.responses), [("RouteConfiguration", vec!["b"], vec![])]);
    let output = client.nack(&output.responses[0]);
    assert_eq!(output.responses, []);
    assert!(matches!(&output.reports[..], [Report::Nacked { resource, .. }] if resource == "b"));
}

#[test]
fn a_change_does_not_wait_behind_a_suspect() {
    let mut client = Client::new(&[(ROUTES, "revoked", "1")]);
    let responses = client.send(request(ROUTES, &["a", "b", "c", "d", "revoked"]));
    client.ack(&responses[0]);
    let mut all = vec![(ROUTES, "revoked", "1")];
    all.extend(["a", "b", "c", "d"].map(|name| (ROUTES, name, "1")));
    let whole = client.publish(2, &all);
    let output = client.nack(&whole[0]);
    assert_eq!(
        summary(&output.responses),
        [("RouteConfiguration", vec!["a", "b"], vec![])]
    );
    all[0].2 = "2";
    assert_eq!(client.publish(3, &all), []);
    let output = client.nack(&output.responses[0]);
    assert_eq!(
        summary(&output.responses),
        [("RouteConfiguration", vec!["revoked"], vec![])]
    );
}

#[test]
fn what_a_rejected_group_may_have_left_is_taken_away() {
    let mut client = Client::new(&[(LISTENER, "good", "1"), (LISTENER, "bad", "1")]);
    let whole = client.send(request(LISTENER, &[]));
    assert_eq!(client.publish(2, &[]), []);
    // Envoy takes the good listeners of a response that it rejects, and never says so.
    let output = client.nack(&whole[0]);
    let removed = summary(&output.responses);
    assert_eq!(removed, [("Listener", vec![], vec!["bad"])]);
    let output = client.ack(&output.responses[0]);
    assert_eq!(summary(&output.responses), [("Listener", vec![], vec!["good"])]);
}

fn all(body: &'static str) -> Vec<(&'static str, &'static str, &'static str)> {
    [CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET]
        .map(|type_url| (type_url, body, body))
        .to_vec()
}

#[test]
fn additions_come_before_what_names_them_and_removals_after() {
    let mut client = settled(&all("old"));
    let responses = client.publish(2, &all("new"));
    // The old listener goes at once: it must not go on serving. Endpoints and secrets wait for nobody.
    assert_eq!(
        summary(&responses),
        [
            ("Cluster", vec!["new"], vec![]),
            ("ClusterLoadAssignment", vec!["new"], vec![]),
            ("Listener", vec![], vec!["old"]),
            ("Secret", vec!["new"], vec![]),
        ]
    );
    assert!(client.0.is_holding());
    assert_eq!(client.ack(&responses[2]).responses, []);
    assert_eq!(client.ack(&responses[1]).responses, []);
    assert_eq!(client.ack(&responses[3]).responses, []);
    let listeners = client.ack(&responses[0]).responses;
    assert_eq!(summary(&listeners), [("Listener", vec!["new"], vec![])]);
    let routes = client.ack(&listeners[0]).responses;
    assert_eq!(summary(&routes), [("RouteConfiguration", vec!["new"], vec!["old"])]);
    assert!(!client.0.is_holding());
    let clusters = client.ack(&routes[0]).responses;
    assert_eq!(summary(&clusters), [("Cluster", vec![], vec!["old"])]);
    let rest = client.ack(&clusters[0]).responses;
    assert_eq!(
        summary(&rest),
        [
            ("ClusterLoadAssignment", vec![], vec!["old"]),
            ("Secret", vec![], vec!["old"])
        ]
    );
    assert_eq!(client.ack(&rest[0]).responses, []);
    assert_eq!(client.ack(&rest[1]).responses, []);
}

#[test]
fn a_rejected_cluster_does_not_hold_back_routes() {
    let mut client = settled(&[(CLUSTER, "c", "1"), (ROUTES, "r", "1")]);
    let responses = client.publish(2, &[(CLUSTER, "c", "2"), (ROUTES, "r", "2")]);
    assert_eq!(summary(&responses), [("Cluster", vec!["c"], vec![])]);
    let output = client.nack(&responses[0]);
    assert_eq!(summary(&output.responses), [("RouteConfiguration", vec!["r"], vec![])]);
}

#[test]
fn routes_that_were_rejected_keep_their_clusters() {
    let mut client = settled(&[(CLUSTER, "old", "1"), (ROUTES, "r", "1")]);
    let responses = client.publish(2, &[(ROUTES, "r", "bad")]);
    assert_eq!(summary(&responses), [("RouteConfiguration", vec!["r"], vec![])]);
    assert_eq!(client.nack(&responses[0]).responses, []);
    let responses = client.publish(3, &[(ROUTES, "r", "good")]);
    let output = client.ack(&responses[0]);
    assert_eq!(summary(&output.responses), [("Cluster", vec![], vec!["old"])]);
}

#[test]
fn impatience_sends_what_is_held_back_but_removes_nothing() {
    let mut client = settled(&all("old"));
    let responses = client.publish(2, &all("new"));
    client.ack(&responses[2]);
    let output = client.0.on_impatience();
    assert_eq!(
        summary(&output.responses),
        [
            ("Listener", vec!["new"], vec![]),
            ("RouteConfiguration", vec!["new"], vec![])
        ]
    );
    assert!(!client.0.is_holding());
    // It lasts while the clusters are not acknowledged, so that no later change waits again.
    client.ack(&output.responses[1]);
    let mut newer = all("new");
    newer[3].2 = "newer";
    assert_eq!(
        summary(&client.publish(3, &newer)),
        [("RouteConfiguration", vec!["new"], vec![])]
    );
    client.ack(&responses[0]);
    client.ack(&output.responses[0]);
    newer[0].2 = "newer";
    newer[3].2 = "newest";
    client.publish(4, &newer);
    assert!(client.0.is_holding());
}

#[test]
fn endpoints_follow_a_cluster_that_changed() {
    let cluster = |service_name: &str, padding: u8| {
        let eds_cluster_config = Some(wire::EdsClusterConfig {
            service_name: service_name.to_owned(),
        });
        let cluster = wire::Cluster {
            name: "c".to_owned(),
            eds_cluster_config,
        };
        // An unknown field stands for whatever else changes.
        [cluster.encode_to_vec(), vec![0xf8, 0x07, padding]].concat()
    };
    for service_name in ["", "service"] {
        let endpoints = if service_name.is_empty() { "c" } else { "service" };
        let snapshot = |generation, padding| {
            let resources = [
                Resource::new(CLUSTER, "c", cluster(service_name, padding)),
                Resource::new(ENDPOINTS, endpoints, "1"),
                Resource::new(ENDPOINTS, "other", "1"),
            ];
            Arc::new(Snapshot::new(generation, resources).unwrap())
        };
        let mut session = Session::new();
        session.on_snapshot(snapshot(1, 1));
        let clusters = DeltaDiscoveryRequest {
            node: Some(node()),
            ..request(CLUSTER, &[])
        };
        let sent = session.on_request(clusters).unwrap().responses;
        session.on_request(answer(&sent[0])).unwrap();
        let sent = session
            .on_request(request(ENDPOINTS, &[endpoints, "other"]))
            .unwrap()
            .responses;
        session.on_request(answer(&sent[0])).unwrap();
        let sent = session.on_snapshot(snapshot(2, 2)).responses;
        assert_eq!(
            summary(&sent),
            [
                ("Cluster", vec!["c"], vec![]),
                ("ClusterLoadAssignment", vec![endpoints], vec![])
            ]
        );
        session.on_request(answer(&sent[0])).unwrap();
        let output = session.on_request(answer(&sent[1])).unwrap();
        assert_eq!(output.responses, []);
    }
}
