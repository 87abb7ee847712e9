//! Several operators at once.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;

use crate::support::{Fixture, text};

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_redeem_nothing_twice_over_thirty_refreshes() {
    let fixture = Fixture::new("two", Duration::from_secs(4)).await;
    let names = ["a", "b", "c", "d", "e", "f"];
    for name in names {
        fixture.seed(name).await;
    }
    let first = fixture.operator();
    let second = fixture.operator();
    join_all(names.map(|name| fixture.user(name, json!({})))).await;
    join_all(names.map(|name| fixture.generation(name, 5))).await;

    assert!(fixture.oauth.granted() >= 30);
    assert_eq!(
        fixture.oauth.max_presentations(),
        1,
        "a refresh token was presented twice"
    );
    for name in names {
        let status = fixture.get(name).await.status.unwrap();
        assert_eq!(status.refresh.unwrap().failures, 0);
        let target = fixture.find_secret(name).await.unwrap();
        assert!(text(&target, "token_generation").parse::<u64>().unwrap() >= 5);
    }
    // Both have done some of it, or this showed nothing.
    for operator in [&first, &second] {
        assert!(
            operator.log().contains("token refreshed"),
            "one operator did everything"
        );
    }
}
