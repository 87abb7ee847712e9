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
    population::{AT_A_TIME, Population},
    quantity::{Quantity, Unit},
    report::{Line, Target},
    support::{Operator, within},
    usage::{Work, memory, number, peak},
};

/// Secrets that are nobody's business.
const OTHERS: usize = 20_000;

/// How long rest is watched.
const REST: Duration = Duration::from_secs(30);

/// How often an operator has looked at a credential.
pub async fn looks(operator: &Operator) -> usize {
    let address = operator.health().await;
    let text = reqwest::get(format!("http://{address}/metrics"))
        .await
        .unwrap();
    let text = text.text().await.unwrap();
    let counts = text
        .lines()
        .filter(|l| l.starts_with("tokenward_reconcile_total{"));
    counts
        .map(|l| l.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
        .sum()
}

/// A count for each kind of request: verb and resource.
pub fn kinds(requests: &[String]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for request in requests {
        let (kind, name) = request.rsplit_once(' ').unwrap();
        let is_grant = name
            .rsplit_once('.')
            .is_some_and(|(_, last)| last == "grant");
        let kind = if is_grant {
            format!("{kind} (grant)")
        } else {
            kind.to_owned()
        };
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

pub async fn measure(population: &mut Population) -> Vec<Line> {
    let (operator, mut lines) = restart(population).await;
    lines.extend(at_rest(population, &operator).await);
    lines.extend(beside_others(population, &operator).await);
    lines
}

/// A start over credentials of which none is due.
async fn restart(population: &Population) -> (Operator, Vec<Line>) {
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
    let what = |what: &str| format!("restart with {count}, none due: {what}");
    let quantity = |count, unit| Quantity::new(number(count), unit);
    let others = requests.len() - lists - writes;
    let lines = vec![
        Line::new(what("ready"), ready).target(Target::Ours(10_000.0)),
        Line::new(what("each was looked at"), looked),
        Line::new(what("writes"), quantity(writes, Unit::Writes)).target(Target::Ours(0.0)),
        Line::new(what("lists"), quantity(lists, Unit::Requests)),
        Line::new(what("other reads"), quantity(others, Unit::Requests)).target(Target::Ours(0.0)),
        Line::new(what("memory"), memory(&operator)).target(Target::Ours(64.0)),
        Line::new(what("memory at its peak"), peak(&operator)),
    ];
    (operator, lines)
}

/// What is done while nothing is to be done.
async fn at_rest(population: &Population, operator: &Operator) -> Vec<Line> {
    let count = population.count;
    let (work, audit) = (Work::of(operator), population.fixture.audit());
    sleep(REST).await;
    let [used, _, _] = work.used();
    let share = used.as_secs_f64() / work.time().as_secs_f64();
    let requests = number(audit.requests().len());
    vec![
        Line::new(
            format!("processor at rest with {count}"),
            Quantity::new(share * 100.0, Unit::PercentOfACore),
        ),
        Line::new(
            format!("requests in {REST:?} of rest"),
            Quantity::new(requests, Unit::Requests),
        ),
    ]
}

/// What Secrets cost that are nobody's business.
async fn beside_others(population: &Population, operator: &Operator) -> Vec<Line> {
    let (work, before) = (Work::of(operator), memory(operator));
    others(population).await;
    sleep(SETTLED).await;
    let [used, _, _] = work.used();
    let grown = memory(operator).value - before.value;
    vec![
        Line::new(
            format!("memory for {OTHERS} Secrets of others"),
            Quantity::new(grown, Unit::Mebibytes),
        )
        .target(Target::Ours(1.0)),
        Line::new("processor time while they came", used),
    ]
}

/// Secrets that nobody told the operator of.
async fn others(population: &Population) {
    let api = population.fixture.secrets();
    let content = "x".repeat(1024);
    let all = stream::iter(0..OTHERS).map(async |number| {
        let secret = json!({
            "metadata": {"name": format!("other-{number}")},
            "stringData": {"content": content},
        });
        let secret: Secret = serde_json::from_value(secret).unwrap();
        api.create(&PostParams::default(), &secret).await.unwrap();
    });
    all.buffer_unordered(AT_A_TIME).collect::<()>().await;
}
