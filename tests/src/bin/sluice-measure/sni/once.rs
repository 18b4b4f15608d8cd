//! What is measured once, with a gateway that has done nothing yet: what idle connections take, and which connections
//! are handed over.

use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::arena::Arena;
use harness::load::sni::behaviour::{AT_ONCE, Behaviour};
use harness::load::sni::idle::Holders;
use harness::peers::sni::Contender;
use harness::peers::{Contender as _, Program};
use harness::{limits, wait};

use super::columns::{Measure, of_behaviour};
use super::stand::{Pace, Stand};
use super::told::Told;
use crate::compare::{Figures, uninterrupted};
use crate::memory::Taken;

/// Idle connections: of the contender that hands them over, and of the others.
const MANY: usize = 50_000;
const FEWER: usize = 10_000;
/// They are opened in so many steps.
const STEPS: usize = 50;
/// How long the last handovers and what is freed later may take.
const SETTLE: Duration = Duration::from_secs(2);
/// Connections of each behaviour come in so many waves.
pub(super) const WAVES: usize = 4;
/// Files that a gateway needs beside its connections, or keeps free.
const OTHERS: u64 = 1000;

/// What idle connections take, in an arena of their own.
pub(crate) fn memory(contender: Contender, figures: &mut Figures) -> Result<Option<String>> {
    let arena = Arena::new()?;
    let mut holders = Holders::start(contender, &arena)?;
    let peer = contender.start(&arena)?;
    // What start-up needed is given back within a second or two; rest is what is asked for.
    std::thread::sleep(SETTLE);
    let before = Taken::now(&peer, &arena)?;
    let wanted = wanted(contender);
    let failure = open(&mut holders, wanted)?;
    let opened = holders.open_now();
    if opened == 0 {
        return Ok(failure.map(|error| format!("{}: no connection; {error:#}", contender.name())));
    }
    let is_handed_over = || (arena.gateway_sockets().ok()? <= before.sockets).then_some(());
    // Those of user space stay.
    let _ = wait::within(SETTLE, is_handed_over);
    let after = Taken::now(&peer, &arena)?;
    let each = |difference: f64| difference / opened as f64;
    figures.note("memory_connections", opened as f64);
    figures.note("memory_slab_bytes", each(after.slab - before.slab));
    if contender.program() != Program::None {
        figures.note("memory_idle_mib", before.resident / f64::from(1 << 20));
        figures.note("memory_rss_bytes", each(after.resident - before.resident));
        figures.note("memory_sockets", each(after.sockets.saturating_sub(before.sockets) as f64));
    }
    let why = failure.map(|error| format!("then: {error:#}"));
    let why = why
        .or_else(|| (wanted < goal(contender)).then(|| "a process may have no more open files".to_owned()));
    Ok(why.map(|why| format!("{}: {opened} of {} connections; {why}", contender.name(), goal(contender))))
}

fn goal(contender: Contender) -> usize {
    if contender == Contender::Handoff { MANY } else { FEWER }
}

/// As many as both ends and the gateway have files for: a relay has two, and pipes only while bytes pass.
fn wanted(contender: Contender) -> usize {
    let of_gateway = match contender {
        Contender::Routed | Contender::Handoff => MANY,
        _ => (limits::descriptors().saturating_sub(OTHERS) / 2) as usize,
    };
    goal(contender).min(Holders::room()).min(of_gateway)
}

/// Until there are so many; the error is what kept the rest from being opened.
fn open(holders: &mut Holders, wanted: usize) -> Result<Option<anyhow::Error>> {
    while holders.open_now() < wanted {
        uninterrupted()?;
        let next = wanted.div_ceil(STEPS).min(wanted - holders.open_now());
        if let Err(error) = holders.open(next) {
            return Ok(Some(error));
        }
    }
    Ok(None)
}

/// Which connections of ours are handed over, of each behaviour, in arenas of their own. Returns what was refused, and
/// which connections failed.
pub(crate) fn handoff(contender: Contender, pace: Pace, figures: &mut Figures) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for behaviour in Behaviour::ALL {
        uninterrupted()?;
        let stand = Stand::start(contender, pace)?;
        let said = behave(&stand, behaviour, figures).with_context(|| behaviour.name())?;
        notes.extend(
            said.into_iter().map(|said| format!("{}, {}: {said}", contender.name(), behaviour.name())),
        );
    }
    Ok(notes)
}

fn behave(stand: &Stand, behaviour: Behaviour, figures: &mut Figures) -> Result<Vec<String>> {
    let before = Told::by(&stand.peer)?;
    let seen = see(stand, behaviour)?;
    let told = Told::by(&stand.peer)?.zip(before).map(|(after, before)| after.since(&before));
    let [in_kernel, attempted, handed_over, p50, p99] = of_behaviour(behaviour) else {
        anyhow::bail!("columns are missing");
    };
    let mut notes = Vec::new();
    if seen.open > 0 {
        figures.note(in_kernel.key, 100.0 * (1.0 - seen.relayed / seen.open as f64).max(0.0));
    }
    if let Some(error) = seen.failures.last() {
        notes.push(format!("{} of {} connections failed: {error:#}", seen.failures.len(), WAVES * AT_ONCE));
    }
    if let Some(told) = &told {
        figures.note(attempted.key, told.attempted as f64);
        figures.note(handed_over.key, 100.0 * told.handed_over as f64 / (WAVES * AT_ONCE) as f64);
        for (column, time) in [(p50, told.p50), (p99, told.p99)] {
            if let Some(time) = time {
                figures.note(column.key, time);
            }
        }
        notes.extend(told.refusals().map(|refusals| format!("refused: {refusals}")));
    }
    Ok(notes)
}

/// What the machine shows of all waves.
#[derive(Default)]
struct Seen {
    /// Connections that behaved as they should.
    open: usize,
    /// Those that have sockets in the gateway's namespace.
    relayed: f64,
    failures: Vec<anyhow::Error>,
}

fn see(stand: &Stand, behaviour: Behaviour) -> Result<Seen> {
    let (way, mut seen) = (stand.way(behaviour.kind()), Seen::default());
    for _ in 0..WAVES {
        let sockets = stand.arena.gateway_sockets()?;
        let wave = behaviour.run(&way, &stand.arena.lab.client)?;
        let now = || stand.arena.gateway_sockets().unwrap_or(usize::MAX).saturating_sub(sockets);
        let _ = wait::within(SETTLE, || (now() == 0).then_some(()));
        seen.relayed += now() as f64 / 2.0;
        seen.open += wave.open.len();
        seen.failures.extend(wave.failures);
        drop(wave.open);
        // The next wave begins with the sockets of this one gone.
        let _ = wait::within(SETTLE, || (now() == 0).then_some(()));
    }
    Ok(seen)
}

/// Whether a measure of this module is for a contender.
pub(crate) fn is_for(measure: Measure, contender: Contender) -> bool {
    match measure {
        Measure::Handoff => matches!(contender, Contender::Handoff | Contender::Auto),
        _ => true,
    }
}
