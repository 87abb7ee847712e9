//! Waiting for a condition, with a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How often it is asked for: at first, and after a second, so that many who wait are no burden to the server.
const OFTEN: Duration = Duration::from_millis(25);
const LESS_OFTEN: Duration = Duration::from_millis(60);

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
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(
            start.elapsed() < deadline,
            "not within {deadline:?}: {what}"
        );
        let at_first = start.elapsed() < Duration::from_secs(1);
        sleep(if at_first { OFTEN } else { LESS_OFTEN }).await;
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
