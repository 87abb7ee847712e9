//! Reading a token response (RFC 6749 section 5) as providers really answer. Pure, and total:
//! nothing it is fed makes it panic, and a refresh token that is there is never dropped because
//! something beside it is odd.

use std::{collections::BTreeMap, time::Duration};

use secrecy::SecretString;
use serde_json::{Map, Value, value::RawValue};

/// Longer lifetimes are no lifetimes (100 years); they would overflow calendars further on.
const LONGEST: u64 = 100 * 366 * 86_400;

/// What the body of an answer says.
pub enum Reading {
    /// Tokens.
    Tokens(TokenResponse),
    /// An error object, by its `error` code (RFC 6749 section 5.2). Never the provider's prose.
    Error(String),
    /// Neither.
    Unreadable,
}

/// The tokens of a successful answer.
pub struct TokenResponse {
    /// The access token, never empty.
    pub access_token: SecretString,
    /// The new refresh token; `None`: keep the old one.
    pub refresh_token: Option<SecretString>,
    /// `Bearer` where the answer names none.
    pub token_type: String,
    /// How long the access token lives.
    pub lifetime: Lifetime,
    /// The granted scopes; `None`: as asked for.
    pub scopes: Option<Vec<String>>,
}

/// The lifetime that an answer states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// That long from when the request was sent.
    Stated(Duration),
    /// Not stated.
    NotStated,
    /// Stated as something that is no lifetime: zero, negative, not a number, or too large.
    Unusable,
}

/// Reads a body by its content, whatever its content type says: JSON, else form-encoded.
#[must_use]
pub fn read(body: &[u8]) -> Reading {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    read_fields(json(body).unwrap_or_else(|| form(body)))
}

/// The fields of a JSON object. Each is read by itself: a value that is no JSON to a strict reader (a
/// number out of range, half of a surrogate pair, text that is not UTF-8, something behind the object)
/// must not cost the tokens beside it.
fn json(body: &[u8]) -> Option<Map<String, Value>> {
    let text = String::from_utf8_lossy(body);
    let mut values = serde_json::Deserializer::from_str(&text).into_iter();
    let fields: BTreeMap<String, Box<RawValue>> = values.next()?.ok()?;
    let read = fields.into_iter().filter_map(|(key, raw)| {
        let value = serde_json::from_str(raw.get()).ok()?;
        Some((key, value))
    });
    Some(read.collect())
}

fn form(body: &[u8]) -> Map<String, Value> {
    url::form_urlencoded::parse(body)
        .map(|(key, value)| (key.into_owned(), Value::String(value.into_owned())))
        .collect()
}

fn read_fields(mut fields: Map<String, Value>) -> Reading {
    // The error comes first, at any status: some providers answer 200 with an error.
    if let Some(error) = text(&mut fields, "error") {
        return Reading::Error(error);
    }
    let Some(access_token) = text(&mut fields, "access_token") else {
        return Reading::Unreadable;
    };
    Reading::Tokens(TokenResponse {
        access_token: access_token.into(),
        refresh_token: text(&mut fields, "refresh_token").map(SecretString::from),
        token_type: text(&mut fields, "token_type").unwrap_or_else(|| "Bearer".to_owned()),
        lifetime: lifetime(fields.get("expires_in")),
        scopes: scopes(fields.get("scope")),
    })
}

/// A string that is not blank.
fn text(fields: &mut Map<String, Value>, key: &str) -> Option<String> {
    match fields.remove(key) {
        Some(Value::String(value)) if !value.trim().is_empty() => Some(value),
        _ => None,
    }
}

