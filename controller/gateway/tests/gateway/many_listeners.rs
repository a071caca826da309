//! How many listeners one Gateway may have.

use std::sync::Arc;

use gateway_api::{
    gatewayclasses::GatewayClass,
    gateways::{Gateway, GatewayAllowedListeners, GatewayAllowedListenersNamespacesFrom as From},
    listenersets::{ListenerSet, ListenerSetListeners},
};
use portcullis_attachment::{
    listener_set::gateways,
    listeners::{Fault, Listener},
    snapshot::Snapshot,
};

#[test]
fn the_youngest_sets_have_no_listeners_where_there_are_too_many() {
    let mut class = GatewayClass::default();
    class.spec.controller_name = "c".to_owned();
    class.metadata.name = Some("k".to_owned());
    let mut gateway = Gateway::default();
    gateway.metadata.name = Some("g".to_owned());
    gateway.spec.gateway_class_name = "k".to_owned();
    gateway.spec.allowed_listeners = Some(GatewayAllowedListeners::default());
    if let Some(allowed) = &mut gateway.spec.allowed_listeners {
        allowed.namespaces = Some(gateway_api::gateways::GatewayAllowedListenersNamespaces {
            from: Some(From::All),
            ..Default::default()
        });
    }
    let set = |name: &str| {
        let mut set = ListenerSet::default();
        set.metadata.name = Some(name.to_owned());
        set.spec.parent_ref.name = "g".to_owned();
        set.spec.listeners = (0..100)
            .map(|index| ListenerSetListeners {
                name: format!("l{index}"),
                port: 80,
                protocol: "HTTP".to_owned(),
                hostname: Some(format!("{name}-{index}.example.com")),
                ..ListenerSetListeners::default()
            })
            .collect();
        Arc::new(set)
    };
    let snapshot = Snapshot {
        gateway_classes: vec![Arc::new(class)],
        gateways: vec![Arc::new(gateway)],
        listener_sets: vec![set("a"), set("b"), set("c")],
        ..Snapshot::default()
    };
    let managed = gateways(&snapshot, "c").remove(0);
    let refused = |listener: &&Listener<'_>| listener.fault == Some(Fault::TooMany) && listener.yields;
    let refused: Vec<_> = managed.listeners.iter().filter(refused).collect();
    assert_eq!((managed.listeners.len(), refused.len()), (300, 100));
    let of_c = |listener: &&Listener<'_>| listener.reference.set.as_ref().is_some_and(|set| set.name == "c");
    assert!(refused.iter().all(of_c));
}
