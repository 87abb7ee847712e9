//! Holders that end badly, and what must not happen then.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::http::Method;
use futures::{StreamExt, future::join_all};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use tokenward::manager::CredentialManager;
use tokio::time::timeout;

use crate::support::{Calls, Fixture, Program, eventually, kubeconfig, within};

/// Tokens that live this long are refreshed after about 9 s, and holds of them last 5 s.
const LIFETIME: Duration = Duration::from_secs(20);
const HOLD: Duration = Duration::from_secs(5);

async fn ready(test: &str) -> Fixture {
    let fixture = Fixture::new(test, LIFETIME).await;
    fixture.seed("alice").await;
    fixture
}

/// A program that keeps its hold for as long as it can.
fn holder(fixture: &Fixture, arguments: &[&str]) -> Program {
    holder_by(&kubeconfig(), fixture, arguments)
}

/// One that finds the cluster by this kubeconfig.
fn holder_by(kubeconfig: &Path, fixture: &Fixture, arguments: &[&str]) -> Program {
    let resource = fixture.oauth.resource_url();
    let mut all = vec![
        "alice",
        "--namespace",
        &fixture.namespace,
        "--resource",
        &resource,
    ];
    all.extend(["--hold", "1h"]);
    all.extend(arguments);
    Program::example("consumer", kubeconfig, &all)
}

async fn held(fixture: &Fixture) -> Lease {
    eventually("a hold", async || {
        let params = ListParams::default().labels("tokenward.dev/role=hold");
        let holds = fixture.leases().list(&params).await.unwrap();
        holds.items.into_iter().next()
    })
    .await
}

