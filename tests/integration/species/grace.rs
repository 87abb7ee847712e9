//! A grace period: the same refresh token brings the same tokens for a while.

use std::time::Duration;

use super::{cell::Cell, kinds::Species, told::Told};
use crate::{oauth_server::Fault, support::Fixture};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn within_a_grace_period_the_same_refresh_token_is_presented_after_1_2_and_4_seconds() {
    let fixture = Fixture::new("grace", HOUR).await;
    let species = Species::named("always, grace, invalidated");
    let cell = Cell::new(&fixture, "alice", species).await;
    let told = Told::of(&fixture);
    let _operator = fixture.operator();
    cell.begin(&fixture).await;
    told.healthy("alice", 1).await;
    let spent = cell.refresh_token(&fixture).await;

    cell.oauth.fail_times(3, &Fault::DropAfterCommit);
    cell.ask(&fixture).await;
    let healthy = told.healthy("alice", 2).await;
    assert_eq!(healthy.status.unwrap().token.unwrap().generation, 2);
    assert_eq!(told.reasons("alice"), "", "nobody needs to know");
    let presented = cell.presented(&spent);
    assert_eq!(presented.len(), 4, "{presented:?}");
    for (pair, pause) in presented.windows(2).zip([1.0, 2.0, 4.0]) {
        let took = pair[1].duration_since(pair[0]).as_secs_f64();
        assert!(took >= pause, "{took} s after {pause} s: {presented:?}");
    }
    // Not one refresh token was lost, though the provider had replaced one three times in vain.
    let stored = cell.refresh_token(&fixture).await;
    assert_eq!(cell.newest(), Some(stored.clone()));
    assert!(cell.oauth.is_redeemable(&stored));
    assert!(cell.oauth.is_live(&cell.access_token(&fixture).await));
}
