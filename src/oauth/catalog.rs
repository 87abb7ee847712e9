//! The catalogue: what is known of providers that many people use, one file each, embedded in the binary.
//!
//! The files lie in `providers/`. Each fact in them names the document of the provider that it is from, or
//! says that it is not confirmed and therefore the careful default.

use std::{collections::BTreeMap, sync::OnceLock};

use include_dir::{Dir, include_dir};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::Description;

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/providers");

/// One provider of the catalogue.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// The provider's name for people.
    pub title: String,
    /// Where the provider explains how to register a client.
    pub documentation: String,
    /// What is known of it.
    pub description: Description,
}

/// All entries, by name.
///
/// An embedded file that cannot be read is left out; a test reads every one.
pub fn entries() -> &'static BTreeMap<&'static str, Entry> {
    static ENTRIES: OnceLock<BTreeMap<&'static str, Entry>> = OnceLock::new();
    ENTRIES.get_or_init(|| {
        let files = FILES.files().filter_map(|file| {
            let name = file.path().file_stem()?.to_str()?;
            let entry = serde_saphyr::from_str(file.contents_utf8()?).ok()?;
            Some((name, entry))
        });
        files.collect()
    })
}

/// The file of an entry as it was written, with the sources of its facts.
#[must_use]
pub fn source(name: &str) -> Option<&'static str> {
    FILES.get_file(format!("{name}.yaml"))?.contents_utf8()
}

/// What `base` says, with what `over` says instead. Objects are joined key by key; everything else is
/// replaced.
#[must_use]
pub fn overlay(base: &Description, over: &Description) -> Description {
    let joined = || {
        let mut all = serde_json::to_value(base)?;
        join(&mut all, serde_json::to_value(over)?);
        serde_json::from_value(all)
    };
    // Two descriptions that serialize are one that reads; were they not, the object that people wrote counts.
    joined().unwrap_or_else(|_: serde_json::Error| over.clone())
}

fn join(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                join(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn description(value: Value) -> Description {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_an_object_says_counts_before_its_preset() {
        let preset = description(json!({
            "tokenUrl": "https://a.example/t", "rotation": "Always", "errorPointers": ["/a", "/b"],
            "headers": {"X-Version": "1", "X-Kept": "k"}, "scope": {"separator": ","},
        }));
        let object = description(json!({
            "tokenUrl": "https://b.example/t", "errorPointers": ["/c"], "headers": {"X-Version": "2"},
            "scope": {"sendOnRefresh": true},
        }));
        let expected = description(json!({
            "tokenUrl": "https://b.example/t", "rotation": "Always", "errorPointers": ["/c"],
            "headers": {"X-Version": "2", "X-Kept": "k"}, "scope": {"separator": ",", "sendOnRefresh": true},
        }));
        assert_eq!(overlay(&preset, &object), expected);
        assert_eq!(overlay(&preset, &Description::default()), preset);
    }

    #[test]
    fn every_file_is_read() {
        let names: Vec<_> = entries().keys().copied().collect();
        let files: Vec<_> = FILES
            .files()
            .filter_map(|f| f.path().file_stem()?.to_str())
            .collect();
        assert_eq!(names.len(), files.len(), "{names:?} of {files:?}");
    }
}
