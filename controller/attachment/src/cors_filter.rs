//! The CORS filter of an HTTPRoute's rule.

use std::collections::HashMap;

use gateway_api::httproutes::{HttpRouteRulesFiltersCors, HttpRouteRulesFiltersType};
use portcullis_engine::{
    document::{self, Cors, Document, Secrets},
    policy::{Policy, PolicyError},
};

use crate::{
    object::{self, ObjectRef},
    snapshot::Snapshot,
};

/// How long a preflight's answer may be kept where the filter does not say, in seconds (`HTTPCORSFilter.maxAge`).
const MAX_AGE: u64 = 5;

/// The filter as a part of a document.
///
/// # Errors
/// The first field that cannot be enforced as written, with its path below the filter: `cors.allowOrigins[0]`.
pub fn cors_of_filter(spec: &HttpRouteRulesFiltersCors) -> Result<Cors, PolicyError> {
    let max_age = match spec.max_age.map(u64::try_from) {
        None => MAX_AGE,
        Some(Ok(seconds)) => seconds,
        Some(Err(_)) => {
            return Err(PolicyError {
                path: "cors.maxAge".to_owned(),
                code: "invalid-duration",
                message: "the number of seconds is less than 0".to_owned(),
                fix: None,
            });
        }
    };
    let cors = Cors {
        allow_origins: spec.allow_origins.clone().unwrap_or_default(),
        allow_methods: spec.allow_methods.clone().unwrap_or_default(),
        allow_headers: spec.allow_headers.clone().unwrap_or_default(),
        expose_headers: spec.expose_headers.clone().unwrap_or_default(),
        max_age: Some(max_age),
        allow_credentials: spec.allow_credentials.unwrap_or_default(),
    };
    let alone = Document {
        version: document::VERSION,
        policy: "none".to_owned(),
        cors: Some(cors.clone()),
        ..Document::default()
    };
    Policy::compile(&alone, &Secrets::default())?;
    Ok(cors)
}

/// The CORS filters of the rules of every HTTPRoute that has any. One that cannot be enforced is left out here: whoever
/// translates the route refuses its rule.
pub(crate) fn of_rules(snapshot: &Snapshot) -> HashMap<ObjectRef, Vec<Option<Cors>>> {
    let mut of_routes = HashMap::new();
    for route in &snapshot.http_routes {
        let rules = route.spec.rules.iter().flatten().map(|rule| {
            let mut filters = rule.filters.iter().flatten();
            let filter = filters.find(|filter| filter.r#type == HttpRouteRulesFiltersType::Cors)?;
            cors_of_filter(filter.cors.as_ref()?).ok()
        });
        let rules: Vec<Option<Cors>> = rules.collect();
        if rules.iter().any(Option::is_some) {
            let (namespace, name) = (object::namespace(&route.metadata), object::name(&route.metadata));
            of_routes.insert(ObjectRef::new("HTTPRoute", namespace, name), rules);
        }
    }
    of_routes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_part_of_a_document() {
        let cors = cors_of_filter(&HttpRouteRulesFiltersCors {
            allow_origins: Some(vec!["https://*.example.com".to_owned()]),
            allow_methods: Some(vec!["*".to_owned()]),
            allow_credentials: Some(true),
            ..HttpRouteRulesFiltersCors::default()
        })
        .unwrap();
        assert_eq!(cors.allow_origins, ["https://*.example.com"]);
        assert_eq!(cors.max_age, Some(5));
        assert!(cors.allow_credentials);
    }

    #[test]
    fn a_faulty_field_is_named() {
        let cases = [
            HttpRouteRulesFiltersCors {
                allow_origins: Some(vec!["example.com".to_owned()]),
                ..HttpRouteRulesFiltersCors::default()
            },
            HttpRouteRulesFiltersCors {
                max_age: Some(-1),
                ..HttpRouteRulesFiltersCors::default()
            },
        ];
        let paths: Vec<String> = cases
            .iter()
            .map(|spec| cors_of_filter(spec).unwrap_err().path)
            .collect();
        assert_eq!(paths, ["cors.allowOrigins[0]", "cors.maxAge"]);
    }
}
