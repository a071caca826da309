//! One watch: what an API server tells of a kind, into the store.

use std::sync::Arc;

use futures::{Stream, StreamExt, stream::BoxStream};
use kube::{
    Api, Client, Resource,
    core::{ApiResource, DynamicResourceScope},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use portcullis_manifest::KindInfo;
use serde_json::Value as Json;

use crate::{
    brief,
    cluster::{Note, Shared},
    is_written,
    object::{Given, Metadata},
    references::is_on_demand,
    store::{Scope, Watched},
};

/// Watches for ever, and tells of what keeps it from that.
pub(crate) async fn watch(client: Client, kind: KindInfo, resource: ApiResource, scope: Scope, shared: Arc<Shared>) {
    let watched: Watched = (kind.name, scope);
    let mut config = watcher::Config::default();
    if let Scope::Named(name) = &watched.1 {
        config = config.fields(&format!("metadata.name={name}"));
    }
    let mut events = if is_on_demand(kind.name) {
        let api = api::<Metadata>(client, &resource, &watched.1);
        events(watcher::watcher(api, config))
    } else {
        let api = api::<Given>(client, &resource, &watched.1);
        events(watcher::watcher(api, config))
    };
    let mut trouble: Option<String> = None;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if trouble.take().is_some() {
                    shared.note(Note::Better(format!("{}: watched again", described(&watched))));
                }
                if take(&shared, &watched, &resource, event) {
                    shared.changed();
                }
                if is_written(watched.0) {
                    shared.touched();
                }
            }
            Err(error) => {
                let why = brief(&error);
                if trouble.as_ref() != Some(&why) {
                    shared.note(Note::Worse(format!(
                        "{} cannot be watched: {why}; what was known stays in force",
                        described(&watched)
                    )));
                    trouble = Some(why);
                }
            }
        }
    }
}

/// Asks for objects of a kind.
pub(crate) fn api<K>(client: Client, resource: &ApiResource, scope: &Scope) -> Api<K>
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
{
    match scope {
        Scope::Namespace(namespace) => Api::namespaced_with(client, namespace, resource),
        Scope::All | Scope::Named(_) => Api::all_with(client, resource),
    }
}

/// What is watched of a kind where these are the scopes of namespaced kinds.
pub(crate) fn scopes_of(kind: KindInfo, namespaced: &[Scope]) -> Vec<Scope> {
    let namespaces = namespaced.iter().filter_map(|scope| match scope {
        Scope::Namespace(namespace) => Some(namespace.clone()),
        Scope::All | Scope::Named(_) => None,
    });
    match kind.name {
        _ if kind.namespaced || namespaced.contains(&Scope::All) => namespaced.to_vec(),
        "Namespace" => namespaces.map(Scope::Named).collect(),
        _ => vec![Scope::All],
    }
}

fn described((kind, scope): &Watched) -> String {
    match scope {
        Scope::All => (*kind).to_owned(),
        Scope::Namespace(namespace) => format!("{kind} of namespace {namespace}"),
        Scope::Named(name) => format!("{kind} {name}"),
    }
}

type Events = BoxStream<'static, Result<Event<Json>, watcher::Error>>;

/// The events of a watch, which waits longer and longer while it fails.
fn events<const ALONE: bool>(
    events: impl Stream<Item = Result<Event<Given<ALONE>>, watcher::Error>> + Send + 'static,
) -> Events {
    let events = events.default_backoff().map(|event| {
        event.map(|event| match event {
            Event::Init => Event::Init,
            Event::InitApply(object) => Event::InitApply(object.into_json()),
            Event::InitDone => Event::InitDone,
            Event::Apply(object) => Event::Apply(object.into_json()),
            Event::Delete(object) => Event::Delete(object.into_json()),
        })
    });
    events.boxed()
}

/// Takes an event in; tells whether anything that decides changed.
fn take(shared: &Shared, watched: &Watched, resource: &ApiResource, event: Event<Json>) -> bool {
    let mut store = shared.store();
    match event {
        Event::Init => {
            store.begin(watched);
            false
        }
        Event::InitApply(object) => {
            store.apply(watched, typed(object, resource));
            // What came of a listing is looked at when it is over.
            false
        }
        Event::InitDone => {
            store.end(watched);
            true
        }
        Event::Apply(object) => store.apply(watched, typed(object, resource)),
        Event::Delete(object) => {
            let text = |name: &str| {
                object
                    .pointer(name)
                    .and_then(Json::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let name = (text("/metadata/namespace"), text("/metadata/name"));
            store.delete(watched.0, &name, &text("/metadata/resourceVersion"))
        }
    }
}

/// Objects of a list do not say what they are.
pub(crate) fn typed(mut object: Json, resource: &ApiResource) -> Json {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".to_owned(), Json::from(resource.api_version.as_str()));
        fields.insert("kind".to_owned(), Json::from(resource.kind.as_str()));
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_of_some_namespaces_asks_for_those_alone_and_for_what_belongs_to_none() {
        let of = |name: &str, namespaced: &[Scope]| {
            let kind = portcullis_manifest::kinds().find(|kind| kind.name == name).unwrap();
            scopes_of(kind, namespaced)
        };
        let some = ["edge", "shop"].map(|name| Scope::Namespace(name.to_owned()));
        assert_eq!(of("HTTPRoute", &some), some);
        assert_eq!(
            of("Namespace", &some),
            ["edge", "shop"].map(|name| Scope::Named(name.to_owned()))
        );
        assert_eq!(of("GatewayClass", &some), [Scope::All]);
        for kind in ["HTTPRoute", "Namespace", "GatewayClass"] {
            assert_eq!(of(kind, &[Scope::All]), [Scope::All]);
        }
    }
}
