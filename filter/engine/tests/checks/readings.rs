//! What somebody behind the router may find in a path, once more.

use super::oracle;

/// Splits a target into its path and its query with the `?`; a fragment is neither.
pub(crate) fn parts(target: &[u8]) -> (&[u8], &[u8]) {
    let path = target.split(|byte| b"?#".contains(byte)).next().unwrap();
    let rest = &target[path.len()..];
    (path, if rest.starts_with(b"?") { rest } else { b"" })
}

/// A path, and what it becomes for those who decode it once or twice more; each of these for those also who end it at a
/// `;`, and for those who overlook parameters, blanks around segments, repeated slashes, and what follows `?`, `#` or NUL.
pub(crate) fn of(path: &[u8]) -> Vec<Vec<u8>> {
    decoded(path)
        .into_iter()
        .flat_map(|text| {
            let until_semicolon = text.split(|byte| *byte == b';').next().unwrap().to_vec();
            let overlooked = if is_overlooked(&text) {
                cleaned(&text)
            } else {
                text.clone()
            };
            [text, until_semicolon, overlooked]
        })
        .collect()
}

/// A text, decoded never, once and twice.
pub(crate) fn decoded(text: &[u8]) -> Vec<Vec<u8>> {
    let once = oracle::decoded(text);
    let twice = oracle::decoded(&once);
    vec![text.to_vec(), once, twice]
}

fn is_overlooked(text: &[u8]) -> bool {
    text.iter().any(|byte| b";?#\\".contains(byte) || is_blank(*byte)) || text.windows(2).any(|pair| pair == b"//")
}

fn is_blank(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

fn cleaned(text: &[u8]) -> Vec<u8> {
    let text: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'\\' { b'/' } else { *byte })
        .take_while(|byte| !b"?#\0".contains(byte))
        .collect();
    let segments: Vec<Vec<u8>> = text
        .split(|byte| *byte == b'/')
        .map(|segment| {
            let name = segment.split(|byte| *byte == b';').next().unwrap();
            let begin = name.iter().take_while(|byte| is_blank(**byte)).count();
            let end = name[begin..].iter().rev().take_while(|byte| is_blank(**byte)).count();
            name[begin..name.len() - end].to_vec()
        })
        .collect();
    let is_open = segments.last().unwrap().is_empty();
    let mut path: Vec<u8> = Vec::new();
    for segment in segments.iter().filter(|segment| !segment.is_empty()) {
        path.push(b'/');
        path.extend(segment);
    }
    if is_open {
        path.push(b'/');
    }
    path
}
