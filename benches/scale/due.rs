//! All are due at once, and new ones come meanwhile.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use futures::future::join;

use crate::{
    newcomers,
    population::Population,
    quantity::{Quantity, Unit},
    raw,
    report::{Line, Target},
    rest::kinds,
    samples::{median, per_second},
    support::within,
    usage::{self, Work, number},
};

/// How far ahead the clock is put: 5 of the 60 min of a token are left.
const AHEAD: i64 = 55 * 60;

const LONG: Duration = Duration::from_secs(900);

/// What the API server does at most: updates of Leases by so many connections.
async fn ceiling(population: &Population) -> f64 {
    let (kubeconfig, namespace) = (crate::support::kubeconfig(), &population.fixture.namespace);
    let mut plain = Vec::new();
    for _ in 0..32 {
        let client = crate::connect::connect(&kubeconfig, crate::connect::PLAIN).await;
        plain.push(raw::Raw::new(&client, namespace).await);
    }
    let mut writers: Vec<_> = plain
        .iter_mut()
        .map(|p| async || p.replace().await)
        .collect();
    let mut rates = Vec::new();
    for _ in 0..3 {
        rates.push(per_second(&mut writers, Duration::from_millis(1500)).await);
    }
    median(rates)
}

pub async fn measure(population: &mut Population) -> Vec<Line> {
    let ceiling = ceiling(population).await;
    let before = population.times().await;
    population.ahead += AHEAD;
    let sweep = sweep(population).await;
    let after = population.times().await;
    let expired = before
        .iter()
        .filter(|(name, life)| after[*name].obtained > life.expires);
    let expired = Quantity::new(number(expired.count()), Unit::Credentials);
    let count = population.count;
    let rate = Quantity::new(number(count) / sweep.took.as_secs_f64(), Unit::PerSecond);
    let at_once = |what: &str| format!("{count} due at once: {what}");
    let mut lines = vec![
        Line::new("refreshes", rate)
            .beside("plain writes", Quantity::new(ceiling, Unit::PerSecond))
            .target(Target::AtLeast(150.0)),
        Line::new(at_once("all refreshed"), sweep.took).target(Target::Ours(120_000.0)),
        Line::new(at_once("expired meanwhile"), expired).target(Target::Ours(0.0)),
    ];
    lines.extend(sweep.costs(interval(population).await));
    lines
}

/// What the refresh of all has cost.
struct Sweep {
    count: usize,
    took: Duration,
    /// Of the operator, the API server and etcd, from the operator's start on.
    used: [Duration; 3],
    requests: Vec<String>,
    writes: usize,
    /// How long each new credential waited for its Secret, the shortest first.
    waits: Vec<Duration>,
    memory: [Quantity; 2],
}

async fn sweep(population: &Population) -> Sweep {
    let (oauth, count) = (&population.fixture.oauth, population.count);
    let audit = population.fixture.audit();
    let (all, new) = (oauth.granted() + count, Cell::new(0));
    let start = Instant::now();
    let mut operator = population.operator();
    let work = Work::of(&operator);
    // Those that come meanwhile are no refreshes.
    let going_on = || oauth.granted() < all + new.get();
    let arriving = newcomers::arrive(&population.fixture, &new, going_on);
    let refreshed = within(LONG, "a new token for each", async || {
        (!going_on()).then_some(())
    });
    let refreshed = async {
        refreshed.await;
        (start.elapsed(), work.used())
    };
    let ((took, used), waits) = join(refreshed, arriving).await;
    population.until_granted(all + waits.len()).await;
    let sweep = Sweep {
        count: count + waits.len(),
        took,
        used,
        requests: audit.requests(),
        writes: audit.writes().len(),
        waits,
        memory: [usage::memory(&operator), usage::peak(&operator)],
    };
    operator.signal("TERM");
    assert!(operator.end().await.success());
    sweep
}

impl Sweep {
    /// Of one, and of all where each is refreshed once in an `interval`.
    fn costs(&self, interval: Duration) -> Vec<Line> {
        let each = |all: f64, unit| Quantity::new(all / number(self.count), unit);
        let [operator, apiserver, etcd] = self.used.map(|used| used.as_secs_f64() * 1000.0);
        let time = |all| each(all, Unit::Milliseconds);
        let quantile = |of_100: usize| self.waits[(self.waits.len() - 1) * of_100 / 100];
        let share = self.used[0].as_secs_f64() / interval.as_secs_f64() * 100.0;
        let reads = number(self.requests.len() - self.writes);
        let [memory, peak] = self.memory;
        let mut lines = vec![
            Line::new("processor time of a refresh", time(operator)).target(Target::Ours(1.5)),
            Line::new("  the API server's", time(apiserver)),
            Line::new("  etcd's", time(etcd)),
            Line::new(
                format!(
                    "processor where each is refreshed once in {} min",
                    interval.as_secs() / 60
                ),
                Quantity::new(share, Unit::PercentOfACore),
            )
            .target(Target::Ours(2.0)),
            Line::new(
                "writes of a refresh",
                each(number(self.writes), Unit::Writes),
            )
            .target(Target::Ours(5.0)),
            Line::new("reads of a refresh", each(reads, Unit::Requests)).target(Target::Ours(3.0)),
        ];
        for (kind, count) in kinds(&self.requests) {
            // What the operator does once, or for each new credential, is less.
            if count * 10 > self.count {
                let count = each(number(count), Unit::Requests);
                lines.push(Line::new(format!("  {kind}"), count));
            }
        }
        let new = format!("{} new credentials meanwhile", self.waits.len());
        lines.extend([
            Line::new(format!("{new}: median to the Secret"), quantile(50)),
            Line::new(format!("{new}: p99 to the Secret"), quantile(99))
                .target(Target::Ours(2_000.0)),
            Line::new("memory after it", memory).target(Target::Ours(64.0)),
            Line::new("memory at its peak", peak),
        ]);
        lines
    }
}

/// The mean time from a refresh to the next.
async fn interval(population: &Population) -> Duration {
    let all = population.all().await;
    let intervals = all.iter().filter_map(|credential| {
        let status = credential.status.as_ref()?;
        let last = status.token.as_ref()?.last_refresh_time.as_ref()?;
        let next = status.refresh.as_ref()?.next_time.as_ref()?;
        Duration::try_from(next.0.duration_since(last.0)).ok()
    });
    let intervals: Vec<_> = intervals.collect();
    let sum: Duration = intervals.iter().sum();
    sum.div_f64(number(intervals.len()))
}
