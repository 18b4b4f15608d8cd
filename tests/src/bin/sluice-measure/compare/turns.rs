//! Rounds in which the contenders take turns, until somebody interrupts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::cpu;
use harness::peers::{Contender, Program};

use super::options::word;
use super::{Figures, Kind};

/// Length of each measurement in the round before the first, which does not count.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long the machine is looked at before anything is done.
const LOOK: Duration = Duration::from_secs(1);

/// A contender at work.
pub(crate) trait Stand {
    /// Which.
    type Contender: Contender;
    /// What is measured.
    type Kind: Kind;

    /// Who works here.
    fn contender(&self) -> Self::Contender;

    /// Its figures so far.
    fn figures(&mut self) -> &mut Figures;

    /// Does one kind of work for a while, and notes a figure in each of its columns.
    fn measure(&mut self, kind: Self::Kind, length: Duration) -> Result<()>;
}

/// Rounds of measurements, the first of which do not count.
pub(crate) fn in_turns<S: Stand>(
    rounds: usize,
    length: Duration,
    stands: &mut [S],
    kinds: &[S::Kind],
) -> Result<()> {
    let counted = if kinds.is_empty() { 0..=0 } else { 0..=rounds };
    for round in counted {
        for stand in stands.iter_mut() {
            for kind in kinds {
                let name = stand.contender().name();
                eprintln!("round {round} of {rounds}: {}, {name}", word(kind));
                uninterrupted()?;
                let before = (round == 0).then(|| stand.figures().clone());
                let length = if round == 0 { WARM_UP } else { length };
                stand.measure(*kind, length).with_context(|| format!("{name}, {}", word(kind)))?;
                if let Some(before) = before {
                    *stand.figures() = before;
                }
            }
        }
    }
    Ok(())
}

/// Round by round, what each contender has more than the routed way, as figures of their own; nothing when that was
/// left out. Pairs of keys: of what was measured, and of what is made of it.
pub(crate) fn add_over<S: Stand>(stands: &mut [S], keys: &[(&'static str, &'static str)]) {
    let is_routed = |stand: &S| stand.contender().program() == Program::None;
    let Some(routed) = stands.iter().position(is_routed) else { return };
    let routed = std::mem::take(stands[routed].figures());
    for (key, over) in keys {
        for stand in stands.iter_mut() {
            let own = stand.figures().of(key).to_vec();
            for (own, base) in own.iter().zip(routed.of(key)) {
                stand.figures().note(over, own - base);
            }
        }
    }
    if let Some(stand) = stands.iter_mut().find(|stand| is_routed(stand)) {
        *stand.figures() = routed;
    }
}

/// How busy the machine is while we do nothing, in percent.
pub(crate) fn others() -> Result<f64> {
    let busy = cpu::busy_seconds()?;
    std::thread::sleep(LOOK);
    let processors = std::thread::available_parallelism()?.get() as f64;
    Ok((cpu::busy_seconds()? - busy) / LOOK.as_secs_f64() / processors * 100.0)
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ctrl-C and SIGTERM end the run between two measurements, so that all guards do their work.
pub(crate) fn watch_for_interruption() {
    std::thread::spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let Ok(mut terminated) = signal(SignalKind::terminate()) else { return };
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminated.recv() => {}
            }
            INTERRUPTED.store(true, Ordering::Relaxed);
        });
    });
}

/// An error once the run was interrupted.
pub(crate) fn uninterrupted() -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}

#[cfg(test)]
mod tests {
    use harness::peers::l4::Contender;

    use super::*;
    use crate::compare::{Column, column};

    const COLUMNS: &[Column] = &[column("own", "own", 0)];

    #[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
    enum Only {
        Work,
    }

    impl Kind for Only {
        fn columns(self) -> &'static [Column] {
            COLUMNS
        }
    }

    struct Paper(Contender, Figures, f64);

    impl Stand for Paper {
        type Contender = Contender;
        type Kind = Only;

        fn contender(&self) -> Contender {
            self.0
        }

        fn figures(&mut self) -> &mut Figures {
            &mut self.1
        }

        fn measure(&mut self, _: Only, _: Duration) -> Result<()> {
            self.2 += 1.0;
            let value = self.2;
            self.1.note("own", value);
            Ok(())
        }
    }

    #[test]
    fn the_first_round_does_not_count() {
        let mut stands = [Paper(Contender::Routed, Figures::default(), 0.0)];
        in_turns(3, Duration::ZERO, &mut stands, &[Only::Work]).unwrap();
        assert_eq!(stands[0].1.of("own"), [2.0, 3.0, 4.0]);
    }

    #[test]
    fn what_is_over_the_routed_way_is_told_round_by_round() {
        let paper = |contender, first| Paper(contender, Figures::default(), first);
        let mut stands = [paper(Contender::Routed, 0.0), paper(Contender::Envoy, 10.0)];
        in_turns(2, Duration::ZERO, &mut stands, &[Only::Work]).unwrap();
        add_over(&mut stands, &[("own", "over")]);
        assert_eq!(stands[1].1.of("over"), [10.0, 10.0]);
        assert_eq!(stands[0].1.of("own"), [2.0, 3.0]);
        assert!(stands[0].1.of("over").is_empty());
        add_over(&mut stands[1..], &[("own", "other")]);
        assert!(stands[1].1.of("other").is_empty());
    }
}
