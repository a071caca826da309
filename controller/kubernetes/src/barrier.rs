//! No route before its policy: each kind has a watch of its own, and what one tells may be ahead of another.
//!
//! When something was taken in that lets requests through, be it the end of a policy or of a route, the policies are asked
//! for by name and version, as they are at that moment. Only when all of them are here is what was taken in evaluated: a
//! policy that was made before its route, or before the end of another policy, is in force with it.

use std::time::{Duration, Instant};

use kube::{Api, Client, api::ListParams, core::ApiResource};

use crate::{
    POLICIES,
    cluster::Shared,
    discovery::Present,
    object::{Given, Metadata},
    store::{Name, Scope},
    watching::{api, typed},
};

/// How many names are listed at a time.
const PAGE: u32 = 1000;

/// How long a watch may lag before objects are asked for one by one.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often it is looked whether a watch has caught up.
const LOOK: Duration = Duration::from_millis(2);

/// Waits until every policy of this moment is in the store.
///
/// # Errors
///
/// The API server does not tell; nothing that was taken in may be evaluated then.
pub(crate) async fn catch_up(
    client: &Client,
    shared: &Shared,
    present: &Present,
    scopes: &[Scope],
) -> Result<(), kube::Error> {
    let kinds = POLICIES
        .into_iter()
        .filter_map(|kind| Some((kind, &present.get(kind)?.1)));
    let listings = kinds.flat_map(|(kind, resource)| scopes.iter().map(move |scope| (kind, resource, scope)));
    let listed = listings.map(|(kind, resource, scope)| async move {
        let doubted = shared.store().doubted(kind, scope);
        for name in doubted {
            read(shared, client, kind, resource, &name).await?;
        }
        let behind = behind(client, shared, kind, resource, scope).await?;
        wait(shared, client, kind, resource, behind).await
    });
    futures::future::try_join_all(listed).await.map(|_| ())
}

/// The policies that the store does not have as they are.
async fn behind(
    client: &Client,
    shared: &Shared,
    kind: &'static str,
    resource: &ApiResource,
    scope: &Scope,
) -> Result<Vec<(Name, String)>, kube::Error> {
    let api = api::<Metadata>(client.clone(), resource, scope);
    let mut params = ListParams::default().limit(PAGE);
    let mut behind = Vec::new();
    loop {
        let page = api.list(&params).await?;
        {
            let store = shared.store();
            for object in page.items {
                let metadata = object.metadata;
                let name = (
                    metadata.namespace.unwrap_or_default(),
                    metadata.name.unwrap_or_default(),
                );
                let version = metadata.resource_version.unwrap_or_default();
                if !store.has(kind, &name, &version) {
                    behind.push((name, version));
                }
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(behind),
        }
    }
}

/// Waits for the watch; what it does not bring is asked for.
async fn wait(
    shared: &Shared,
    client: &Client,
    kind: &'static str,
    resource: &ApiResource,
    mut behind: Vec<(Name, String)>,
) -> Result<(), kube::Error> {
    let began = Instant::now();
    while !behind.is_empty() && began.elapsed() < PATIENCE {
        tokio::time::sleep(LOOK).await;
        let store = shared.store();
        behind.retain(|(name, version)| !store.has(kind, name, version));
    }
    for (name, _) in behind {
        // One that is gone by now restricts nothing.
        read(shared, client, kind, resource, &name).await?;
    }
    Ok(())
}

/// Asks for one object, until the answer and its watch do not cross.
async fn read(
    shared: &Shared,
    client: &Client,
    kind: &'static str,
    resource: &ApiResource,
    name: &Name,
) -> Result<(), kube::Error> {
    let api: Api<Given> = Api::namespaced_with(client.clone(), &name.0, resource);
    loop {
        shared.store().ask(kind, name);
        let object = api.get_opt(&name.1).await?;
        let mut store = shared.store();
        let counts = match object {
            Some(object) => store.answer(kind, name, typed(object.into_json(), resource)),
            None => store.answer_none(kind, name),
        };
        if counts {
            // An end that was found waits for its turn.
            shared.changed();
            return Ok(());
        }
    }
}
