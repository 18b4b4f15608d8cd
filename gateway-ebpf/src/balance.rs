//! Which backend gets a new flow.

use gateway_common::{Backend, BackendId, Config, FlowKey, Table, Verdict, hash};

use crate::maps::{self, Maps};

/// Picks by the flow's tuple, or by the client's address alone where the listener says so; `attempt` is 0 for the
/// first choice, and each further one chooses anew.
#[inline(always)]
pub(crate) fn pick<A: Maps>(
    config: &Config,
    table: &Table,
    key: &FlowKey<A>,
    attempt: u32,
) -> Result<(BackendId, &'static Backend<A>), Verdict> {
    let id = maps::slot(hash::choose(config.balance_key, table, key, attempt)).ok_or(Verdict::NoBackend)?;
    let backend = maps::backend::<A>(id).ok_or(Verdict::NoBackend)?;
    Ok((id, backend))
}
