//! Acquire and release with nobody else there.

use std::time::Duration;

use serde_json::json;
use tokenward::manager::CredentialManager;

use crate::{
    connect::{MEASURED, PLAIN, connect},
    quantity::{Quantity, Unit},
    raw::Raw,
    report::{Line, Target},
    samples::{Samples, timed},
    support::{Fixture, kubeconfig},
};

const ROUNDS: u32 = 5;
const CYCLES: u32 = 200;
const WARM_UP: u32 = 20;

/// The duration of a hold.
const HOLD: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Measured {
    get: Samples,
    /// PATCH, POST and DELETE together: by itself, each has too few to tell what one in a hundred is like.
    write: Samples,
    acquire: Samples,
    both: Samples,
    by_hand: Samples,
}

pub async fn measure() -> Vec<Line> {
    let fixture = Fixture::new("uncontended", Duration::from_secs(3600)).await;
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    let raw = Raw::new(&connect(&kubeconfig(), PLAIN).await, &fixture.namespace).await;
    let client = connect(&kubeconfig(), MEASURED).await;
    let manager = CredentialManager::new(client, fixture.namespace.clone());
    let mut warm_up = Measured::default();
    for _ in 0..WARM_UP {
        once(&mut warm_up, &raw, &manager).await;
    }
    let audit = fixture.audit_of(MEASURED);
    let mut measured = Measured::default();
    for _ in 0..ROUNDS {
        measured.next_round();
        for _ in 0..CYCLES {
            once(&mut measured, &raw, &manager).await;
        }
    }
    let requests = u32::try_from(audit.requests().len()).unwrap();
    let requests = f64::from(requests) / f64::from(ROUNDS * CYCLES);
    measured.lines(Quantity::new(requests, Unit::Requests))
}

/// All of them in turn, so that each meets the same machine.
async fn once(measured: &mut Measured, raw: &Raw, manager: &CredentialManager) {
    measured.get.add(timed(raw.get()).await.0);
    measured.write.add(timed(raw.patch()).await.0);
    let by_hand = raw.hold_and_release("ci", HOLD).await;
    measured.write.add(by_hand.post);
    measured.write.add(by_hand.delete);
    measured.by_hand.add(by_hand.all());
    let (acquire, hold) = timed(manager.acquire("ci")).await;
    let release = timed(hold.unwrap().release()).await.0;
    measured.acquire.add(acquire);
    measured.both.add(acquire + release);
}

impl Measured {
    fn next_round(&mut self) {
        for samples in [
            &mut self.get,
            &mut self.write,
            &mut self.acquire,
            &mut self.both,
            &mut self.by_hand,
        ] {
            samples.next_round();
        }
    }

    fn lines(&self, requests: Quantity) -> Vec<Line> {
        let mut lines =
            vec![Line::new("requests of acquire and release", requests).target(Target::Ours(4.0))];
        for (suffix, share) in [("p50", 0.5), ("p99", 0.99)] {
            let line = |measure: &str, samples: &Samples| {
                Line::new(format!("{measure}, {suffix}"), samples.quantile(share))
            };
            let both = |what, reference: &Samples| {
                line("acquire and release", &self.both).beside(what, reference.quantile(share))
            };
            let mut beside_a_write = both("one write", &self.write);
            if suffix == "p99" {
                beside_a_write = beside_a_write.target(Target::Ratio(3.0));
            }
            lines.extend([
                line("one read: GET Lease", &self.get),
                line("one write: PATCH, POST, DELETE Lease", &self.write),
                line("acquire", &self.acquire).beside("one write", self.write.quantile(share)),
                beside_a_write,
                both("one read", &self.get),
                both("the same requests by hand", &self.by_hand),
            ]);
        }
        lines
    }
}
