//! All are due at once, and new ones come meanwhile.

use std::time::{Duration, Instant};

use futures::future::join;

use crate::{
    newcomers,
    population::Population,
    quantity::{Quantity, Unit},
    raw,
    report::{Line, Target},
    rest::kinds,
    samples::{median, per_second},
    usage::{Work, number},
};

/// How far ahead the clock is put: 5 of the 60 min of a token are left.
const AHEAD: i64 = 55 * 60;

/// What the API server does at most: updates of Leases by so many connections.
async fn ceiling(population: &Population) -> f64 {
    let (kubeconfig, namespace) = (crate::support::kubeconfig(), &population.fixture.namespace);
    let mut plain = Vec::new();
    for _ in 0..32 {
        let client = crate::connect::connect(&kubeconfig, crate::connect::PLAIN).await;
        plain.push(raw::Raw::new(&client, namespace).await);
    }
    let mut writers: Vec<_> = plain.iter_mut().map(|p| async || p.replace().await).collect();
    let mut rates = Vec::new();
    for _ in 0..3 {
        rates.push(per_second(&mut writers, Duration::from_millis(1500)).await);
    }
    median(rates)
}

pub async fn measure(population: &mut Population) -> Vec<Line> {
    let count = population.count;
    let ceiling = ceiling(population).await;
    let before = population.times().await;
    let granted = population.fixture.oauth.granted();
    population.ahead += AHEAD;
    let audit = population.fixture.audit();
    let start = Instant::now();
    let mut operator = population.operator();
    let work = Work::of(&operator);
    let all = async {
        let oauth = &population.fixture.oauth;
        while oauth.granted() < granted + count {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        start.elapsed()
    };
    let (took, waits) = join(all, newcomers::arrive(&population.fixture, || {
        population.fixture.oauth.granted() < granted + count
    }))
    .await;
    let used = work.used();
    population.until_granted(granted + count).await;
    let requests = audit.requests();
    let writes = audit.writes();
    let after = population.times().await;
    let expired = before.iter().filter(|(name, times)| after[*name].obtained > times.expires);
    let expired = expired.count();
    let left = before.iter().map(|(n, t)| t.expires.duration_since(after[n].obtained).as_secs());
    eprintln!("least left: {:?} s", left.min());
    let rate = number(count) / took.as_secs_f64();
    let [ours, apiserver, etcd] = used;
    eprintln!("{count} in {took:?}; processors: operator {ours:?}, API server {apiserver:?}, etcd {etcd:?}");
    for (kind, n) in kinds(&requests) {
        eprintln!("{:8.3} {kind}", number(n) / number(count + waits.len()));
    }
    let each = number(count + waits.len());
    let quantile = |of_100: usize| waits[(waits.len() - 1) * of_100 / 100];
    let lines = vec![
        Line::new("refreshes", Quantity::new(rate, Unit::PerSecond))
            .beside("plain writes", Quantity::new(ceiling, Unit::PerSecond))
            .target(Target::AtLeast(150.0)),
        Line::new(format!("{count} due at once: all refreshed"), took).target(Target::Ours(120_000.0)),
        Line::new(format!("{count} due at once: expired meanwhile"), Quantity::new(number(expired), Unit::Requests)).target(Target::Ours(0.0)),
        Line::new("processor time of a refresh", Quantity::new(ours.as_secs_f64() * 1000.0 / each, Unit::Milliseconds)).target(Target::Ours(1.5)),
        Line::new("writes of a refresh", Quantity::new(number(writes.len()) / each, Unit::Writes)).target(Target::Ours(5.0)),
        Line::new("reads of a refresh", Quantity::new(number(requests.len() - writes.len()) / each, Unit::Requests)).target(Target::Ours(3.0)),
        Line::new(format!("new credentials meanwhile ({}): median to the Secret", waits.len()), quantile(50)),
        Line::new("new credentials meanwhile: p99 to the Secret", quantile(99)).target(Target::Ours(2_000.0)),
        Line::new("memory after it", crate::usage::memory(&operator)).target(Target::Ours(64.0)),
        Line::new("memory at its peak", crate::usage::peak(&operator)),
    ];
    operator.signal("TERM");
    assert!(operator.end().await.success());
    lines
}