/// A number of seconds, or a string that is wholly one (some providers send `"3600"`).
fn lifetime(value: Option<&Value>) -> Lifetime {
    let seconds = match value {
        None | Some(Value::Null) => return Lifetime::NotStated,
        Some(Value::Number(number)) => number.as_u64().or_else(|| whole(number.as_f64()?)),
        Some(Value::String(text)) if text.trim().is_empty() => return Lifetime::NotStated,
        Some(Value::String(text)) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        Some(_) => None,
    };
    match seconds {
        Some(seconds @ 1..=LONGEST) => Lifetime::Stated(Duration::from_secs(seconds)),
        _ => Lifetime::Unusable,
    }
}

/// `3599.5` is 3599 seconds.
fn whole(seconds: f64) -> Option<u64> {
    #[expect(clippy::cast_precision_loss, reason = "the bound is far below 2^53")]
    let longest = LONGEST as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to lie in the range"
    )]
    (0.0..=longest).contains(&seconds).then_some(seconds as u64)
}

/// Scopes separated by spaces (RFC 6749 section 3.3), or a JSON array of them.
fn scopes(value: Option<&Value>) -> Option<Vec<String>> {
    let scopes: Vec<String> = match value? {
        Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
        Value::Array(items) => items
            .iter()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    };
    (!scopes.is_empty()).then_some(scopes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;

    fn tokens(body: &[u8]) -> TokenResponse {
        match read(body) {
            Reading::Tokens(tokens) => tokens,
            Reading::Error(code) => panic!("read as error {code}"),
            Reading::Unreadable => panic!("not read"),
        }
    }

    #[test]
    fn a_complete_answer() {
        let body = json!({
            "access_token": "at", "refresh_token": "rt", "token_type": "bearer",
            "expires_in": 3600, "scope": "a b",
        });
        let tokens = tokens(body.to_string().as_bytes());
        assert_eq!(tokens.access_token.expose_secret(), "at");
        assert_eq!(tokens.refresh_token.unwrap().expose_secret(), "rt");
        assert_eq!(tokens.token_type, "bearer");
        assert_eq!(tokens.lifetime, Lifetime::Stated(Duration::from_secs(3600)));
        assert_eq!(tokens.scopes.unwrap(), ["a", "b"]);
    }

    #[test]
    fn what_is_missing_has_a_meaning() {
        let tokens = tokens(br#"{"access_token":"at"}"#);
        assert!(tokens.refresh_token.is_none());
        assert_eq!(tokens.token_type, "Bearer");
        assert_eq!(tokens.lifetime, Lifetime::NotStated);
        assert!(tokens.scopes.is_none());
    }

    #[test]
    fn a_null_or_blank_refresh_token_keeps_the_old_one() {
        for body in [
            json!({"access_token": "at", "refresh_token": null}),
            json!({"access_token": "at", "refresh_token": ""}),
            json!({"access_token": "at", "refresh_token": "  "}),
        ] {
            assert!(tokens(body.to_string().as_bytes()).refresh_token.is_none());
        }
    }

    #[test]
    fn lifetimes_as_they_come() {
        let stated = |s| Lifetime::Stated(Duration::from_secs(s));
        for (expires_in, expected) in [
            (json!(3600), stated(3600)),
            (json!("3600"), stated(3600)),
            (json!(3599.5), stated(3599)),
            (json!(null), Lifetime::NotStated),
            (json!(""), Lifetime::NotStated),
            (json!(0), Lifetime::Unusable),
            (json!("0"), Lifetime::Unusable),
            (json!(-1), Lifetime::Unusable),
            (json!("3600abc"), Lifetime::Unusable),
            (json!("-3600"), Lifetime::Unusable),
            (json!("99999999999999999999"), Lifetime::Unusable),
            (json!(1e300), Lifetime::Unusable),
            (json!(u64::MAX), Lifetime::Unusable),
            (json!([3600]), Lifetime::Unusable),
        ] {
            let body =
                json!({"access_token": "at", "refresh_token": "rt", "expires_in": expires_in});
            let tokens = tokens(body.to_string().as_bytes());
            assert_eq!(tokens.lifetime, expected, "{expires_in}");
            assert_eq!(tokens.refresh_token.unwrap().expose_secret(), "rt");
        }
    }

    #[test]
    fn scopes_as_they_come() {
        for (scope, expected) in [
            (json!("a b"), Some(vec!["a", "b"])),
            (json!(["a", "b"]), Some(vec!["a", "b"])),
            (json!(""), None),
            (json!([]), None),
            (json!(7), None),
        ] {
            let body = json!({"access_token": "at", "scope": scope});
            let scopes = tokens(body.to_string().as_bytes()).scopes;
            assert_eq!(
                scopes.as_deref(),
                expected
                    .map(|e| e.into_iter().map(str::to_owned).collect::<Vec<_>>())
                    .as_deref()
            );
        }
    }

    #[test]
    fn a_form_encoded_answer_is_read_too() {
        let tokens = tokens(b"access_token=a%2Bt&refresh_token=rt&expires_in=60&scope=a+b");
        assert_eq!(tokens.access_token.expose_secret(), "a+t");
        assert_eq!(tokens.lifetime, Lifetime::Stated(Duration::from_secs(60)));
        assert_eq!(tokens.scopes.unwrap(), ["a", "b"]);
    }

    #[test]
    fn what_is_odd_beside_the_tokens_does_not_cost_them() {
        for body in [
            &b"\xEF\xBB\xBF{\"access_token\":\"at\",\"refresh_token\":\"rt\"}"[..],
            b"{\"access_token\":\"at\",\"refresh_token\":\"rt\",\"name\":\"\xE9\"}",
            b"{\"access_token\":\"at\",\"refresh_token\":\"rt\",\"name\":\"\\ud800\"}",
            b"{\"access_token\":\"at\",\"refresh_token\":\"rt\",\"n\":1e999}",
            b"{\"access_token\":\"at\",\"refresh_token\":\"rt\"}\n<!-- cached -->",
            b" {\"access_token\":\"at\",\"refresh_token\":\"rt\"}{}",
        ] {
            let kept = tokens(body).refresh_token.unwrap();
            assert_eq!(
                kept.expose_secret(),
                "rt",
                "{}",
                String::from_utf8_lossy(body)
            );
        }
    }

    #[test]
    fn an_error_counts_before_the_tokens_beside_it() {
        for body in [
            &br#"{"error":"invalid_grant","access_token":"at"}"#[..],
            b"error=invalid_grant&error_description=spent",
        ] {
            assert!(matches!(read(body), Reading::Error(code) if code == "invalid_grant"));
        }
        assert!(matches!(
            read(br#"{"error":"","access_token":"at"}"#),
            Reading::Tokens(_)
        ));
    }

    #[test]
    fn what_is_no_answer_is_unreadable() {
        for body in [
            &b""[..],
            b"<html>access_token</html>",
            b"[]",
            b"null",
            b"{}",
            br#"{"access_token":""}"#,
            br#"{"access_token":7}"#,
            b"\xff\xfe",
        ] {
            assert!(matches!(read(body), Reading::Unreadable), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = read(&body);
        }

        #[test]
        fn a_refresh_token_is_kept_whatever_stands_beside_it(
            beside in proptest::collection::btree_map("[a-z_]{1,12}", ".*", 0..6),
            expires_in in prop_oneof![
                any::<i64>().prop_map(|n| json!(n)),
                any::<f64>().prop_map(|n| json!(n)),
                ".*".prop_map(|s| json!(s)),
            ],
        ) {
            let mut body: Map<String, Value> =
                beside.into_iter().map(|(k, v)| (k, Value::String(v))).collect();
            body.remove("error");
            body.insert("access_token".into(), json!("at"));
            body.insert("refresh_token".into(), json!("rt"));
            body.insert("expires_in".into(), expires_in);
            let read = tokens(Value::Object(body).to_string().as_bytes());
            let kept = read.refresh_token.unwrap();
            prop_assert_eq!(kept.expose_secret(), "rt");
        }
    }
}
