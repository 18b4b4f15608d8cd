//! The one exit of a packet: its verdict is counted, and becomes the action that the kernel takes.

use gateway_common::Verdict;

use crate::{maps, packet, pipeline::Sent};

/// Counts what became of a packet and returns the action.
#[inline(always)]
pub(crate) fn leave(outcome: Result<Sent, Verdict>) -> i32 {
    match outcome {
        Ok(Sent { verdict, oif }) => {
            maps::bump(verdict);
            packet::redirect(oif)
        }
        Err(verdict) => {
            maps::bump(verdict);
            packet::NEXT
        }
    }
}
