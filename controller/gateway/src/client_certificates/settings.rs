//! `ClientTrafficPolicy.spec.tls.clientValidation`. A field that is not understood is never passed over.

use base64::{Engine, engine::general_purpose::STANDARD};
use envoy_types::pb::envoy::{
    extensions::transport_sockets::tls::v3::{SubjectAltNameMatcher, subject_alt_name_matcher::SanType},
    r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
};
use serde_json::{Map, Value};

use super::{Mode, Validation, authorities::Reference};
use crate::report::{Fault, join};

/// The path of the settings.
const PATH: &str = "spec.tls.clientValidation";

/// The fields by which only some certificates of the authorities are taken.
const LISTS: [&str; 3] = ["spkiHashes", "certificateHashes", "subjectAltNames"];

/// The field that makes these settings ask every client for a certificate, though they say that it is optional.
pub(crate) fn not_optional(written: &Value) -> Option<&'static str> {
    let optional = written.get("optional").and_then(Value::as_bool) == Some(true);
    let list = LISTS.into_iter().find(|list| written.get(list).is_some());
    list.filter(|_| optional)
}

/// Reads the settings: all but the authorities, and where those stand.
///
/// # Errors
///
/// Says which field cannot be followed.
pub(super) fn read(written: &Value) -> Result<(Validation, Vec<Reference>), Fault> {
    let mut validation = Validation {
        mode: Mode::Required,
        authorities: Vec::new(),
        keys: Vec::new(),
        certificates: Vec::new(),
        names: Vec::new(),
    };
    let mut references = Vec::new();
    for (name, value) in object(PATH, written)? {
        let path = join(PATH, name);
        match name.as_str() {
            "optional" => {
                let optional = value
                    .as_bool()
                    .ok_or_else(|| wrong(&path, "is neither true nor false"))?;
                if optional {
                    validation.mode = Mode::Optional;
                }
            }
            "caCertificateRefs" => {
                for (index, reference) in list(&path, value)?.iter().enumerate() {
                    references.push(self::reference(&format!("{path}[{index}]"), reference)?);
                }
            }
            "spkiHashes" => {
                validation.keys = texts(&path, value, is_base64_digest, "is not the SHA-256 of a key in base64")?
            }
            "certificateHashes" => {
                validation.certificates = texts(
                    &path,
                    value,
                    is_hex_digest,
                    "is not the SHA-256 of a certificate in hex",
                )?;
            }
            "subjectAltNames" => validation.names = names(&path, value)?,
            _ => return Err(unsupported(&path)),
        }
    }
    if references.is_empty() {
        let path = join(PATH, "caCertificateRefs");
        return Err(wrong(&path, "names no CA certificate: any certificate would do"));
    }
    // Envoy looks for what is listed in every connection: with a list it serves nobody without a certificate.
    if LISTS.iter().any(|list| written.get(list).is_some()) {
        validation.mode = Mode::Required;
    }
    Ok((validation, references))
}

fn unsupported(path: &str) -> Fault {
    Fault::new("unsupported-field", path, "is not supported")
}

fn wrong(path: &str, message: &str) -> Fault {
    Fault::new("invalid-value", path, message)
}

fn object<'a>(path: &str, value: &'a Value) -> Result<&'a Map<String, Value>, Fault> {
    value.as_object().ok_or_else(|| wrong(path, "is no object"))
}

/// A list that is there holds something: what is empty would be no restriction.
fn list<'a>(path: &str, value: &'a Value) -> Result<&'a [Value], Fault> {
    let list = value.as_array().filter(|list| !list.is_empty());
    list.map(Vec::as_slice)
        .ok_or_else(|| wrong(path, "is no list of something"))
}

fn text<'a>(path: &str, value: &'a Value) -> Result<&'a str, Fault> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.ok_or_else(|| wrong(path, "is no text"))
}

fn texts(path: &str, value: &Value, is: fn(&str) -> bool, message: &str) -> Result<Vec<String>, Fault> {
    let items = list(path, value)?.iter().enumerate();
    items
        .map(|(index, item)| {
            let path = format!("{path}[{index}]");
            let text = text(&path, item)?;
            is(text).then(|| text.to_owned()).ok_or_else(|| wrong(&path, message))
        })
        .collect()
}

