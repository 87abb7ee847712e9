//! Reading a token response (RFC 6749 section 5) as providers really answer. Pure, and total:
//! nothing it is fed makes it panic, and a refresh token that is there is never dropped because
//! something beside it is odd.

mod body;
mod lifetime;

use std::{collections::BTreeMap, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use self::body::Body;
pub use self::lifetime::Lifetime;
use crate::api::{Description, ResponsePointers};

/// What an answer says.
pub enum Reading {
    /// Tokens.
    Tokens(TokenResponse),
    /// That it failed, with the provider's code for why, where it gives one (RFC 6749 section 5.2: `error`). Never
    /// the provider's prose.
    Error(Option<String>),
    /// Neither.
    Unreadable,
}

/// The tokens of an answer.
pub struct TokenResponse {
    /// The access token, never empty. `None` only beside a new refresh token, which must not be lost.
    pub access_token: Option<SecretString>,
    /// The new refresh token; `None`: keep the old one.
    pub refresh_token: Option<SecretString>,
    /// `Bearer` where the answer names none.
    pub token_type: String,
    /// How long the access token lives.
    pub lifetime: Lifetime,
    /// How long the refresh token lives, where the answer says so.
    pub refresh_lifetime: Option<Duration>,
    /// The granted scopes; `None`: as asked for.
    pub scopes: Option<Vec<String>>,
    /// The ID token.
    pub id_token: Option<SecretString>,
    /// What else programs need, by the keys that the description gives.
    pub metadata: BTreeMap<String, String>,
}

/// Reads an answer by its content, whatever its content type says: JSON, else form-encoded. `spent` is the refresh
/// token that was presented, if any: an answer that repeats it brings no new one.
#[must_use]
pub fn read(
    status: u16,
    body: &[u8],
    description: &Description,
    spent: Option<&SecretString>,
) -> Reading {
    let body = Body::read(body);
    let is_success = (200..300).contains(&status);
    let error = error(&body, is_success, description);
    let tokens = tokens(&body, description);
    let is_new = |token: &SecretString| {
        spent.is_none_or(|spent| spent.expose_secret() != token.expose_secret())
    };
    let brings_refresh_token = tokens.refresh_token.as_ref().is_some_and(is_new);
    let has_access_token = tokens.access_token.is_some();
    // The error comes first, at any status: some providers answer 200 with an error. But whoever sends a new
    // refresh token has ended the old one, whatever else is said.
    match error {
        None if is_success && has_access_token => Reading::Tokens(tokens),
        _ if brings_refresh_token && (is_success || has_access_token) => Reading::Tokens(tokens),
        Some(code) => Reading::Error(code),
        None => Reading::Unreadable,
    }
}

/// Whether the answer says that it failed, and by which code.
#[expect(
    clippy::option_option,
    reason = "that it failed, and that it says why, are two things"
)]
fn error(body: &Body, is_success: bool, description: &Description) -> Option<Option<String>> {
    const STANDARD: &str = "/error";
    let code = |at: &str| match body.at(at)? {
        Value::String(code) if !code.trim().is_empty() => Some(code.trim().to_owned()),
        Value::Number(code) => Some(code.to_string()),
        _ => None,
    };
    let own = description.error_pointers.iter().map(String::as_str);
    let meant = |code: &String| description.error_map.contains_key(code);
    // A code that the description knows counts first, wherever it stands. In a success something else may stand in a
    // place of the provider's own: `status: ok`.
    let code = own
        .clone()
        .chain([STANDARD])
        .find_map(|at| code(at).filter(meant))
        .or_else(|| code(STANDARD))
        .or_else(|| own.clone().filter(|_| !is_success).find_map(code));
    let failed = description.success.as_ref().is_some_and(|success| {
        body.at(&success.pointer).is_none_or(|found| {
            let found = match found {
                Value::String(text) => text,
                other => other.to_string(),
            };
            found != success.equals
        })
    });
    let succeeded = description.success.is_some() && !failed;
    match code {
        // Where the provider has a word for success, that counts: `error: ""` or `error: 0` may stand beside it.
        Some(_) if succeeded => None,
        Some(code) => Some(Some(code)),
        None if failed => Some(None),
        None => None,
    }
}

