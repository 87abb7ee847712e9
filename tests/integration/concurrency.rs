//! Several operators at once.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    oauth_server::{Config, Fault, OAuthServer},
    support::{Fixture, text},
};

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_redeem_nothing_twice_over_thirty_refreshes() {
    let fixture = Fixture::new("two", Duration::from_secs(4)).await;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for name in names {
        fixture.seed(name).await;
    }
    let first = fixture.operator();
    let second = fixture.operator();
    first.ready().await;
    second.ready().await;
    join_all(names.map(|name| fixture.user(name, json!({})))).await;
    join_all(names.map(|name| fixture.generation(name, 4))).await;

    assert!(fixture.oauth.granted() >= 30);
    assert_eq!(
        fixture.oauth.max_presentations(),
        1,
        "a refresh token was presented twice"
    );
    for name in names {
        fixture.untroubled(name).await;
        let target = fixture.find_secret(name).await.unwrap();
        assert!(text(&target, "token_generation").parse::<u64>().unwrap() >= 4);
    }
    // Both do some of it, or this showed nothing.
    for operator in [&first, &second] {
        operator.logged("token refreshed").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_hangs_holds_up_nobody_else() {
    // As many as an operator works on at a time.
    const HANGING: usize = 64;
    const MINUTE: Duration = Duration::from_secs(60);
    let fixture = Fixture::new("hang", MINUTE).await;
    fixture.oauth.fail_always(Fault::Hang(MINUTE));
    let _operator = fixture.operator();
    let names: Vec<_> = (0..HANGING).map(|n| format!("stuck-{n}")).collect();
    join_all(names.iter().map(|name| fixture.machine(name, json!({})))).await;
    let all = fixture.oauth.wait_for_requests(HANGING);
    timeout(MINUTE, all).await.expect("every one of them hangs");

    let other = OAuthServer::start(Config::default()).await.unwrap();
    let url = json!({"tokenUrl": other.token_url()});
    fixture.provider_named("other", url).await;
    let change = json!({"oauth2": {"providerRef": {"name": "other"}}});
    fixture.machine("free", change).await;
    fixture.ready("free").await;
}
