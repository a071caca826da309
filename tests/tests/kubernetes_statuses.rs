//! The cases of the attachment in a real cluster: the same objects, and what the controller writes into their statuses is what
//! the cases say. Every case whose objects an API server takes, all in one cluster, each in namespaces of its own.
//!
//! What is older is created first. An API server tells time in seconds, so what a case has at one time, or at none, is created
//! within one of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use portcullis_e2e::{
    api::{self, Api},
    artefacts,
    cluster::Cluster,
    replica::Replica,
};
use serde_json::{Value, json};

const OURS: &str = "portcullis.dev/gateway-controller";
/// For ten seconds nothing is said of Envoys that are not there, and some hundred statuses are written in a second.
const CONVERGENCE: Duration = Duration::from_secs(60);
/// Cases that are compared, at least: a number that falls is a case that is lost.
const LEAST: usize = 220;

/// What comes out otherwise in a cluster: of which case, why, and how.
const OTHERWISE: &[(&str, &str, &str)] = &[(
    "bind-namespaces-selector",
    "a namespace in which something is exists, and one without labels is selected by what it does not have",
    "  expected route nobody/orders, Gateway edge/public: Accepted=False NotAllowedByListeners: \
     No listeners included by this parent ref allowed this attachment.\n  \
     found    route nobody/orders, Gateway edge/public: Accepted=True Accepted: Route is accepted\n",
)];

/// Where conditions are written, with the text of each; by object and parent.
type Told = BTreeMap<String, BTreeSet<String>>;

/// A case, with its namespaces and classes renamed.
struct Case {
    name: String,
    /// What its namespaces and classes begin with.
    prefix: String,
    namespaces: Vec<Value>,
    /// The oldest first; what is in one list is as old as the rest of it.
    objects: Vec<Vec<Value>>,
    expected: Told,
}

#[test]
fn statuses_in_a_cluster_are_those_of_the_cases() {
    let cluster = Cluster::installed("experimental");
    let mut api = Api::new(&cluster);
    let class = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "portcullis"},
        "spec": {"controllerName": OURS},
    });
    let _ = api.create(&class).object();
    let cases = cases();
    let all = cases.len();
    let (cases, refused) = create(&mut api, cases);
    println!(
        "{} of {all} cases; refused by the API server:\n{}",
        cases.len(),
        refused.join("\n")
    );
    assert!(cases.len() >= LEAST, "only {} cases", cases.len());

    let _replica = Replica::ready(&cluster, "one");
    let deadline = Instant::now() + CONVERGENCE;
    let wrong = loop {
        let told = told(&mut api);
        let wrong: Vec<String> = cases.iter().filter_map(|case| case.wrong(&told)).collect();
        if wrong.is_empty() || Instant::now() > deadline {
            break wrong;
        }
        thread::sleep(Duration::from_millis(500));
    };
    let (count, all) = (wrong.len(), cases.len());
    assert_eq!(count, 0, "{count} of {all} cases differ:\n{}", wrong.join("\n"));
}

/// Creates the objects of all cases; the cases of which all were taken, and what was said of the others.
fn create(api: &mut Api, cases: Vec<Case>) -> (Vec<Case>, Vec<String>) {
    let mut refused = Vec::new();
    let mut taken = cases;
    for namespace in taken.iter().flat_map(|case| &case.namespaces) {
        let _ = api.create(namespace).object();
    }
    let ages = taken.iter().map(|case| case.objects.len()).max().unwrap_or_default();
    for age in 0..ages {
        // Later than all that is older.
        thread::sleep(until_next_second());
        taken.retain(|case| {
            let objects = case.objects.get(age).map(Vec::as_slice).unwrap_or_default();
            let said = create_at_once(api, objects).err();
            if let Some(said) = &said {
                refused.push(format!("  {}: {said}", case.name));
                for object in case.objects.iter().flatten() {
                    let _ = api.delete(&api::path(object));
                }
            }
            said.is_none()
        });
    }
    (taken, refused)
}

