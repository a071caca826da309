//! No route before its policy, and none without it: each kind has a watch of its own, and what one tells may be ahead of another.
//!
//! When something was taken in that lets requests through, be it the end of a policy or of a route, the policies are asked
//! for by name and version, as they are at that moment. Only when all of them are here is what was taken in evaluated: a
//! policy that was made before its route, or before the end of another policy, is in force with it. Before such an end also
//! all that lets requests through is asked for: a route that went before its policy is gone with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kube::{Api, Client, api::ListParams, core::ApiResource};

use crate::{
    POLICIES, brief,
    cluster::Shared,
    discovery::Present,
    object::{Given, Metadata},
    store::{Name, Scope, Store, opens},
    watching::{api, scopes_of, typed},
};

/// How many names are listed at a time.
const PAGE: u32 = 1000;

/// How long a watch may lag before policies are asked for one by one.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many times all objects of a kind are listed while some of them come and go.
const LISTINGS: usize = 20;

/// How often it is looked whether a watch has caught up.
const LOOK: Duration = Duration::from_millis(2);

/// Waits until every policy of this moment is in the store, and if an end is held, all that lets requests through.
///
/// # Errors
///
/// Why that is not known: the API server does not tell, or a watch lags behind. Nothing that was taken in may be evaluated then.
pub(crate) async fn catch_up(
    client: &Client,
    shared: &Shared,
    present: &Present,
    scopes: &[Scope],
) -> Result<(), String> {
    let asked = |of: fn(&str) -> bool| {
        let kinds = present.iter().filter(move |(kind, _)| of(kind));
        kinds.flat_map(|(kind, (info, resource))| {
            let scopes = scopes_of(*info, scopes).into_iter();
            scopes.map(move |scope| Asked {
                client,
                shared,
                kind,
                resource,
                scope,
            })
        })
    };
    if shared.store().holds_an_end() {
        let all = asked(opens).map(|asked| async move { asked.take_back().await });
        futures::future::try_join_all(all).await?;
    }
    let all = asked(|kind| POLICIES.contains(&kind)).map(|asked| async move { asked.follow().await });
    futures::future::try_join_all(all).await.map(|_| ())
}

/// What is asked for of one kind.
struct Asked<'a> {
    client: &'a Client,
    shared: &'a Shared,
    kind: &'static str,
    resource: &'a ApiResource,
    scope: Scope,
}

impl Asked<'_> {
    /// Waits until every policy is here as it is now; what its watch does not bring is asked for.
    async fn follow(&self) -> Result<(), String> {
        let doubted = self.shared.store().doubted(self.kind, &self.scope);
        for name in doubted {
            self.read(&name).await.map_err(|error| brief(&error))?;
        }
        let (listed, _) = self.list().await.map_err(|error| brief(&error))?;
        let has = |name: &Name, version: &str| self.shared.store().has(self.kind, name, version);
        for name in self.behind(listed, has).await {
            // One that is gone by now restricts nothing.
            self.read(&name).await.map_err(|error| brief(&error))?;
        }
        Ok(())
    }

    /// Waits until nothing is here that was gone or another one when it was asked for, and holds it with the ends that are held.
    async fn take_back(&self) -> Result<(), String> {
        for _ in 0..LISTINGS {
            if self.take_back_listed().await? {
                return Ok(());
            }
        }
        Err(format!("objects of kind {} come and go", self.kind))
    }

    /// Does so for one listing; not if something went that was listed: either it was listed before, or it was made anew, and only
    /// another listing tells.
    async fn take_back_listed(&self) -> Result<bool, String> {
        let (listed, of_list) = self.list().await.map_err(|error| brief(&error))?;
        let names: BTreeSet<Name> = listed.keys().cloned().collect();
        let going = |store: &Store| names.iter().any(|name| store.is_going(self.kind, name));
        let is_past = |name: &Name, version: &str| self.shared.store().is_past(self.kind, name, version);
        let is_younger = |name: &Name, version: &str| self.shared.store().is_younger(self.kind, name, version);
        if going(&self.shared.store()) {
            tokio::time::sleep(LOOK).await;
            return Ok(false);
        }
        let mut behind = self.behind(listed, is_past).await;
        if going(&self.shared.store()) {
            return Ok(false);
        }
        let gone = self.shared.store().unlisted(self.kind, &self.scope, &names, &of_list);
        let gone = gone.into_iter().map(|name| (name, of_list.clone())).collect();
        behind.extend(self.behind(gone, is_younger).await);
        if !behind.is_empty() {
            // There is no right to ask for these one by one.
            return Err(format!("the watch of {} lags behind", self.kind));
        }
        let mut store = self.shared.store();
        if going(&store) {
            return Ok(false);
        }
        store.hold_with_ends(self.kind, &self.scope, &names);
        Ok(true)
    }

    /// The names and versions of all objects, and the version of the listing.
    async fn list(&self) -> Result<(BTreeMap<Name, String>, String), kube::Error> {
        let api = api::<Metadata>(self.client.clone(), self.resource, &self.scope);
        let mut params = ListParams::default().limit(PAGE);
        if let Scope::Named(name) = &self.scope {
            params = params.fields(&format!("metadata.name={name}"));
        }
        let mut listed = BTreeMap::new();
        loop {
            let page = api.list(&params).await?;
            for object in page.items {
                let metadata = object.metadata;
                let name = (
                    metadata.namespace.unwrap_or_default(),
                    metadata.name.unwrap_or_default(),
                );
                listed.insert(name, metadata.resource_version.unwrap_or_default());
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok((listed, page.metadata.resource_version.unwrap_or_default())),
            }
        }
    }

    /// Waits for the watch; what it does not bring.
    async fn behind(
        &self,
        mut behind: BTreeMap<Name, String>,
        is_here: impl Fn(&Name, &str) -> bool,
    ) -> BTreeSet<Name> {
        let began = Instant::now();
        loop {
            behind.retain(|name, version| !is_here(name, version));
            if behind.is_empty() || began.elapsed() >= PATIENCE {
                return behind.into_keys().collect();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks for one object, until the answer and its watch do not cross.
    async fn read(&self, name: &Name) -> Result<(), kube::Error> {
        let api: Api<Given> = Api::namespaced_with(self.client.clone(), &name.0, self.resource);
        loop {
            self.shared.store().ask(self.kind, name);
            let object = api.get_opt(&name.1).await?;
            let mut store = self.shared.store();
            let counts = match object {
                Some(object) => store.answer(self.kind, name, typed(object.into_json(), self.resource)),
                None => store.answer_none(self.kind, name),
            };
            if counts {
                // An end that was found waits for its turn.
                self.shared.changed();
                return Ok(());
            }
        }
    }
}
