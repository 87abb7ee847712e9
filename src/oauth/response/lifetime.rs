//! How long a token lives, as answers state it.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::api::LifetimeUnit;

/// Longer lifetimes are no lifetimes (100 years); they would overflow calendars further on.
const LONGEST: u64 = 100 * 366 * 86_400;

/// The lifetime that an answer states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// That long from when the request was sent.
    Stated(Duration),
    /// Until then.
    Until(Timestamp),
    /// Not stated.
    NotStated,
    /// Stated as something that is no lifetime: zero, negative, not a number, or too large.
    Unusable,
}

/// Reads the lifetime of an access token: from when it expires, else from how long it lives, else from the token
/// itself, if it is a JWT.
pub(super) fn read(
    expires_at: Option<&Value>,
    expires_in: Option<&Value>,
    unit: LifetimeUnit,
    access_token: Option<&str>,
) -> Lifetime {
    if let Some(at) = expires_at.and_then(instant) {
        return Lifetime::Until(at);
    }
    let is_stated = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.trim().is_empty(),
        _ => true,
    };
    if let Some(stated) = expires_in.filter(|value| is_stated(value)) {
        return span(Some(stated), unit).map_or(Lifetime::Unusable, Lifetime::Stated);
    }
    match access_token.and_then(own_lifetime) {
        Some(lifetime) => lifetime,
        None if expires_at.is_some_and(is_stated) => Lifetime::Unusable,
        None => Lifetime::NotStated,
    }
}

/// A number of seconds, or a string that is wholly one (some providers send `"3600"`).
pub(super) fn span(value: Option<&Value>, unit: LifetimeUnit) -> Option<Duration> {
    let number = match value? {
        Value::Number(number) => number.as_u64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) if text.trim().bytes().all(|b| b.is_ascii_digit()) => {
            text.trim().parse().ok()
        }
        _ => None,
    }?;
    let span = match unit {
        LifetimeUnit::Seconds => Duration::from_secs(number),
        LifetimeUnit::Milliseconds => Duration::from_millis(number),
    };
    let longest = Duration::from_secs(LONGEST);
    (!span.is_zero() && span <= longest).then_some(span)
}

/// `3599.5` is 3599 seconds.
fn whole(seconds: f64) -> Option<u64> {
    // Milliseconds of the longest lifetime are far below 2^53.
    #[expect(clippy::cast_precision_loss, reason = "the bound is far below 2^53")]
    let longest = (LONGEST * 1000) as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to lie in the range"
    )]
    (0.0..=longest).contains(&seconds).then_some(seconds as u64)
}

/// RFC 3339, or a Unix time in seconds or milliseconds.
fn instant(value: &Value) -> Option<Timestamp> {
    // Seconds reach this number in the year 5138, milliseconds did in 1973.
    const MILLISECONDS: i64 = 100_000_000_000;
    let number = match value {
        Value::Number(number) => number
            .as_i64()
            .or_else(|| whole(number.as_f64()?)?.try_into().ok())?,
        Value::String(text) => match text.trim().parse::<i64>() {
            Ok(number) => number,
            Err(_) => return text.trim().parse().ok(),
        },
        _ => return None,
    };
    if number <= 0 {
        return None;
    }
    if number < MILLISECONDS {
        Timestamp::from_second(number).ok()
    } else {
        Timestamp::from_millisecond(number).ok()
    }
}

/// The lifetime that a JWT states of itself (RFC 7519 section 4.1): a hint, its signature is not looked at.
fn own_lifetime(token: &str) -> Option<Lifetime> {
    #[derive(Deserialize)]
    struct Claims {
        exp: Value,
        iat: Option<Value>,
    }
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims = data_encoding::BASE64URL_NOPAD.decode(claims.trim_end_matches('=').as_bytes());
    let claims: Claims = serde_json::from_slice(&claims.ok()?).ok()?;
    let exp = instant(&claims.exp)?;
    let Some(iat) = claims.iat.as_ref().and_then(instant) else {
        return Some(Lifetime::Until(exp));
    };
    // Its own clock made both: the difference does not depend on ours.
    let span = Duration::try_from(exp.duration_since(iat)).ok()?;
    (!span.is_zero() && span.as_secs() <= LONGEST).then_some(Lifetime::Stated(span))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lifetime(expires_at: &Value, expires_in: &Value) -> Lifetime {
        read(
            Some(expires_at),
            Some(expires_in),
            LifetimeUnit::Seconds,
            None,
        )
    }

    #[test]
    fn when_it_expires_counts_before_how_long_it_lives() {
        let at: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        for value in [
            json!("2030-01-01T00:00:00Z"),
            json!("2030-01-01T01:00:00+01:00"),
            json!(1_893_456_000),
            json!("1893456000"),
            json!(1_893_456_000_000_i64),
            json!(1_893_456_000.0),
        ] {
            assert_eq!(lifetime(&value, &json!(60)), Lifetime::Until(at), "{value}");
        }
        for value in [
            json!("soon"),
            json!(0),
            json!(-1),
            json!(null),
            json!({}),
            json!(1e300),
        ] {
            let stated = Lifetime::Stated(Duration::from_secs(60));
            assert_eq!(lifetime(&value, &json!(60)), stated, "{value}");
        }
        assert_eq!(lifetime(&json!("soon"), &json!(null)), Lifetime::Unusable);
    }

    #[test]
    fn milliseconds_where_the_provider_counts_so() {
        let unit = LifetimeUnit::Milliseconds;
        assert_eq!(
            span(Some(&json!(3_600_000)), unit),
            Some(Duration::from_secs(3600))
        );
        assert_eq!(
            span(Some(&json!("1500")), unit),
            Some(Duration::from_millis(1500))
        );
    }

    #[test]
    fn a_jwt_tells_its_lifetime_where_the_answer_does_not() {
        let jwt = |claims: Value| {
            let claims = data_encoding::BASE64URL_NOPAD.encode(claims.to_string().as_bytes());
            format!("e30.{claims}.c2ln")
        };
        let of = |token: &str| read(None, None, LifetimeUnit::Seconds, Some(token));
        let hour = Lifetime::Stated(Duration::from_secs(3600));
        assert_eq!(of(&jwt(json!({"iat": 1_000_000, "exp": 1_003_600}))), hour);
        let at = Timestamp::from_second(1_893_456_000).unwrap();
        assert_eq!(of(&jwt(json!({"exp": 1_893_456_000}))), Lifetime::Until(at));
        for token in [
            "opaque",
            "a.b.c",
            &jwt(json!({})),
            &jwt(json!({"exp": "x"})),
            &jwt(json!({"exp": 5, "iat": 9})),
        ] {
            assert_eq!(of(token), Lifetime::NotStated, "{token}");
        }
        let stated = read(
            None,
            Some(&json!(60)),
            LifetimeUnit::Seconds,
            Some(&jwt(json!({"exp": 9}))),
        );
        assert_eq!(stated, Lifetime::Stated(Duration::from_secs(60)));
    }
}
