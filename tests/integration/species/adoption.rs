//! A seed is presented, and nobody knows whether the provider took it.

use std::time::Duration;

use futures::future::join_all;
use kube::ResourceExt;

use super::{cell::Cell, kinds::Species, told::Told};
use crate::{
    oauth_server::Fault,
    support::{Fixture, condition},
};

const HOUR: Duration = Duration::from_secs(3600);
const ARGUMENTS: [&str; 2] = ["--request-timeout", "5s"];

/// What people are told of the seed.
async fn said_of_the_seed(told: &Told, cell: &Cell, word: &str) {
    told.until(&cell.name, &format!("SeedRejected, {word}"), |credential| {
        condition(credential, "SeedRejected").is_some_and(|c| c.2.contains(word))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_new_seed_that_gets_lost_costs_the_grant_in_use_nothing() {
    let fixture = Fixture::new("adoption", HOUR).await;
    let told = Told::of(&fixture);
    let _operator = fixture.operator_with(&ARGUMENTS);
    let names = [
        "always, revokes, survives",
        "always, revokes, invalidated",
        "always, grace, invalidated",
    ];
    join_all(names.into_iter().enumerate().map(async |(n, species)| {
        let cell = Cell::new(&fixture, &format!("alice-{n}"), Species::named(species)).await;
        cell.begin(&fixture).await;
        told.healthy(&cell.name, 1).await;
        let stored = cell.refresh_token(&fixture).await;
        let access = cell.access_token(&fixture).await;

        cell.oauth.fail_next(Fault::DropAfterCommit);
        let seed = cell.reseed(&fixture).await;
        if species.contains("grace") {
            let adopted = told.healthy(&cell.name, 2).await;
            assert_eq!(condition(&adopted, "SeedRejected"), None);
            assert_eq!(cell.presented(&seed).len(), 2, "{species}");
            assert_eq!(Some(cell.refresh_token(&fixture).await), cell.newest());
            return;
        }
        said_of_the_seed(&told, &cell, "could not be tried").await;
        assert_eq!(cell.presented(&seed).len(), 1);
        assert_eq!(cell.refresh_token(&fixture).await, stored);
        assert_eq!(cell.access_token(&fixture).await, access);
        assert!(cell.oauth.is_redeemable(&stored) && cell.oauth.is_live(&access));
        let ready = condition(&fixture.get(&cell.name).await, "Ready").unwrap();
        assert_eq!(ready.0, "True");

        // At the next refresh it comes after the grant that works.
        cell.ask(&fixture).await;
        told.healthy(&cell.name, 2).await;
        said_of_the_seed(&told, &cell, "refused").await;
        assert!(cell.oauth.is_family_revoked(&seed));
        assert_eq!(cell.presented(&seed).len(), 2, "{species}");
        assert_eq!(cell.presented(&stored).len(), 1, "{species}");
        assert!(
            cell.oauth
                .is_redeemable(&cell.refresh_token(&fixture).await)
        );
        assert!(cell.oauth.is_live(&cell.access_token(&fixture).await));
        assert_eq!(told.reasons(&cell.name), "", "{species}");
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_seed_whose_answer_or_request_got_lost_is_presented_once_more_and_at_once() {
    let fixture = Fixture::new("firstseed", HOUR).await;
    let told = Told::of(&fixture);
    let _operator = fixture.operator_with(&ARGUMENTS);
    let (answer, request) = (Fault::DropAfterCommit, Fault::DropBeforeCommit);
    let (unknown, lost) = (
        "RefreshOutcomeUnknown, healthy",
        "RefreshOutcomeUnknown, RotationLost",
    );
    let failed = "ProviderError, healthy";
    let cases = [
        ("never", &answer, failed),
        ("never", &request, failed),
        ("always, revokes, survives", &answer, lost),
        ("always, revokes, survives", &request, unknown),
        ("always, rejects, invalidated", &answer, lost),
        ("always, rejects, invalidated", &request, unknown),
        ("always, grace, survives", &answer, ""),
        ("always, grace, survives", &request, ""),
        // The first refresh does not replace it.
        ("sometimes, now, survives", &answer, unknown),
        ("sometimes, now, survives", &request, unknown),
    ];
    join_all(
        cases
            .into_iter()
            .enumerate()
            .map(async |(n, (species, fault, reasons))| {
                let cell =
                    Cell::new(&fixture, &format!("first-{n}"), Species::named(species)).await;
                cell.oauth.fail_next(fault.clone());
                cell.begin(&fixture).await;
                let end = if reasons == lost {
                    "RotationLost"
                } else {
                    "healthy"
                };
                let told_last = told.told(&cell.name, end).await;
                assert_eq!(told.reasons(&cell.name), reasons, "{species}, {fault:?}");
                let requests = cell.oauth.requests();
                let seed = requests[0].refresh_token.as_deref().unwrap();
                assert_eq!(cell.presented(seed).len(), 2, "{species}, {fault:?}");
                if reasons == lost {
                    let (_, _, message) = condition(&told_last, "Stalled").unwrap();
                    let command = format!("patch secret {}-seed", told_last.name_any());
                    assert!(message.contains(&command), "{message}");
                    // What the message says mends it.
                    cell.reseed(&fixture).await;
                }
                told.healthy(&cell.name, 1).await;
                let stored = cell.refresh_token(&fixture).await;
                assert!(cell.oauth.is_redeemable(&stored), "{species}, {fault:?}");
                assert_eq!(cell.presented(seed).len(), 2, "{species}, {fault:?}");
            }),
    )
    .await;
}
