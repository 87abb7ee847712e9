//! For how long everybody has waited, where that is counted.

use crate::config::Config;

/// In ticks: nobody may wait for so long.
pub const ENOUGH: u8 = 20;
/// In steps: so many never happen without a tick among them.
pub const MOST_STEPS: u8 = 120;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Waits {
    /// For how many ticks the gate has been closed, the want has been there, and each reader has waited.
    pub gate: u8,
    pub want: u8,
    pub readers: Vec<u8>,
    /// How many steps there were since the last tick.
    pub steps: u8,
}

impl Waits {
    pub fn new(config: &Config) -> Self {
        let readers = if config.counts {
            config.readers.len()
        } else {
            0
        };
        Self {
            gate: 0,
            want: 0,
            readers: vec![0; readers],
            steps: 0,
        }
    }

    pub fn step(&mut self, is_tick: bool) {
        self.steps = if is_tick {
            0
        } else {
            self.steps.saturating_add(1).min(MOST_STEPS)
        };
    }
}
