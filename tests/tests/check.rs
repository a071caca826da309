//! `portcullis check` on broken manifests: each file says in itself what must be found, and where.

use std::{collections::BTreeSet, fs, path::Path};

use portcullis_e2e::{artefacts, controller};

/// A finding: file, place and code.
type Found = (String, String, String);

#[test]
fn every_broken_manifest_is_found_out() {
    let folder = artefacts::root().join("manifests/examples/broken");
    let expected = expected(&folder);
    let files: BTreeSet<&String> = expected.iter().map(|(file, _, _)| file).collect();
    assert_eq!(files.len(), 20, "twenty broken manifests");
    let codes: BTreeSet<&String> = expected.iter().map(|(_, _, code)| code).collect();
    assert_eq!(codes.len(), 20, "twenty different codes");

    let output = controller::portcullis(&["check", "--color", "never", "-f", &folder.display().to_string()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        output.status.code(),
        Some(1),
        "errors: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let found: BTreeSet<Found> = text
        .lines()
        .filter(|line| line.contains(" error["))
        .map(parse)
        .collect();
    let (missing, surplus) = (&expected - &found, &found - &expected);
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing {missing:#?}\nsurplus {surplus:#?}\n{text}"
    );
}

#[test]
fn the_quickstart_is_not_broken() {
    let folder = artefacts::root().join("manifests/examples/quickstart");
    let output = controller::portcullis(&["check", "--strict", "-f", &folder.display().to_string()]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn what_cannot_be_read_cannot_be_told() {
    assert_eq!(
        controller::portcullis(&["check", "-f", "/nowhere/at/all"])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(
        controller::portcullis(&["check", "--no-such-option"]).status.code(),
        Some(2)
    );
}

/// `# expect: error[code] LINE:COL` in every broken file.
fn expected(folder: &Path) -> BTreeSet<Found> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a folder entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a manifest can be read");
        let marks: Vec<&str> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("# expect: error["))
            .collect();
        for mark in marks {
            let (code, place) = mark.split_once("] ").expect("a code and a place");
            all.insert((name.clone(), place.to_owned(), code.to_owned()));
        }
    }
    all
}

/// `FILE:LINE:COL error[CODE] KIND NAME PATH: MESSAGE; FIX`
fn parse(line: &str) -> Found {
    let (place, rest) = line.split_once(" error[").expect("a place before the code");
    let (code, rest) = rest.split_once(']').expect("the code ends");
    // A file that is no YAML has no objects, only a place.
    let (subject, message) = rest.split_once(": ").expect("a message behind the subject");
    let words: Vec<&str> = subject.split_whitespace().collect();
    let expected = if code == "yaml-syntax" { 1 } else { 3 };
    assert_eq!(words.len(), expected, "kind, name and path: {line}");
    assert!(message.contains("; "), "a fix behind the message: {line}");
    let mut parts = place.rsplitn(3, ':');
    let (column, row, file) = (parts.next(), parts.next(), parts.next());
    let file = Path::new(file.expect("a file"))
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    (
        file,
        format!("{}:{}", row.expect("a line"), column.expect("a column")),
        code.to_owned(),
    )
}
