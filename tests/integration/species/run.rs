//! One event, and a credential of each species to which it happens under one operator.

use std::{collections::BTreeSet, panic::AssertUnwindSafe, time::Duration};

use axum::http::Method;
use futures::{
    FutureExt,
    future::{join, join_all},
};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokenward::manager::CredentialManager;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    cell::{Cell, Program},
    expected,
    kinds::{Event, SPECIES, Species},
    outcome::{Outcome, When},
    told::Told,
};
use crate::support::{Call, Calls, Fault, Fixture, Operator, Proxy, WallClock, soon, within};

/// How long the slowest credential may take, with many of them on few cores.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long access tokens live. The margin before their expiry begins five minutes earlier.
const LIFETIME: Duration = Duration::from_secs(3600);
/// Before and after its beginning, for tokens that were obtained some minutes ago.
const BEFORE_THE_MARGIN: Duration = Duration::from_secs(3600 - 300 - 900);
const IN_THE_MARGIN: Duration = Duration::from_secs(3600 - 300 + 30);

/// A namespace, its operator's way to the API server and its clock.
struct Place {
    fixture: Fixture,
    proxy: Proxy,
    clock: WallClock,
    manager: CredentialManager,
    told: Told,
}

impl Place {
    fn operator(&self, event: Event) -> Operator {
        let timeout = format!("{}s", event.exchange_timeout().as_secs());
        let arguments = ["--request-timeout", &timeout];
        let kubeconfig = self.proxy.kubeconfig();
        Operator::start_at(
            &self.clock,
            &kubeconfig,
            &self.fixture.namespace,
            &arguments,
        )
    }
}

/// A credential before its event.
struct Trial {
    cell: Cell,
    seed: String,
    /// The refresh token that the event is about.
    spent: String,
    expected: Outcome,
}

/// How a trial stands before the margin begins.
enum First {
    Ended(Outcome),
    /// The refresh token is not presented again before.
    Held,
}

/// Lets `event` happen to one of each species. `None`: that one did not come to an end.
pub async fn run(event: Event) -> Vec<(&'static str, Option<Outcome>)> {
    let fixture = Fixture::new(event.short(), LIFETIME).await;
    let place = Place {
        proxy: fixture.proxy().await,
        clock: WallClock::right(),
        manager: CredentialManager::new(fixture.client.clone(), fixture.namespace.clone()),
        told: Told::of(&fixture),
        fixture,
    };
    let operator = place.operator(event);
    let trials = SPECIES.iter().enumerate();
    let trials = join_all(trials.map(|(n, species)| begin(event, &place, n, species))).await;

    // What is held there is given up after a while: nobody must be waited for.
    let unused = event == Event::KilledBeforeTheRequest;
    let used = trials.iter().filter(|_| !unused);
    let (mut dead, (operator, firsts)) = used_during(&place, used, async {
        let operator = happen(event, &place, &trials, operator).await;
        let firsts = join_all(trials.iter().map(|t| guarded(first(&place, t)))).await;
        (operator, firsts)
    })
    .await;
    dead.resize(trials.len(), 0);
    let held = trials.iter().zip(&firsts);
    let held: Vec<_> = held
        .filter(|(_, first)| matches!(first, Some(First::Held)))
        .map(|(trial, _)| trial)
        .collect();
    let (mut later_dead, mut ends) = (Vec::new(), Vec::new());
    if !held.is_empty() {
        let waiting = in_the_margin(&place, &operator, &held);
        (later_dead, ends) = used_during(&place, held.iter().copied(), waiting).await;
    }
    let mut later = later_dead.into_iter().zip(ends);

    let mut outcomes = Vec::new();
    for ((trial, first), mut dead_in_use) in trials.iter().zip(firsts).zip(dead) {
        let outcome = match first {
            Some(First::Ended(outcome)) => Some(outcome),
            Some(First::Held) => {
                let (later_dead, outcome) = later.next().unwrap();
                dead_in_use += later_dead;
                outcome
            }
            None => None,
        };
        let outcome = outcome.map(|outcome| Outcome {
            dead_in_use,
            ..outcome
        });
        outcomes.push((trial.cell.species.name, outcome));
    }
    outcomes
}

/// `None`: it panicked. Its message is in the output.
async fn guarded<T>(trial: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(trial).catch_unwind().await.ok()
}

