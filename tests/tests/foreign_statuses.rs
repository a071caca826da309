//! Statuses into which several controllers write: a thousand writes of ours change no entry of another one's.

use std::{collections::BTreeMap, net::SocketAddr, thread, time::Duration};

use portcullis_e2e::{
    api::{self, Api},
    cluster::Cluster,
    manifests,
    replica::Replica,
    wait::{self, PATIENCE},
};
use serde_json::{Value, json};

const OURS: &str = "portcullis.dev/gateway-controller";
const THEIRS: &str = "b.example/other";
/// Routes, each with a policy.
const ROUTES: usize = 25;
/// How often all of them are edited: a thousand edits of routes and policies.
const ROUNDS: usize = 20;
/// How often another controller writes into each of them at most while ours is writing; afterwards it lets ours through.
const PASSES: usize = 4;

fn name(number: usize) -> String {
    format!("orders-{number}")
}

fn route(number: usize, round: usize) -> Value {
    let host = format!("round-{round}.example.com");
    manifests::route(&name(number), &[&host], &format!("/{number}"), "echo")
}

fn policy(number: usize, round: usize) -> Value {
    let action = if round.is_multiple_of(2) { "Allow" } else { "Deny" };
    manifests::policy(&name(number), json!({"authorization": {"defaultAction": action}}))
}

/// The list of a status that several controllers share, and what its entries refer to.
fn list(object: &Value) -> (&'static str, &'static str) {
    if object["kind"] == "HTTPRoute" {
        ("parents", "parentRef")
    } else {
        ("ancestors", "ancestorRef")
    }
}

fn entry(object: &Value, controller: &str) -> Option<Value> {
    let entries = object["status"][list(object).0].as_array().into_iter().flatten();
    let mut of_it = entries.filter(|entry| entry["controllerName"] == controller);
    let found = of_it.next().cloned();
    assert_eq!(of_it.next(), None, "one entry each: {object}");
    found
}

/// The other controller: it writes its entry beside ours as it has read it, again if the object was another one by then.
/// Gives the entry as the server keeps it.
fn write_theirs(api: &mut Api, path: &str, message: &str) -> Value {
    let (list, reference) = list(&api.get(path).object());
    loop {
        let mut object = api.get(path).object();
        let entries = match &mut object["status"][list] {
            Value::Array(entries) => entries,
            empty => {
                *empty = json!([]);
                empty.as_array_mut().expect("it is a list now")
            }
        };
        entries.retain(|entry| entry["controllerName"] != THEIRS);
        let condition = json!({
            "type": "Accepted", "status": "True", "reason": "Theirs", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 7,
        });
        entries.insert(
            0,
            json!({
                reference: {"group": "b.example", "kind": "Thing", "name": "theirs", "sectionName": "part"},
                "controllerName": THEIRS, "conditions": [condition],
            }),
        );
        if let Some(stored) = api.replace(&format!("{path}/status"), &object).unless_conflict() {
            return entry(&stored, THEIRS).expect("it was written");
        }
    }
}

/// How many status writes came to something.
fn writes(replica: &Replica, result: &str) -> u64 {
    let metrics = replica.get("/metrics").1;
    let name = format!("portcullis_status_writes_total{{result=\"{result}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().expect("a number"))
}

/// Whether our entry is about the object as it is.
fn is_current(object: &Value) -> bool {
    let conditions = entry(object, OURS).and_then(|entry| entry["conditions"].as_array().cloned());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| {
        condition["type"] == "Accepted" && condition["observedGeneration"] == object["metadata"]["generation"]
    })
}

fn condition(api: &mut Api, path: &str, kind: &str) -> Option<String> {
    let own = entry(&api.get(path).object(), OURS)?;
    let mut conditions = own["conditions"].as_array()?.iter();
    let found = conditions.find(|condition| condition["type"] == kind)?;
    Some(format!("{}/{}", found["status"].as_str()?, found["reason"].as_str()?))
}

