//! The time that attaching takes grows as the number of routes does.

use std::{fs, sync::Arc, time::Duration};

use portcullis_attachment::{binding::bind, effective::attach};

use crate::world::{CONTROLLER, options, parse};

const OBJECTS: &str = "
kind: Gateway
metadata: {namespace: shop, name: public}
spec: {gatewayClassName: portcullis, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
kind: HTTPRoute
metadata: {namespace: shop}
spec: {parentRefs: [{name: public}], rules: [{name: a}, {}]}
---
kind: SecurityPolicy
metadata: {namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}]
  authorization: {rules: [{action: Allow, principal: {clientCIDRs: [10.0.0.0/8]}}]}
";

/// The time that this thread has had a processor, which other programs do not stretch (proc(5), `schedstat`).
fn on_cpu() -> Duration {
    let times = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())
}

/// The time of binding and attaching that many routes with a policy each, that many times.
fn attaching(routes: usize, times: usize) -> Duration {
    let mut snapshot = parse(OBJECTS);
    let (route, policy) = (snapshot.http_routes.remove(0), snapshot.security_policies.remove(0));
    for index in 0..routes {
        let mut route = route.as_ref().clone();
        route.metadata.name = Some(format!("r{index}"));
        route.spec.hostnames = Some(vec![format!("h{index}.example.com")]);
        snapshot.http_routes.push(Arc::new(route));
        let mut policy = policy.as_ref().clone();
        policy.metadata.name = Some(format!("p{index}"));
        policy.spec.target_refs[0].name = format!("r{index}");
        snapshot.security_policies.push(Arc::new(policy));
    }
    let start = on_cpu();
    for _ in 0..times {
        let bindings = bind(&snapshot, CONTROLLER);
        let attachment = attach(&snapshot, &bindings, &options());
        assert_eq!(attachment.policies.len(), 2 * routes);
    }
    on_cpu() - start
}

#[test]
fn the_time_grows_as_the_number_of_routes() {
    let (apart, together) = (attaching(250, 16), attaching(4000, 1));
    println!("16 times 250 routes: {apart:?}, 4000 routes: {together:?}");
    // A step that compares all with all would make it sixteen times as much.
    assert!(
        together < apart * 4,
        "16 times 250 routes took {apart:?}, 4000 took {together:?}"
    );
}
