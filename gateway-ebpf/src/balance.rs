//! Which backend gets a new flow.

use gateway_common::{Backend, BackendId, Config, FlowKey, Table, Verdict, hash};

use crate::maps::{self, Maps};

/// Picks by the hash of the flow's tuple: a SYN sent again picks the same.
#[inline(always)]
pub(crate) fn pick<A: Maps>(
    config: &Config,
    table: &Table,
    key: &FlowKey<A>,
) -> Result<(BackendId, &'static Backend<A>), Verdict> {
    let slot = hash::slot(hash::flow(config.hash_key, key), table.size);
    let id = maps::slot(table.base.wrapping_add(slot)).ok_or(Verdict::NoBackend)?;
    let backend = maps::backend::<A>(id).ok_or(Verdict::NoBackend)?;
    Ok((id, backend))
}
