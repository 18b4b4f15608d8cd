//! The order of the steps a packet goes through. A step that ends the journey early returns the verdict that says
//! why as its error; the packet then goes to the node's own stack, or nowhere.

use gateway_common::{Action, Addr4, Addr6, Verdict};

use crate::{
    flow::{self, Found},
    icmp,
    packet::{Packet, Way},
    parse::{self, Family, Segment, Version},
    reset, rewrite, stats, trace,
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
    let length = packet.len();
    let outcome = serve(packet, segment);
    let (Ok((_, verdict)) | Err(verdict)) = outcome;
    trace::packet(packet, segment, length, verdict);
    outcome
}

#[inline(always)]
fn serve<A: Family>(packet: &mut impl Packet, segment: &Segment<A>) -> Result<(Way, Verdict), Verdict> {
    let (found, verdict) = match flow::find_or_open(packet, segment) {
        Ok((_, verdict @ Verdict::Reset))
        | Err(verdict @ (Verdict::ListenerFull | Verdict::ListenerLimited)) => {
            reset::answer(packet, segment)?;
            return Ok((Way::BACK, verdict));
        }
        found => found?,
    };
    send_on(packet, segment, &found, verdict)
}

#[inline(always)]
fn send_on<A: Family>(
    packet: &mut impl Packet,
    segment: &Segment<A>,
    found: &Found<A>,
    verdict: Verdict,
) -> Result<(Way, Verdict), Verdict> {
    let way = packet.way(found)?;
    if !rewrite::apply(packet, segment, found) {
        return Err(Verdict::Truncated);
    }
    flow::record(found, segment, packet);
    Ok((way, verdict))
}

/// What can be done before the kernel makes a socket buffer of a packet: segments of established flows are sent on, those
/// of condemned ones answered, and denied sources refused. All else is left, untouched and uncounted, to the program
/// at tc.
#[inline(always)]
pub(crate) fn run_early(packet: &mut impl Packet) -> i32 {
    match parse::version(packet) {
        Ok(Version::V4) => carry_early::<Addr4>(packet),
        Ok(Version::V6) => carry_early::<Addr6>(packet),
        Err(_) => packet.pass(),
    }
}

#[inline(never)]
fn carry_early<A: Family>(packet: &mut impl Packet) -> i32 {
    match steer_early::<A>(packet) {
        Err(verdict) if verdict.action() == Action::Pass => packet.pass(),
        outcome => stats::leave(packet, outcome),
    }
}

#[inline(always)]
fn steer_early<A: Family>(packet: &mut impl Packet) -> Result<(Way, Verdict), Verdict> {
    let segment = parse::segment::<A>(packet)?;
    let length = packet.len();
    let outcome = serve_early(packet, segment);
    let (Ok((_, verdict)) | Err(verdict)) = outcome;
    // What is left to tc is told of there.
    if verdict.action() != Action::Pass {
        trace::packet(packet, segment, length, verdict);
    }
    outcome
}

/// No packet and no record is changed before it is certain that the packet can be sent.
#[inline(always)]
fn serve_early<A: Family>(packet: &mut impl Packet, segment: &Segment<A>) -> Result<(Way, Verdict), Verdict> {
    let (found, verdict) = flow::find_established(segment)?;
    if verdict == Verdict::Reset {
        reset::answer(packet, segment)?;
        return Ok((Way::BACK, verdict));
    }
    send_on(packet, segment, &found, verdict)
}
