//! `spec.refresh` and `spec.suspend`.

use serde_json::json;

use super::{CREDENTIAL, HOUR, machine, refuses, takes, user};
use crate::support::Fixture;

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_cannot_work_is_refused_and_the_message_says_how_to_mend_it() {
    let fixture = Fixture::bare("refresh", HOUR).await;
    let table = r#"
        refresh.unknownExpiry | "Always" | supported values: "Never", "Assume"
        refresh | {"assumedLifetime": "1h"} | spec.refresh.assumedLifetime is for unknownExpiry: Assume; with Never, a token without an expiry is not refreshed by itself
        refresh | {"assumedLifetime": "1h", "unknownExpiry": "Never"} | spec.refresh.assumedLifetime is for unknownExpiry: Assume
        refresh | {"assumedLifetime": "59s", "unknownExpiry": "Assume"} | refresh.assumedLifetime | spec.refresh.assumedLifetime must be a duration from 1m to 8760h, such as 1h
        refresh | {"assumedLifetime": "8761h", "unknownExpiry": "Assume"} | refresh.assumedLifetime | spec.refresh.assumedLifetime must be a duration from 1m to 8760h, such as 1h
        refresh | {"assumedLifetime": "soon", "unknownExpiry": "Assume"} | refresh.assumedLifetime | should match
        refresh | {"assumedLifetime": "1h", "unknownExpiry": "Assume", "before": "1h"} | spec.refresh.before must be shorter than assumedLifetime
        refresh.keepAlive | "59s" | spec.refresh.keepAlive must be a duration from 1m to 8760h, such as 24h
        refresh.keepAlive | "8761h" | spec.refresh.keepAlive must be a duration from 1m to 8760h, such as 24h
        refresh.keepAlive | "7d" | should match
        refresh.keepAlive | 60 | must be of type string
        suspend | "yes" | must be of type boolean"#;
    refuses(&fixture, CREDENTIAL, &user(), table).await;
    // Rules of the whole spec are told of as such.
    for (base, refresh, says) in [
        (
            machine(),
            json!({"keepAlive": "24h"}),
            "spec.refresh.keepAlive is for grantType RefreshToken: the other grants have no refresh token that could be taken for abandoned",
        ),
        (
            json!({"apiKey": {"secretKeyRef": {"name": "source", "key": "k"}}}),
            json!({"before": "5m"}),
            "spec.refresh is for oauth2: the other kinds are copied, and nothing refreshes them",
        ),
        (
            json!({"userPassword": {"secretRef": {"name": "source"}}}),
            json!({}),
            "spec.refresh is for oauth2: the other kinds are copied, and nothing refreshes them",
        ),
    ] {
        let spec = super::with(base, "refresh", refresh);
        let message = super::verdict(&fixture, CREDENTIAL, "x", spec).await;
        let message = message.expect(says);
        assert!(message.contains(says), "{message}");
    }
    let taken = r#"
        refresh | {}
        refresh | {"unknownExpiry": "Assume"}
        refresh | {"unknownExpiry": "Assume", "assumedLifetime": "1m", "before": "59s"}
        refresh | {"before": "2h", "keepAlive": "24h"}
        refresh.keepAlive | "8760h"
        suspend | true
        suspend | false"#;
    takes(&fixture, CREDENTIAL, &user(), taken).await;
    takes(&fixture, CREDENTIAL, &machine(), "refresh.before | \"5m\"").await;
    let key = json!({"apiKey": {"secretKeyRef": {"name": "source", "key": "k"}}});
    takes(&fixture, CREDENTIAL, &key, "suspend | true").await;
}
