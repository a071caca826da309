//! What must hold for any bytes, for random ones and for every input that once broke it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a check fails by panicking"
)]

mod checks;

use std::{collections::BTreeMap, fs, path::Path};

use proptest::prelude::*;

/// Bytes of the alphabets that the parsers know, and any others.
fn sent() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        4 => "[a-z0-9:/.?&=;%+*_\\[\\]\" -]{0,6}".prop_map(String::into_bytes),
        1 => prop_oneof![
            Just("https://"), Just("*."), Just("example.com"), Just("key"), Just("%6bey"), Just("::ffff:"), Just("10.0.0.1"),
            Just("/8"), Just("; "), Just("\n"), Just(":443"), Just("null"), Just("same-origin"), Just("cross-site"),
            Just("\0POST\0"), Just("\0"), Just("https://api."), Just("Basic "), Just("YWxpY2U6"), Just("YWxpY2UtcGFzc3dvcmQ="),
            Just("$apr1$a$"), Just("$5$rounds=1000$"), Just("{SHA}"), Just("LnNEJV8jKtmfFq9Xj5SGUhsNZSU="),
        ]
        .prop_map(|word| word.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(word, 0..12).prop_map(|words| words.concat())
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    let configured = prop_oneof![
        Just("key".to_owned()),
        Just("a&b".to_owned()),
        "https?://(\\*\\.)?[a-z]{1,3}(\\.[a-z]{1,3})?(:443|:80|:8443)?",
        "[0-9]{1,2}\\.[0-9]\\.0\\.0/[0-9]{1,2}",
        "(::ffff:[0-9]\\.0\\.0\\.0|2001:db8::)/[0-9]{1,3}",
        ".{0,8}",
    ];
    (configured, sent()).prop_map(|(configured, sent)| [configured.into_bytes(), sent].join(&0))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parsers_hold_for_any_bytes(input in input()) {
        checks::address(&input);
        checks::cookie(&input);
        checks::credentials(&input);
        checks::csrf(&input);
        checks::document(&input);
        checks::origin(&input);
        checks::password(&input);
        checks::query(&input);
    }

    #[test]
    fn credentials_and_hashes_hold_for_any_bytes(input in sent()) {
        checks::credentials(&[b"Basic ", &input[..]].concat());
        checks::password(&input);
    }

    #[test]
    fn transactions_are_decided_as_the_oracle_decides(input in proptest::collection::vec(any::<u8>(), 0..500)) {
        checks::transaction(&input);
    }
}

/// Random transactions show something only as long as they end in every way, and by every sort of rule.
#[test]
fn random_transactions_end_in_every_way() {
    let mut state = 1_u64;
    let mut seen = BTreeMap::<String, u32>::new();
    for _ in 0..20_000 {
        let input: Vec<u8> = (0..500)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            })
            .collect();
        for what in checks::scenarios(&input) {
            *seen.entry(what).or_default() += 1;
        }
    }
    println!("{seen:#?}");
    for what in [
        "allowed",
        "api_key_expired",
        "api_key_missing",
        "api_key_unknown",
        "authorization_denied",
        "basic_malformed",
        "basic_missing",
        "basic_wrong",
        "cors_origin_denied",
        "cors_preflight",
        "credential_missing",
        "csrf_origin_denied",
        "csrf_origin_missing",
        "filter_too_old",
        "host_fault",
        "jwt_expired",
        "jwt_issuer",
        "jwt_key",
        "jwt_malformed",
        "jwt_missing",
        "jwt_signature",
        "path_ambiguous",
        "policy_invalid",
        "both admit",
        "only the baseline admits",
        "only the baseline refuses",
        "only the shadow admits",
        "only the shadow refuses",
        "Allow by claim",
        "Deny by claim",
        "Allow by expression",
        "Deny by expression",
        "Allow by method",
        "Deny by method",
        "Allow by header",
        "Deny by header",
        "Allow by identity",
        "Deny by identity",
        "Allow by Exact",
        "Allow by Exact inverted",
        "Allow by PathPrefix",
        "Allow by PathPrefix inverted",
        "Allow by RegularExpression",
        "Allow by RegularExpression inverted",
        "Deny by Exact",
        "Deny by Exact inverted",
        "Deny by PathPrefix",
        "Deny by PathPrefix inverted",
        "Deny by RegularExpression",
        "Deny by RegularExpression inverted",
        "Deny by a variant, Exact",
        "Deny by a variant, Exact inverted",
        "Deny by a variant, PathPrefix",
        "Deny by a variant, PathPrefix inverted",
        "Deny by a variant, RegularExpression",
        "Deny by a variant, RegularExpression inverted",
    ] {
        assert!(seen.get(what).is_some_and(|count| *count >= 3), "{what}: {seen:#?}");
    }
}

#[test]
fn what_once_broke_a_check_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions");
    for (target, check) in checks::ALL {
        let inputs = fs::read_dir(folder.join(target)).unwrap_or_else(|error| panic!("regressions/{target}: {error}"));
        let mut replayed = 0;
        for input in inputs {
            let path = input.unwrap().path();
            println!("{}", path.display());
            check(&fs::read(path).unwrap());
            replayed += 1;
        }
        assert!(
            replayed > 0,
            "regressions/{target} is empty: keep at least one seed there"
        );
    }
}
