//! The Python client, which knows of the lock only what docs/locking.md says. The test plays the operator.

mod asking;
mod entering;
mod keeping;
mod leaving;

use std::time::{Duration, Instant};

use axum::http::Method;

use crate::support::{Call, Calls, Fixture, Proxy, Python, eventually, within};

/// Seconds that a hold lasts.
const DURATION: u64 = 4;

/// Where a hold must survive: a busy machine can keep a client from its renewals for seconds.
const LONG: u64 = 12;

/// A command that says when it runs, and ends when it is asked to.
const UNTIL_TERM: &str = "
    trap 'echo asked; exit 3' TERM
    echo token $TOKENWARD_ACCESS_TOKEN $TOKENWARD_TOKEN_GENERATION
    echo pid $$
    while :; do sleep 0.05; done";

/// A command that says when it is asked to end, and ends when the file is gone whose name it says.
const UNTIL_TOLD: &str = "
    file=$(mktemp)
    trap 'echo asked' TERM
    echo in $file
    while [ -e $file ]; do sleep 0.05; done
    exit 4";

/// A command that can only be killed.
const FOR_EVER: &str = "
    trap '' TERM
    echo pid $$
    while :; do sleep 0.05; done";

/// How a program begins.
const ACQUIRE: &str = "
import json, os, sys, time
from hold import Credential, Lost, from_kubeconfig
kubeconfig, namespace, wait = sys.argv[1:]
with open(kubeconfig) as file:
    alice = Credential(from_kubeconfig(json.load(file)), 'alice', namespace)";

struct Scene {
    fixture: Fixture,
    proxy: Proxy,
}

impl Scene {
    async fn new(test: &str) -> Self {
        let fixture = Fixture::bare(test, Duration::from_secs(3600)).await;
        let proxy = fixture.proxy().await;
        Self { fixture, proxy }
    }

    /// A client that comes through the proxy.
    fn client(&self, options: &[&str], script: &str) -> Python {
        let kubeconfig = self.proxy.kubeconfig();
        Python::hold(
            &kubeconfig,
            &self.fixture.namespace,
            "alice",
            options,
            script,
        )
    }

    /// A program that imports the client, and a file that is there until the test has removed it.
    fn program(&self, program: &str) -> (Python, tempfile::TempPath) {
        let wait = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let kubeconfig = self.proxy.kubeconfig();
        let arguments = [
            kubeconfig.to_str().unwrap(),
            &self.fixture.namespace,
            wait.to_str().unwrap(),
        ];
        (Python::run(program, &arguments), wait)
    }

    /// Waits until the client has looked at the gate so many times more.
    async fn looks(&self, times: usize) {
        let looks = Calls::to(Method::GET, "leases").named("alice.gate");
        let before = self.proxy.count(&looks);
        self.proxy.wait_for(&looks, before + times).await;
    }
}

fn posts() -> Calls {
    Calls::to(Method::POST, "leases").named("alice.hold.*")
}

fn renewals() -> Calls {
    Calls::to(Method::PATCH, "leases").named("alice.hold.*")
}

fn makes_a_hold(call: &Call) -> bool {
    call.method == Method::POST && call.name.starts_with("alice.hold.")
}

fn runs(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

async fn gone(pid: &str) {
    eventually(&format!("the end of {pid}"), async || {
        (!runs(pid)).then_some(())
    })
    .await;
}

/// When the operator may take a hold for dead, by its own clock. A client is done before that.
fn operators_deadline() -> Duration {
    Duration::from_secs(DURATION).mul_f64(1.05)
}

/// Waits until so much time is over: here time itself is what the client has to notice.
async fn passed(time: Duration) {
    let start = Instant::now();
    within(time + Duration::from_secs(30), "the time", async || {
        (start.elapsed() >= time).then_some(())
    })
    .await;
}
