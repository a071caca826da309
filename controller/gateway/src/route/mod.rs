//! HTTPRoute rules, apart from where they are served.

pub(crate) mod filters;
pub(crate) mod matches;
pub(crate) mod pattern;
pub(crate) mod rule;
