//! When the objects are to be evaluated: after a burst of changes, with all that they refer to and no policy lagging behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{Api, Client};
use tokio::sync::{mpsc, watch};

use crate::{
    barrier, brief,
    cluster::{Note, Shared},
    discovery::Present,
    object::Given,
    references::Reference,
    store::Scope,
    watching::typed,
};

/// How long after the last change objects are looked at: one `apply` changes several.
const QUIET: Duration = Duration::from_millis(10);

/// How long a burst of changes may last before objects are looked at in spite of it.
const LONGEST: Duration = Duration::from_millis(100);

/// How long after a failure objects are asked for again.
const AGAIN: Duration = Duration::from_secs(2);

/// How long policies are waited for: meanwhile nothing else is evaluated either.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many objects are asked for at a time.
const AT_A_TIME: usize = 16;

/// Tells of bursts of changes when they are over and all that is referred to was read.
///
/// What lets requests through waits until all policies are known. Where they cannot be asked for, it waits longer, and all
/// else goes on: an edit that restricts is never held up.
pub(crate) async fn collect(
    client: Client,
    scopes: Vec<Scope>,
    shared: Arc<Shared>,
    mut present: watch::Receiver<Option<Arc<Present>>>,
    changes: mpsc::Sender<()>,
) {
    if present.wait_for(Option::is_some).await.is_err() {
        return;
    }
    while !shared.store().is_whole() {
        shared.until_changed().await;
    }
    let mut refused: BTreeMap<Reference, String> = BTreeMap::new();
    let mut policies = Policies::default();
    let mut begun = false;
    loop {
        let known = present.borrow().clone().unwrap_or_default();
        let held = shared.store().hold();
        let caught_up = !held || policies.catch_up(&client, &shared, &known, &scopes).await;
        let wanted = shared.store().wanted();
        let read = wanted.is_empty() || fetch(&client, &shared, &known, wanted, &mut refused).await;
        {
            let mut store = shared.store();
            store.release();
            // A kind that was found meanwhile was not asked for.
            if caught_up && store.knows_policies() {
                store.admit();
                begun = true;
            }
        }
        // Before the first time nothing is known of routes, and whoever serves without them takes them from proxies.
        if begun && changes.try_send(()) == Err(mpsc::error::TrySendError::Closed(())) {
            return;
        }
        if caught_up && read {
            shared.until_changed().await;
        } else {
            let _ = tokio::time::timeout(AGAIN, shared.until_changed()).await;
        }
        quiet(&shared).await;
    }
}

/// Whether the policies can be asked for.
#[derive(Default)]
struct Policies {
    /// Why not, and when that was found out.
    trouble: Option<(String, Instant)>,
}

