//! The manifests of a run, as they are now and as they were when they were good.

use std::{path::PathBuf, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use portcullis_attachment::{
    object::PolicyKind,
    snapshot::{BrokenPolicy, Snapshot},
};
use portcullis_gateway::KeySets;
use portcullis_manifest::{Diagnostic, Reader};

use super::last_good::{Held, LastGood, Settled, Why};
use crate::{
    load::{self, Evaluation, Memory, Settings},
    source::{self, Found, Source},
};

/// The manifests and what follows from them.
pub(crate) struct Folder {
    source: Source,
    /// Stdin can be read only once.
    stdin: Option<String>,
    last_good: LastGood,
    settled: Settled,
    settings: Arc<Settings>,
    reader: Reader,
    memory: Memory,
    key_sets: Arc<KeySets>,
    /// Whether the last evaluation had them.
    shipped: bool,
}

/// What a look at the files brought.
pub(crate) struct Refreshed {
    /// The manifests, if they are others than before.
    pub(crate) evaluation: Option<Evaluation>,
    /// What is newly wrong with files, and what has become right, in words.
    pub(crate) notes: Vec<String>,
    /// What is wrong with the files that are held, as they are now.
    pub(crate) refused: Vec<Diagnostic>,
}

impl Folder {
    pub(crate) fn new(source: Source, settings: Arc<Settings>) -> Self {
        Self {
            source,
            stdin: None,
            last_good: LastGood::default(),
            settled: Settled::default(),
            settings,
            reader: Reader::default(),
            memory: Memory::default(),
            key_sets: Arc::default(),
            shipped: true,
        }
    }

    /// The file of certificates that this system trusts.
    pub(crate) fn system_trust(&self) -> &str {
        &self.settings.system_trust
    }

    /// Sends these key sets along from the next evaluation on.
    pub(crate) fn ship(&mut self, key_sets: Arc<KeySets>) {
        self.key_sets = key_sets;
        self.shipped = false;
    }

    /// The paths that can change: all but stdin.
    pub(crate) fn watched(&self) -> Source {
        let mut source = self.source.clone();
        source.paths.retain(|path| !source::is_stdin(path));
        source
    }

    /// Reads the files and evaluates them if they, or the key sets, are others than before. Blocks.
    pub(crate) fn refresh(&mut self) -> Refreshed {
        let found = self.read();
        let mut loaded = None;
        let mut diagnostics: Vec<Diagnostic> = Vec::new();
        let reader = &mut self.reader;
        let settled = self.last_good.settle(found, |texts| {
            let now = reader.load(texts);
            let failed = load::failed_files(&now);
            diagnostics.extend(now.diagnostics.iter().cloned());
            loaded = Some(now);
            failed
        });
        let notes = notes(&self.settled.held, &settled.held);
        let is_refused = |diagnostic: &Diagnostic| {
            let file = diagnostic.place.as_ref().map(|place| &place.file);
            // Told in the file of the two that comes later, which need not be the one that is refused.
            diagnostic.code == "duplicate-object"
                || settled
                    .held
                    .iter()
                    .any(|held| held.why == Why::Refused && Some(&held.name) == file)
        };
        diagnostics.retain(is_refused);
        diagnostics.sort();
        diagnostics.dedup();
        let same = (&settled.texts, &settled.left_out) == (&self.settled.texts, &self.settled.left_out);
        let changed = !same || !std::mem::replace(&mut self.shipped, true);
        let evaluation = changed.then(|| {
            // What was read last to judge the files is what is served.
            let mut loaded = loaded.unwrap_or_else(|| self.reader.load(&settled.texts));
            close(&mut loaded.snapshot, &settled.left_out);
            load::translate(loaded, &self.settings, &self.key_sets, &mut self.memory)
        });
        self.settled = settled;
        Refreshed {
            evaluation,
            notes,
            refused: diagnostics,
        }
    }

    /// What is held now.
    pub(crate) fn held(&self) -> &[Held] {
        &self.settled.held
    }

    fn read(&mut self) -> Vec<Found> {
        let mut found = self.watched().read();
        if self.source.paths.iter().any(|path| source::is_stdin(path)) {
            let text = match &self.stdin {
                Some(text) => Ok(text.clone()),
                None => {
                    let stdin = Source {
                        paths: vec![PathBuf::from("-")],
                        recursive: false,
                    };
                    stdin
                        .read()
                        .into_iter()
                        .next()
                        .map_or_else(|| Ok(String::new()), |found| found.text)
                }
            };
            if let Ok(text) = &text {
                self.stdin = Some(text.clone());
            }
            found.insert(
                0,
                Found {
                    name: source::STDIN.to_owned(),
                    text,
                },
            );
        }
        found
    }
}

/// Closes what the unreadable policies of files that were never good target: a restriction was written down.
///
/// A policy that another file holds is left to that file: nobody closes a route by repeating what another says.
fn close(snapshot: &mut Snapshot, files: &[(String, String)]) {
    for file in files {
        let alone = portcullis_manifest::load(std::slice::from_ref(file)).snapshot;
        for policy in alone.broken_policies {
            let same = |other: &ObjectMeta| {
                (&other.namespace, &other.name) == (&policy.metadata.namespace, &policy.metadata.name)
            };
            let mut twins = snapshot.broken_policies.iter();
            let known = twins.any(|other| other.kind == policy.kind && same(&other.metadata))
                || match policy.kind {
                    PolicyKind::SecurityPolicy => snapshot.security_policies.iter().any(|other| same(&other.metadata)),
                    PolicyKind::AccessPolicy => snapshot.access_policies.iter().any(|other| same(&other.metadata)),
                };
            if !known {
                snapshot.broken_policies.push(policy);
            }
        }
        let whole = snapshot.client_traffic_policies.iter().map(|other| &other.metadata);
        let known: Vec<&ObjectMeta> = whole.collect();
        add_unknown(
            &mut snapshot.broken_client_traffic_policies,
            &known,
            alone.broken_client_traffic_policies,
        );
        let whole = snapshot.backend_tls_policies.iter().map(|other| &other.metadata);
        let known: Vec<&ObjectMeta> = whole.collect();
        add_unknown(
            &mut snapshot.broken_backend_tls_policies,
            &known,
            alone.broken_backend_tls_policies,
        );
    }
}

/// Adds the policies that nobody has, whole or not.
fn add_unknown(broken: &mut Vec<Arc<BrokenPolicy>>, whole: &[&ObjectMeta], policies: Vec<Arc<BrokenPolicy>>) {
    for policy in policies {
        let same =
            |other: &ObjectMeta| (&other.namespace, &other.name) == (&policy.metadata.namespace, &policy.metadata.name);
        let known = whole.iter().any(|other| same(other)) || broken.iter().any(|other| same(&other.metadata));
        if !known {
            broken.push(policy);
        }
    }
}

/// What is to be said about files that are held now and were not, or were and are not.
fn notes(before: &[Held], now: &[Held]) -> Vec<String> {
    let mut notes = Vec::new();
    for held in now.iter().filter(|held| !before.contains(held)) {
        let why = match &held.why {
            Why::Unreadable(reason) => reason.as_str(),
            Why::Empty => "is empty; delete it to drop its objects",
            Why::Refused => "has errors",
        };
        let consequence = if held.has_former {
            "what it said before stays in force"
        } else if held.why == Why::Refused {
            "it is left out, and what its unreadable policies target answers 500"
        } else {
            "it is left out"
        };
        notes.push(format!("{}: {why}; {consequence}", held.name));
    }
    for held in before {
        if !now.iter().any(|other| other.name == held.name) {
            notes.push(format!("{}: no longer held back", held.name));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use portcullis_gateway::lookup::{Proxy, Sent};

    use super::*;

    fn held(name: &str, why: Why, has_former: bool) -> Held {
        Held {
            name: name.to_owned(),
            why,
            has_former,
        }
    }

    const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portcullis}
spec: {controllerName: a.example/controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public, namespace: edge}
spec: {gatewayClassName: portcullis, listeners: [{name: http, protocol: HTTP, port: 10080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders, namespace: edge}
spec: {parentRefs: [{name: public}], rules: [{}]}
";
    const POLICY: &str = "
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: orders, namespace: edge}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}]
  authorization: {rules: [{action: Allow, principal: {clientCIDRs: [RANGE]}}]}
";

    fn folder(path: &std::path::Path) -> Folder {
        let source = Source {
            paths: vec![path.to_path_buf()],
            recursive: false,
        };
        let settings = Settings {
            controller_name: "a.example/controller".to_owned(),
            namespaces: std::collections::BTreeSet::new(),
            namespace: None,
            backends: std::collections::BTreeMap::new(),
            wasm: "/portcullis.wasm".to_owned(),
            port_shift: 0,
            system_trust: "/etc/ssl/certs/ca-certificates.crt".to_owned(),
            salt_key: [7; 32],
        };
        Folder::new(source, Arc::new(settings))
    }

    #[test]
    fn a_backend_is_not_spoken_to_under_a_tls_policy_that_was_never_good() {
        let scratch = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(scratch.path().join(name), text).unwrap();
        let backend = "
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: echo, namespace: edge}
spec: {endpoints: [{ip: {address: 127.0.0.1, port: 9}}]}
";
        let refs = "rules: [{backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: echo}]}]";
        let policy = "
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: echo, namespace: edge}
spec:
  targetRefs: [{group: gateway.envoyproxy.io, kind: KIND, name: echo}]
  validation: {hostname: HOST, wellKnownCACertificates: System}
";
        let policy = |kind: &str, host: &str| policy.replace("KIND", kind).replace("HOST", host);
        let mut folder = folder(scratch.path());
        let mut status = || {
            let evaluation = folder.refresh().evaluation.expect("something changed");
            let proxy = Proxy::read(&evaluation.translation.configurations[0]).unwrap();
            let sent = Sent::parse("GET", "http://a/", Vec::new(), [127, 0, 0, 1].into()).unwrap();
            proxy.answer(&sent, 0).unwrap().response.status
        };
        write("a.yaml", &(ROUTE.replace("rules: [{}]", refs) + backend));
        assert_eq!(status(), None, "the backend answers");
        for kind in ["Backend", "Bakend"] {
            write("b.yaml", &policy(kind, "[echo.example.com]"));
            assert_eq!(status(), Some(500), "{kind}: not in clear");
            std::fs::remove_file(scratch.path().join("b.yaml")).unwrap();
            assert_eq!(status(), None, "the policy is gone");
        }
        write("b.yaml", &policy("Backend", "echo.example.com"));
        assert_eq!(status(), None, "the policy is mended");
    }

    #[test]
    fn a_policy_that_was_never_good_closes_its_route_and_no_other_files_policy() {
        let scratch = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(scratch.path().join(name), text).unwrap();
        let mut folder = folder(scratch.path());
        let mut refuses = || {
            let evaluation = folder.refresh().evaluation.expect("something changed");
            let policies = &evaluation.attachment.policies;
            assert_eq!(policies.len(), 1);
            policies.values().all(|policy| policy.refuses)
        };
        write("a.yaml", ROUTE);
        assert!(!refuses(), "no policy yet");
        write("b.yaml", &POLICY.replace("RANGE", "127.0.0/8"));
        assert!(refuses(), "the policy cannot be read");
        write("b.yaml", &POLICY.replace("RANGE", "127.0.0.0/8"));
        assert!(!refuses(), "the policy is mended");
        write("c.yaml", &POLICY.replace("RANGE", "10.0.0/8"));
        assert!(
            folder
                .refresh()
                .evaluation
                .is_none_or(|evaluation| { evaluation.attachment.policies.values().all(|policy| !policy.refuses) })
        );
    }

    #[test]
    fn a_file_is_spoken_of_when_it_goes_bad_and_when_it_is_good_again() {
        let bad = [held("a", Why::Refused, true)];
        assert_eq!(notes(&[], &bad), ["a: has errors; what it said before stays in force"]);
        assert_eq!(notes(&bad, &bad), [""; 0]);
        assert_eq!(notes(&bad, &[]), ["a: no longer held back"]);
        let new = [held("b", Why::Unreadable("may not be read".to_owned()), false)];
        assert_eq!(notes(&[], &new), ["b: may not be read; it is left out"]);
        let never_good = [held("c", Why::Refused, false)];
        assert_eq!(
            notes(&[], &never_good),
            ["c: has errors; it is left out, and what its unreadable policies target answers 500"]
        );
    }
}
