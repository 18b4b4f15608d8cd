//! Established streams under a flood of SYNs. The generator takes time of the machine too, so each round has a control:
//! the same flood to an address that the gateway drops. What is lost against that, the gateway lost. The flooded listener
//! is one whose backends drop what they get: what SYNs cost a backend is not the gateway's, whose tables are the same.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use harness::arena::{Arena, SILENT};
use harness::load::bulk::{Flow, Streams};
use harness::load::flood;
use harness::{cpu, namespace};

use super::stand::Stand;
use crate::compare::uninterrupted;

const STREAMS: usize = 16;
/// SYNs a second when nothing else is sent: the machine is not busy with them.
const COST_RATE: u32 = 100_000;
/// Before and after what is looked at.
const MARGIN: Duration = Duration::from_millis(200);
/// Until what was left half open is forgotten: see the arena's settings.
const SETTLE: Duration = Duration::from_millis(1300);
/// Between control and flood.
const RECOVERY: Duration = Duration::from_millis(500);
/// The flood's packets for each other packet: 90 of 100.
const RATIO: f64 = 9.0;
/// Rate to begin with, and the highest to ask for.
const FIRST: u32 = 100_000;
const HIGHEST: f64 = 2e6;
/// Steps to the right rate, each of this length.
const STEPS: usize = 6;
const STEP: Duration = Duration::from_millis(300);

/// Measures all rounds of a contender on streams that stay.
pub(crate) fn measure(stand: &mut Stand, rounds: usize, length: Duration) -> Result<()> {
    let SocketAddr::V4(listener) = stand.targets(SILENT)[0] else {
        bail!("a flood is of IPv4");
    };
    for _ in 0..rounds {
        uninterrupted()?;
        let cost = cost(&stand.arena, listener, length)?;
        stand.note("flood_cpu_us_per_syn", cost);
    }
    let streams = stand.streams(STREAMS)?;
    let rate = rate(&stand.arena, &streams)?;
    for _ in 0..rounds {
        uninterrupted()?;
        let quiet = streams.watch(length)?;
        let control = Flood::to(flood::dropped(), rate).beside(&stand.arena, &streams, length)?;
        // Both begin with windows that nothing has narrowed: a flood's first burst costs streams packets.
        std::thread::sleep(RECOVERY);
        let flooded = Flood::to(listener, rate).beside(&stand.arena, &streams, length)?;
        std::thread::sleep(SETTLE);
        stand.note("flood_quiet_gbit_per_s", quiet.gigabits);
        stand.note("flood_control_gbit_per_s", control.flow.gigabits);
        stand.note("flood_gbit_per_s", flooded.flow.gigabits);
        if control.flow.gigabits > 0.0 {
            stand.note("flood_loss_percent", 100.0 * (1.0 - flooded.flow.gigabits / control.flow.gigabits));
        }
        stand.note("flood_packets_per_s", flooded.per_second);
        stand.note("flood_share_percent", 100.0 * control.per_second / (control.per_second + control.others));
    }
    Ok(())
}

/// CPU microseconds of the whole machine that a SYN takes above what it takes to send and drop it.
fn cost(arena: &Arena, listener: SocketAddrV4, length: Duration) -> Result<f64> {
    let busy = |target: SocketAddrV4| -> Result<(f64, f64)> {
        let before = cpu::busy_seconds()?;
        let sent = arena.lab.client.enter(move || flood::run(target, COST_RATE, length))?;
        Ok((cpu::busy_seconds()? - before, sent as f64))
    };
    let ((control, _), (flooded, sent)) = (busy(flood::dropped())?, busy(listener)?);
    std::thread::sleep(SETTLE);
    Ok((flooded - control) * 1e6 / sent)
}

/// The rate at which the flood is nine of ten packets. A flood slows the streams, so it is found in steps.
fn rate(arena: &Arena, streams: &Streams) -> Result<u32> {
    let mut rate = FIRST;
    for _ in 0..STEPS {
        let seen = Flood::to(flood::dropped(), rate).beside(arena, streams, STEP)?;
        // Half of the way, in proportions: one whole would overshoot.
        rate = (f64::from(rate) * seen.others * RATIO).sqrt().clamp(1000.0, HIGHEST) as u32;
    }
    Ok(rate)
}

struct Flood {
    target: SocketAddrV4,
    rate: u32,
}

/// What was seen while it lasted.
struct Seen {
    flow: Flow,
    /// SYNs a second that the generator managed.
    per_second: f64,
    /// Other packets a second that the gateway received.
    others: f64,
}

impl Flood {
    fn to(target: SocketAddrV4, rate: u32) -> Self {
        Self { target, rate }
    }

    fn beside(self, arena: &Arena, streams: &Streams, length: Duration) -> Result<Seen> {
        let client = arena.lab.client.open();
        let (received, begun) = (packets_received(arena)?, Instant::now());
        let generator = std::thread::spawn(move || {
            namespace::join(&client);
            flood::run(self.target, self.rate, MARGIN + length + MARGIN)
        });
        std::thread::sleep(MARGIN);
        let flow = streams.watch(length);
        let sent = generator.join().ok().context("the generator of the flood failed")??;
        let received = packets_received(arena)? - received;
        let seconds = begun.elapsed().as_secs_f64();
        let others = received.saturating_sub(sent) as f64 / seconds;
        Ok(Seen { flow: flow?, per_second: sent as f64 / seconds, others })
    }
}

/// Packets that both interfaces of the gateway have received.
fn packets_received(arena: &Arena) -> Result<u64> {
    let text = arena.lab.gateway.enter(|| std::fs::read_to_string("/proc/thread-self/net/dev"))?;
    let of = |device: &str| {
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix(&format!("{device}:")))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    of("c0")
        .zip(of("b0"))
        .map(|(client, backend)| client + backend)
        .context("no counters of the gateway's interfaces")
}