fn is_base64_digest(text: &str) -> bool {
    STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

/// As `openssl x509 -fingerprint` prints it, or without colons.
fn is_hex_digest(text: &str) -> bool {
    let plain = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain || text.len() == 95 && text.split(':').all(pair)
}

/// A reference to a Secret, unless it names another kind.
fn reference(path: &str, value: &Value) -> Result<Reference, Fault> {
    let (mut group, mut kind, mut name, mut namespace) = ("", "Secret", "", None);
    for (field, value) in object(path, value)? {
        let path = join(path, field);
        match field.as_str() {
            "group" => group = value.as_str().ok_or_else(|| wrong(&path, "is no text"))?,
            "kind" => kind = text(&path, value)?,
            "name" => name = text(&path, value)?,
            "namespace" => namespace = Some(text(&path, value)?),
            _ => return Err(unsupported(&path)),
        }
    }
    if name.is_empty() {
        return Err(wrong(&join(path, "name"), "is missing"));
    }
    Ok(Reference::new(group, kind, name, namespace))
}

fn names(path: &str, value: &Value) -> Result<Vec<SubjectAltNameMatcher>, Fault> {
    let mut names = Vec::new();
    for (field, value) in object(path, value)? {
        let path = join(path, field);
        let san = match field.as_str() {
            "dnsNames" => SanType::Dns,
            "emailAddresses" => SanType::Email,
            "ipAddresses" => SanType::IpAddress,
            "uris" => SanType::Uri,
            _ => return Err(unsupported(&path)),
        };
        for (index, name) in list(&path, value)?.iter().enumerate() {
            names.push(SubjectAltNameMatcher {
                san_type: san.into(),
                matcher: Some(matcher(&format!("{path}[{index}]"), name)?),
                ..SubjectAltNameMatcher::default()
            });
        }
    }
    if names.is_empty() {
        return Err(wrong(path, "names nothing"));
    }
    Ok(names)
}

fn matcher(path: &str, value: &Value) -> Result<StringMatcher, Fault> {
    let (mut r#type, mut wanted) = ("Exact", "");
    for (field, value) in object(path, value)? {
        let path = join(path, field);
        match field.as_str() {
            "type" => r#type = text(&path, value)?,
            "value" => wanted = text(&path, value)?,
            _ => return Err(unsupported(&path)),
        }
    }
    if wanted.is_empty() {
        return Err(wrong(&join(path, "value"), "is missing"));
    }
    let wanted = wanted.to_owned();
    let pattern = match r#type {
        "Exact" => MatchPattern::Exact(wanted),
        "Prefix" => MatchPattern::Prefix(wanted),
        "Suffix" => MatchPattern::Suffix(wanted),
        _ => return Err(unsupported(&join(path, "type"))),
    };
    Ok(StringMatcher {
        match_pattern: Some(pattern),
        ..StringMatcher::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_understood_is_refused_by_its_path() {
        let with = |more: Value| {
            let mut written = json!({"caCertificateRefs": [{"name": "ca"}]});
            let fields = written.as_object_mut().unwrap();
            fields.extend(more.as_object().unwrap().clone());
            read(&written)
        };
        assert_eq!(with(json!({})).unwrap().0.mode, Mode::Required);
        assert_eq!(with(json!({"optional": false})).unwrap().0.mode, Mode::Required);
        assert_eq!(with(json!({"optional": true})).unwrap().0.mode, Mode::Optional);
        let hash = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        let full = json!({
            "spkiHashes": [STANDARD.encode([7; 32])], "certificateHashes": [&hash, &colons],
            "subjectAltNames": {"uris": [{"type": "Prefix", "value": "spiffe://a/"}], "dnsNames": [{"value": "a.example"}]},
        });
        let (validation, references) = with(full).unwrap();
        assert_eq!(
            (validation.certificates.len(), validation.names.len(), references.len()),
            (2, 2, 1)
        );
        for list in [
            json!({"optional": true, "spkiHashes": [STANDARD.encode([7; 32])]}),
            json!({"optional": true, "certificateHashes": [hash]}),
            json!({"optional": true, "subjectAltNames": {"uris": [{"value": "spiffe://a/b"}]}}),
        ] {
            assert_eq!(with(list.clone()).unwrap().0.mode, Mode::Required);
            assert!(not_optional(&list).is_some());
        }
        for (more, path) in [
            (json!({"mode": "Request"}), "mode"),
            (json!({"crl": {"refs": [{"name": "a"}]}}), "crl"),
            (json!({"optional": "no"}), "optional"),
            (json!({"caCertificateRefs": []}), "caCertificateRefs"),
            (
                json!({"caCertificateRefs": [{"name": "a", "key": "b"}]}),
                "caCertificateRefs[0].key",
            ),
            (json!({"caCertificateRefs": [{}]}), "caCertificateRefs[0].name"),
            (json!({"spkiHashes": ["AAAA"]}), "spkiHashes[0]"),
            (json!({"certificateHashes": []}), "certificateHashes"),
            (json!({"certificateHashes": ["xy"]}), "certificateHashes[0]"),
            (json!({"subjectAltNames": {}}), "subjectAltNames"),
            (
                json!({"subjectAltNames": {"otherNames": []}}),
                "subjectAltNames.otherNames",
            ),
            (
                json!({"subjectAltNames": {"uris": [{"type": "RegularExpression", "value": ".*"}]}}),
                "subjectAltNames.uris[0].type",
            ),
            (
                json!({"subjectAltNames": {"uris": [{}]}}),
                "subjectAltNames.uris[0].value",
            ),
        ] {
            assert_eq!(with(more).unwrap_err().path, join(PATH, path));
        }
        assert_eq!(read(&json!({})).unwrap_err().path, join(PATH, "caCertificateRefs"));
        assert_eq!(read(&json!(true)).unwrap_err().path, PATH);
    }
}
