//! The server against the proxy that it is made for.

use std::time::{Duration, Instant};

use crate::world::{
    CLUSTER, Envoy, Scratch, Serving, answer, cluster, endpoints, eventually, get, listener, resource, routes,
    to_cluster, virtual_host,
};
use envoy_types::pb::envoy::config::route::v3::{Route, RouteConfiguration};
use portcullis_xds::{
    Event, Resource,
    snapshot::{self, ENDPOINTS, LISTENER, ROUTES},
};

fn table(body: &str) -> RouteConfiguration {
    routes("table", vec![virtual_host("all", "*", vec![answer(200, body)])])
}

fn resources(table: &RouteConfiguration) -> Vec<Resource> {
    vec![
        resource(LISTENER, "public", &listener("public", "table")),
        resource(ROUTES, "table", table),
        resource(snapshot::CLUSTER, "unused", &cluster("unused", 1)),
        resource(ENDPOINTS, "unused", &endpoints("unused", 9)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_takes_updates_keeps_its_table_on_a_nack_and_gets_nothing_twice() {
    let scratch = Scratch::new();
    let socket = scratch.path("xds.sock");
    let mut serving = Serving::start(&socket);
    let envoy = Envoy::start(&scratch, &socket).await;
    let (cluster_name, node_id, metadata) = serving
        .event(|event| match event {
            Event::Connected {
                cluster,
                node_id,
                metadata,
            } => Some((cluster.clone(), node_id.clone(), metadata.clone())),
            _ => None,
        })
        .await;
    assert_eq!((cluster_name.as_str(), node_id.as_str()), (CLUSTER, "proxy-1"));
    assert_eq!(metadata["portcullis"]["documents"][0], 1.0);

    // Published only after the proxy asked: it waits without an answer until then.
    serving.server.publish(CLUSTER, resources(&table("one"))).unwrap();
    let address = envoy.listener("public").await;
    serving.acknowledged(ROUTES, "table").await;
    assert_eq!(get(address, "/", &[]), (200, "one".to_owned()));

    serving.server.publish(CLUSTER, resources(&table("two"))).unwrap();
    serving.acknowledged(ROUTES, "table").await;
    assert_eq!(get(address, "/", &[]), (200, "two".to_owned()));
    assert_eq!(envoy.stat("listener_manager.listener_modified"), 0);
    assert_eq!(envoy.stat("listener_manager.listener_in_place_updated"), 0);

    let poisoned = routes(
        "table",
        vec![
            virtual_host("all", "*", vec![answer(200, "CANARY")]),
            virtual_host(
                "poisoned",
                "poisoned.test",
                vec![Route {
                    r#match: None,
                    ..answer(200, "CANARY")
                }],
            ),
        ],
    );
    serving.server.publish(CLUSTER, resources(&poisoned)).unwrap();
    let (resource, message) = serving
        .event(|event| match event {
            Event::Nacked { resource, message, .. } => Some((resource.clone(), message.clone())),
            _ => None,
        })
        .await;
    assert_eq!(resource, "table");
    assert_eq!(
        message,
        "RouteConfiguration.virtual_hosts[1]: VirtualHost.routes[0]: Route.match: value is required"
    );
    assert_eq!(get(address, "/", &[]), (200, "two".to_owned()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let rejected = || envoy.stat(r"http.test.rds.table.update_rejected");
    assert_eq!(rejected(), 1, "a rejected version is not sent again");

    serving.server.publish(CLUSTER, resources(&table("three"))).unwrap();
    serving.acknowledged(ROUTES, "table").await;
    assert_eq!(get(address, "/", &[]), (200, "three".to_owned()));
    assert_eq!(rejected(), 1);

    // Another server in its place, with the same resources, has nothing to send.
    let updates = || {
        (
            envoy.stat("listener_manager.lds.update_success"),
            envoy.stat("cluster_manager.cds.update_success"),
            envoy.stat("http.test.rds.table.update_success"),
            envoy.stat("cluster.unused.update_success"),
        )
    };
    let before = updates();
    serving.stop().await;
    eventually(|| (envoy.stat("control_plane.connected_state") == 0).then_some(())).await;
    let mut serving = Serving::start(&socket);
    serving.server.publish(CLUSTER, resources(&table("three"))).unwrap();
    serving
        .event(|event| matches!(event, Event::Connected { .. }).then_some(()))
        .await;
    serving.acknowledged(ROUTES, "table").await;
    serving.acknowledged(LISTENER, "public").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(updates(), before);
    assert!(
        before.0 > 0 && before.1 > 0 && before.2 > 0 && before.3 > 0,
        "{before:?}"
    );

    // And one with other resources sends the difference.
    serving.server.publish(CLUSTER, resources(&table("four"))).unwrap();
    serving.acknowledged(ROUTES, "table").await;
    assert_eq!(get(address, "/", &[]), (200, "four".to_owned()));
    assert_eq!(updates().0, before.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_come_before_the_routes_that_name_them_and_go_after() {
    let scratch = Scratch::new();
    let socket = scratch.path("xds.sock");
    let serving = Serving::start(&socket);
    let upstream = backend();
    let through = |name: &str, timeout: i64| {
        let table = routes("table", vec![virtual_host("all", "*", vec![to_cluster(name)])]);
        [
            resource(LISTENER, "public", &listener("public", "table")),
            resource(ROUTES, "table", &table),
            resource(snapshot::CLUSTER, name, &cluster(name, timeout)),
            resource(ENDPOINTS, name, &endpoints(name, upstream)),
        ]
    };
    serving.server.publish(CLUSTER, through("blue", 1)).unwrap();
    let envoy = Envoy::start(&scratch, &socket).await;
    let address = envoy.listener("public").await;
    serving.acknowledged(ROUTES, "table").await;
    assert_eq!(get(address, "/", &[]), (200, "here".to_owned()));

    // Requests without a pause while the only route moves from cluster to cluster.
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let client = std::thread::spawn({
        let stop = std::sync::Arc::clone(&stop);
        move || {
            let mut answers = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                answers.push(get(address, "/", &[]).0);
            }
            answers
        }
    });
    for round in 0..10 {
        let name = if round % 2 == 0 { "green" } else { "blue" };
        serving.server.publish(CLUSTER, through(name, 1)).unwrap();
        serving.acknowledged(ROUTES, "table").await;
        eventually(|| {
            (!envoy
                .admin("/clusters")
                .contains(if round % 2 == 0 { "blue::" } else { "green::" }))
            .then_some(())
        })
        .await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let answers = client.join().unwrap();
    assert!(answers.len() > 20, "{}", answers.len());
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");

    // A change of a cluster whose endpoints did not change is not held up by its warming.
    let started = Instant::now();
    serving.server.publish(CLUSTER, through("blue", 2)).unwrap();
    serving.acknowledged(snapshot::CLUSTER, "blue").await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

/// An upstream that answers every request with `here`.
fn backend() -> u16 {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while matches!(stream.read(&mut buffer), Ok(length) if length > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhere");
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_does_not_get_warm_holds_up_routes_no_longer_than_the_patience() {
    let scratch = Scratch::new();
    let socket = scratch.path("xds.sock");
    let serving = Serving::start(&socket);
    serving.server.publish(CLUSTER, resources(&table("one"))).unwrap();
    let envoy = Envoy::start(&scratch, &socket).await;
    let address = envoy.listener("public").await;
    serving.acknowledged(ROUTES, "table").await;

    // No endpoints are published for it, so it stays cold until Envoy gives up after 15 s.
    let mut cold = resources(&table("two"));
    cold.push(resource(snapshot::CLUSTER, "cold", &cluster("cold", 1)));
    let started = Instant::now();
    serving.server.publish(CLUSTER, cold).unwrap();
    serving.acknowledged(ROUTES, "table").await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(get(address, "/", &[]), (200, "two".to_owned()));
}
