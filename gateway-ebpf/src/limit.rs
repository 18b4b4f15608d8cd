//! Who may open flows: the deny list, and limits by source and by listener.

use gateway_common::{Config, Table, Verdict, Word as _, config::SOURCE_CELLS, hash, rate};

use crate::{
    maps::{self, Maps},
    packet,
};

/// Nanoseconds of about a second, as a shift.
const SECOND: u32 = 30;

/// Refuses packets from denied prefixes.
#[inline(always)]
pub(crate) fn check_source<A: Maps>(config: &Config, source: A) -> Result<(), Verdict> {
    if config.flags & A::DENY != 0 && maps::is_denied(source) { Err(Verdict::Denied) } else { Ok(()) }
}

/// Refuses new flows above the limits of their source and of their listener.
#[inline(always)]
pub(crate) fn check_rate<A: Maps>(config: &Config, table: &Table, source: A) -> Result<(), Verdict> {
    if config.source_rate == 0 && table.max_rate == 0 && table.max_flows == 0 {
        return Ok(());
    }
    let second = (packet::now_coarse() >> SECOND) as u32;
    if config.source_rate != 0 && !admits_source(config, source, second) {
        return Err(Verdict::SourceLimited);
    }
    let Some((flows, rate)) = maps::load(table.listener) else { return Ok(()) };
    if table.max_flows != 0 && flows.load() >= u64::from(table.max_flows) {
        return Err(Verdict::ListenerFull);
    }
    if table.max_rate != 0 && !rate::admit(rate, second, table.max_rate) {
        return Err(Verdict::ListenerLimited);
    }
    Ok(())
}

/// Counted in two cells, so that an innocent address is refused only if it shares both with busy ones.
#[inline(always)]
fn admits_source<A: Maps>(config: &Config, source: A, second: u32) -> bool {
    let one = hash::client(config.index_key, source, 0);
    let two = hash::client(config.index_key, source, 1);
    let mut admitted = false;
    for hash in [one, two] {
        if let Some(cell) = maps::source(hash % SOURCE_CELLS) {
            admitted |= rate::admit(cell, second, config.source_rate);
        }
    }
    admitted
}
