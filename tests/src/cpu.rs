//! The machine's processors: which of them a thread may use, and how busy all of them were.

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Where gateways run, and the receive queues of their interfaces.
pub const GATEWAY: usize = 0;
/// Where clients and backends run, and the receive queues of their interfaces.
pub const LOAD: usize = 1;

/// Keeps the calling thread, and the threads that it starts, on one processor.
pub fn pin(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("processor {processor}"))
}

/// Whether gateway and load can have a processor each.
pub fn ensure_two() -> Result<()> {
    let there = std::thread::available_parallelism()?.get();
    ensure!(there > LOAD, "{there} processor; gateway and load need one each");
    Ok(())
}

/// Seconds that all processors together have worked since the machine started, interrupts included, and without what
/// the hypervisor gave to others.
pub fn busy_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("no CPU line")?;
    let ticks: Vec<u64> = line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq; in hundredths of a second on every Linux (USER_HZ).
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|index| ticks.get(*index)).sum();
    Ok(busy as f64 / 100.0)
}
