use serde_json::{Value, json};

use super::*;
use crate::secret::grant;

const DAY: u64 = 86_400;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn credential(grant_type: &str, refresh: &Value) -> IntegrationCredential {
    let spec = json!({"refresh": refresh, "oauth2": {"providerRef": {"name": "p"},
        "grantType": grant_type, "seedSecretRef": {"name": "s"}}});
    let mut credential = IntegrationCredential::new("c", serde_json::from_value(spec).unwrap());
    credential.metadata.uid = Some("uid".to_owned());
    credential
}

/// A grant of which the token was obtained at 0 and lives so long, and the refresh token too.
fn grant(lives: Option<i64>, refresh_token_lives: Option<i64>) -> Grant {
    let mut grant = grant::sample(1, "rt", at(0));
    grant.token.expires_at = lives.map(at);
    grant.refresh_expires_at = refresh_token_lives.map(at);
    grant.authorized_at = at(0);
    grant
}

fn provider(change: Value) -> Description {
    serde_json::from_value(change).unwrap()
}

/// Seconds from the token's start to its refresh.
fn after(credential: &IntegrationCredential, provider: &Description, grant: &Grant) -> Option<i64> {
    let pace = Pace::of_grant(credential, provider, grant);
    let next = schedule(credential, &pace, &grant.token);
    // What the schedule says is what is done at that time, and not before.
    if let Some(next) = next {
        assert!(is_due(credential, &pace, &grant.token, next));
        let before = next.checked_sub(Duration::from_secs(1)).unwrap();
        assert!(!is_due(credential, &pace, &grant.token, before));
    }
    next.map(|next| next.duration_since(at(0)).as_secs())
}

/// Fails unless it is `wanted`, or earlier by at most a tenth of `of`, which is the jitter.
fn assert_about(found: Option<i64>, wanted: i64, of: i64, what: &str) {
    let found = found.unwrap_or_else(|| panic!("never: {what}"));
    assert!(
        (wanted - of / 10 - 1..=wanted).contains(&found),
        "{found}: {what}"
    );
}

#[test]
fn a_token_without_an_expiry_is_refreshed_only_where_it_is_taken_to_have_one() {
    let nothing = provider(json!({}));
    let endless = grant(None, None);
    for refresh in [json!({}), json!({"unknownExpiry": "Never"})] {
        let never = credential("ClientCredentials", &refresh);
        assert_eq!(after(&never, &nothing, &endless), None);
        let stated = Pace::of(&provider(json!({"defaultLifetime": "1h"})));
        assert!(is_due(&never, &stated, &endless.token, at(1)));
    }
    let assume = |more: Value| {
        let mut refresh = json!({"unknownExpiry": "Assume"});
        refresh
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        credential("ClientCredentials", &refresh)
    };
    assert_about(
        after(&assume(json!({})), &nothing, &endless),
        3300,
        3600,
        "1 h is the default",
    );
    let two_hours = assume(json!({"assumedLifetime": "2h", "before": "10m"}));
    assert_about(
        after(&two_hours, &nothing, &endless),
        6600,
        7200,
        "2 h, 10 min before",
    );
    // A token that states its life is believed.
    let stated = grant(Some(600), None);
    assert_about(after(&two_hours, &nothing, &stated), 300, 600, "stated");
    let by_default = Pace::of(&provider(json!({"defaultLifetime": "1h"})));
    assert!(!is_due(&two_hours, &by_default, &endless.token, at(1)));
}

#[test]
fn the_longest_time_between_two_refreshes_is_a_third_of_the_idle_limit_unless_the_credential_says()
{
    let idle = || provider(json!({"refreshTokenLifetime": {"idle": "240h"}}));
    let user = |refresh: Value| credential("RefreshToken", &refresh);
    let day = i64::try_from(DAY).unwrap();
    for (what, credential, lives, wanted) in [
        ("a third of 10 d", user(json!({})), None, Some(80 * 3600)),
        (
            "a token of 60 d",
            user(json!({})),
            Some(60 * day),
            Some(80 * 3600),
        ),
        (
            "as it says",
            user(json!({"keepAlive": "24h"})),
            None,
            Some(day),
        ),
        (
            "too long to work",
            user(json!({"keepAlive": "240h"})),
            None,
            Some(80 * 3600),
        ),
        (
            "no refresh token",
            credential("ClientCredentials", &json!({})),
            None,
            None,
        ),
    ] {
        let found = after(&credential, &idle(), &grant(lives, None));
        match wanted {
            Some(wanted) => assert_about(found, wanted, wanted, what),
            None => assert_eq!(found, None, "{what}"),
        }
    }
    // A token that lives shorter is refreshed before that.
    let short = after(&user(json!({})), &idle(), &grant(Some(3600), None));
    assert_about(short, 3300, 3600, "the earlier of both");
    let own = after(
        &user(json!({"keepAlive": "24h"})),
        &provider(json!({})),
        &grant(None, None),
    );
    assert_about(own, day, day, "without an idle limit");
}

#[test]
fn a_refresh_token_whose_expiry_is_stated_is_used_before_it() {
    let user = || credential("RefreshToken", &json!({}));
    let nothing = provider(json!({}));
    // As Keycloak does: the session ends sooner than the token.
    assert_about(
        after(&user(), &nothing, &grant(Some(36_000), Some(1800))),
        600,
        600,
        "stated",
    );
    // An end that no refresh puts off is no reason to hurry.
    let absolute = provider(json!({"refreshTokenLifetime": {"absolute": "30m"}}));
    assert_about(
        after(&user(), &absolute, &grant(Some(7200), Some(1800))),
        6900,
        7200,
        "absolute",
    );
    let mut known = user();
    known.status = serde_json::from_value(json!({"grant": {
        "authorizationTime": at(0).to_string(), "finalExpirationTime": at(1801).to_string()}}))
    .unwrap();
    assert_about(
        after(&known, &nothing, &grant(Some(7200), Some(1800))),
        6900,
        7200,
        "seen",
    );
    // What was seen of an earlier authorization says nothing of this one.
    let mut later = grant(Some(7200), Some(1800));
    later.authorized_at = at(1000);
    assert_about(
        after(&known, &nothing, &later),
        600,
        600,
        "a new authorization",
    );
}

#[test]
fn a_change_of_the_schedule_causes_no_refresh_before_its_time() {
    // Of what is in the spec, only what the schedule is made from may make a token due.
    let nothing = provider(json!({}));
    let of = |refresh: Value| {
        after(
            &credential("RefreshToken", &refresh),
            &nothing,
            &grant(Some(3600), None),
        )
    };
    assert_about(of(json!({"before": "10m"})), 3000, 3600, "before");
    assert_about(of(json!({"keepAlive": "30m"})), 1800, 1800, "keepAlive");
    assert_eq!(of(json!({"keepAlive": "2h"})), of(json!({})));
    assert_eq!(of(json!({"unknownExpiry": "Assume"})), of(json!({})));
}
