//! Objects as watches bring them.

use std::{borrow::Cow, collections::BTreeMap, mem};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Resource, core::ObjectMeta};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::value::RawValue;

use crate::lock::wire;

/// An object without its `managedFields`, which only the API server needs, or what is known of one that cannot be read: an
/// older schema, an edit around the API. They are taken out of the text before it is read: of many objects they are the
/// larger half, in the smallest pieces.
#[derive(Clone, Debug)]
pub struct Pruned<K>(pub Result<K, Unreadable>);

/// An object that does not fit its schema.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Who it is.
    pub metadata: ObjectMeta,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Pruned<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Named {
            metadata: ObjectMeta,
        }
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let text = pruned(text.get()).map_err(D::Error::custom)?;
        if let Ok(object) = serde_json::from_str(&text) {
            return Ok(Self(Ok(object)));
        }
        let Named { metadata } = serde_json::from_str(&text).map_err(D::Error::custom)?;
        Ok(Self(Err(Unreadable { metadata })))
    }
}

impl Pruned<Lease> {
    /// A hold of which something cannot be read, a time after the year 9999 say, is a hold: it is known by its name, and lasts
    /// as long as any. Were it left out, the token would be replaced under its holder.
    pub fn keep_hold(&mut self) {
        if let Err(Unreadable { metadata }) = &mut self.0
            && wire::is_hold(metadata)
        {
            self.0 = Ok(Lease {
                metadata: mem::take(metadata),
                spec: None,
            });
        }
    }
}

/// The text of an object without its `managedFields`.
fn pruned(text: &str) -> Result<String, serde_json::Error> {
    let mut object: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
    let Some(metadata) = object.get("metadata") else {
        return Ok(text.to_owned());
    };
    let mut metadata: BTreeMap<String, &RawValue> = serde_json::from_str(metadata.get())?;
    if metadata.remove("managedFields").is_none() {
        return Ok(text.to_owned());
    }
    let metadata = serde_json::value::to_raw_value(&metadata)?;
    object.insert("metadata".to_owned(), &metadata);
    serde_json::to_string(&object)
}

impl<K: Resource> Resource for Pruned<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => object.meta(),
            Err(unreadable) => &unreadable.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(unreadable) => &mut unreadable.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::ROLE_LABEL;

    #[test]
    fn an_object_is_read_as_it_is_but_for_its_managed_fields() {
        let mut object = json!({
            "metadata": {"name": "a\u{301}", "annotations": {"managedFields": "\"x\""}},
            "spec": {"holderIdentity": "me", "managedFields": []},
        });
        let read = |object: &serde_json::Value| {
            let Pruned::<Lease>(read) = serde_json::from_str(&object.to_string()).unwrap();
            read.map_err(|unreadable| unreadable.metadata.name.unwrap())
        };
        let without = read(&object).unwrap();
        object["metadata"]["managedFields"] = json!([{"manager": "x", "fieldsV1": {"f:a": {}}}]);
        assert!(object.to_string().contains("f:a"));
        assert_eq!(read(&object).unwrap(), without);
        assert_eq!(without.metadata.managed_fields, None);
        // Who it is can be told of one that makes no sense.
        object["spec"] = json!("text");
        assert_eq!(read(&object).unwrap_err(), "a\u{301}");
        object["metadata"] = json!("text");
        assert!(serde_json::from_str::<Pruned<Lease>>(&object.to_string()).is_err());
        assert!(serde_json::from_str::<Pruned<Lease>>("7").is_err());
    }

    #[test]
    fn a_hold_that_cannot_be_read_is_a_hold() {
        let read = |role: &str| {
            let object = json!({
                "metadata": {"name": "a.hold.1", "labels": {ROLE_LABEL: role}},
                "spec": {"renewTime": "9999-12-31T23:59:59.000000Z"},
            });
            let mut lease: Pruned<Lease> = serde_json::from_str(&object.to_string()).unwrap();
            assert!(lease.0.is_err());
            lease.keep_hold();
            lease.0.ok().map(|lease| lease.metadata.name.unwrap())
        };
        assert_eq!(read(wire::HOLD).as_deref(), Some("a.hold.1"));
        // What a gate says cannot be left out.
        assert_eq!(read(wire::GATE), None);
    }
}
