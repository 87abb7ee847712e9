//! The body of an answer, looked into field by field.

use std::collections::BTreeMap;

use serde_json::{Value, value::RawValue};

type Fields = BTreeMap<String, Box<RawValue>>;

/// A body, read as far as it can be.
pub(super) enum Body {
    /// A JSON object. Each field is read by itself: a value that is no JSON to a strict reader (a number out of
    /// range, half of a surrogate pair, text that is not UTF-8, something behind the object) must not cost the
    /// tokens beside it.
    Json(Fields),
    /// Form-encoded pairs.
    Form(BTreeMap<String, String>),
}

impl Body {
    /// Reads JSON, else form-encoded pairs.
    pub(super) fn read(body: &[u8]) -> Self {
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        match fields(&String::from_utf8_lossy(body)) {
            Some(fields) => Self::Json(fields),
            None => Self::Form(url::form_urlencoded::parse(body).into_owned().collect()),
        }
    }

    /// What stands at a JSON pointer (RFC 6901).
    pub(super) fn at(&self, pointer: &str) -> Option<Value> {
        let mut names = pointer.strip_prefix('/')?.split('/').map(unescaped);
        let first = names.next()?;
        match self {
            Self::Json(all) => {
                let mut raw = all.get(&first)?.get().to_owned();
                for name in names {
                    raw = inside(&raw, &name)?;
                }
                serde_json::from_str(&raw).ok()
            }
            Self::Form(pairs) => {
                let value = pairs.get(&first)?;
                names.next().is_none().then(|| Value::String(value.clone()))
            }
        }
    }

    /// A string at a JSON pointer that is not blank.
    pub(super) fn text(&self, pointer: &str) -> Option<String> {
        match self.at(pointer)? {
            Value::String(value) if !value.trim().is_empty() => Some(value),
            _ => None,
        }
    }
}

fn fields(text: &str) -> Option<Fields> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    values.next()?.ok()
}

fn inside(raw: &str, name: &str) -> Option<String> {
    if let Some(fields) = fields(raw) {
        return Some(fields.get(name)?.get().to_owned());
    }
    let items: Vec<Box<RawValue>> = serde_json::from_str(raw).ok()?;
    let index: usize = name.parse().ok()?;
    Some(items.get(index)?.get().to_owned())
}

fn unescaped(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pointer_leads_into_objects_and_arrays() {
        let body = Body::read(br#"{"a":{"b/c":[{"d":"x"},"y"],"~":1},"":{"":"empty"}}"#);
        for (pointer, found) in [
            ("/a/b~1c/0/d", Some(json!("x"))),
            ("/a/b~1c/1", Some(json!("y"))),
            ("/a/~0", Some(json!(1))),
            ("//", Some(json!("empty"))),
            ("/a/b~1c/2", None),
            ("/a/x", None),
            ("/a/~0/x", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(body.at(pointer), found, "{pointer}");
        }
    }

    #[test]
    fn form_pairs_have_no_inside() {
        let body = Body::read(b"a=1&b=x+y");
        assert_eq!(body.text("/b").as_deref(), Some("x y"));
        assert_eq!(body.at("/a/b"), None);
    }
}
