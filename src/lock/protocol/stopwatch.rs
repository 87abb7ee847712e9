//! For how long versions of Leases have been seen unchanged, on the observer's own clock.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    time::Duration,
};

use super::{SeenHold, Version, observed_expiry};

/// Stopwatches for Leases of others, by name. Each starts when a version is first seen, whoever brought
/// it, however late: that is never sooner than the version was written. A version that is still the
/// current one when it is acted upon (each act is conditional on it) has been so all the time between,
/// so an interrupted watch need not start them anew.
#[derive(Clone, Debug, Default)]
pub struct Stopwatches {
    /// The time that has passed for others.
    clock: Duration,
    running: BTreeMap<String, Running>,
}

#[derive(Clone, Debug)]
struct Running {
    version: Version,
    since: Duration,
    /// After how long it counts as dead.
    expiry: Duration,
}

impl Stopwatches {
    /// Time passes, for others.
    pub fn advance(&mut self, by: Duration) {
        self.clock = self.clock.saturating_add(by);
    }

    /// This version, which counts as dead after `expiry`, was seen now. For how long it has been seen.
    pub fn see(&mut self, name: &str, version: &Version, expiry: Duration) -> Duration {
        if let Some(running) = self.running.get(name)
            && running.version == *version
        {
            return self.clock.saturating_sub(running.since);
        }
        let running = Running {
            version: version.clone(),
            since: self.clock,
            expiry,
        };
        self.running.insert(name.to_owned(), running);
        Duration::ZERO
    }

    /// A hold was seen now.
    pub fn see_hold(&mut self, hold: &SeenHold) {
        self.see(&hold.name, &hold.version, observed_expiry(hold.duration));
    }

    /// It is gone.
    pub fn forget(&mut self, name: &str) {
        self.running.remove(name);
    }

    /// Forgets all whose names are not wanted any more.
    pub fn retain(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.running.retain(|name, _| is_wanted(name));
    }

    /// Whether none is running.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// How long until this version of a hold counts as dead; zero: it does.
    #[must_use]
    pub fn time_left(&self, hold: &SeenHold) -> Duration {
        match self.running.get(&hold.name) {
            Some(running) if running.version == hold.version => running.left(self.clock),
            _ => observed_expiry(hold.duration),
        }
    }

    /// The names of all that are there.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.running.keys().map(String::as_str)
    }

    /// Those that have been seen unchanged for `times(name)` times the time after which they count as
    /// dead, with the version that this is said of.
    #[must_use]
    pub fn overdue(&self, times: impl Fn(&str) -> u32) -> Vec<(String, Version)> {
        let is_overdue = |(name, running): &(&String, &Running)| {
            self.clock.saturating_sub(running.since) >= running.expiry * times(name)
        };
        let overdue = self.running.iter().filter(is_overdue);
        overdue
            .map(|(name, running)| (name.clone(), running.version.clone()))
            .collect()
    }

    /// What tells decisions apart: how long each has been seen, up to where it counts as dead.
    fn key(&self) -> impl Iterator<Item = (&String, &Version, Duration, Duration)> {
        self.running.iter().map(|(name, running)| {
            let left = running.left(self.clock);
            (name, &running.version, left, running.expiry)
        })
    }
}

impl Running {
    fn left(&self, clock: Duration) -> Duration {
        self.expiry.saturating_sub(clock.saturating_sub(self.since))
    }
}

impl PartialEq for Stopwatches {
    fn eq(&self, other: &Self) -> bool {
        self.key().eq(other.key())
    }
}

impl Eq for Stopwatches {}

impl Hash for Stopwatches {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for key in self.key() {
            key.hash(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(resource_version: &str) -> SeenHold {
        SeenHold {
            name: "a.hold.1".to_owned(),
            holder: String::new(),
            version: Version {
                uid: "u".to_owned(),
                resource_version: resource_version.to_owned(),
            },
            duration: Duration::from_secs(20),
        }
    }

    #[test]
    fn a_version_dies_only_after_it_was_seen_unchanged_for_its_duration_and_the_drift() {
        let mut watches = Stopwatches::default();
        let first = hold("1");
        // Never seen: all of its time is left.
        assert_eq!(watches.time_left(&first), Duration::from_secs(21));
        watches.see_hold(&first);
        watches.advance(Duration::from_secs(20));
        assert_eq!(watches.time_left(&first), Duration::from_secs(1));
        watches.advance(Duration::from_secs(1));
        assert_eq!(watches.time_left(&first), Duration::ZERO);
        assert_eq!(watches.overdue(|_| 1).len(), 1);
        assert_eq!(watches.overdue(|_| 2).len(), 0);
        // A renewal that was seen starts it anew.
        let renewed = hold("2");
        assert_eq!(watches.time_left(&renewed), Duration::from_secs(21));
        watches.see_hold(&renewed);
        assert_eq!(watches.time_left(&renewed), Duration::from_secs(21));
        // Another one of the same name is another one.
        let mut other = hold("2");
        other.version.uid = "v".to_owned();
        watches.advance(Duration::from_secs(30));
        assert_eq!(watches.time_left(&renewed), Duration::ZERO);
        assert_eq!(watches.time_left(&other), Duration::from_secs(21));
    }
}