/// A credential that has its first token.
async fn begin(event: Event, place: &Place, n: usize, species: &'static Species) -> Trial {
    let cell = Cell::new(&place.fixture, &format!("species-{n}"), species).await;
    cell.begin(&place.fixture).await;
    place.told.healthy(&cell.name, 1).await;
    let seed = cell.oauth.requests()[0].refresh_token.clone();
    let spent = cell.refresh_token(&place.fixture).await;
    Trial {
        expected: expected(species.name, event),
        seed: seed.unwrap(),
        spent,
        cell,
    }
}

/// Has programs hold the credentials and use them until a refresh waits for them or `work` is over. How often
/// the token of each was dead while it was held.
async fn used_during<'a, T>(
    place: &Place,
    trials: impl IntoIterator<Item = &'a Trial>,
    work: impl Future<Output = T>,
) -> (Vec<usize>, T) {
    let over = &CancellationToken::new();
    let holding = trials.into_iter().map(|trial| async move {
        let held = Program::holding(&trial.cell, &place.fixture, &place.manager).await;
        (trial, held)
    });
    let holding = join_all(holding).await;
    let using = holding
        .into_iter()
        .map(|(trial, held)| held.uses_it_until(&trial.cell, over.cancelled()));
    let work = async {
        let done = work.await;
        over.cancel();
        done
    };
    join(Box::pin(join_all(using)), Box::pin(work)).await
}

/// Has every credential refreshed, and lets it happen.
async fn happen(event: Event, place: &Place, trials: &[Trial], mut operator: Operator) -> Operator {
    let grants = |method| Calls::to(method, "secrets").named("*.grant");
    let requests: Vec<_> = trials
        .iter()
        .map(|t| t.cell.oauth.request_count())
        .collect();
    let held = match event {
        // It has closed the gate, and reads what to present.
        Event::KilledBeforeTheRequest => Some(grants(Method::GET)),
        Event::KilledBeforeItWasStored => Some(grants(Method::PUT)),
        _ => None,
    };
    let held = held.map(|calls| place.proxy.inject(calls, Fault::HoldBefore));
    for Trial { cell, .. } in trials {
        match event.fault() {
            Some(fault) => cell.oauth.fail_next(fault),
            None if event == Event::KilledAfterTheCommit => cell.oauth.hold_exchanges(),
            None => {}
        }
    }
    join_all(trials.iter().map(|t| t.cell.ask(&place.fixture))).await;
    if event.fault().is_some() {
        return operator;
    }
    match held {
        Some(held) => {
            all_held(place, trials).await;
            operator.kill();
            // What is held there is never done.
            held.remove();
        }
        None => {
            let taken = trials.iter().zip(requests);
            let taken = taken.map(|(t, before)| t.cell.oauth.wait_for_outcomes(before + 1));
            soon("the commits", join_all(taken)).await;
            operator.kill();
            for trial in trials {
                trial.cell.oauth.release_exchanges();
            }
        }
    }
    join_all(trials.iter().map(|t| hasten_takeover(place, t))).await;
    place.operator(event)
}

/// Waits until a call about each credential's grant is held, and none was given up.
async fn all_held(place: &Place, trials: &[Trial]) {
    let is_held = |call: &Call| call.fault == Some("hold before");
    within(PATIENCE, "a held call of each", async || {
        let calls = place.proxy.calls();
        let held: BTreeSet<_> = calls
            .iter()
            .filter(|c| is_held(c))
            .map(|c| &c.name)
            .collect();
        if held.len() < trials.len() {
            return None;
        }
        let gates = join_all(trials.iter().map(|trial| holder(place, trial))).await;
        gates.iter().all(|holder| !holder.is_empty()).then_some(())
    })
    .await;
}

/// Who holds the gate; empty: nobody.
async fn holder(place: &Place, trial: &Trial) -> String {
    let gate = format!("{}.gate", trial.cell.name);
    let gate = place.fixture.leases().get(&gate).await.unwrap();
    let holder = gate.spec.and_then(|spec| spec.holder_identity);
    holder.unwrap_or_default()
}

/// Shortens what the gate of the dead writer says of its durations, which make a successor wait for long.
async fn hasten_takeover(place: &Place, trial: &Trial) {
    let gate = format!("{}.gate", trial.cell.name);
    let (leases, params) = (place.fixture.leases(), PatchParams::default());
    assert_ne!(holder(place, trial).await, "", "{gate}");
    let change = Patch::Merge(json!({
        "metadata": {"annotations": {"tokenward.dev/takeover-delay-seconds": "1"}},
        "spec": {"leaseDurationSeconds": 1},
    }));
    leases.patch(&gate, &params, &change).await.unwrap();
}