/// Creates objects within one second of the API server's clock.
fn create_at_once(api: &mut Api, objects: &[Value]) -> Result<(), String> {
    for _ in 0..10 {
        let mut times = BTreeSet::new();
        for object in objects {
            let answer = api.create(object);
            if answer.status != 201 {
                let message = answer.body["message"].as_str().unwrap_or_default();
                assert!([400, 422].contains(&answer.status), "{}: {message}", answer.status);
                return Err(message.chars().take(200).collect());
            }
            times.insert(answer.body["metadata"]["creationTimestamp"].to_string());
        }
        if times.len() <= 1 {
            return Ok(());
        }
        for object in objects {
            let _ = api.delete(&api::path(object)).object();
        }
        thread::sleep(until_next_second());
    }
    panic!("{} objects take more than a second", objects.len());
}

fn until_next_second() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    Duration::from_secs(1) - Duration::from_nanos(now.subsec_nanos().into())
}

impl Case {
    fn read(number: usize, file: &Path, folder: &Path) -> Option<Self> {
        let relative = file.strip_prefix(folder).expect("it is in the folder");
        let name = relative
            .to_str()
            .expect("the path is a text")
            .trim_end_matches(".in.yaml")
            .to_owned();
        let text = fs::read_to_string(file).expect("a case can be read");
        let mut objects: Vec<Value> =
            serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        // What cannot be read is no object.
        if objects.iter().any(|object| object["kind"] == "Broken") {
            return None;
        }
        let prefix = format!("c{number:03}-");
        let classes: BTreeSet<String> = objects
            .iter()
            .filter(|object| object["kind"] == "GatewayClass")
            .filter_map(|object| Some(object["metadata"]["name"].as_str()?.to_owned()))
            .collect();
        let mut namespaces = BTreeMap::new();
        let mut by_age: BTreeMap<Option<String>, Vec<Value>> = BTreeMap::new();
        for mut object in objects.drain(..) {
            object["apiVersion"] = version(&object).into();
            let kind = object["kind"].as_str().unwrap_or_default().to_owned();
            let metadata = object["metadata"].as_object_mut().expect("metadata");
            let age = metadata.remove("creationTimestamp");
            let age = age.map(|age| age.as_str().expect("a time").to_owned());
            if !["GatewayClass", "Namespace"].contains(&kind.as_str()) && !metadata.contains_key("namespace") {
                metadata.insert("namespace".to_owned(), "default".into());
            }
            rename(&mut object, &prefix, &classes);
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if kind == "Namespace" {
                object["metadata"]["name"] = format!("{prefix}{name}").into();
                namespaces.insert(format!("{prefix}{name}"), object);
                continue;
            }
            if kind == "GatewayClass" {
                object["metadata"]["name"] = format!("{prefix}{name}").into();
            }
            by_age.entry(age).or_default().push(object);
        }
        let used: BTreeSet<String> = by_age
            .values()
            .flatten()
            .filter_map(|object| Some(object["metadata"]["namespace"].as_str()?.to_owned()))
            .collect();
        for name in used {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            namespaces.entry(name).or_insert(object);
        }
        let golden = file
            .to_str()
            .expect("the path is a text")
            .replace(".in.yaml", ".out.yaml");
        let golden = fs::read_to_string(&golden).unwrap_or_else(|error| panic!("{golden}: {error}"));
        Some(Self {
            expected: expected(&serde_saphyr::from_str(&golden).expect("a golden is YAML")),
            name,
            prefix,
            namespaces: namespaces.into_values().collect(),
            objects: by_age.into_values().collect(),
        })
    }

    /// What is told otherwise than it is expected, and not named in `OTHERWISE`, or that what is named there is not.
    fn wrong(&self, told: &BTreeMap<String, Told>) -> Option<String> {
        let difference = self.difference(told);
        let named = OTHERWISE.iter().find(|(name, _, _)| *name == self.name);
        match named {
            None if difference.is_empty() => None,
            Some((_, _, expected)) if difference == *expected => None,
            Some((_, why, _)) => Some(format!("{}, where {why}:\n{difference}", self.name)),
            None => Some(format!("{}:\n{difference}", self.name)),
        }
    }

