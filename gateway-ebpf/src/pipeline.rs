//! The order of the steps a packet goes through. A step that ends the journey early returns the verdict that says
//! why as its error; the packet then goes to the node's own stack.

use gateway_common::{Addr4, Addr6, Verdict};

use crate::{
    flow,
    packet::{self, Packet, Wire},
    parse::{self, Family, Frame, Version},
    rewrite, stats,
};

/// A packet that was rewritten and leaves by an interface.
pub(crate) struct Sent {
    pub(crate) verdict: Verdict,
    pub(crate) oif: u32,
}

/// From frame to action.
#[inline(always)]
pub(crate) fn run(packet: &mut Packet<'_>) -> i32 {
    let outcome = match parse::version(packet) {
        Ok(Version::V4) => steer::<Addr4>(packet),
        Ok(Version::V6) => steer::<Addr6>(packet),
        Err(verdict) => Err(verdict),
    };
    stats::leave(outcome)
}

#[inline(always)]
fn steer<A: Family>(packet: &mut Packet<'_>) -> Result<Sent, Verdict>
where
    Frame<A::Ip>: Wire,
{
    let segment = parse::segment::<A>(packet)?;
    let (entry, verdict) = flow::find_or_open(packet, &segment)?;
    let oif = rewrite::apply(packet, &segment, &entry)?;
    flow::record(&entry, &segment, packet::now_coarse(), packet);
    Ok(Sent { verdict, oif })
}
