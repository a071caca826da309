//! The policies of one place as one document.

use portcullis_engine::document::{Cors, Document, Secrets};

/// A policy of a place.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) document: &'a Document,
    pub(crate) secrets: &'a Secrets,
}

/// Puts a place's baseline, its shadow and the CORS filter of its rule into the document that is enforced there.
///
/// A baseline that refuses makes the place refuse in its own name; a shadow that cannot be evaluated is left out, for it
/// must change nothing. The filter's CORS stands in place of the policy's. The result may be longer than a document can
/// be although no part is.
pub(crate) fn compose(
    enforced: Part<'_>,
    baseline: Option<Part<'_>>,
    shadow: Option<Part<'_>>,
    cors: Option<&Cors>,
) -> (Document, Secrets) {
    let refusing = baseline.filter(|baseline| baseline.document.refuse.is_some());
    let (mut document, mut secrets) = match refusing {
        // What is refused already says so in its own name.
        Some(baseline) if enforced.document.refuse.is_none() => (
            Document {
                cors: enforced.document.cors.clone(),
                baseline: None,
                shadow: None,
                ..baseline.document.clone()
            },
            baseline.secrets.clone(),
        ),
        _ => (enforced.document.clone(), enforced.secrets.clone()),
    };
    if let Some(cors) = cors {
        document.cors = Some(cors.clone());
    }
    if document.refuse.is_none() {
        let boxed = |part: Part<'_>| (Box::new(part.document.clone()), Box::new(part.secrets.clone()));
        (document.baseline, secrets.baseline) = baseline.map(boxed).unzip();
        let shadow = shadow.filter(|shadow| shadow.document.refuse.is_none());
        (document.shadow, secrets.shadow) = shadow.map(boxed).unzip();
    }
    (document, secrets)
}

#[cfg(test)]
mod tests {
    use portcullis_engine::{
        document::{Refuse, VERSION},
        policy::Policy,
    };

    use super::*;

    fn policy(name: &str, refuse: Option<Refuse>) -> (Document, Secrets) {
        let document = Document {
            version: VERSION,
            policy: name.to_owned(),
            refuse,
            ..Document::default()
        };
        let secrets = Secrets {
            salt: "0".repeat(64),
            ..Secrets::default()
        };
        (document, secrets)
    }

    fn composed(enforced: Option<Refuse>, baseline: Option<Refuse>, shadow: Option<Refuse>) -> Document {
        let (enforced, baseline, shadow) = (
            policy("shop/orders", enforced),
            policy("edge/base", baseline),
            policy("edge/trial", shadow),
        );
        let part = |(document, secrets)| Part { document, secrets };
        let cors = Cors {
            allow_origins: vec!["https://app.example.com".to_owned()],
            ..Cors::default()
        };
        let (document, secrets) = compose(
            part((&enforced.0, &enforced.1)),
            Some(part((&baseline.0, &baseline.1))),
            Some(part((&shadow.0, &shadow.1))),
            Some(&cors),
        );
        Policy::compile(&document, &secrets).unwrap();
        assert_eq!(document.cors, Some(cors));
        document
    }

    #[test]
    fn a_place_holds_its_policies() {
        let document = composed(None, None, None);
        assert_eq!(document.policy, "shop/orders");
        assert_eq!(document.baseline.unwrap().policy, "edge/base");
        assert_eq!(document.shadow.unwrap().policy, "edge/trial");
    }

    #[test]
    fn a_refusal_stands_alone() {
        let invalid = Some(Refuse::PolicyInvalid);
        for (enforced, baseline, name) in [
            (invalid, None, "shop/orders"),
            (invalid, invalid, "shop/orders"),
            (None, invalid, "edge/base"),
        ] {
            let document = composed(enforced, baseline, None);
            assert_eq!(document.policy, name);
            assert_eq!(document.refuse, invalid);
            assert!(document.baseline.is_none() && document.shadow.is_none());
        }
    }

    #[test]
    fn a_shadow_that_cannot_be_evaluated_changes_nothing() {
        let document = composed(None, None, Some(Refuse::PolicyInvalid));
        assert_eq!(document.refuse, None);
        assert!(document.baseline.is_some() && document.shadow.is_none());
    }
}
