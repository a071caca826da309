//! What replaces a virtual host that Envoy does not take.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::route::v3::Route;
use portcullis_engine::seal::{METADATA_NAMESPACE, SECRETS_KEY_PREFIX};
use prost::{Message, bytes::Bytes};

use crate::{route::rule::answer, table::everything, wire};

/// Replaces the routes of the named virtual hosts by one that answers 500 under the policy `none`.
///
/// One route table is one unit for Envoy: it is taken whole or not at all. This keeps a host that Envoy refuses from
/// holding back the others. Bytes that are no route configuration come back unchanged.
#[must_use]
pub fn quarantine(route_configuration: &Bytes, virtual_hosts: &BTreeSet<String>) -> Bytes {
    let closed = || {
        let mut table = wire::RouteTable::decode(route_configuration.clone()).ok()?;
        for encoded in &mut table.virtual_hosts {
            if virtual_hosts.contains(&name(encoded)?) {
                let mut host = wire::VirtualHost::decode(encoded.clone()).ok()?;
                close(&mut host);
                *encoded = host.encode_to_vec().into();
            }
        }
        Some(table.encode_to_vec().into())
    };
    closed().unwrap_or_else(|| route_configuration.clone())
}

/// The names of a route table's virtual hosts, each with its bytes; what is no route configuration has none.
///
/// Two tables are compared by them to find what changed since the last one that Envoy took.
#[must_use]
pub fn virtual_hosts(route_configuration: &Bytes) -> Vec<(String, Bytes)> {
    let table = wire::RouteTable::decode(route_configuration.clone()).unwrap_or_default();
    let named = table.virtual_hosts.into_iter().map(|host| Some((name(&host)?, host)));
    named.collect::<Option<_>>().unwrap_or_default()
}

fn name(virtual_host: &Bytes) -> Option<String> {
    let named = wire::VirtualHostName::decode(virtual_host.clone()).ok()?;
    Some(named.name)
}

fn close(host: &mut wire::VirtualHost) {
    // The last route is the answer where nothing matches, which carries `none`.
    let last = host
        .routes
        .last()
        .and_then(|route| Route::decode(route.as_slice()).ok());
    let metadata = last.and_then(|route| route.metadata);
    let none = metadata.as_ref().and_then(|metadata| {
        let fields = &metadata.filter_metadata.get(METADATA_NAMESPACE)?.fields;
        match fields.get("h")?.kind.as_ref()? {
            envoy_types::pb::google::protobuf::value::Kind::StringValue(hash) => Some(hash.clone()),
            _ => None,
        }
    });
    let route = Route {
        name: "quarantine".to_owned(),
        r#match: Some(everything()),
        action: Some(answer(500)),
        metadata,
        ..Route::default()
    };
    host.routes = vec![route.encode_to_vec()];
    if let (Some(metadata), Some(none)) = (&mut host.metadata, none) {
        if let Some(documents) = metadata.filter_metadata.get_mut(METADATA_NAMESPACE) {
            documents.fields.retain(|hash, _| *hash == none);
        }
        let kept = format!("{SECRETS_KEY_PREFIX}{none}");
        metadata.typed_filter_metadata.retain(|name, _| *name == kept);
    }
}
