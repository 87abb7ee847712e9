//! Wakes the users of an object that has changed: a few at once, many one after the other.

use std::{collections::HashSet, time::Duration};

use futures::{Stream, StreamExt, stream};
use kube::runtime::reflector::ObjectRef;
use tokio_util::time::DelayQueue;

use crate::{api::IntegrationCredential, plan::fraction};

/// Up to so many are woken at once.
const FEW: usize = 10;

/// How much longer the window is for each user, and the longest window.
const EACH: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(10);

/// A credential that is to be looked at, and its UID.
pub type User = (ObjectRef<IntegrationCredential>, String);

/// The time over which so many users are woken.
#[must_use]
pub fn window(users: usize) -> Duration {
    if users <= FEW {
        return Duration::ZERO;
    }
    EACH.saturating_mul(u32::try_from(users).unwrap_or(u32::MAX))
        .min(LONGEST)
}

/// Each credential of a list at a time of its own within the [`window`] of that list: always at the same share of it.
/// One that waits already is not woken twice.
pub fn spread(
    changes: impl Stream<Item = Vec<User>> + Send + 'static,
) -> impl Stream<Item = ObjectRef<IntegrationCredential>> + Send + 'static {
    let state = (changes.boxed().fuse(), DelayQueue::new(), HashSet::new());
    stream::unfold(state, async |(mut changes, mut queue, mut waiting)| {
        loop {
            tokio::select! {
                biased;
                Some(due) = queue.next(), if !queue.is_empty() => {
                    let due: ObjectRef<_> = due.into_inner();
                    waiting.remove(&due);
                    return Some((due, (changes, queue, waiting)));
                }
                users = changes.next(), if !changes.is_done() => {
                    let users: Vec<User> = users.unwrap_or_default();
                    let window = window(users.len());
                    for (user, uid) in users {
                        if waiting.insert(user.clone()) {
                            queue.insert(user, window.mul_f64(fraction(&uid)));
                        }
                    }
                }
                else => return None,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::time::Instant;

    use super::*;

    fn users(count: usize) -> Vec<User> {
        let all = (0..count).map(|n| {
            let name = format!("c-{n}");
            (ObjectRef::new(&name).within("ns"), name)
        });
        all.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_are_woken_at_once_and_many_evenly_each_of_them_once() {
        let start = Instant::now();
        let few: Vec<_> = spread(stream::iter([users(FEW)])).collect().await;
        assert_eq!(few.len(), FEW);
        assert!(start.elapsed() < Duration::from_millis(10));

        let start = Instant::now();
        let mut woken = Vec::new();
        let twice = [users(200), users(200)];
        let mut all = Box::pin(spread(stream::iter(twice)));
        while let Some(user) = all.next().await {
            woken.push((user.name, start.elapsed()));
        }
        let names: BTreeSet<_> = woken.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!((names.len(), woken.len()), (200, 200));
        for window in woken.windows(60) {
            let spacing = window[59].1.saturating_sub(window[0].1);
            assert!(spacing > Duration::from_millis(200), "{spacing:?}");
        }
        assert!(woken[199].1 <= window(200) + Duration::from_millis(10));
        assert!(window(1_000_000) == LONGEST);
    }
}
