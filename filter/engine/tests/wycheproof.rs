//! The JOSE vectors of Wycheproof (https://github.com/C2SP/wycheproof), by the code that reads keys and tokens: `make wycheproof DIR=PATH`.
#![cfg(not(target_family = "wasm"))]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{env, fs, path::Path};

use portcullis_engine::jwt::compact;
use serde_json::{Value, json};

const FILES: [&str; 3] = [
    "json_web_signature_test.json",
    "json_web_key_test.json",
    "json_web_crypto_test.json",
];

/// Disagreements by group and vector, `*` for any, each with its reason.
const EXPLAINED: &[(&str, &str, &str)] = &[
    ("*", "emptyPayload", "stricter: a token without a payload has no claims"),
    (
        "rfc7520",
        "Figure20",
        "stricter: the key is for PS256, the token is signed by PS384",
    ),
    (
        "rfc7520WithKeyOps",
        "Figure20",
        "stricter: the key is for PS256, the token is signed by PS384",
    ),
    (
        "rfc7520",
        "Figure27",
        "stricter: the key is for ES521, which is no algorithm",
    ),
    (
        "rfc7520WithKeyOps",
        "Figure27",
        "stricter: the key is for ES521, which is no algorithm",
    ),
    (
        "base64",
        "invalidBase64Padding",
        "the vector's: byte for byte the token of ValidMac, which is valid; its padding is lost",
    ),
    (
        "base64",
        "invalidBase64PaddingInPayload",
        "the vector's: byte for byte the token of ValidMac, which is valid; its padding is lost",
    ),
    (
        "base64",
        "InvalidCharacterInsertedInHeader",
        "stricter: a header that is no base64url",
    ),
    (
        "base64",
        "InvalidCharacterInsertedInPayload",
        "stricter: a payload that is no base64url",
    ),
    ("jwe_aes", "acceptsValid", "stricter: encrypted tokens are not read"),
    ("jwe_ec", "acceptsValid", "stricter: encrypted tokens are not read"),
    (
        "jws_mixedSymmetryKeyset",
        "rejectsValid",
        "ambiguous: a key verifies by its own sort of algorithm only, whatever stands beside it",
    ),
    (
        "jws_duplicate_kid",
        "rejectsDuplicateKid",
        "ambiguous: of two keys of one name both are tried, each by its own algorithm",
    ),
];

/// One disagreement.
struct Disagreement {
    vector: String,
    told: String,
    reason: Option<&'static str>,
}

/// Runs a file's vectors; returns how many, and how many it should hold.
fn run(path: &Path, found: &mut Vec<Disagreement>) -> (u64, u64) {
    let file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut executed = 0;
    for group in file["testGroups"].as_array().unwrap() {
        let keys = group.get("public").or_else(|| group.get("private")).unwrap();
        let keys = match keys.get("keys") {
            Some(_) => keys.clone(),
            None => json!({ "keys": [keys] }),
        };
        for vector in group["tests"].as_array().unwrap() {
            executed += 1;
            let token = vector.get("jws").or_else(|| vector.get("jwe")).unwrap();
            let token = token.as_str().map_or_else(|| token.to_string(), str::to_owned);
            let outcome = compact::verify(&keys.to_string(), token.as_bytes());
            let expected = vector["result"].as_str().unwrap();
            assert!(["valid", "invalid"].contains(&expected), "{vector}");
            if outcome.is_ok() == (expected == "valid") {
                continue;
            }
            let (of, name) = (group["comment"].as_str().unwrap(), vector["comment"].as_str().unwrap());
            let known = EXPLAINED
                .iter()
                .find(|known| (known.0 == "*" || known.0 == of) && known.1 == name);
            found.push(Disagreement {
                vector: format!("{} {of} {name}", vector["tcId"]),
                told: match outcome {
                    Ok(()) => format!("{expected}, verified here"),
                    Err(refusal) => format!("{expected}, refused here: {refusal}"),
                },
                reason: known.map(|known| known.2),
            });
        }
    }
    (executed, file["numberOfTests"].as_u64().unwrap())
}

#[test]
#[ignore = "needs the vectors: make wycheproof DIR=PATH"]
fn vectors_are_judged_alike() {
    let folder = env::var("WYCHEPROOF").unwrap();
    let mut table = Vec::new();
    let mut unexplained = 0;
    for name in FILES {
        let mut found = Vec::new();
        let (executed, held) = run(&Path::new(&folder).join(name), &mut found);
        println!("\n{name}");
        for Disagreement { vector, told, reason } in &found {
            println!("  {vector}\n    {told}\n    {}", reason.unwrap_or("UNEXPLAINED"));
        }
        let open = found.iter().filter(|found| found.reason.is_none()).count();
        unexplained += open;
        table.push(format!(
            "{name:<32} {executed:>8} {held:>8} {:>13} {open:>11}",
            found.len()
        ));
        assert_eq!(executed, held, "{name}: not every vector was executed");
    }
    println!(
        "\n{:<32} {:>8} {:>8} {:>13} {:>11}",
        "file", "executed", "vectors", "disagreements", "unexplained"
    );
    println!("{}", table.join("\n"));
    assert_eq!(unexplained, 0, "disagreements without a reason");
}
