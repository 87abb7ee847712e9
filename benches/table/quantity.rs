//! A number with its unit.

use std::{fmt, time::Duration};

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Milliseconds,
    Microseconds,
    PerSecond,
    Connections,
    Requests,
    Writes,
    Credentials,
    PercentOfACore,
    Mebibytes,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Microseconds => "µs",
            Self::Connections => "connections",
            Self::PerSecond => "/s",
            Self::Requests => "requests",
            Self::Writes => "writes",
            Self::Credentials => "credentials",
            Self::PercentOfACore => "% of a core",
            Self::Mebibytes => "MiB",
        }
    }
}

/// A number with its unit.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    pub value: f64,
    pub unit: Unit,
}

impl Quantity {
    pub fn new(value: f64, unit: Unit) -> Self {
        Self { value, unit }
    }
}

impl From<Duration> for Quantity {
    fn from(duration: Duration) -> Self {
        Self::new(duration.as_secs_f64() * 1000.0, Unit::Milliseconds)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, unit } = *self;
        let decimals = match unit {
            Unit::Requests | Unit::Writes => 1,
            Unit::PerSecond | Unit::Mebibytes | Unit::Connections | Unit::Credentials => 0,
            Unit::Milliseconds | Unit::Microseconds | Unit::PercentOfACore => 2,
        };
        write!(formatter, "{value:.decimals$} {}", unit.name())
    }
}
