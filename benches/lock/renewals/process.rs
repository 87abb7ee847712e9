//! What a process uses.

use std::time::Duration;

/// The time of a core that a process has used: `utime` and `stime` of proc(5), in hundredths of a second
/// (`USER_HZ`, which is 100 wherever Linux has a stable interface).
pub fn cpu(process: u32) -> Duration {
    time(process, [14, 15])
}

/// The same of those of its children that have ended, and of theirs: `cutime` and `cstime`.
pub fn ended_children(process: u32) -> Duration {
    time(process, [16, 17])
}

fn time(process: u32, of: [usize; 2]) -> Duration {
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The second field is a name, in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<_> = fields.split(' ').collect();
    // The first one here is the third.
    let ticks = of.map(|field| fields[field - 3].parse::<u32>().unwrap());
    TICK * (ticks[0] + ticks[1])
}

/// The same of this process, to the nanosecond.
pub fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap())
}

/// The memory that a process keeps, in MiB: `VmRSS` of proc(5).
pub fn memory(process: u32) -> f64 {
    mebibytes(process, "VmRSS:")
}

/// The most that it has kept so far: `VmHWM` of proc(5).
pub fn peak(process: u32) -> f64 {
    mebibytes(process, "VmHWM:")
}

fn mebibytes(process: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field));
    let kibibytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kibibytes.parse::<f64>().unwrap() / 1024.0
}
