//! Objects with their statuses, listed once.

use std::collections::BTreeSet;

use kube::{Api, Client, api::ListParams};
use serde_json::Value as Json;

use crate::{Error, discovery::discover, is_written, object::Given, watching::typed};

/// How many objects are listed at a time.
const PAGE: u32 = 500;

/// Lists the objects of all kinds whose status is written, of some namespaces or of all if none is named, with those that
/// belong to no namespace.
///
/// # Errors
///
/// The API server does not answer, or does not let a kind be listed.
pub async fn statuses(client: &Client, namespaces: &BTreeSet<String>) -> Result<Vec<Json>, Error> {
    let mut objects = Vec::new();
    for (kind, resource) in discover(client).await?.present.into_values() {
        if !is_written(kind.name) {
            continue;
        }
        let apis: Vec<Api<Given>> = if namespaces.is_empty() || !kind.namespaced {
            vec![Api::all_with(client.clone(), &resource)]
        } else {
            let of_namespace = |namespace: &String| Api::namespaced_with(client.clone(), namespace, &resource);
            namespaces.iter().map(of_namespace).collect()
        };
        for api in apis {
            let mut params = ListParams::default().limit(PAGE);
            loop {
                let page = api.list(&params).await?;
                let items = page.items.into_iter();
                objects.extend(items.map(|object| typed(object.into_json(), &resource)));
                match page.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => params = params.continue_token(&token),
                    None => break,
                }
            }
        }
    }
    Ok(objects)
}
