//! What becomes of a refresh in which something goes wrong, for each way in which providers replace refresh
//! tokens: what is lost, what people are told, and when the refresh token is presented again.
//!
//! Only what was lost on its way in spite of everything may cost an authorization, and it never costs more
//! than that: who asks again when decides whether the old access token lives until people have logged in.

mod adoption;
mod cell;
mod grace;
mod kinds;
mod outcome;
mod run;
mod told;

use std::{collections::BTreeMap, panic::AssertUnwindSafe};

use futures::{FutureExt, future::join_all};

use self::{
    kinds::{EVENTS, Event, SPECIES},
    outcome::{
        AGAIN, AGAIN_AFTER_A_CRASH, AGAIN_FAILED, AGAIN_UNREADABLE, HELD, HELD_UNSENT, LOST,
        LOST_AFTER_A_CRASH, LOST_HELD, LOST_SAID, Outcome, PAUSED, SPARED, UNSENT,
    },
};

/// What each event leads to, in the order of [`EVENTS`]; by the name of the species.
///
/// The rule: what never is replaced is presented again. Within a grace period so is what may be spent. Else
/// presenting it again may cost the old access token: nothing where reuse is only rejected, or where that is
/// dead anyhow, so it is presented at once; otherwise once, when the margin before the expiry begins. A writer
/// that died may have sent its request, for all that its successor knows.
///
/// At once means after a second. Where a connection broke and the old access token may end, the rest of the
/// exchange's time is waited for first, with the gate closed: the provider may still be at it.
#[rustfmt::skip]
const EXPECTED: [(&str, [Outcome; 9]); 14] = [
    //                                    killed: before the request, after the commit, before the tokens were stored;
    //                                    lost: the answer, the request; late; 500; unreadable; 429
    ("never",                             [UNSENT, AGAIN_AFTER_A_CRASH, AGAIN_AFTER_A_CRASH, AGAIN_FAILED, AGAIN_FAILED, AGAIN_FAILED, AGAIN_FAILED, AGAIN_UNREADABLE, PAUSED]),
    ("always, revokes, survives",         [HELD_UNSENT, LOST_HELD, LOST_HELD, LOST_HELD, HELD, LOST_HELD, LOST_HELD, LOST_HELD, PAUSED]),
    ("always, revokes, invalidated",      [UNSENT, LOST_AFTER_A_CRASH.revoked(), LOST_AFTER_A_CRASH.revoked(), LOST.revoked(), AGAIN, LOST.revoked(), LOST.revoked(), LOST.revoked(), PAUSED]),
    ("always, revokes, unknown: lives",   [HELD_UNSENT, LOST_HELD, LOST_HELD, LOST_HELD, HELD, LOST_HELD, LOST_HELD, LOST_HELD, PAUSED]),
    ("always, revokes, unknown: dies",    [HELD_UNSENT, LOST_SAID, LOST_SAID, LOST_SAID, HELD, LOST_SAID, LOST_SAID, LOST_SAID, PAUSED]),
    ("always, rejects, survives",         [UNSENT, LOST_AFTER_A_CRASH, LOST_AFTER_A_CRASH, LOST, AGAIN, LOST, LOST, LOST, PAUSED]),
    ("always, rejects, invalidated",      [UNSENT, LOST_AFTER_A_CRASH, LOST_AFTER_A_CRASH, LOST, AGAIN, LOST, LOST, LOST, PAUSED]),
    ("always, rejects, unknown: dies",    [UNSENT, LOST_AFTER_A_CRASH, LOST_AFTER_A_CRASH, LOST, AGAIN, LOST, LOST, LOST, PAUSED]),
    ("always, grace, survives",           [UNSENT, AGAIN_AFTER_A_CRASH, AGAIN_AFTER_A_CRASH, SPARED, SPARED, SPARED, SPARED, SPARED, PAUSED]),
    ("always, grace, invalidated",        [UNSENT, AGAIN_AFTER_A_CRASH, AGAIN_AFTER_A_CRASH, SPARED, SPARED, SPARED, SPARED, SPARED, PAUSED]),
    ("sometimes, now, survives",          [HELD_UNSENT, LOST_HELD, LOST_HELD, LOST_HELD, HELD, LOST_HELD, LOST_HELD, LOST_HELD, PAUSED]),
    ("sometimes, now, invalidated",       [UNSENT, LOST_AFTER_A_CRASH.revoked(), LOST_AFTER_A_CRASH.revoked(), LOST.revoked(), AGAIN, LOST.revoked(), LOST.revoked(), LOST.revoked(), PAUSED]),
    ("sometimes, not now, survives",      [HELD_UNSENT, HELD, HELD, HELD, HELD, HELD, HELD, HELD, PAUSED]),
    ("sometimes, not now, invalidated",   [UNSENT, AGAIN_AFTER_A_CRASH, AGAIN_AFTER_A_CRASH, AGAIN, AGAIN, AGAIN, AGAIN, AGAIN, PAUSED]),
];

fn expected(species: &str, event: Event) -> Outcome {
    let row = EXPECTED.iter().find(|(name, _)| *name == species);
    let column = EVENTS.iter().position(|e| *e == event);
    row.unwrap().1[column.unwrap()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_event_in_an_exchange_costs_more_than_the_provider_makes_inevitable() {
    let runs = EVENTS.map(|event| async move {
        let run = AssertUnwindSafe(run::run(event)).catch_unwind().await;
        run.map_or_else(
            |_| vec![("all of them", event, None)],
            |cells| {
                let found = cells.into_iter();
                found
                    .map(|(name, outcome)| (name, event, outcome))
                    .collect()
            },
        )
    });
    let cells: Vec<_> = join_all(runs).await.into_iter().flatten().collect();
    let mut wrong = Vec::new();
    let mut totals = BTreeMap::<_, usize>::new();
    println!("{:34}{:30}{}", "species", "event", Outcome::TITLE);
    for (species, event, outcome) in &cells {
        let Some(outcome) = outcome else {
            // Its message is in the output.
            wrong.push(format!("{species}, {event:?}: it did not come to an end"));
            continue;
        };
        println!("{species:34}{:30}{outcome}", format!("{event:?}"));
        for (what, times) in outcome.counts() {
            *totals.entry(what).or_default() += times;
        }
        let expected = expected(species, *event);
        if *outcome != expected {
            let what = format!("{species}, {event:?}:\n  {outcome}\n  {expected} was expected");
            wrong.push(what);
        }
    }
    println!("{} trials: {totals:?}", cells.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(cells.len(), SPECIES.len() * EVENTS.len());
}
