//! The order of the steps a packet goes through. A step that ends the journey early returns the verdict that says
//! why as its error; the packet then goes to the node's own stack, or nowhere.

use gateway_common::{Action, Addr4, Addr6, Verdict};

use crate::{
    challenge, cookie,
    flow::{self, Found},
    icmp,
    packet::{Packet, Way},
    parse::{self, Family, Segment, Version},
    reset, rewrite,
    skb::Skb,
    stats, trace, translate, transparent,
};

/// From frame to action.
#[inline(always)]
pub(crate) fn run(packet: &mut Skb<'_>) -> i32 {
    match parse::version(packet) {
        Ok(Version::V4) => carry_any::<Addr4>(packet),
        Ok(Version::V6) => carry_any::<Addr6>(packet),
        Err(verdict) => stats::leave(packet, Err(verdict)),
    }
}

/// ICMP errors about flows are steered too. One after the other, so that neither finds the stack half used.
#[inline(always)]
fn carry_any<A: Family>(packet: &mut Skb<'_>) -> i32 {
    match carry::<A>(packet) {
        NOT_TCP => carry_other::<A>(packet),
        action => action,
    }
}

/// No action of any hook.
const NOT_TCP: i32 = i32::MIN;

/// Each family has a function of its own, and so a stack of its own.
#[inline(never)]
fn carry<A: Family>(packet: &mut Skb<'_>) -> i32 {
    match steer::<A>(packet) {
        Err(Verdict::NotTcp) => NOT_TCP,
        outcome => stats::leave(packet, outcome),
    }
}

#[inline(never)]
fn carry_other<A: Family>(packet: &mut Skb<'_>) -> i32 {
    let outcome = icmp::steer::<A>(packet);
    stats::leave(packet, outcome)
}

#[inline(always)]
fn steer<A: Family>(packet: &mut Skb<'_>) -> Result<(Way, Verdict), Verdict> {
    let segment = parse::segment::<A>(packet)?;
    let length = packet.len();
    let served = serve(packet, segment);
    let outcome = left_to_socket(packet, segment, served);
    let (Ok((_, verdict)) | Err(verdict)) = outcome;
    trace::packet(packet, segment, length, verdict);
    outcome
}

/// What is for a socket of ours under a client's address must not be forwarded to the client.
#[inline(always)]
fn left_to_socket<A: Family>(
    packet: &mut Skb<'_>,
    segment: &Segment<A>,
    outcome: Result<(Way, Verdict), Verdict>,
) -> Result<(Way, Verdict), Verdict> {
    match outcome {
        Err(verdict @ (Verdict::NotSteered | Verdict::Owed)) if transparent::claim(packet, segment) => {
            // One that is owed is known as such.
            Err(if verdict == Verdict::Owed { verdict } else { Verdict::Transparent })
        }
        outcome => outcome,
    }
}

#[inline(always)]
fn serve<A: Family>(packet: &mut Skb<'_>, segment: &Segment<A>) -> Result<(Way, Verdict), Verdict> {
    let (found, verdict) = match flow::find_or_open(packet, segment) {
        Ok((_, verdict @ Verdict::Reset))
        | Err(verdict @ (Verdict::ListenerFull | Verdict::ListenerLimited)) => {
            reset::answer(packet, segment)?;
            return Ok((Way::BACK, verdict));
        }
        Err(Verdict::HandshakesFull) => {
            cookie::answer(packet, segment)?;
            return Ok((Way::BACK, Verdict::CookieSent));
        }
        found => found?,
    };
    if challenge::is_due(segment, &found) {
        challenge::answer(packet, segment, &found)?;
        return Ok((Way::BACK, Verdict::Challenged));
    }
    if is_new(verdict) && transparent::has_taken(packet, &found) {
        return Err(flow::give_up(&found));
    }
    match translate::admit(packet, segment, &found) {
        Ok(()) => send_on(packet, segment, &found, verdict),
        Err(verdict @ Verdict::Reset) => {
            reset::answer(packet, segment)?;
            Ok((Way::BACK, verdict))
        }
        Err(verdict) => Err(verdict),
    }
}

/// Whether a flow has just got its backend.
#[inline(always)]
fn is_new(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Steered | Verdict::Replaced | Verdict::Retried)
}

#[inline(always)]
fn send_on<A: Family>(
    packet: &mut impl Packet,
    segment: &Segment<A>,
    found: &Found<A>,
    verdict: Verdict,
) -> Result<(Way, Verdict), Verdict> {
    let way = packet.way(found)?;
    let told = translate::apply_if(packet, segment, found);
    if !rewrite::apply(packet, segment, found, told) {
        return Err(Verdict::Truncated);
    }
    flow::record(found, segment, packet);
    Ok((way, verdict))
}

/// What can be done before the kernel makes a socket buffer of a packet: segments of established flows are sent on, those
/// of condemned ones answered, denied sources refused, and SYNs of a flood answered by cookies. All else is left,
/// untouched and uncounted, to the program at tc.
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
    let refusal = match flow::find_established(segment) {
        Ok((_, verdict @ Verdict::Reset)) => verdict,
        Err(Verdict::Miss) => match cookie::guard(packet, segment) {
            Ok(()) => return Ok((Way::BACK, Verdict::CookieSent)),
            Err(verdict @ (Verdict::ListenerFull | Verdict::ListenerLimited)) => verdict,
            Err(verdict) => return Err(verdict),
        },
        found => {
            let (found, verdict) = found?;
            return send_on(packet, segment, &found, verdict);
        }
    };
    reset::answer(packet, segment)?;
    Ok((Way::BACK, refusal))
}
