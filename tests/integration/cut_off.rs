//! Holders whose requests do not arrive, or arrive too late.

use std::time::Duration;

use axum::http::Method;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use serde_json::json;

use crate::support::{Calls, Fault, Fixture, Program, Proxy, eventually, within};

/// Tokens that live this long have holds of 30 s: a holder stops 1.5 s earlier, and the operator waits 1.5 s longer.
const LIFETIME: Duration = Duration::from_secs(300);

/// A credential in use by a program that reaches the API server through a proxy.
struct Scene {
    fixture: Fixture,
    proxy: Proxy,
    program: Program,
    _operator: crate::support::Operator,
}

impl Scene {
    async fn new(test: &str, more: &[&str]) -> Self {
        let fixture = Fixture::new(test, LIFETIME).await;
        fixture.seed("alice").await;
        let operator = fixture.operator();
        fixture.user("alice", json!({})).await;
        fixture.ready("alice").await;
        let proxy = fixture.proxy().await;
        let resource = fixture.oauth.resource_url();
        let arguments = [
            "alice",
            "--namespace",
            &fixture.namespace,
            "--resource",
            &resource,
        ];
        let longer = [&arguments[..], &["--hold", "1h"], more].concat();
        let program = Program::example("consumer", &proxy.kubeconfig(), &longer);
        let scene = Self {
            fixture,
            proxy,
            program,
            _operator: operator,
        };
        eventually("a hold in use", async || {
            let used = scene.fixture.oauth.resource_calls().0 > 5;
            (used && scene.holds().await.len() == 1).then_some(())
        })
        .await;
        scene
    }

    async fn holds(&self) -> Vec<Lease> {
        let params = ListParams::default().labels("tokenward.dev/role=hold");
        self.fixture.leases().list(&params).await.unwrap().items
    }

    /// Asks for a refresh, which does not wait for the token's last moments.
    async fn ask(&self) {
        self.fixture.ask("alice", "1").await;
    }

    /// Waits until the hold counts as dead and the refresh was made.
    async fn refreshed(&self) {
        within(Duration::from_secs(90), "generation 2", async || {
            let token = self.fixture.get("alice").await.status?.token?;
            (token.generation >= 2).then_some(())
        })
        .await;
    }

    async fn was_lost(&self) {
        eventually("what the program says", async || {
            self.program.errors().contains("is lost").then_some(())
        })
        .await;
    }

    /// No call was refused, and nobody had to be forced.
    async fn was_safe(&self) {
        assert_eq!(self.fixture.oauth.resource_calls().1, 0, "refused calls");
        assert_eq!(self.fixture.oauth.max_presentations(), 1);
        let events = self.fixture.events().await;
        assert!(!events.iter().any(|e| e.contains("Forced")), "{events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_cut_off_stops_before_its_hold_counts_as_dead() {
    let mut scene = Scene::new("cut-off", &[]).await;
    scene.proxy.away().await;
    scene.ask().await;
    // It uses the token for as long as it may, and not a call longer.
    scene.refreshed().await;
    scene.was_lost().await;
    scene.was_safe().await;
    // And it finds its way back.
    scene.proxy.back();
    eventually("a hold of the new token", async || {
        scene
            .program
            .errors()
            .contains("alice: generation 2")
            .then_some(())
    })
    .await;
    scene.was_safe().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_arrives_after_the_hold_was_timed_out_brings_nothing_back() {
    let scene = Scene::new("late", &["--stubborn"]).await;
    let renewals = Calls::to(Method::PATCH, "leases").named("alice.hold.*");
    let held = scene.proxy.inject(renewals, Fault::HoldBefore);
    held.met(1).await;
    scene.ask().await;
    scene.refreshed().await;
    scene.was_lost().await;
    scene.was_safe().await;
    held.release();
    held.over(1).await;
    // The late renewal found nothing. What is held now is a hold of the new token.
    eventually("a hold of the new token", async || {
        scene
            .program
            .errors()
            .contains("alice: generation 2")
            .then_some(())
    })
    .await;
    for hold in scene.holds().await {
        let notes = hold.metadata.annotations.unwrap();
        assert_eq!(notes["tokenward.dev/generation"], "2");
    }
    scene.was_safe().await;
}
