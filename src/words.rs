//! Times and durations in words, as a person says them.

use std::time::Duration;

use jiff::Timestamp;

/// A duration by its two greatest units: `42 min`, `3 h 5 min`, `2 d 3 h`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let mut left = duration.as_secs();
    let greatest = UNITS.iter().position(|(_, unit)| left >= *unit);
    let Some(greatest) = greatest else {
        return if duration.is_zero() {
            "0 s".to_owned()
        } else {
            format!("{} ms", duration.as_millis())
        };
    };
    let mut parts = Vec::new();
    for (name, unit) in UNITS.iter().skip(greatest).take(2) {
        let count = left / unit;
        left %= unit;
        // Seconds beside minutes say nothing, unless there are few of both.
        let is_noise = *name == "s" && !parts.is_empty() && duration.as_secs() >= 600;
        if count > 0 && !is_noise {
            parts.push(format!("{count} {name}"));
        }
    }
    parts.join(" ")
}

/// A time as seen from now: `in 42 min (2026-01-01T00:42:00Z)`, `3 h ago (…)`.
#[must_use]
pub fn time(at: Timestamp, now: Timestamp) -> String {
    let distance = at.duration_since(now);
    let words = duration(Duration::from_secs(distance.unsigned_abs().as_secs()));
    if distance.is_negative() {
        format!("{words} ago ({at:.0})")
    } else {
        format!("in {words} ({at:.0})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_said_by_its_two_greatest_units() {
        for (seconds, said) in [
            (0, "0 s"),
            (45, "45 s"),
            (60, "1 min"),
            (95, "1 min 35 s"),
            (2520, "42 min"),
            (2525, "42 min"),
            (3600, "1 h"),
            (11_100, "3 h 5 min"),
            (86_400, "1 d"),
            (183_700, "2 d 3 h"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), said);
        }
        assert_eq!(duration(Duration::from_millis(1500)), "1 s");
        assert_eq!(duration(Duration::from_millis(250)), "250 ms");
    }

    #[test]
    fn a_time_is_said_from_now() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(time(at(2520), at(0)), "in 42 min (1970-01-01T00:42:00Z)");
        assert_eq!(time(at(0), at(7200)), "2 h ago (1970-01-01T00:00:00Z)");
    }
}
