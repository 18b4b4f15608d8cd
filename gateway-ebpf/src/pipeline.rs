//! The order of the steps a packet goes through. A step that ends the journey early returns the verdict that says
//! why as its error; the packet then goes to the node's own stack, or nowhere.

use gateway_common::{Addr4, Addr6, Verdict};

use crate::{
    flow, icmp,
    packet::{Packet, Way},
    parse::{self, Family, Segment, Version},
    rewrite, stats, trace,
};

/// From frame to action.
#[inline(always)]
pub(crate) fn run(packet: &mut impl Packet) -> i32 {
    match parse::version(packet) {
        Ok(Version::V4) => carry::<Addr4>(packet),
        Ok(Version::V6) => carry::<Addr6>(packet),
        Err(verdict) => stats::leave(packet, Err(verdict)),
    }
}

/// Each family has a function of its own, and so a stack of its own.
#[inline(never)]
fn carry<A: Family>(packet: &mut impl Packet) -> i32 {
    match steer::<A>(packet) {
        Err(Verdict::NotTcp) => carry_other::<A>(packet),
        outcome => stats::leave(packet, outcome),
    }
}

/// ICMP errors about flows are steered too.
#[inline(never)]
fn carry_other<A: Family>(packet: &mut impl Packet) -> i32 {
    let outcome = icmp::steer::<A>(packet);
    stats::leave(packet, outcome)
}

#[inline(always)]
fn steer<A: Family>(packet: &mut impl Packet) -> Result<(Way, Verdict), Verdict> {
    let segment = parse::segment::<A>(packet)?;
    let outcome = serve(packet, segment);
    let (Ok((_, verdict)) | Err(verdict)) = outcome;
    trace::packet(packet, segment, verdict);
    outcome
}

#[inline(always)]
fn serve<A: Family>(packet: &mut impl Packet, segment: &Segment<A>) -> Result<(Way, Verdict), Verdict> {
    let (found, verdict) = flow::find_or_open(packet, segment)?;
    let way = packet.way(&found)?;
    if !rewrite::apply(packet, segment, &found) {
        return Err(Verdict::Truncated);
    }
    flow::record(&found, segment, packet);
    Ok((way, verdict))
}
