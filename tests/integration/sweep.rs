//! Every call of a first token and of a refresh, with each fault at each of them in turn.

mod exchange;
mod trial;

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Mutex, PoisonError},
};

use axum::http::Method;
use futures::{FutureExt, StreamExt, stream};
use tokio::sync::Semaphore;

use self::trial::{Stored, Trial};
use crate::support::{Call, Calls, Fault, Victim};

/// Room for so many trials at a time, of all sweeps together. They mostly wait.
static ROOM: Semaphore = Semaphore::const_new(24);

/// The calls of an operator from its start until a first token was refreshed and that was told.
async fn undisturbed() -> (Trial, Vec<Call>) {
    let trial = Trial::new("undisturbed").await;
    let operator = trial.operator();
    trial.begin().await;
    trial.generation(2).await;
    let calls = trial.proxy.calls();
    trial.goes_on(operator).await;
    assert_eq!(trial.fixture.oauth.max_presentations(), 1);
    // Both a first token and a refresh are among them, or this showed little.
    for verb in ["POST leases", "POST secrets", "PUT leases", "PUT secrets"] {
        let is_there = |call: &Call| call.to_string().contains(verb);
        assert!(calls.iter().any(is_there), "{verb}");
    }
    (trial, calls)
}

/// Makes a trial for each of `calls`, and returns what came of each, by its place among them.
async fn at_each<T>(
    calls: Vec<Call>,
    first: Trial,
    what: &str,
    trial: impl AsyncFn(&Trial, usize) -> T,
) -> BTreeMap<usize, T> {
    let (trial, free) = (&trial, &Mutex::new(vec![first]));
    let trials = stream::iter(1..=calls.len()).map(|n| async move {
        let _room = ROOM.acquire().await.unwrap();
        let name = format!("{what}-{n}");
        let place = free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let place = match place {
            Some(place) => place.another(&name).await,
            None => Trial::new(&name).await,
        };
        let end = AssertUnwindSafe(trial(&place, n)).catch_unwind().await;
        if end.is_ok() {
            free.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(place);
        }
        (n, end)
    });
    let ends: Vec<_> = trials.buffer_unordered(calls.len()).collect().await;
    let mut failed = Vec::new();
    let mut ended = BTreeMap::new();
    for (n, end) in ends {
        match end {
            Ok(end) => drop(ended.insert(n, end)),
            // Its message is in the output.
            Err(_) => failed.push(calls[n - 1].to_string()),
        }
    }
    assert_eq!(failed, Vec::<String>::new());
    ended
}

/// Kills an operator at its `n`-th call and starts another. The call, if the refresh token was lost and the call
/// is one of those that lead from one step of an exchange to the next.
async fn crash(trial: &Trial, n: usize, fault: fn(Victim) -> Fault) -> Option<Call> {
    let victim = Victim::default();
    let crash = trial.proxy.inject(Calls::nth(n), fault(victim.clone()));
    let mut operator = trial.operator();
    victim.is(operator.id());
    trial.begin().await;
    crash.over(1).await;
    let stored = trial.dead(&mut operator).await;
    trial.hasten_takeover().await;
    let oauth = &trial.fixture.oauth;
    let is_lost = !oauth.is_redeemable(&stored.refresh_token);
    let operator = trial.operator();
    if !is_lost {
        trial.goes_on(operator).await;
        assert_eq!(oauth.max_presentations(), 1);
        return None;
    }
    assert_eq!(oauth.granted(), stored.generation + 1);
    trial.is_told_as_lost(operator).await;
    let mut calls = trial.proxy.calls().into_iter();
    let call = calls.find(|call| call.number == Some(n))?;
    (!is_beside(&call, &stored)).then_some(call)
}

/// Whether a call is made beside an exchange that takes long: to renew a gate that is closed, or about events or
/// the provider.
fn is_beside(call: &Call, stored: &Stored) -> bool {
    match call.resource.as_str() {
        "leases" => call.method == Method::PUT && !stored.holder.is_empty(),
        "secrets" => call.name == "client",
        "events" | "oauthproviders/status" => true,
        _ => false,
    }
}

fn numbered((trial, mut calls): (Trial, Vec<Call>)) -> (Trial, Vec<Call>) {
    calls.retain(|call| call.number.is_some());
    (trial, calls)
}

fn writes((trial, mut calls): (Trial, Vec<Call>)) -> (Trial, Vec<Call>) {
    calls.retain(|call| call.method != Method::GET);
    (trial, calls)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_before_any_of_its_calls_loses_at_most_what_it_had_not_stored() {
    let (first, calls) = numbered(undisturbed().await);
    let kill = async |trial: &Trial, n| crash(trial, n, Fault::CrashBefore).await;
    let ends = at_each(calls, first, "before", kill).await;
    // The window that nobody can close: tokens have come, and are not stored yet.
    let lost: Vec<_> = ends.into_values().flatten().collect();
    assert!(!lost.is_empty(), "the window was never hit");
    for call in lost {
        let what = call.name.split_once('.').map(|(_, what)| what);
        assert_eq!((call.resource.as_str(), what), ("secrets", Some("grant")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_after_any_of_its_calls_loses_nothing() {
    let (first, calls) = numbered(undisturbed().await);
    let kill = async |trial: &Trial, n| crash(trial, n, Fault::CrashAfter).await;
    let ends = at_each(calls, first, "after", kill).await;
    let lost: Vec<_> = ends.into_values().flatten().collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_gets_lost_costs_nothing_at_any_call() {
    let (first, calls) = numbered(undisturbed().await);
    at_each(calls, first, "answer", async |trial, n| {
        let lost = trial.proxy.inject(Calls::nth(n), Fault::DropAfter);
        let operator = trial.operator();
        trial.begin().await;
        lost.over(1).await;
        trial.goes_on(operator).await;
        assert_eq!(trial.fixture.oauth.max_presentations(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_answered_by_an_error_and_not_done_costs_nothing() {
    let (first, writes) = writes(undisturbed().await);
    let both = [writes.clone(), writes.clone()].concat();
    at_each(both, first, "error", async |trial, n| {
        let (status, n) = if n > writes.len() {
            (409, n - writes.len())
        } else {
            (503, n)
        };
        let nth = Calls::writes().after(n - 1).first(1);
        let error = trial.proxy.inject(nth, Fault::Answer(status));
        let operator = trial.operator();
        trial.begin().await;
        error.over(1).await;
        trial.goes_on(operator).await;
        assert_eq!(trial.fixture.oauth.max_presentations(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_done_long_after_it_was_given_up_costs_nothing() {
    let (first, writes) = writes(undisturbed().await);
    at_each(writes, first, "late", async |trial, n| {
        let nth = Calls::writes().after(n - 1).first(1);
        let late = trial.proxy.inject(nth, Fault::HoldBefore);
        let operator = trial.operator();
        trial.begin().await;
        late.met(1).await;
        // Without the answer it goes on, when it has waited for it in vain.
        let now = trial.stored().await.generation;
        trial.generation(now + 2).await;
        let before = trial.stored().await;
        late.release();
        late.over(1).await;
        trial.stored().await.assert_not_before(&before);
        trial.goes_on(operator).await;
        assert_eq!(trial.fixture.oauth.max_presentations(), 1);
    })
    .await;
}