/// What comes of it before the margin begins.
async fn first(place: &Place, trial: &Trial) -> First {
    let (told, cell) = (&place.told, &trial.cell);
    if trial.expected.again == When::AtOnce {
        return First::Ended(end(place, trial, When::AtOnce).await);
    }
    let held = told.told(&cell.name, "RefreshOutcomeUnknown").await;
    let status = held.status.unwrap();
    let (token, refresh) = (status.token.unwrap(), status.refresh.unwrap());
    let next = refresh.next_attempt_time.expect("a next attempt").0;
    let left = token.expiration_time.unwrap().0.duration_since(next);
    // Whole seconds.
    assert!(
        (299..=300).contains(&left.as_secs()),
        "{}: {left:?}",
        cell.name
    );
    if trial.expected.again == When::InTheMargin {
        return First::Held;
    }
    let before = cell.presented(&trial.spent).len();
    let program = Program::holding(cell, &place.fixture, &place.manager).await;
    assert!(
        !program.is_well(cell),
        "{}: what is there to say?",
        cell.name
    );
    assert_eq!(cell.presented(&trial.spent).len(), before, "{}", cell.name);
    program.reports_it(&place.manager).await;
    First::Ended(end(place, trial, When::OnceSaidToBeDead).await)
}

/// Moves the clocks to the margin, in which what was held is presented, and not before.
async fn in_the_margin(
    place: &Place,
    operator: &Operator,
    held: &[&Trial],
) -> Vec<Option<Outcome>> {
    let advance = |to: Duration, by: Duration| {
        place.clock.set(i64::try_from(to.as_secs()).unwrap());
        for trial in held {
            trial.cell.oauth.advance(by);
        }
    };
    let presented = |trial: &Trial| trial.cell.presented(&trial.spent).len();
    let before: Vec<_> = held.iter().map(|trial| presented(trial)).collect();
    advance(BEFORE_THE_MARGIN, BEFORE_THE_MARGIN);
    let looks = held.iter().zip(before).map(async |(trial, before)| {
        look(place, operator, trial).await;
        assert_eq!(presented(trial), before, "{}: too early", trial.cell.name);
    });
    let looks = join_all(looks.map(guarded)).await;
    advance(IN_THE_MARGIN, IN_THE_MARGIN.abs_diff(BEFORE_THE_MARGIN));
    let ends = held.iter().zip(looks).map(async |(trial, looked)| {
        looked?;
        guarded(async {
            trial
                .cell
                .annotate(&place.fixture, "looked-at", "now")
                .await;
            end(place, trial, When::InTheMargin).await
        })
        .await
    });
    join_all(ends).await
}

/// Has the operator look at a credential, and waits until it has.
async fn look(place: &Place, operator: &Operator, trial: &Trial) {
    let name = format!("/{}\"", trial.cell.name);
    let looks = || {
        let log = operator.log();
        let planned = |line: &&str| line.contains("\"planned\"") && line.contains(&name);
        log.lines().filter(planned).count()
    };
    let before = looks();
    trial
        .cell
        .annotate(&place.fixture, "looked-at", "early")
        .await;
    within(PATIENCE, &format!("a look at {name}"), async || {
        // The log of all of them is long.
        sleep(Duration::from_millis(200)).await;
        (looks() > before).then_some(())
    })
    .await;
}

/// What came of it, once it is well again, or never will be.
async fn end(place: &Place, trial: &Trial, again: When) -> Outcome {
    let Trial {
        cell,
        seed,
        spent,
        expected,
    } = trial;
    let generation = if expected.is_lost { 1 } else { 2 };
    let told = if expected.is_lost {
        place.told.told(&cell.name, "RotationLost").await
    } else {
        place.told.healthy(&cell.name, generation).await
    };
    let token = told.status.unwrap().token.unwrap();
    assert_eq!(token.generation, generation, "{}", cell.name);
    let stored = cell.refresh_token(&place.fixture).await;
    cell.assert_never_back(seed);
    // For the first token, where that did not replace it.
    let at_first = usize::from(seed == spent);
    Outcome {
        again,
        presented: cell.presented(spent).len() - at_first,
        is_lost: cell.newest().is_some_and(|newest| newest != stored),
        is_revoked: cell.oauth.is_family_revoked(spent),
        dead_in_use: 0,
        told: place.told.reasons(&cell.name).leak(),
    }
}