/// Waits for a refresh, and checks that the token before had not expired by then.
async fn refreshed_in_time(fixture: &Fixture) {
    let before = fixture.get("alice").await.status.unwrap().token.unwrap();
    fixture.generation("alice", before.generation + 1).await;
    let exchange = usize::try_from(before.generation).unwrap();
    let at = fixture.oauth.requests()[exchange].at;
    assert!(at < before.expiration_time.unwrap().0, "{at}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_killed_delays_a_refresh_and_does_not_prevent_it() {
    let fixture = ready("killed").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let program = holder(&fixture, &[]);
    held(&fixture).await;
    drop(program);
    refreshed_in_time(&fixture).await;
    assert_eq!(fixture.oauth.max_presentations(), 1);
    eventually("nothing left of it", async || {
        let params = ListParams::default().labels("tokenward.dev/role=hold");
        let holds = fixture.leases().list(&params).await.unwrap();
        holds.items.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_cannot_be_read_is_waited_for_like_any_other() {
    let fixture = Fixture::new("unreadable", Duration::from_secs(3600)).await;
    fixture.seed("alice").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let name = "alice.hold.0123456789abcdef";
    // The API server takes a time that a program may not be able to say.
    let hold = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "labels": {
            "tokenward.dev/credential": "alice", "tokenward.dev/role": "hold",
        }},
        "spec": {"holderIdentity": "me", "leaseDurationSeconds": 60,
            "renewTime": "9999-12-31T23:59:59.000000Z"},
    });
    let hold: DynamicObject = serde_json::from_value(hold).unwrap();
    let leases = ApiResource::erase::<Lease>(&());
    let leases: Api<DynamicObject> =
        Api::namespaced_with(fixture.client.clone(), &fixture.namespace, &leases);
    leases.create(&PostParams::default(), &hold).await.unwrap();
    fixture.ask("alice", "1").await;
    let waits = operator.logged("waiting for holders to let go").await;
    assert_eq!(waits["lease"], name);
    assert_eq!(fixture.oauth.request_count(), 1);
    leases.delete(name, &DeleteParams::default()).await.unwrap();
    fixture.generation("alice", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_was_stopped_notices_and_does_not_use_the_token() {
    let fixture = ready("stopped").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    // The next token is not due while the program finds its way back.
    fixture
        .oauth
        .configure(|behaviour| behaviour.lifetime = Duration::from_secs(3600));
    let program = holder(&fixture, &["--every", "500ms"]);
    held(&fixture).await;
    eventually("its first call", async || {
        (fixture.oauth.resource_calls().0 > 0).then_some(())
    })
    .await;
    program.signal("STOP");
    refreshed_in_time(&fixture).await;
    program.signal("CONT");
    eventually("what it says", async || {
        program.errors().contains("is lost").then_some(())
    })
    .await;
    // It goes on with a hold of the new token.
    eventually("generation 2", async || {
        program
            .errors()
            .contains("alice: generation 2")
            .then_some(())
    })
    .await;
    let told = program.finish();
    assert_eq!((&told["lost"], &told["refused"]), (&json!(1), &json!(0)));
    assert_eq!(fixture.oauth.resource_calls().1, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_hold_somebody_deletes_stops_at_its_next_renewal() {
    let fixture = Fixture::new("deleted", Duration::from_secs(60)).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let proxy = fixture.proxy().await;
    let program = holder_by(&proxy.kubeconfig(), &fixture, &[]);
    let hold = held(&fixture).await;
    let renewals = Calls::to(Method::PATCH, "leases").named(&hold.name_any());
    let before = proxy.count(&renewals);
    fixture
        .leases()
        .delete(&hold.name_any(), &DeleteParams::default())
        .await
        .unwrap();
    eventually("what it says", async || {
        program.errors().contains("is lost").then_some(())
    })
    .await;
    // One may have been on its way.
    let more = proxy.count(&renewals) - before;
    assert!(more <= 2, "{more} renewals");
    assert_eq!(program.finish()["refused"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_deleted_while_it_drains_spends_nothing_twice_and_opens_again() {
    let fixture = Fixture::new("draining", Duration::from_secs(60)).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let program = holder(&fixture, &["--stubborn"]);
    held(&fixture).await;
    // Longer than it keeps its hold, the refresh would wait for it.
    fixture.ask("alice", "1").await;
    let phase = async || {
        let gate = fixture.leases().get_opt("alice.gate").await.unwrap()?;
        gate.annotations().get("tokenward.dev/phase").cloned()
    };
    eventually("Draining", async || {
        (phase().await? == "Draining").then_some(())
    })
    .await;
    fixture
        .leases()
        .delete("alice.gate", &DeleteParams::default())
        .await
        .unwrap();
    let long = Duration::from_secs(90);
    within(long, "an open gate and another token", async || {
        let open = phase().await? == "Open";
        let newer = fixture.get("alice").await.status?.token?.generation >= 2;
        (open && newer).then_some(())
    })
    .await;
    assert_eq!(fixture.oauth.max_presentations(), 1);
    assert_eq!(program.finish()["refused"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_gate_that_is_deleted_is_made_anew_and_holders_go_on_after() {
    let fixture = ready("open").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let gates = fixture.leases();
    gates
        .delete("alice.gate", &DeleteParams::default())
        .await
        .unwrap();
    // Nobody passes a gate that is not there.
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    let acquired = manager.acquire("alice");
    tokio::pin!(acquired);
    assert!(
        timeout(Duration::from_secs(1), &mut acquired)
            .await
            .is_err()
    );
    let hold = acquired.await.unwrap();
    assert_eq!(hold.generation(), 2);
    assert_eq!(fixture.oauth.max_presentations(), 1);
}

/// What one acquirer saw.
struct Acquired {
    asked: Timestamp,
    generation: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_is_overtaken_by_nobody_while_fifty_acquire_all_the_time() {
    const ACQUIRERS: usize = 50;
    const USE: Duration = Duration::from_millis(300);
    let fixture = ready("fifty").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let acquired = Arc::new(Mutex::new(Vec::new()));
    // When the gate was seen closed, and at which generation.
    let mut closed = Vec::new();
    let acquirers = (0..ACQUIRERS).map(|_| {
        let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
        let acquired = Arc::clone(&acquired);
        async move {
            loop {
                let asked = Timestamp::now();
                let Ok(hold) = manager.acquire("alice").await else {
                    continue;
                };
                let generation = hold.generation();
                acquired
                    .lock()
                    .unwrap()
                    .push(Acquired { asked, generation });
                tokio::time::sleep(USE).await;
                hold.release().await;
            }
        }
    });
    let of_gate = watcher::Config::default().fields("metadata.name=alice.gate");
    let watch = async {
        let gates = watcher(fixture.leases(), of_gate).default_backoff();
        let mut gates = gates.applied_objects().boxed();
        while let Some(gate) = gates.next().await {
            let Ok(gate) = gate else { continue };
            let notes = gate.annotations();
            let generation: u64 = notes["tokenward.dev/generation"].parse().unwrap();
            let known = closed.last().is_some_and(|(_, last)| *last == generation);
            let open = notes["tokenward.dev/phase"] == "Open";
            if open && known {
                // A writer that could not renew has given up.
                closed.pop();
            } else if !open && !known {
                closed.push((Timestamp::now(), generation));
            }
        }
    };
    let long = Duration::from_secs(120);
    let refreshed = within(long, "three refreshes", async || {
        let token = fixture.get("alice").await.status?.token?;
        (token.generation >= 4).then_some(())
    });
    tokio::select! {
        _ = join_all(acquirers) => {}
        () = watch => {}
        () = refreshed => {}
    }
    let acquired = acquired.lock().unwrap();
    assert!(acquired.len() > 3 * ACQUIRERS, "{}", acquired.len());
    assert!(closed.len() >= 3);
    for (at, generation) in &closed {
        let overtook = |a: &&Acquired| a.generation <= *generation && a.asked > *at;
        assert_eq!(
            acquired.iter().filter(overtook).count(),
            0,
            "generation {generation}"
        );
    }
    // From the close to the exchange: the grace, and one use. A machine that just stood still took longer.
    let grace = HOLD / 2;
    let exchanges: Vec<_> = fixture.oauth.requests().into_iter().map(|r| r.at).collect();
    let waits = closed.iter().filter_map(|(at, generation)| {
        let exchange = exchanges.get(usize::try_from(*generation).unwrap())?;
        Some(exchange.duration_since(*at).as_secs_f64())
    });
    let mut waits: Vec<_> = waits.collect();
    waits.sort_by(f64::total_cmp);
    let longest = (grace + USE).as_secs_f64() + 1.0;
    assert!(waits[0] < longest, "{waits:?} s");
    // And no longer than for one that died while it held.
    let longest = (2 * HOLD).as_secs_f64() + 1.0;
    assert!(waits[waits.len() - 1] < longest, "{waits:?} s");
    assert_eq!(fixture.oauth.max_presentations(), 1);
    // Everybody got through again.
    let newest = acquired.iter().map(|a| a.generation).max();
    assert!(newest >= Some(3));
}
