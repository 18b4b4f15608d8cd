//! What the system says of this process, as Prometheus' libraries tell it.

use std::fs;

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use crate::telemetry::metrics::{Encoder, Kind};

/// Of the times in `/proc`, the same on all of Linux's machines (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What the process takes at the moment; 0 for what cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Processor time since the process began, of user and system.
    pub cpu_seconds: f64,
    /// Time since the process began.
    pub uptime_seconds: f64,
    /// Memory that is resident.
    pub memory_bytes: u64,
    /// Open file descriptors.
    pub open_files: usize,
}

/// See [`Usage`].
pub(super) fn usage() -> Usage {
    let seconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND;
    let [user, system, started, _] = stat().unwrap_or_default();
    let up = fs::read_to_string("/proc/uptime").ok();
    let up = up.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    Usage {
        cpu_seconds: seconds(user + system),
        uptime_seconds: up.map_or(0.0, |up| (up - seconds(started)).max(0.0)),
        memory_bytes: resident().unwrap_or_default(),
        open_files: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
    }
}

/// Writes `process_…`. What cannot be read is left out.
pub(super) fn measure(to: &mut Encoder<'_>) {
    if let Some([user, system, started, virtual_memory]) = stat() {
        let seconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND;
        let cpu = ("process_cpu_seconds_total", Kind::Counter);
        to.single(cpu, "Processor time, of user and system", seconds(user + system));
        if let Some(boot) = boot() {
            let start = ("process_start_time_seconds", Kind::Gauge);
            to.single(start, "When the process began, since 1970", boot as f64 + seconds(started));
        }
        let mapped = ("process_virtual_memory_bytes", Kind::Gauge);
        to.single(mapped, "Memory that is mapped", virtual_memory as f64);
    }
    if let Some(resident) = resident() {
        to.single(("process_resident_memory_bytes", Kind::Gauge), "Memory in use", resident as f64);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        to.single(("process_open_fds", Kind::Gauge), "Open file descriptors", open.count() as f64);
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        to.single(("process_max_fds", Kind::Gauge), "Open file descriptors that there may be", most as f64);
    }
}

/// Processor time of the process so far, in seconds.
pub(super) fn cpu_seconds() -> Option<f64> {
    let [user, system, ..] = stat()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

/// `utime`, `stime`, `starttime` and `vsize` (proc_pid_stat(5)).
fn stat() -> Option<[u64; 4]> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may have blanks; the third field follows it.
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    Some([field(14)?, field(15)?, field(22)?, field(23)?])
}

/// In bytes; proc_pid_status(5) has kibibytes.
pub(super) fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// When the system began, in seconds since 1970.
fn boot() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}
