//! What one decision costs: `cargo bench -p portcullis-engine`. Prints the best and the median of many rounds.
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::{hint::black_box, sync::Arc, time::Instant};

use portcullis_engine::{
    document::{ApiClient, Document, Secrets},
    host::{Fault, Host, Signed},
    jwt::software,
    policy::Policy,
    step::Step,
    transaction::{RequestHead, ResponseHead, Transaction},
    worker::Worker,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const ROUNDS: usize = 200;
const DECISIONS: u32 = 1000;

struct Client;

impl Host for Client {
    fn client_address(&self) -> Result<Vec<u8>, Fault> {
        Ok(b"10.200.7.9:40000".to_vec())
    }

    fn now(&self) -> Result<u64, Fault> {
        Ok(1_790_000_000_000_000_000)
    }

    fn random(&self) -> Result<u64, Fault> {
        Ok(0)
    }

    fn verify_signature(&self, signed: &Signed<'_>) -> Result<bool, Fault> {
        Ok(software::verify(signed))
    }
}

fn policy(parts: &Value) -> Arc<Policy> {
    let mut document = json!({"version": 1, "policy": "shop/orders"});
    document
        .as_object_mut()
        .unwrap()
        .append(&mut parts.as_object().unwrap().clone());
    let document: Document = serde_json::from_value(document).unwrap();
    let client = |index: u32| ApiClient {
        id: format!("client-{index}"),
        sha256: Sha256::digest(format!("key-{index}"))
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        not_after: None,
    };
    let clients = if document.api_key.is_some() { 1000 } else { 0 };
    let secrets = Secrets {
        salt: "00".to_owned(),
        api_keys: (0..clients).map(client).collect(),
        ..Secrets::default()
    };
    Arc::new(Policy::compile(&document, &secrets).unwrap())
}

fn head() -> RequestHead {
    let lines = [
        (":authority", "api.example.com"),
        (":path", "/orders?page=2"),
        (":method", "GET"),
        (":scheme", "https"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        ),
        ("accept", "*/*"),
        ("accept-language", "en"),
        ("origin", "https://app.example.com"),
        ("x-api-key", "key-500"),
        ("x-forwarded-for", "10.200.7.9"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "7e1b7d5f-9a4c-4d3a-8f5e-1a2b3c4d5e6f"),
    ];
    let line = |(name, value): (&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    RequestHead {
        geography: None,
        headers: lines.map(line).to_vec(),
    }
}

fn main() {
    let cors = json!({"allowOrigins": ["https://app.example.com", "https://*.example.org"], "allowCredentials": true});
    let api_key = json!({"extractFrom": [{"header": "x-api-key"}], "forwardClientIdHeader": "x-client-id"});
    let cidrs: Vec<String> = (0..1000)
        .map(|index| format!("10.{}.{}.0/25", index / 5, index % 5 * 2))
        .collect();
    let rules = |cidrs: Value| {
        json!({"defaultAction": "Deny", "rules": [
            {"name": "blocked", "action": "Deny", "clientCidrs": cidrs},
            {"name": "internal", "action": "Allow", "clientCidrs": ["10.0.0.0/8"]},
        ]})
    };
    let few = rules(json!(["192.0.2.0/24"]));
    let head = head();
    for (name, policy) in [
        ("none", policy(&json!({}))),
        ("cors", policy(&json!({"cors": cors}))),
        ("api key", policy(&json!({"apiKey": api_key}))),
        ("2 networks", policy(&json!({"authorization": few}))),
        ("1001 networks", policy(&json!({"authorization": rules(json!(cidrs))}))),
        (
            "all three",
            policy(&json!({"cors": cors, "apiKey": api_key, "authorization": few})),
        ),
    ] {
        let mut rounds: Vec<u128> = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..DECISIONS {
                    let mut transaction = Transaction::new(Arc::clone(&policy));
                    let step = transaction.on_request(black_box(&head), &Client, &mut Worker::default());
                    assert!(matches!(step, Step::Continue(_)), "{name}");
                    black_box(transaction.on_response(&ResponseHead { status: 200 }));
                }
                start.elapsed().as_nanos() / u128::from(DECISIONS)
            })
            .collect();
        rounds.sort_unstable();
        println!(
            "{name:>14}: {} ns ({} ns)",
            rounds.first().unwrap(),
            rounds.get(ROUNDS / 2).unwrap()
        );
    }
}
