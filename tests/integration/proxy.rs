//! The proxy keeps its own promises: what the tests with faults show rests on it.

use std::{os::unix::process::ExitStatusExt, time::Duration};

use axum::http::Method;
use futures::{TryStreamExt, pin_mut};
use k8s_openapi::api::{
    authentication::v1::SelfSubjectReview, coordination::v1::Lease, core::v1::ServiceAccount,
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use tokio::{process::Command, time::Instant};

use crate::support::{Calls, Fault, Fixture, Proxy, Victim, eventually, soon};

const HOUR: Duration = Duration::from_secs(3600);

/// A client that comes through `proxy`, and repeats nothing by itself.
async fn client(kubeconfig: &std::path::Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let mut config = config.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// A namespace, its Leases, a proxy, and the Leases as they are seen through it.
async fn leases(test: &str) -> (Fixture, Proxy, Api<Lease>) {
    let fixture = Fixture::bare(test, HOUR).await;
    let proxy = fixture.proxy().await;
    let client = client(&proxy.kubeconfig()).await;
    let through = Api::namespaced(client, &fixture.namespace);
    (fixture, proxy, through)
}

fn lease(name: &str) -> Lease {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

async fn ignored<T>(_: WatchEvent<T>) -> kube::Result<()> {
    Ok(())
}

async fn create(api: &Api<Lease>, name: &str) -> kube::Result<Lease> {
    api.create(&PostParams::default(), &lease(name)).await
}

fn posts() -> Calls {
    Calls::to(Method::POST, "leases")
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_pass_unchanged_and_are_numbered_and_watches_stream() {
    let (_fixture, proxy, through) = leases("pass").await;
    let version = through.list(&ListParams::default()).await.unwrap();
    let version = version.metadata.resource_version.unwrap();
    let events = through.watch(&WatchParams::default(), &version).await;
    let events = events.unwrap();
    pin_mut!(events);
    create(&through, "a").await.unwrap();
    let note = Patch::Merge(json!({"metadata": {"labels": {"of": "a"}}}));
    through
        .patch("a", &PatchParams::default(), &note)
        .await
        .unwrap();
    assert!(create(&through, "a").await.is_err());
    through.delete("a", &DeleteParams::default()).await.unwrap();

    let mut seen = Vec::new();
    for _ in 0..3 {
        let event = soon("an event", events.try_next()).await.unwrap().unwrap();
        seen.push(match event {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(_) => "deleted",
            _ => "something else",
        });
    }
    assert_eq!(seen, ["added", "modified", "deleted"]);
    let calls = proxy.calls();
    let shown: Vec<_> = calls.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "1. GET leases ",
            "watch: GET leases ",
            "2. POST leases a",
            "3. PATCH leases a",
            "4. POST leases a",
            "5. DELETE leases a",
        ]
    );
    let statuses: Vec<_> = calls.iter().map(|call| call.status.unwrap()).collect();
    assert_eq!(statuses, [200, 200, 201, 200, 409, 200]);
    assert!(calls.iter().all(|call| call.fault.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_who_their_tokens_say() {
    let (fixture, proxy, _) = leases("who").await;
    let accounts: Api<ServiceAccount> = Api::namespaced(fixture.client.clone(), &fixture.namespace);
    let account = serde_json::from_value(json!({"metadata": {"name": "somebody"}})).unwrap();
    accounts
        .create(&PostParams::default(), &account)
        .await
        .unwrap();
    let asked = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let token = accounts
        .create_token_request("somebody", &PostParams::default(), &asked)
        .await;
    let token = token.unwrap().status.unwrap().token;

    let mut names = Vec::new();
    for kubeconfig in [proxy.kubeconfig_of("somebody", &token), proxy.kubeconfig()] {
        let api: Api<SelfSubjectReview> = Api::all(client(&kubeconfig).await);
        let review = api
            .create(&PostParams::default(), &SelfSubjectReview::default())
            .await;
        let user = review.unwrap().status.unwrap().user_info.unwrap();
        names.push(user.username.unwrap());
    }
    let account = format!("system:serviceaccount:{}:somebody", fixture.namespace);
    assert_eq!(names[0], account);
    assert_ne!(names[1], account);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_answer_is_of_something_done_and_a_dropped_request_is_not() {
    let (fixture, proxy, through) = leases("drop").await;
    let after = proxy.inject(posts().named("aft*").first(1), Fault::DropAfter);
    let before = proxy.inject(Calls::nth(2), Fault::DropBefore);
    assert!(create(&through, "after").await.is_err());
    assert!(create(&through, "before").await.is_err());
    assert!(fixture.leases().get_opt("after").await.unwrap().is_some());
    assert!(fixture.leases().get_opt("before").await.unwrap().is_none());
    assert_eq!((after.hits(), before.hits()), (1, 1));

    create(&through, "after-that").await.unwrap();
    assert_eq!((after.hits(), before.hits()), (1, 1));
    let calls = proxy.calls();
    assert_eq!(calls[0].fault, Some("drop after"));
    assert_eq!(calls[0].status, Some(201));
    assert_eq!(calls[1].fault, Some("drop before"));
    assert_eq!(calls[1].status, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_before_it_was_done_is_done_when_released_even_if_the_caller_has_left() {
    let (fixture, proxy, through) = leases("held").await;
    let held = proxy.inject(posts(), Fault::HoldBefore);
    let task = tokio::spawn({
        let through = through.clone();
        async move { create(&through, "a").await }
    });
    held.met(1).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(fixture.leases().get_opt("a").await.unwrap().is_none());
    held.release();
    held.over(1).await;
    assert!(fixture.leases().get_opt("a").await.unwrap().is_some());
    create(&through, "b").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_held_after_it_was_done_until_released() {
    let (fixture, proxy, through) = leases("answer").await;
    let held = proxy.inject(posts(), Fault::HoldAfter);
    let task = tokio::spawn({
        let through = through.clone();
        async move { create(&through, "a").await }
    });
    eventually("the object", async || {
        fixture.leases().get_opt("a").await.unwrap()
    })
    .await;
    assert!(!task.is_finished());
    held.release();
    task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_made_up_and_calls_delayed() {
    let (fixture, proxy, through) = leases("made-up").await;
    for status in [409, 429, 500, 503] {
        let fault = proxy.inject(posts().first(1), Fault::Answer(status));
        match create(&through, "a").await {
            Err(kube::Error::Api(said)) => assert_eq!(said.code, status),
            other => panic!("{other:?}"),
        }
        fault.remove();
    }
    assert!(fixture.leases().get_opt("a").await.unwrap().is_none());

    let delay = Duration::from_millis(300);
    let _slow = proxy.inject(posts(), Fault::Delay(delay));
    let start = Instant::now();
    create(&through, "a").await.unwrap();
    assert!(start.elapsed() >= delay);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_server_is_away_everything_is_refused_and_watches_end() {
    let (_fixture, mut proxy, through) = leases("away").await;
    let events = through.watch(&WatchParams::default(), "0").await.unwrap();
    proxy.wait_for(&Calls::watches("leases"), 1).await;
    proxy.away().await;
    assert!(create(&through, "a").await.is_err());
    let _ = soon("the watch's end", events.try_for_each(ignored)).await;
    proxy.back();
    create(&through, "a").await.unwrap();

    // A single watch can be cut, too.
    let events = through.watch(&WatchParams::default(), "0").await.unwrap();
    pin_mut!(events);
    assert!(matches!(
        events.try_next().await,
        Ok(Some(WatchEvent::Added(_)))
    ));
    proxy.cut(&Calls::watches("leases"));
    let _ = soon("the watch's end", events.try_for_each(ignored)).await;
    create(&through, "b").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_victim_is_dead_before_the_call_was_done_or_before_its_answer() {
    let (fixture, proxy, through) = leases("victim").await;
    for (name, is_done) in [("before", false), ("after", true)] {
        let victim = Victim::default();
        let fault = if is_done {
            Fault::CrashAfter(victim.clone())
        } else {
            Fault::CrashBefore(victim.clone())
        };
        let crash = proxy.inject(posts().named(name), fault);
        let mut process = Command::new("sleep")
            .arg("600")
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        victim.is(process.id().unwrap());
        assert!(create(&through, name).await.is_err());
        let end = soon("the victim's end", process.wait()).await.unwrap();
        assert_eq!(end.signal(), Some(9));
        crash.over(1).await;
        let found = fixture.leases().get_opt(name).await.unwrap();
        assert_eq!(found.is_some(), is_done, "{name}");
    }
}
