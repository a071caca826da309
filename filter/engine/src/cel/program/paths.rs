//! What an expression does with the path of a request, on which hangs which readings of it must be tried.

use crate::cel::variable::Variable;

/// How an expression uses the path of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PathUse {
    /// Not at all.
    None,
    /// Only in tests that must hold: `==`, `in`, `startsWith` and the like, under no negation.
    Positive,
    /// In other ways too.
    Mixed,
    /// It is a path itself.
    Value,
}

/// The use that reading a variable is.
pub(super) const fn use_of(variable: Variable) -> PathUse {
    match variable {
        Variable::Path | Variable::UrlPath => PathUse::Value,
        _ => PathUse::None,
    }
}

/// The use of what is no test of the path that must hold.
pub(super) fn mixed(uses: impl IntoIterator<Item = PathUse>) -> PathUse {
    match uses.into_iter().max() {
        None | Some(PathUse::None) => PathUse::None,
        Some(_) => PathUse::Mixed,
    }
}

/// The use of a condition among others.
pub(super) const fn truth(paths: PathUse) -> PathUse {
    match paths {
        PathUse::Value => PathUse::Mixed,
        other => other,
    }
}
