//! An object as an API server gives it.

use std::{borrow::Cow, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Resource,
    core::{ApiResource, DynamicResourceScope},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value as Json};

/// How many levels of an object are read; what is below is null. No field that is known is as deep, but where anything is
/// allowed something deeper may be, and with an error for it no object of the kind could be listed: a parser of JSON gives up
/// at 128 levels.
const LEVELS: usize = 96;

/// The metadata of an object of any kind: of the rest, nothing is asked for.
pub(crate) type Metadata = Given<true>;

/// An object of any kind, or its metadata alone. Not printable: it may be a Secret.
#[derive(Clone)]
pub(crate) struct Given<const ALONE: bool = false> {
    /// Without `managedFields`.
    pub(crate) metadata: ObjectMeta,
    /// Without `metadata`.
    rest: Map<String, Json>,
}

impl<const ALONE: bool> Given<ALONE> {
    /// All of it but `managedFields`.
    pub(crate) fn into_json(self) -> Json {
        let mut fields = self.rest;
        let metadata = serde_json::to_value(self.metadata).unwrap_or_default();
        fields.insert("metadata".to_owned(), metadata);
        Json::Object(fields)
    }
}

impl<const ALONE: bool> fmt::Debug for Given<ALONE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").finish_non_exhaustive()
    }
}

impl<'de, const ALONE: bool> Deserialize<'de> for Given<ALONE> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Json::Object(mut rest) = Levels(LEVELS).deserialize(deserializer)? else {
            return Err(D::Error::custom("an object is no JSON object"));
        };
        let mut metadata = rest.remove("metadata").unwrap_or_else(|| Json::Object(Map::new()));
        if let Some(fields) = metadata.as_object_mut() {
            fields.remove("managedFields");
        }
        let metadata = serde_json::from_value(metadata).map_err(D::Error::custom)?;
        Ok(Self { metadata, rest })
    }
}

impl<const ALONE: bool> Resource for Given<ALONE> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn metadata_api() -> bool {
        ALONE
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Reads a value down to so many levels.
#[derive(Clone, Copy)]
struct Levels(usize);

impl Levels {
    const fn below(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl<'de> DeserializeSeed<'de> for Levels {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        if self.0 == 0 {
            // What is ignored is not descended into, so it may be as deep as it likes.
            return deserializer.deserialize_ignored_any(IgnoredAny).map(|_| Json::Null);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Levels {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(value) = values.next_element_seed(self.below())? {
            all.push(value);
        }
        Ok(Json::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Json, A::Error> {
        let mut all = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            all.insert(name, fields.next_value_seed(self.below())?);
        }
        Ok(Json::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectList, WatchEvent};
    use serde_json::json;

    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}1{}", r#"{"a":["#.repeat(levels / 2), "]}".repeat(levels / 2))
    }

    fn object(levels: usize) -> String {
        format!(
            r#"{{"apiVersion": "v1", "kind": "K", "metadata": {{"name": "deep", "resourceVersion": "7", "creationTimestamp": null,
                "managedFields": [{{"fieldsV1": {0}}}]}}, "spec": {{"bootstrap": {0}, "mode": -1.5}}}}"#,
            nested(levels)
        )
    }

    #[test]
    fn one_object_that_is_too_deep_does_not_keep_others_of_its_kind_from_being_read() {
        let list = format!(
            r#"{{"kind": "KList", "apiVersion": "v1", "metadata": {{"resourceVersion": "9"}}, "items": [{}, {}]}}"#,
            object(5000),
            object(2)
        );
        assert!(serde_json::from_str::<Json>(&list).is_err());
        let list: ObjectList<Given> = serde_json::from_str(&list).unwrap();
        let all: Vec<Json> = list.items.into_iter().map(Given::into_json).collect();
        assert_eq!(
            all[1],
            json!({"apiVersion": "v1", "kind": "K", "metadata": {"name": "deep", "resourceVersion": "7"},
                "spec": {"bootstrap": {"a": [1]}, "mode": -1.5}})
        );
        assert_eq!(all[0]["metadata"], all[1]["metadata"]);
        assert_eq!(all[0]["spec"]["mode"], all[1]["spec"]["mode"]);
        assert!(all[0]["spec"]["bootstrap"]["a"][0]["a"].is_array());
    }

    #[test]
    fn an_event_may_tell_of_an_object_that_is_too_deep() {
        let event = format!(r#"{{"type": "MODIFIED", "object": {}}}"#, object(5000));
        let event: WatchEvent<Given> = serde_json::from_str(&event).unwrap();
        let WatchEvent::Modified(object) = event else {
            panic!("it was modified");
        };
        assert_eq!(object.meta().resource_version.as_deref(), Some("7"));
    }
}
