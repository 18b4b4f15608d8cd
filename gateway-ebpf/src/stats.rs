//! The one exit of a packet: its verdict is counted, and becomes the action that the kernel takes.

use gateway_common::{Action, Verdict};

use crate::{
    maps,
    packet::{Packet, Way},
};

/// Counts what became of a packet and returns the action.
#[inline(always)]
pub(crate) fn leave(packet: &mut impl Packet, outcome: Result<(Way, Verdict), Verdict>) -> i32 {
    match outcome {
        Ok((way, verdict)) => {
            maps::bump(verdict);
            packet.send(&way)
        }
        Err(verdict) => {
            maps::bump(verdict);
            if verdict.action() == Action::Drop { packet.drop() } else { packet.pass() }
        }
    }
}
