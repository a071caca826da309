//! What is wrong with an expression, for its author.

use std::fmt::Display;

use crate::{cel::variable::Variable, policy::told};

/// What is wrong with an expression: a code, a message, and what to do.
pub(super) struct Wrong(pub(super) &'static str, pub(super) String, pub(super) Option<String>);

pub(super) fn wrong<T>(code: &'static str, message: impl Display, fix: Option<&str>) -> Result<T, Wrong> {
    let fix = fix.map(|fix| told!("{fix}"));
    Err(Wrong(code, told!("{message}"), fix))
}

pub(super) fn malformed<T>() -> Result<T, Wrong> {
    wrong("malformed-cel", "its nodes are no tree", None)
}

/// The variable of that name.
pub(super) fn named(root: &str, name: &str) -> Result<Variable, Wrong> {
    Variable::named(root, name).map_err(|message| {
        let fix = told!("there are, of {root}: {}", Variable::of(root).join(", "));
        Wrong("unknown-variable", message, Some(fix))
    })
}

pub(super) fn unknown_function<T>(name: &str) -> Result<T, Wrong> {
    let fix = match name {
        "string" => "compare with a text: string() is switched off in Envoy",
        "lowerAscii" | "upperAscii" => "use matches with (?i): Envoy has no functions that change a text",
        _ => {
            "there are contains, endsWith, matches, startsWith, size, int, uint, double, timestamp, duration, dyn, has, all, \
             exists, exists_one, filter, map and getHours and its like"
        }
    };
    wrong(
        "unknown-function",
        told!("there is no function {:?}", shown(name)),
        Some(fix),
    )
}

/// An operator as it is written.
pub(super) fn shown(name: &str) -> String {
    match name {
        "@in" => told!("in"),
        "_[_]" => told!("[]"),
        _ => name.trim_matches('_').to_owned(),
    }
}
