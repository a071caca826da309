//! Small files that could take much memory or time.

use std::{fmt::Write, time::Instant};

use super::*;

/// Refused within this time, in seconds; what is quadratic takes a minute and more.
const SOON: u64 = 10;

/// Tried again on a machine that is busy with something else.
fn soon(text: &str) -> Vec<String> {
    let timed = |_| {
        let began = Instant::now();
        let messages = lines(&file(text));
        (began.elapsed().as_secs(), messages)
    };
    let in_time = (0..3).map(timed).find(|(time, _)| *time < SOON);
    assert!(in_time.is_some(), "took {SOON} s three times");
    in_time.map(|(_, messages)| messages).unwrap_or_default()
}

#[test]
fn aliases_of_a_long_text_count_by_its_length() {
    let text = format!("a: &text {}\nb:\n{}", "z".repeat(100_000), "- *text\n".repeat(100));
    assert!(soon(&text)[0].contains("b[62]: aliases add more than 100000 values"));
    let keys = format!("a: &map {{{}: 1}}\nb:\n{}", "z".repeat(1000), "- *map\n".repeat(10_000));
    assert!(soon(&keys)[0].contains("aliases add more than"));
}

#[test]
fn anchors_inside_anchors_count_as_aliases_do() {
    let mut text = String::new();
    for depth in 0..50 {
        write!(text, "&a{depth} [").unwrap();
    }
    text.push_str(&"a,".repeat(10_000));
    text.push_str(&"]".repeat(50));
    assert!(soon(&text)[0].contains("aliases add more than"));
}

#[test]
fn merging_and_comparing_take_time_in_proportion() {
    let mut merge = String::from("base: &base {");
    for key in 0..40_000 {
        write!(merge, "k{key}: 1,").unwrap();
    }
    merge.push_str("}\nb:\n  <<: *base\n");
    for key in 0..100_000 {
        writeln!(merge, "  o{key}: 1").unwrap();
    }
    assert!(soon(&merge)[0].contains("error[missing-kind]"));

    let mut keys = String::from(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec:\n  gatewayClassName: c\n  listeners:\n",
    );
    for name in 0..60_000 {
        writeln!(keys, "  - {{name: l{name}, port: 1, protocol: HTTP}}").unwrap();
    }
    assert!(soon(&keys)[0].contains("has 60000 entries, more than 64"));

    let long = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {}\nmetadata: {{name: g}}\n",
        "q".repeat(3_000_000)
    );
    assert!(soon(&long)[0].contains("warning[kind-ignored]"));
}