fn tokens(body: &Body, description: &Description) -> TokenResponse {
    let own = ResponsePointers::default();
    let at = description.response.as_ref().unwrap_or(&own);
    let text = |pointer: &Option<String>, standard: &str| {
        body.text(pointer.as_deref().unwrap_or(standard))
    };
    let access_token = text(&at.access_token, "/access_token");
    let value =
        |pointer: &Option<String>, standard: &str| body.at(pointer.as_deref().unwrap_or(standard));
    let unit = description.expires_in_unit.unwrap_or_default();
    let lifetime = lifetime::read(
        value(&at.expires_at, "/expires_at").as_ref(),
        value(&at.expires_in, "/expires_in").as_ref(),
        unit,
        access_token.as_deref(),
    );
    let refresh_lifetime = value(&at.refresh_expires_in, "/refresh_token_expires_in")
        .or_else(|| value(&at.refresh_expires_in, "/refresh_expires_in"));
    let refresh_token = text(&at.refresh_token, "/refresh_token");
    // Whatever a description points at: a refresh token is never handed out as something else.
    let holds_it = |text: &str| {
        let token = refresh_token.as_deref().filter(|token| !token.is_empty());
        token.is_some_and(|token| text.contains(token))
    };
    let metadata = at.metadata.iter().filter_map(|(key, pointer)| {
        let value = match body.at(pointer)? {
            Value::String(text) => text,
            Value::Null => return None,
            other => other.to_string(),
        };
        (!holds_it(&value)).then(|| (key.clone(), value))
    });
    let metadata = metadata.collect();
    let is_mistaken =
        |token: &String| at.access_token.is_some() && Some(token) == refresh_token.as_ref();
    let access_token = access_token.filter(|token| !is_mistaken(token));
    TokenResponse {
        access_token: access_token.map(SecretString::from),
        metadata,
        refresh_token: refresh_token.map(SecretString::from),
        token_type: text(&at.token_type, "/token_type").unwrap_or_else(|| "Bearer".to_owned()),
        lifetime,
        refresh_lifetime: lifetime::span(refresh_lifetime.as_ref(), unit),
        scopes: scopes(value(&at.scope, "/scope").as_ref(), description),
        id_token: text(&at.id_token, "/id_token").map(SecretString::from),
    }
}

