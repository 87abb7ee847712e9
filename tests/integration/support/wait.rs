//! Waiting for a condition, with a deadline.

use std::time::Duration;

use tokio::time::{Instant, interval, timeout};

/// How long a test waits for something that should come at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks `probe` again and again until it gives something. Panics, and says what was awaited, after 30 s.
pub async fn eventually<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, probe).await
}

/// Like [`eventually`], with another deadline.
pub async fn within<T>(
    deadline: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    let mut ticks = interval(Duration::from_millis(25));
    loop {
        ticks.tick().await;
        if let Some(found) = probe().await {
            return found;
        }
        assert!(
            start.elapsed() < deadline,
            "not within {deadline:?}: {what}"
        );
    }
}

/// Waits for something that tells by itself. Panics, and says what was awaited, after 30 s.
pub async fn soon<T>(what: &str, awaited: impl Future<Output = T>) -> T {
    in_time(PATIENCE, what, awaited).await
}

/// Like [`soon`], with another deadline.
pub async fn in_time<T>(deadline: Duration, what: &str, awaited: impl Future<Output = T>) -> T {
    let reached = timeout(deadline, awaited).await;
    reached.unwrap_or_else(|_| panic!("not within {deadline:?}: {what}"))
}
