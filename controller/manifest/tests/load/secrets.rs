//! Secrets, and what diagnostics tell.

use crate::{file, lines};

#[test]
fn string_data_is_folded_into_data_and_wins() {
    let loaded = file(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\ndata:\n  alice: b2xk\n  bob: |\n    b2xk\n    ZXI=\nstringData: {alice: new}\n",
    );
    assert_eq!(lines(&loaded), Vec::<String>::new());
    let secret = &loaded.snapshot.secrets[0];
    let data = secret.data.as_ref().unwrap();
    assert_eq!(data["alice"].0, b"new");
    assert_eq!(data["bob"].0, b"older");
    assert!(secret.string_data.is_none());
}

/// A Secret's values appear nowhere, however wrong it is.
#[test]
fn no_secret_is_told() {
    const CANARY: &str = "c4n4ry-s3cr3t";
    let mut tails: Vec<String> = [
        "data: {a: CANARY}",
        "data: CANARY",
        "data: [CANARY]",
        "stringData: {a: [CANARY]}",
        "type: [CANARY]\nimmutable: CANARY",
        "stringData: {a: CANARY, a: CANARY}",
        "stringData: {a: \"CANARY",
        "stringData:\n  a: CANARY\n b: CANARY",
        "stringData:\n  a: CANARY\n  CANARY",
        "stringData:\n  a: |\n   CANARY\n  CANARY: b: CANARY",
    ]
    .map(str::to_owned)
    .to_vec();
    // Characters with a meaning in YAML, before, in and after a value that was not quoted.
    for c in "*&!%@`|>{}[]\"'#,?-:\\<=~^$ \t".chars() {
        tails.push(format!("stringData:\n  a: {c}CANARY"));
        tails.push(format!("stringData:\n  a: {c}CANARY: b"));
        tails.push(format!("stringData:\n  a: x{c}CANARY"));
        tails.push(format!("stringData:\n  a: x {c} CANARY"));
        tails.push(format!("stringData: {{a: {c}CANARY}}"));
        tails.push(format!("stringData:\n  a: \"{c}CANARY{c}"));
        tails.push(format!("stringData:\n  a: \"\\{c}CANARY\""));
        tails.push(format!("stringData:\n  a: b\n{c}CANARY"));
    }
    let mut told = 0;
    for kind in ["Secret", "Secrets"] {
        for tail in &tails {
            let text =
                format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: x}}\n{tail}\n").replace("CANARY", CANARY);
            for diagnostic in file(&text).diagnostics {
                told += 1;
                let line = diagnostic.to_string();
                assert!(!line.contains(CANARY), "{line} of\n{text}");
            }
        }
    }
    assert!(told > 100, "only {told} diagnostics were looked at");
}

#[test]
fn no_control_character_reaches_the_terminal() {
    let loaded = file("apiVersion: \"v1\\e[31m\"\nkind: \"A\\e[31mB\"\nmetadata: {name: \"x\\a\\nb\"}\n");
    let line = loaded.diagnostics[0].to_string();
    assert!(!line.chars().any(char::is_control), "{line:?}");
    assert!(line.contains("\\u{1b}[31m"), "{line}");
}
