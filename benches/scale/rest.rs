//! None is due: a restart, rest, and Secrets that are nobody's business.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    growth::SETTLED,
    population::Population,
    quantity::{Quantity, Unit},
    report::{Line, Target},
    support::{Operator, within},
    usage::{Work, memory, number, peak},
};

/// Secrets that are nobody's business.
const UNRELATED: usize = 20_000;

/// How long rest is watched.
const REST: Duration = Duration::from_secs(30);

/// How often an operator has looked at a credential.
pub async fn looks(operator: &Operator) -> usize {
    let address = operator.health().await;
    let text = reqwest::get(format!("http://{address}/metrics")).await.unwrap();
    let text = text.text().await.unwrap();
    let counts = text.lines().filter(|l| l.starts_with("tokenward_reconcile_total{"));
    counts.map(|l| l.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

/// A count for each kind of request: verb and resource.
pub fn kinds(requests: &[String]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for request in requests {
        let (kind, name) = request.rsplit_once(' ').unwrap();
        let is_grant = name.ends_with(".grant");
        let kind = if is_grant { format!("{kind} (grant)") } else { kind.to_owned() };
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

pub async fn measure(population: &mut Population) -> Vec<Line> {
    let count = population.count;
    let audit = population.fixture.audit();
    let start = Instant::now();
    let operator = population.operator();
    operator.ready().await;
    let ready = start.elapsed();
    within(Duration::from_secs(60), "a look at each", async || {
        (looks(&operator).await >= count).then_some(())
    })
    .await;
    let looked = start.elapsed();
    sleep(SETTLED).await;
    let requests = audit.requests();
    eprintln!("a restart: {:?}", kinds(&requests));
    let lists = requests.iter().filter(|r| r.starts_with("list ")).count();
    let writes = audit.writes().len();
    let fresh = memory(&operator);
    let what = |what: &str| format!("restart with {count}, none due: {what}");
    let at_most = |value| Target::Ours(value);
    let quantity = |count, unit| Quantity::new(number(count), unit);
    let mut lines = vec![
        Line::new(what("ready"), ready).target(at_most(10_000.0)),
        Line::new(what("each was looked at"), looked),
        Line::new(what("writes"), quantity(writes, Unit::Writes)).target(at_most(0.0)),
        Line::new(what("lists"), quantity(lists, Unit::Requests)),
        Line::new(
            what("other reads"),
            quantity(requests.len() - lists - writes, Unit::Requests),
        )
        .target(at_most(0.0)),
        Line::new(what("memory"), fresh).target(at_most(64.0)),
        Line::new(what("memory at its peak"), peak(&operator)),
    ];
    let (work, before) = (Work::of(&operator), audit.requests().len());
    sleep(REST).await;
    let [used, _, _] = work.used();
    let rest = used.as_secs_f64() / work.time().as_secs_f64();
    lines.extend([
        Line::new(
            format!("processor at rest with {count}"),
            Quantity::new(rest * 100.0, Unit::PercentOfACore),
        ),
        Line::new(
            format!("requests in {REST:?} of rest"),
            quantity(audit.requests().len() - before, Unit::Requests),
        ),
    ]);
    let (work, before) = (Work::of(&operator), memory(&operator));
    unrelated(population).await;
    sleep(SETTLED).await;
    let [used, _, _] = work.used();
    let grown = memory(&operator).value - before.value;
    lines.extend([
        Line::new(
            format!("memory for {UNRELATED} Secrets of others"),
            Quantity::new(grown, Unit::Mebibytes),
        )
        .target(at_most(1.0)),
        Line::new(format!("processor time while they came"), used),
    ]);
    drop(operator);
    lines
}

/// Secrets that nobody told the operator of.
async fn unrelated(population: &Population) {
    let api = population.fixture.secrets();
    let content = "x".repeat(1024);
    let all = stream::iter(0..UNRELATED).map(async |number| {
        let secret = json!({
            "metadata": {"name": format!("other-{number}")},
            "stringData": {"content": content},
        });
        let secret: Secret = serde_json::from_value(secret).unwrap();
        api.create(&PostParams::default(), &secret).await.unwrap();
    });
    all.buffer_unordered(32).collect::<()>().await;
}
