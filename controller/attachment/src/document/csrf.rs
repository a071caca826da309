//! `spec.csrf`.

use portcullis_api::security_policy::Csrf;
use portcullis_engine::document::{self, Document};

use super::Builder;
use crate::fault::Feature;

impl Builder<'_> {
    pub(super) fn csrf(&mut self, csrf: &Csrf) {
        // The schema admits no other numbers; one that came past it makes a share that the compiler refuses.
        let part = document::Csrf {
            additional_origins: csrf.additional_origins.clone(),
            shadow_fraction: csrf.shadow_fraction.as_ref().map(|fraction| document::Fraction {
                numerator: u32::try_from(fraction.numerator).unwrap_or(u32::MAX),
                denominator: u32::try_from(fraction.denominator).unwrap_or_default(),
            }),
        };
        let alone = Document {
            csrf: Some(part.clone()),
            ..Document::default()
        };
        if self.compile(Feature::Csrf, &alone, |path| path) {
            self.build.document.csrf = Some(part);
        }
    }
}
