//! Many held credentials in one process.

mod credentials;
mod holder;
#[allow(dead_code, reason = "every bench has its own processes")]
mod process;

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::{
    connect::{MEASURED, PLAIN, connect},
    quantity::{Quantity, Unit},
    raw::Raw,
    report::{Line, Target},
    samples::median,
    support::{Fixture, Program, kubeconfig, within},
};

pub use self::holder::hold_all;

/// How many.
const COUNT: usize = 1000;

/// What the process says when it holds all of them.
const HELD: &str = "all are held";

/// Each opens its watch after half a second.
const SETTLED: Duration = Duration::from_secs(3);

/// Four renewals of each and one look at its gate, whenever it begins.
const TIME: Duration = Duration::from_secs(80);

/// So many times so many plain writes tell what one costs.
const BATCHES: u32 = 9;
const WRITES: u32 = 100;

pub async fn measure() -> Vec<Line> {
    let fixture = Fixture::bare("renewals", Duration::from_secs(3600)).await;
    let client = connect(&kubeconfig(), PLAIN).await;
    credentials::create(&client, &fixture.namespace, COUNT).await;
    let raw = Raw::new(&client, &fixture.namespace).await;
    let cost = cost_of_a_write(&raw).await;
    let program = start(&fixture.namespace);
    within(Duration::from_secs(120), HELD, async || {
        let errors = program.errors();
        assert!(!errors.contains("panicked"), "{errors}");
        errors.contains(HELD).then_some(())
    })
    .await;
    sleep(SETTLED).await;
    let audit = fixture.audit_of(MEASURED);
    let (cpu, start) = (process::cpu(program.id()), Instant::now());
    sleep(TIME).await;
    let (used, time) = (
        process::cpu(program.id()).saturating_sub(cpu),
        start.elapsed(),
    );
    let requests = audit.requests();
    let memory = process::memory(program.id());
    let said = program.finish();
    assert_eq!(said["held"], COUNT, "{said}");
    let per_second = |count: usize| {
        let count = f64::from(u32::try_from(count).unwrap());
        count / time.as_secs_f64()
    };
    let renewals = requests.iter().filter(|r| r.starts_with("patch leases"));
    let rate = per_second(requests.len());
    let core = |used: f64| Quantity::new(used * 100.0, Unit::PercentOfACore);
    vec![
        Line::new(
            "1,000 held: renewals",
            Quantity::new(per_second(renewals.count()), Unit::PerSecond),
        ),
        Line::new("1,000 held: requests", Quantity::new(rate, Unit::PerSecond)),
        Line::new(
            "1,000 held: the process that holds",
            core(used.as_secs_f64() / time.as_secs_f64()),
        )
        .beside("as many plain writes", core(cost.as_secs_f64() * rate))
        .target(Target::Ours(5.0)),
        Line::new(
            "1,000 held: its memory",
            Quantity::new(memory, Unit::Mebibytes),
        ),
    ]
}

/// The time of a core that this process, which does nothing else meanwhile, spends on one plain write.
async fn cost_of_a_write(raw: &Raw) -> Duration {
    let mut costs = Vec::new();
    for _ in 0..BATCHES {
        let start = process::own_cpu();
        for _ in 0..WRITES {
            raw.patch().await;
        }
        costs.push(process::own_cpu().saturating_sub(start) / WRITES);
    }
    median(costs)
}

/// This program again, as one that holds, with as many files as it needs connections: one for the watch of
/// each gate.
fn start(namespace: &str) -> Program {
    let this = std::env::current_exe().unwrap();
    let script = r#"ulimit -n 4096 && exec "$0" "$@""#;
    let arguments = ["-c", script, this.to_str().unwrap(), "--hold-in", namespace];
    Program::start("/bin/sh".as_ref(), &kubeconfig(), &arguments)
}