impl Policies {
    /// Tells whether every policy of this moment is in the store.
    async fn catch_up(&mut self, client: &Client, shared: &Shared, present: &Present, scopes: &[Scope]) -> bool {
        if self.trouble.as_ref().is_some_and(|(_, since)| since.elapsed() < AGAIN) {
            return false;
        }
        let asked = tokio::time::timeout(PATIENCE, barrier::catch_up(client, shared, present, scopes)).await;
        let why = match asked {
            Ok(Ok(())) => {
                if self.trouble.take().is_some() {
                    shared.note(Note::Better("policies can be asked for again".to_owned()));
                }
                return true;
            }
            Ok(Err(why)) => why,
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        if self.trouble.as_ref().is_none_or(|(former, _)| *former != why) {
            shared.note(Note::Worse(format!(
                "policies cannot be asked for: {why}; meanwhile nothing new is let through: no route, and no end of a policy or of a route"
            )));
        }
        self.trouble = Some((why, Instant::now()));
        false
    }
}

/// Waits for the end of a burst.
async fn quiet(shared: &Shared) {
    let first = Instant::now();
    while first.elapsed() < LONGEST {
        let more = tokio::time::timeout(QUIET, shared.until_changed()).await;
        if more.is_err() {
            return;
        }
    }
}

/// Reads what is referred to. Tells whether all of it could be read.
async fn fetch(
    client: &Client,
    shared: &Shared,
    present: &Present,
    wanted: BTreeSet<Reference>,
    refused: &mut BTreeMap<Reference, String>,
) -> bool {
    use futures::StreamExt;
    let get = |reference: Reference| async {
        let name = (reference.namespace.clone(), reference.name.clone());
        shared.store().ask(reference.kind, &name);
        let Some((_, resource)) = present.get(reference.kind) else {
            return (reference, name, Ok(None));
        };
        let api: Api<Given> = Api::namespaced_with(client.clone(), &reference.namespace, resource);
        let asked = tokio::time::timeout(PATIENCE, api.get_opt(&reference.name)).await;
        let object = match asked {
            Ok(Ok(object)) => Ok(object.map(|object| (object, resource))),
            Ok(Err(error)) => Err(brief(&error)),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        (reference, name, object)
    };
    let mut answers = futures::stream::iter(wanted.into_iter().map(get)).buffer_unordered(AT_A_TIME);
    let mut all = true;
    while let Some((reference, name, answer)) = answers.next().await {
        match answer {
            Ok(Some((object, resource))) => {
                refused.remove(&reference);
                let json = object.into_json();
                // Where the answer does not count, it is asked for again.
                all &= shared.store().answer(reference.kind, &name, typed(json, resource));
            }
            Ok(None) => all &= shared.store().answer_none(reference.kind, &name),
            Err(why) => {
                all = false;
                if refused.get(&reference) != Some(&why) {
                    let Reference { kind, namespace, name } = &reference;
                    shared.note(Note::Worse(format!("{kind} {namespace}/{name} cannot be read: {why}")));
                    refused.insert(reference, why);
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use kube::{Config, core::ApiResource};
    use serde_json::{Value as Json, json};
    use tokio::{task::AbortHandle, time::timeout};

    use super::*;
    use crate::store::{Store, Watched};

    type Begun = (
        Arc<Shared>,
        mpsc::UnboundedReceiver<Note>,
        watch::Sender<Option<Arc<Present>>>,
        mpsc::Receiver<()>,
        AbortHandle,
    );

    const POLICIES: Watched = ("SecurityPolicy", Scope::All);
    const ROUTES: Watched = ("HTTPRoute", Scope::All);

    fn object(version: &str, kind: &str, spec: &Json) -> Json {
        let metadata = json!({"name": "orders", "namespace": "shop", "resourceVersion": "1"});
        json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
    }

    /// A collector that asks an API server which does not answer.
    fn begin(fill: impl FnOnce(&mut Store)) -> Begun {
        // Nobody listens there.
        let nowhere = Config::new("http://127.0.0.1:9".parse().unwrap());
        let client = Client::try_from(nowhere).unwrap();
        let (notes, told) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(notes));
        let kind = portcullis_manifest::kinds()
            .find(|kind| kind.name == POLICIES.0)
            .unwrap();
        let resource = ApiResource {
            group: kind.group.to_owned(),
            version: "v1alpha1".to_owned(),
            api_version: format!("{}/v1alpha1", kind.group),
            kind: kind.name.to_owned(),
            plural: "securitypolicies".to_owned(),
        };
        let present = Present::from([(kind.name, (kind, resource))]);
        let (found, present) = watch::channel(Some(Arc::new(present)));
        let (changes, changed) = mpsc::channel(1);
        fill(&mut shared.store());
        let collector = collect(client, vec![Scope::All], Arc::clone(&shared), present, changes);
        (shared, told, found, changed, tokio::spawn(collector).abort_handle())
    }

    #[tokio::test]
    async fn what_restricts_is_evaluated_while_policies_cannot_be_asked_for() {
        let (shared, mut told, _found, mut changed, collector) = begin(|_| ());
        let patience = Duration::from_secs(10);
        timeout(patience, changed.recv()).await.unwrap().unwrap();

        let route = object("gateway.networking.k8s.io/v1", "HTTPRoute", &json!({"rules": [{}]}));
        assert!(shared.store().apply(&ROUTES, route));
        shared.changed();
        timeout(patience, changed.recv()).await.unwrap().unwrap();
        let Note::Worse(text) = told.recv().await.unwrap() else {
            panic!("it is worse");
        };
        assert!(text.starts_with("policies cannot be asked for: "), "{text}");

        let spec = json!({
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "orders"}],
            "authorization": {"defaultAction": "Deny"},
        });
        let policy = object("gateway.envoyproxy.io/v1alpha1", "SecurityPolicy", &spec);
        assert!(shared.store().apply(&POLICIES, policy));
        shared.changed();
        timeout(patience, changed.recv()).await.unwrap().unwrap();
        let loaded = shared.store().load();
        assert_eq!(loaded.snapshot.security_policies.len(), 1);
        assert!(loaded.snapshot.http_routes.is_empty(), "the route waits");
        timeout(patience, changed.recv()).await.unwrap().unwrap();
        assert!(told.try_recv().is_err(), "it is said once");
        collector.abort();
    }

    #[tokio::test]
    async fn nothing_is_evaluated_before_policies_were_asked_for_once() {
        let (shared, mut told, _found, mut changed, collector) = begin(|store| {
            let route = object("gateway.networking.k8s.io/v1", "HTTPRoute", &json!({"rules": [{}]}));
            assert!(store.apply(&ROUTES, route));
        });
        assert!(matches!(told.recv().await, Some(Note::Worse(_))));
        shared.changed();
        assert!(timeout(AGAIN, changed.recv()).await.is_err());
        collector.abort();
    }
}
