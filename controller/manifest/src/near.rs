//! The name that was probably meant.

/// The candidate nearest to a name, if it is near enough to be meant: another case, or a typing error in three letters.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    // Whatever differs that much in length is not near, and need not be compared: a manifest may hold any text.
    let comparable = |candidate: &&str| {
        let other = candidate.chars().count();
        length.abs_diff(other) <= length.max(other).div_ceil(3)
    };
    let candidates: Vec<&str> = candidates.into_iter().filter(comparable).collect();
    if candidates.is_empty() {
        return None;
    }
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(length).div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// `"a", "b" or "c"`, shortened after eight.
pub(crate) fn list(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(8).map(|name| format!("{name:?}")).collect();
    match shown.as_slice() {
        [] => "nothing".to_owned(),
        [name] => name.clone(),
        _ if names.len() > shown.len() => format!("{} ...", shown.join(", ")),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{list, nearest};

    #[test]
    fn a_typing_error_finds_the_name_that_was_meant() {
        let names = ["allowOrigins", "allowMethods", "maxAge"];
        assert_eq!(nearest("allowOrigin", names), Some("allowOrigins"));
        assert_eq!(nearest("alloworigins", names), Some("allowOrigins"));
        assert_eq!(nearest("max_age", names), Some("maxAge"));
        assert_eq!(nearest("timeout", names), None);
        assert_eq!(nearest("", names), None);
    }

    #[test]
    fn names_are_listed_for_a_reader() {
        assert_eq!(list(&["a"]), "\"a\"");
        assert_eq!(list(&["a", "b", "c"]), "\"a\", \"b\" or \"c\"");
    }
}
