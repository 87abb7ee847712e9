//! What the kernel says of this process, under the names that it has in the metrics of all programs.

use std::{fmt, fs, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

use crate::clock;

/// Read when somebody asks. What the platform does not tell is left out.
#[derive(Debug)]
pub(super) struct Process {
    /// In seconds since 1970.
    started: f64,
}

impl Process {
    /// This process, which has just started.
    pub(super) fn starting() -> Self {
        Self {
            started: clock::now().as_duration().as_secs_f64(),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        write(
            &mut encoder,
            ("process_start_time", Some(&Unit::Seconds)),
            "When this process started, since 1970",
            &ConstGauge::new(self.started),
        )?;
        if let Some(usage) = usage() {
            write(
                &mut encoder,
                ("process_cpu", Some(&Unit::Seconds)),
                "The time that processors worked for this process",
                &ConstCounter::new(usage.cpu.as_secs_f64()),
            )?;
            write(
                &mut encoder,
                ("process_resident_memory", Some(&Unit::Bytes)),
                "The memory that this process takes",
                &ConstGauge::new(usage.resident),
            )?;
            write(
                &mut encoder,
                ("process_virtual_memory", Some(&Unit::Bytes)),
                "The addresses that this process has reserved",
                &ConstGauge::new(usage.reserved),
            )?;
        }
        if let Some(open) = open_files() {
            write(
                &mut encoder,
                ("process_open_fds", None),
                "Open files and connections",
                &ConstGauge::new(open),
            )?;
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            write(
                &mut encoder,
                ("process_max_fds", None),
                "How many files and connections may be open",
                &ConstGauge::new(most),
            )?;
        }
        Ok(())
    }
}

fn write(
    encoder: &mut DescriptorEncoder,
    (name, unit): (&str, Option<&Unit>),
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
}

/// What a process has used.
#[derive(Debug, PartialEq)]
struct Usage {
    cpu: Duration,
    /// In bytes.
    resident: u64,
    /// In bytes.
    reserved: u64,
}

fn usage() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let page = u64::try_from(page_size()).ok()?;
    parse(&stat, clock_ticks_per_second(), page)
}

/// Reads a line of `/proc/PID/stat`, whose fields proc(5) numbers from 1: 14 and 15 count ticks, 23 bytes, 24 pages.
fn parse(stat: &str, ticks_per_second: u64, page: u64) -> Option<Usage> {
    // The second is the program's name in brackets, with whatever in it.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)?.checked_add(field(15)?)?;
    let milliseconds = ticks.checked_mul(1000)?.checked_div(ticks_per_second)?;
    Some(Usage {
        cpu: Duration::from_millis(milliseconds),
        resident: field(24)?.checked_mul(page)?,
        reserved: field(23)?,
    })
}

fn open_files() -> Option<usize> {
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    // The folder itself is open while it is read.
    Some(open.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a) b (c) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 3 0 900 8192000 512 18446744073709551615 1";

    #[test]
    fn a_line_of_the_kernel_is_read_whatever_the_program_is_called() {
        let read = Usage {
            cpu: Duration::from_secs(2),
            resident: 512 * 4096,
            reserved: 8_192_000,
        };
        assert_eq!(parse(STAT, 100, 4096), Some(read));
    }

    #[test]
    fn what_is_no_such_line_says_nothing() {
        for line in ["", "7 (a", "7 (a) S 1 2", &STAT.replace("150", "x")] {
            assert_eq!(parse(line, 100, 4096), None, "{line}");
        }
        assert_eq!(parse(STAT, 0, 4096), None);
        assert_eq!(parse(STAT, 100, u64::MAX), None);
    }

    #[test]
    fn this_process_uses_what_a_process_uses() {
        let usage = usage().expect("/proc");
        assert!(usage.resident > 1 << 20 && usage.reserved >= usage.resident);
        assert!(open_files().expect("/proc") >= 3);
    }
}