/// Scopes separated by spaces (RFC 6749 section 3.3) or what the description says, or a JSON array of them.
fn scopes(value: Option<&Value>, description: &Description) -> Option<Vec<String>> {
    let convention = description.scope.as_ref();
    let separators = convention.and_then(|s| s.response_separators.as_deref());
    let separates = |c: char| c.is_whitespace() || separators.is_some_and(|all| all.contains(c));
    let mut scopes: Vec<String> = match value? {
        Value::String(text) => text.split(separates).map(str::to_owned).collect(),
        Value::Array(items) => items
            .iter()
            .filter_map(|item| item.as_str().map(|scope| scope.trim().to_owned()))
            .collect(),
        _ => Vec::new(),
    };
    scopes.retain(|scope| !scope.is_empty());
    (!scopes.is_empty()).then_some(scopes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    #[test]
    fn a_refresh_token_is_handed_out_as_nothing_else() {
        let description = described(json!({"response": {
            "accessToken": "/refresh_token",
            "metadata": {"user": "/user", "all": "/user/whole", "token": "/refresh_token"},
        }}));
        let body = json!({"access_token": "at", "refresh_token": "secret-rt",
            "user": {"id": 7, "whole": {"refresh_token": "secret-rt"}}});
        let found = super::tokens(&Body::read(body.to_string().as_bytes()), &description);
        assert!(found.access_token.is_none());
        assert!(found.refresh_token.is_some());
        assert!(found.metadata.is_empty());
        // Two that are the same where they usually stand are the provider's affair.
        let same = json!({"access_token": "one", "refresh_token": "one"});
        let found = tokens(same.to_string().as_bytes());
        assert!(found.access_token.is_some() && found.refresh_token.is_some());
    }

    fn described(description: Value) -> Description {
        serde_json::from_value(description).unwrap()
    }

    /// With status 200, after a refresh that presented `spent`.
    fn read(body: &[u8]) -> Reading {
        super::read(200, body, &Description::default(), Some(&"spent".into()))
    }

    fn tokens(body: &[u8]) -> TokenResponse {
        match read(body) {
            Reading::Tokens(tokens) => tokens,
            Reading::Error(code) => panic!("read as error {code:?}"),
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
        assert_eq!(tokens.access_token.unwrap().expose_secret(), "at");
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
        assert_eq!(tokens.access_token.unwrap().expose_secret(), "a+t");
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
            assert!(matches!(read(body), Reading::Error(Some(code)) if code == "invalid_grant"));
        }
        assert!(matches!(
            read(br#"{"error":"","access_token":"at"}"#),
            Reading::Tokens(_)
        ));
    }

    #[test]
    fn a_new_refresh_token_is_kept_whatever_is_said_beside_it() {
        let none = Description::default();
        let spent = SecretString::from("spent");
        for (status, body) in [
            (
                200,
                json!({"error": "odd", "access_token": "at", "refresh_token": "rt"}),
            ),
            (500, json!({"access_token": "at", "refresh_token": "rt"})),
            (
                400,
                json!({"error": "odd", "access_token": "at", "refresh_token": "rt"}),
            ),
            (200, json!({"refresh_token": "rt"})),
            (
                200,
                json!({"access_token": null, "refresh_token": "rt", "error": 7}),
            ),
        ] {
            let body = body.to_string();
            match super::read(status, body.as_bytes(), &none, Some(&spent)) {
                Reading::Tokens(tokens) => {
                    assert_eq!(
                        tokens.refresh_token.unwrap().expose_secret(),
                        "rt",
                        "{body}"
                    );
                }
                _ => panic!("{status} {body}"),
            }
        }
        // Whoever repeats the one that was presented has not given another.
        for (status, body) in [
            (
                400,
                json!({"error": "invalid_grant", "refresh_token": "spent"}),
            ),
            (
                400,
                json!({"error": "invalid_grant", "refresh_token": "spent", "access_token": "old"}),
            ),
            (
                200,
                json!({"error": "invalid_grant", "refresh_token": "spent", "access_token": "old"}),
            ),
            (
                400,
                json!({"error": "invalid_grant", "refresh_token": "other"}),
            ),
        ] {
            let body = body.to_string();
            let read = super::read(status, body.as_bytes(), &none, Some(&spent));
            assert!(matches!(read, Reading::Error(_)), "{status} {body}");
        }
    }

    #[test]
    fn an_answer_of_a_provider_with_ways_of_its_own() {
        let slack = described(json!({
            "success": {"pointer": "/ok", "equals": "true"},
            "response": {
                "accessToken": "/authed_user/access_token", "refreshToken": "/authed_user/refresh_token",
                "expiresIn": "/authed_user/expires_in", "scope": "/authed_user/scope",
                "metadata": {"team": "/team/id", "enterprise": "/enterprise/id", "bot": "/is_bot"},
            },
            "scope": {"responseSeparators": ","},
        }));
        let body = json!({
            "ok": true, "error": "", "team": {"id": "T1"}, "enterprise": null, "is_bot": false,
            "authed_user": {"access_token": "at", "refresh_token": "rt", "expires_in": 43200, "scope": "a,b"},
        });
        let Reading::Tokens(tokens) = super::read(200, body.to_string().as_bytes(), &slack, None)
        else {
            panic!("not read");
        };
        assert_eq!(tokens.access_token.unwrap().expose_secret(), "at");
        assert_eq!(tokens.refresh_token.unwrap().expose_secret(), "rt");
        assert_eq!(
            tokens.lifetime,
            Lifetime::Stated(Duration::from_secs(43200))
        );
        assert_eq!(tokens.scopes.unwrap(), ["a", "b"]);
        let told = [("bot", "false"), ("team", "T1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(tokens.metadata, BTreeMap::from(told));
        for (body, code) in [
            (
                json!({"ok": false, "error": "invalid_refresh_token"}),
                Some("invalid_refresh_token"),
            ),
            (
                json!({"ok": false, "authed_user": {"access_token": "at"}}),
                None,
            ),
            (json!({"authed_user": {"access_token": "at"}}), None),
        ] {
            let read = super::read(200, body.to_string().as_bytes(), &slack, None);
            assert!(
                matches!(read, Reading::Error(found) if found.as_deref() == code),
                "{body}"
            );
        }
    }

    #[test]
    fn a_code_stands_where_the_description_says() {
        let hubspot = described(json!({
            "errorPointers": ["/status", "/errors/0/code"], "errorMap": {"BAD_REFRESH_TOKEN": "NeedsReauthorization"},
        }));
        let code = |status, body: Value| match super::read(
            status,
            body.to_string().as_bytes(),
            &hubspot,
            None,
        ) {
            Reading::Error(code) => code,
            Reading::Tokens(_) => Some("tokens".to_owned()),
            Reading::Unreadable => None,
        };
        let dead = json!({"status": "BAD_REFRESH_TOKEN", "message": "…"});
        assert_eq!(
            code(400, dead.clone()).as_deref(),
            Some("BAD_REFRESH_TOKEN")
        );
        assert_eq!(code(200, dead).as_deref(), Some("BAD_REFRESH_TOKEN"));
        assert_eq!(
            code(400, json!({"errors": [{"code": 42}]})).as_deref(),
            Some("42")
        );
        assert_eq!(
            code(400, json!({"error": "invalid_grant"})).as_deref(),
            Some("invalid_grant")
        );
        let well = json!({"status": "ok", "access_token": "at"});
        assert_eq!(code(200, well).as_deref(), Some("tokens"));
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
        fn no_answer_and_no_description_makes_it_panic(
            status in any::<u16>(),
            body in "[\\[\\]{}\"a-z_:,0-9~/ .\\\\u-]{0,200}",
            pointer in "(/[a-z~0-9]{0,6}){0,4}",
            separators in ".{0,4}",
        ) {
            let description = described(json!({
                "response": {"accessToken": pointer, "refreshToken": pointer, "expiresAt": pointer, "metadata": {"x": pointer}},
                "success": {"pointer": pointer, "equals": "x"}, "errorPointers": [pointer],
                "scope": {"responseSeparators": separators},
            }));
            let _ = super::read(status, body.as_bytes(), &description, None);
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
