//! Credentials are created until all are there.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::{
    population::Population,
    quantity::{Quantity, Unit},
    report::Line,
    usage::{Work, memory, number, peak},
};

/// After which nothing is under way any more.
pub const SETTLED: Duration = Duration::from_secs(3);

pub async fn measure(population: &mut Population, count: usize) -> Vec<Line> {
    let mut operator = population.operator();
    operator.ready().await;
    sleep(SETTLED).await;
    let mut lines = vec![Line::new("memory without credentials", memory(&operator))];
    for count in [count / 10, count] {
        let before = population.count;
        let (start, work) = (Instant::now(), Work::of(&operator));
        population.grow(count).await;
        let took = start.elapsed();
        let [ours, apiserver, etcd] = work.used();
        eprintln!(
            "{} more in {took:?}; processors: operator {ours:?}, API server {apiserver:?}, etcd {etcd:?}",
            count - before
        );
        sleep(SETTLED).await;
        let new = number(count - before);
        lines.extend([
            Line::new(
                format!("new credentials, up to {count}"),
                Quantity::new(new / took.as_secs_f64(), Unit::PerSecond),
            ),
            Line::new(
                format!("processor time of a new credential, up to {count}"),
                Quantity::new(ours.as_secs_f64() * 1000.0 / new, Unit::Milliseconds),
            ),
            Line::new(
                format!("memory after {count} tokens were obtained"),
                memory(&operator),
            ),
            Line::new(format!("its peak until {count}"), peak(&operator)),
        ]);
    }
    operator.signal("TERM");
    assert!(operator.end().await.success());
    lines
}
