//! What idle connections take, measured once, with a gateway that has done nothing yet.

use std::time::Duration;

use anyhow::Result;
use harness::load::connections::Ports;
use harness::load::http::Work;
use harness::load::http::drive::{self, Held};
use harness::peers::l7::{Common, Contender};
use harness::peers::{Contender as _, Program};

use super::columns::{IDLE, Idle};
use super::stand::Stand;
use crate::compare::Figures;
use crate::memory::Taken;

/// Of each kind.
pub(crate) const CONNECTIONS: usize = 2000;
/// Before these, so that what the first ones need is there.
const FIRST: usize = 100;
/// Connections are idle for so long before they are counted: what is freed with a delay is free by then.
const SETTLE: Duration = Duration::from_secs(12);

/// Each kind in an arena of its own.
pub(crate) fn measure(contender: Contender, common: &Common, figures: &mut Figures) -> Result<()> {
    for Idle { work, resident, slab, .. } in IDLE {
        let stand = Stand::start(contender, common)?;
        let (first, ports) = hold(&stand, work, FIRST, Ports::default())?;
        // What start-up needed is given back within a second or two; rest is what is asked for.
        std::thread::sleep(SETTLE);
        let before = Taken::now(&stand.peer, &stand.arena)?;
        let (held, _) = hold(&stand, work, CONNECTIONS, ports)?;
        std::thread::sleep(SETTLE);
        let after = Taken::now(&stand.peer, &stand.arena)?;
        let each = |difference: f64| difference / CONNECTIONS as f64;
        figures.note(slab, each(after.slab - before.slab));
        if contender.program() != Program::None {
            figures.note(resident, each(after.resident - before.resident));
            if work == Work::Small {
                figures.note("memory_idle_mib", before.resident / f64::from(1 << 20));
            }
        }
        drop((first, held));
    }
    Ok(())
}

fn hold(stand: &Stand, work: Work, count: usize, ports: Ports) -> Result<(Held, Ports)> {
    let targets = stand.contender.targets(&stand.arena, work);
    let held = stand.arena.lab.client.enter(move || drive::hold(work, &targets, count, ports))?;
    let ports = held.ports();
    Ok((held, ports))
}