    /// What is told otherwise than it is expected, line by line.
    fn difference(&self, told: &BTreeMap<String, Told>) -> String {
        let nothing = Told::new();
        let told = told.get(&self.prefix).unwrap_or(&nothing);
        let lines = |told: &Told| {
            let lines = told
                .iter()
                .flat_map(|(place, said)| said.iter().map(move |said| format!("{place}: {said}")));
            lines.collect::<BTreeSet<String>>()
        };
        let (told, expected) = (lines(told), lines(&self.expected));
        let mut text = String::new();
        for line in expected.difference(&told) {
            let _ = writeln!(text, "  expected {line}");
        }
        for line in told.difference(&expected) {
            let _ = writeln!(text, "  found    {line}");
        }
        text
    }
}

fn cases() -> Vec<Case> {
    let folder = artefacts::root().join("controller/attachment/testdata");
    let mut files = Vec::new();
    collect(&folder, &mut files);
    files.sort();
    let cases = files.iter().enumerate();
    cases
        .filter_map(|(number, file)| Case::read(number, file, &folder))
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.to_str().is_some_and(|path| path.ends_with(".in.yaml")) {
            files.push(path);
        }
    }
}

/// The version of an object, which cases leave out.
fn version(object: &Value) -> &'static str {
    match object["kind"].as_str().expect("a kind") {
        "SecurityPolicy" | "EnvoyProxy" => "gateway.envoyproxy.io/v1alpha1",
        "AccessPolicy" => "portcullis.dev/v1alpha1",
        "Secret" | "ConfigMap" | "Namespace" => "v1",
        _ => "gateway.networking.k8s.io/v1",
    }
}

/// Gives every namespace, and every class that the case has itself, a name of this case alone.
fn rename(value: &mut Value, prefix: &str, classes: &BTreeSet<String>) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| rename(value, prefix, classes)),
        Value::Object(fields) => {
            for (field, value) in fields {
                let is = |name: &str| field == name;
                match value {
                    Value::String(text)
                        if is("namespace")
                            || is("kubernetes.io/metadata.name")
                            || (is("gatewayClassName") && classes.contains(text)) =>
                    {
                        *text = format!("{prefix}{text}");
                    }
                    value => rename(value, prefix, classes),
                }
            }
        }
        _ => {}
    }
}

/// What a golden says of routes' parents and of policies' ancestors.
fn expected(golden: &Value) -> Told {
    let mut told = Told::new();
    for parent in golden["parents"].as_array().into_iter().flatten() {
        let text = |name: &str| {
            parent[name]
                .as_str()
                .unwrap_or_else(|| panic!("no {name}: {parent}"))
                .to_owned()
        };
        let place = format!("route {}, {}", text("route"), text("parent"));
        told.entry(place).or_default().insert(text("accepted"));
    }
    for (policy, ancestors) in golden["statuses"].as_object().into_iter().flatten() {
        // An API server counts generations by itself.
        let policy = policy.split(" of generation ").next().unwrap_or_default();
        for (ancestor, conditions) in ancestors.as_object().into_iter().flatten() {
            let conditions = conditions.as_array().into_iter().flatten();
            let conditions = conditions.map(|condition| condition.as_str().expect("a condition").to_owned());
            told.insert(format!("{policy}, {ancestor}"), conditions.collect());
        }
    }
    told
}

/// What is told of all objects, by the prefix of their case, and as if it had none.
fn told(api: &mut Api) -> BTreeMap<String, Told> {
    let mut told: BTreeMap<String, Told> = BTreeMap::new();
    let gateway = "/apis/gateway.networking.k8s.io/v1";
    for (kind, collection) in [
        (
            "SecurityPolicy",
            "/apis/gateway.envoyproxy.io/v1alpha1/securitypolicies".to_owned(),
        ),
        (
            "AccessPolicy",
            "/apis/portcullis.dev/v1alpha1/accesspolicies".to_owned(),
        ),
        ("HTTPRoute", format!("{gateway}/httproutes")),
        ("GRPCRoute", format!("{gateway}/grpcroutes")),
        ("TCPRoute", format!("{gateway}/tcproutes")),
    ] {
        for object in api.list(&collection) {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
            let Some((prefix, _)) = namespace.split_at_checked("c000-".len()) else {
                continue;
            };
            let of_case = told.entry(prefix.to_owned()).or_default();
            for (place, said) in of_object(kind, &object) {
                of_case
                    .entry(place.replace(prefix, ""))
                    .or_default()
                    .insert(said.replace(prefix, ""));
            }
        }
    }
    told
}

