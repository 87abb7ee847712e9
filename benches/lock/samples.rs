//! Many measurements of one thing.

use std::time::{Duration, Instant};

use futures::future::join_all;

/// How long each of many tries took, in rounds: whatever else the machine did falls into a few of them.
#[derive(Default)]
pub struct Samples {
    rounds: Vec<Vec<Duration>>,
}

impl Samples {
    /// From here on it is another round.
    pub fn next_round(&mut self) {
        self.rounds.push(Vec::new());
    }

    pub fn add(&mut self, took: Duration) {
        if self.rounds.is_empty() {
            self.next_round();
        }
        self.rounds.last_mut().unwrap().push(took);
    }

    /// The median of the rounds' quantiles.
    pub fn quantile(&self, share: f64) -> Duration {
        let of_rounds = self.rounds.iter().filter(|round| !round.is_empty());
        median(of_rounds.map(|round| quantile(round, share)).collect())
    }
}

/// The value below which this share of the values is.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an index of a short list"
)]
fn quantile(values: &[Duration], share: f64) -> Duration {
    let mut values = values.to_vec();
    values.sort();
    let last = values.len() - 1;
    values[(last as f64 * share).round() as usize]
}

/// The middle one.
pub fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap());
    values[values.len() / 2]
}

/// How long `work` takes.
pub async fn timed<T>(work: impl Future<Output = T>) -> (Duration, T) {
    let start = Instant::now();
    let done = work.await;
    (start.elapsed(), done)
}

/// How often in a second these together do what each does again and again.
pub async fn per_second<W: AsyncFnMut()>(workers: &mut [W], time: Duration) -> f64 {
    let start = Instant::now();
    let counts = join_all(workers.iter_mut().map(async |work| {
        let mut done = 0_u32;
        while start.elapsed() < time {
            work().await;
            done += 1;
        }
        done
    }));
    let done: u32 = counts.await.into_iter().sum();
    f64::from(done) / start.elapsed().as_secs_f64()
}