/// Everything that has a status, in round 0; the paths of routes and policies.
fn create(api: &mut Api) -> Vec<String> {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let common = [
        namespace("edge"),
        namespace("shop"),
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", 8080, None)]),
        manifests::backend("echo", nowhere),
    ];
    for object in &common {
        let _ = api.apply(object).object();
    }
    let mut paths = Vec::new();
    for object in (0..ROUTES).flat_map(|number| [policy(number, 0), route(number, 0)]) {
        let _ = api.apply(&object).object();
        paths.push(api::path(&object));
    }
    paths
}

#[test]
fn entries_of_others_stay_through_a_thousand_writes_and_ours_go_when_nothing_calls_for_them() {
    let cluster = Cluster::installed("standard");
    let mut api = Api::new(&cluster);
    let paths = create(&mut api);
    let mut theirs: BTreeMap<&str, Value> = BTreeMap::new();
    for path in &paths {
        theirs.insert(path, write_theirs(&mut api, path, "first"));
    }
    let mut replica = Replica::ready(&cluster, "one");
    let current = |api: &mut Api, path: &str| is_current(&api.get(path).object());
    for path in &paths {
        wait::until("every object has an entry of ours", PATIENCE, || {
            current(&mut api, path).then_some(())
        });
    }

    let before = writes(&replica, "written");
    for round in 1..=ROUNDS {
        for object in (0..ROUTES).flat_map(|number| [policy(number, round), route(number, round)]) {
            let _ = api.apply(&object).object();
        }
        for pass in 0..PASSES {
            for path in &paths {
                // While ours is written, the other one writes what it read a moment ago.
                if !current(&mut api, path) {
                    theirs.insert(
                        path,
                        write_theirs(&mut api, path, &format!("round {round}, pass {pass}")),
                    );
                }
            }
        }
        for path in &paths {
            wait::until("our entry is about the last generation", PATIENCE, || {
                current(&mut api, path).then_some(())
            });
            let kept = entry(&api.get(path).object(), THEIRS);
            assert_eq!(kept.as_ref(), theirs.get(path.as_str()), "{path} in round {round}");
        }
    }
    let (written, conflicts) = (writes(&replica, "written") - before, writes(&replica, "conflict"));
    println!("{written} statuses written, {conflicts} conflicts");
    assert!(written >= 1_000, "{written} statuses were written");
    assert!(conflicts > 0, "the two never met");
    assert_eq!(writes(&replica, "failed"), 0);

    // Nothing changes: nothing is written, by a second controller neither.
    for path in paths.iter().filter(|path| path.contains("/securitypolicies/")) {
        wait::until("it is told that there is no Envoy", PATIENCE, || {
            (condition(&mut api, path, "Enforced")? == "Unknown/NoProxies").then_some(())
        });
    }
    let gateways = ["gatewayclasses/portcullis", "namespaces/edge/gateways/public"];
    let gateways = gateways.map(|name| format!("/apis/gateway.networking.k8s.io/v1/{name}"));
    let versions = |api: &mut Api| {
        let all = gateways.iter().chain(&paths);
        all.map(|path| api.get(path).object()["metadata"]["resourceVersion"].to_string())
            .collect::<Vec<_>>()
    };
    let unchanged = versions(&mut api);
    replica.stop();
    let replica = Replica::ready(&cluster, "two");
    wait::until("the lease has another holder", Duration::from_secs(40), || {
        replica.get("/metrics").1.contains("portcullis_leader 1").then_some(())
    });
    thread::sleep(Duration::from_secs(3));
    assert_eq!(versions(&mut api), unchanged);

    // A policy that targets nothing any more has no entry of ours.
    let mut astray = policy(0, ROUNDS);
    astray["spec"]["targetRefs"][0]["name"] = "none".into();
    let path = api::path(&astray);
    let _ = api.apply(&astray).object();
    wait::until("our entry is gone", PATIENCE, || {
        condition(&mut api, &path, "Accepted").is_none().then_some(())
    });
    assert_eq!(
        entry(&api.get(&path).object(), THEIRS).as_ref(),
        theirs.get(path.as_str())
    );
}