/// What is told of one object: at which place, and what.
fn of_object(kind: &str, object: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (metadata, is_route) = (&object["metadata"], kind.ends_with("Route"));
    let name = format!("{}/{}", text(&metadata["namespace"]), text(&metadata["name"]));
    let (list, reference) = if is_route {
        ("parents", "parentRef")
    } else {
        ("ancestors", "ancestorRef")
    };
    let subject = match kind {
        "HTTPRoute" => format!("route {name}"),
        _ if is_route => format!("route {name} ({kind})"),
        _ => format!("{kind} {name}"),
    };
    let mut told = Vec::new();
    let entries = object["status"][list].as_array().into_iter().flatten();
    for entry in entries.filter(|entry| entry["controllerName"] == OURS) {
        let parent = &entry[reference];
        let mut place = format!(
            "{subject}, {} {}/{}",
            text(&parent["kind"]),
            text(&parent["namespace"]),
            text(&parent["name"])
        );
        if let Some(section) = parent["sectionName"].as_str() {
            let _ = write!(place, "/{section}");
        }
        if let Some(port) = parent["port"].as_u64() {
            let _ = write!(place, " port {port}");
        }
        let conditions: Vec<&Value> = entry["conditions"].as_array().into_iter().flatten().collect();
        for condition in &conditions {
            if condition["observedGeneration"] != metadata["generation"] {
                told.push((
                    place.clone(),
                    format!("not of generation {}: {condition}", metadata["generation"]),
                ));
            }
        }
        let (beside, of_case): (Vec<&Value>, Vec<&Value>) = conditions
            .into_iter()
            .partition(|condition| is_beside(is_route, &condition["type"]));
        if !agree(kind, object, &beside, &of_case) {
            told.push((place.clone(), format!("beside it {beside:?}")));
        }
        for condition in of_case {
            let said = format!(
                "{}={} {}: {}",
                text(&condition["type"]),
                text(&condition["status"]),
                text(&condition["reason"]),
                text(&condition["message"])
            );
            told.push((place.clone(), said));
        }
    }
    told
}

/// Whether a condition is about what the attachment does not know: the backends of a route, what Envoys hold, and what is fetched.
fn is_beside(is_route: bool, kind: &Value) -> bool {
    let beside: &[&str] = if is_route {
        &["ResolvedRefs"]
    } else {
        &["Enforced", "Degraded"]
    };
    beside.iter().any(|beside| kind == beside)
}

/// Whether what is beside the conditions of a case fits them. There are no Envoys and no Services, of which TCPRoutes alone must
/// name one, and nobody serves keys.
fn agree(kind: &str, object: &Value, beside: &[&Value], of_case: &[&Value]) -> bool {
    let said: Vec<(&str, &str)> = beside
        .iter()
        .filter(|condition| !(condition["type"] == "Degraded" && fetches(object)))
        .filter_map(|condition| Some((condition["status"].as_str()?, condition["reason"].as_str()?)))
        .collect();
    let has = |kind: &str, status: &str| {
        let mut conditions = of_case.iter();
        conditions.any(|condition| condition["type"] == kind && condition["status"] == status)
    };
    match (kind, said.as_slice()) {
        ("TCPRoute", [said]) => *said == ("False", "BackendNotFound"),
        ("HTTPRoute" | "GRPCRoute", [said]) => *said == ("True", "ResolvedRefs"),
        (_, [("False", "NotAccepted")]) => has("Accepted", "False"),
        (_, [("False", "Overridden")]) => has("Overridden", "True") && !has("Accepted", "False"),
        (_, [("Unknown", "NoProxies" | "NoRoutes")]) => !has("Accepted", "False"),
        _ => false,
    }
}

/// Whether a policy has keys that are fetched.
fn fetches(policy: &Value) -> bool {
    let providers = policy["spec"]["jwt"]["providers"].as_array();
    let mut providers = providers.into_iter().flatten();
    providers.any(|provider| provider.get("remoteJWKS").is_some())
}
