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
    busy("cpu")
}

/// Of a line of /proc/stat.
fn busy(name: &str) -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let of = |line: &str| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
    let line = text.lines().find_map(of).with_context(|| format!("no {name} in /proc/stat"))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq.
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|index| ticks.get(*index)).sum();
    Ok(busy as f64 / TICKS)
}

/// In a second, on every Linux (USER_HZ).
const TICKS: f64 = 100.0;

/// CPU time that was spent up to a moment, or between two, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// By the whole machine.
    pub machine: f64,
    /// By the gateway's processor, whoever it worked for.
    pub processor: f64,
    /// By the gateway's processes, what they had the kernel do included.
    pub own: f64,
}

impl Spent {
    /// Up to now, with a gateway of these processes.
    pub fn now(processes: &[u32]) -> Result<Self> {
        let own = processes.iter().map(|process| own_seconds(*process)).sum::<Result<f64>>()?;
        Ok(Self { machine: busy_seconds()?, processor: busy(&format!("cpu{GATEWAY}"))?, own })
    }

    /// Between both.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            machine: self.machine - before.machine,
            processor: self.processor - before.processor,
            own: self.own - before.own,
        }
    }
}

/// Seconds that a process has worked, in user space and in the kernel: proc_pid_stat(5).
fn own_seconds(process: u32) -> Result<f64> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).context("a process of the gateway has ended")?;
    parse_own(&text).with_context(|| path)
}

/// Fields are counted from behind the name, which may hold anything.
fn parse_own(text: &str) -> Option<f64> {
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some((ticks(11)? + ticks(12)?) as f64 / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_have_any_name() {
        let line = "7 (a) b 9) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 100";
        assert_eq!(parse_own(line), Some(2.0));
    }

    #[test]
    fn the_machine_has_done_at_least_what_one_processor_has() {
        let spent = Spent::now(&[std::process::id()]).unwrap();
        assert!(spent.machine >= spent.own, "{spent:?}");
        assert!(spent.machine + 0.1 >= spent.processor, "{spent:?}");
    }
}
