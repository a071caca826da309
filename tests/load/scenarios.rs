//! What is decided: one route with one policy each, and the same policy for Envoy's own filters.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_e2e::{client::Request, manifests};
use serde_json::{Value, json};

use crate::{native, tokens};

/// The first scenario's origin.
pub(crate) const ORIGIN: &str = "https://shop.example.com";

/// One policy and the request that it admits.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// The name of its route, and in the summary.
    pub(crate) key: &'static str,
    /// The name in the table.
    pub(crate) title: &'static str,
    /// The method of its requests.
    pub(crate) method: &'static str,
    /// What its requests carry.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Whether each of its requests carries a token of its own in the query, in place of the headers.
    pub(crate) fresh: bool,
    /// What a refused request carries instead, and the status it gets.
    pub(crate) refused: (Vec<(&'static str, String)>, u16),
    /// `SecurityPolicy.spec` without its target.
    pub(crate) spec: Value,
    /// The Secret of the same name.
    pub(crate) secret: Option<Vec<(String, String)>>,
    /// `typed_per_filter_config` for Envoy's own filters; none if there is no such filter.
    pub(crate) native: Option<Value>,
}

impl Scenario {
    /// The path of its route.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.key)
    }

    /// Its route, policy and Secret.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let mut objects = vec![
            manifests::route(self.key, &[], &self.path(), "upstream"),
            manifests::policy(self.key, self.spec.clone()),
        ];
        if let Some(entries) = &self.secret {
            let entries: Vec<_> = entries
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            objects.push(manifests::secret("shop", self.key, &entries));
        }
        objects
    }

    /// The admitted request.
    pub(crate) fn request(&self) -> Request {
        self.with(&self.headers)
    }

    /// A request that whoever decides refuses, and the status that it gets.
    pub(crate) fn refused(&self) -> (Request, u16) {
        (self.with(&self.refused.0), self.refused.1)
    }

    fn with(&self, headers: &[(&'static str, String)]) -> Request {
        let mut request = Request::new(self.method, "bench.example.com", &self.path());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if self.method == "POST" {
            request = request.header("content-length", "0");
        }
        request
    }
}

/// Every scenario, the published ratio's first.
pub(crate) fn all() -> Vec<Scenario> {
    vec![
        api_key_cors_ranges(),
        basic("basic-sha", "Basic, {SHA}", SHA),
        Scenario {
            native: None,
            ..basic("basic-bcrypt", "Basic, bcrypt of cost 10, warm", BCRYPT)
        },
        csrf(),
        rules(),
        ranges("ranges-10", "10 address ranges", 10),
        ranges("ranges-1000", "1,000 address ranges", 1_000),
        keys("keys-10", "10 API keys", 10),
        keys("keys-2000", "2,000 API keys", 2_000),
    ]
    .into_iter()
    .chain(tokens::scenarios())
    .collect()
}

fn api_key_cors_ranges() -> Scenario {
    let ranges: Vec<String> = (0..15)
        .map(|net| format!("198.51.{net}.0/24"))
        .chain(["127.0.0.0/8".to_owned()])
        .collect();
    let keys = client_keys("all", 32);
    let good = keys[7].1.clone();
    Scenario {
        key: "all",
        title: "API key of 32, CORS, 16 address ranges",
        method: "GET",
        headers: vec![("x-api-key", good), ("origin", ORIGIN.to_owned())],
        fresh: false,
        refused: (vec![("origin", ORIGIN.to_owned())], 401),
        spec: json!({
            "cors": {"allowOrigins": [ORIGIN], "allowMethods": ["GET", "POST"], "allowHeaders": ["x-api-key"], "maxAge": "10m"},
            "apiKeyAuth": manifests::api_key_auth("all"),
            "authorization": {"defaultAction": "Deny", "rules": [
                {"name": "office", "action": "Allow", "principal": {"clientCIDRs": ranges}},
            ]},
        }),
        native: Some(native::filters(&[
            native::cors(ORIGIN),
            native::api_keys(&keys),
            native::rbac(&[native::matcher(&native::in_ranges(&ranges), "ALLOW")]),
        ])),
        secret: Some(keys),
    }
}

const PASSWORD: &str = "correct horse battery";
/// The password's hash of cost 10.
const BCRYPT: &str = "$2b$10$abcdefghijklmnopqrstuuCj7fyLDJytXL.TfOiOeiv0fQvSOK1/2";

/// The password's SHA-1.
const SHA: &str = "{SHA}mN7MYuzjmaIu0w1JDvMzvn/ec4U=";

/// 32 users of whom one asks.
fn basic(key: &'static str, title: &'static str, hash: &str) -> Scenario {
    let users: String = (0..32).map(|user| format!("user-{user:02}:{hash}\n")).collect();
    let credentials = |password: &str| {
        let encoded = STANDARD.encode(format!("user-07:{password}"));
        vec![("authorization", format!("Basic {encoded}"))]
    };
    Scenario {
        key,
        title,
        method: "GET",
        headers: credentials(PASSWORD),
        fresh: false,
        // Without credentials: a wrong password may have to wait for its turn at hashing.
        refused: (Vec::new(), 401),
        spec: json!({"basicAuth": {"users": {"name": key}, "forwardUsernameHeader": native::USER_HEADER}}),
        native: Some(native::filters(&[native::basic(&users)])),
        secret: Some(vec![(".htpasswd".to_owned(), users)]),
    }
}

fn csrf() -> Scenario {
    let origin = |host: &str| vec![("origin", format!("https://{host}"))];
    Scenario {
        key: "csrf",
        title: "CSRF, 4 further origins",
        method: "POST",
        headers: origin("app-3.example.com"),
        fresh: false,
        refused: (origin("evil.example.net"), 403),
        spec: json!({"csrf": {"additionalOrigins": (0..4).map(|app| format!("https://app-{app}.example.com")).collect::<Vec<_>>()}}),
        native: Some(native::filters(&[native::csrf(
            &(0..4).map(|app| format!("app-{app}.example.com")).collect::<Vec<_>>(),
        )])),
        secret: None,
    }
}

/// Eight rules of which the last admits the request.
fn rules() -> Scenario {
    let rule = |name: &str, action: &str, method: &str, path: &str, tier: &str| {
        json!({
            "name": name, "action": action,
            "operation": {"methods": [method], "path": {"type": "PathPrefix", "value": path}},
            "principal": {"headers": [{"name": "x-tier", "values": [tier]}]},
        })
    };
    let mut list: Vec<Value> = (0..7)
        .map(|number| {
            rule(
                &format!("deny-{number}"),
                "Deny",
                "DELETE",
                &format!("/rules/{number}"),
                "bronze",
            )
        })
        .collect();
    list.push(rule("read", "Allow", "GET", "/rules", "gold"));
    let mut matchers: Vec<Value> = (0..7)
        .map(|number| {
            native::matcher(
                &native::request("DELETE", &format!("/rules/{number}"), "x-tier", "bronze"),
                "DENY",
            )
        })
        .collect();
    matchers.push(native::matcher(
        &native::request("GET", "/rules", "x-tier", "gold"),
        "ALLOW",
    ));
    Scenario {
        key: "rules",
        title: "8 rules of method, path and header",
        method: "GET",
        headers: vec![("x-tier", "gold".to_owned())],
        fresh: false,
        refused: (Vec::new(), 403),
        spec: json!({"authorization": {"defaultAction": "Deny", "rules": list}}),
        native: Some(native::filters(&[native::rbac(&matchers)])),
        secret: None,
    }
}

/// Ranges of which the last holds the client.
fn ranges(key: &'static str, title: &'static str, count: usize) -> Scenario {
    let mut ranges: Vec<String> = (0..count - 1)
        .map(|net| format!("10.{}.{}.0/24", net / 250, net % 250))
        .collect();
    ranges.push("127.0.0.0/8".to_owned());
    // Whoever decides by address cannot be refused from the same one: a header denies before the range is looked at.
    let spec = json!({"authorization": {"defaultAction": "Deny", "rules": [
        {"name": "blocked", "action": "Deny", "principal": {"headers": [{"name": "x-blocked", "values": ["yes"]}]}},
        {"name": "office", "action": "Allow", "principal": {"clientCIDRs": ranges}},
    ]}});
    Scenario {
        key,
        title,
        method: "GET",
        headers: Vec::new(),
        fresh: false,
        refused: (vec![("x-blocked", "yes".to_owned())], 403),
        spec,
        native: Some(native::filters(&[native::rbac(&[
            native::matcher(&native::header("x-blocked", "yes"), "DENY"),
            native::matcher(&native::in_ranges(&ranges), "ALLOW"),
        ])])),
        secret: None,
    }
}

/// Keys of which one of the middle is presented.
fn keys(key: &'static str, title: &'static str, count: usize) -> Scenario {
    let keys = client_keys(key, count);
    Scenario {
        key,
        title,
        method: "GET",
        headers: vec![("x-api-key", keys[count / 2].1.clone())],
        fresh: false,
        refused: (vec![("x-api-key", "guess".to_owned())], 401),
        spec: json!({"apiKeyAuth": manifests::api_key_auth(key)}),
        native: Some(native::filters(&[native::api_keys(&keys)])),
        secret: Some(keys),
    }
}

fn client_keys(of: &str, count: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|client| (format!("client-{client:04}"), format!("{of}-key-of-client-{client:04}")))
        .collect()
}
