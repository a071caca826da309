//! The time that attaching takes grows as the number of routes does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

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

/// The fastest of five runs of binding and attaching routes that have a policy each.
fn attaching(routes: usize) -> Duration {
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
    let runs = (0..5).map(|_| {
        let start = Instant::now();
        let bindings = bind(&snapshot, CONTROLLER);
        let attachment = attach(&snapshot, &bindings, &options());
        let took = start.elapsed();
        assert_eq!(attachment.policies.len(), 2 * routes);
        took
    });
    runs.min().unwrap()
}

#[test]
fn four_times_the_routes_take_about_four_times_as_long() {
    let (few, many) = (attaching(500), attaching(2000));
    println!("500 routes: {few:?}, 2000 routes: {many:?}");
    // A step that compares all with all would make it sixteen.
    assert!(many < few * 9, "500 routes took {few:?}, 2000 took {many:?}");
}
