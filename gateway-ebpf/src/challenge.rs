//! Answering a SYN on the tuple of a handed-over connection that is not over. Sent on, it might open a connection at the
//! backend of the one before, whatever name the client is about to ask for: nobody has read its hello.

use gateway_common::{Seen, State, Verdict};

use crate::{
    answer::{self, Answer},
    flow::Found,
    packet::Packet,
    parse::{Family, Segment},
};

/// Whether a segment is such a SYN. While the connection is frozen its numbers mean nothing yet, and the SYN is withheld.
#[inline(always)]
pub(crate) fn is_due<A: Family>(segment: &Segment<A>, found: &Found<A>) -> bool {
    segment.opens() && !found.state.any(State::FROZEN) && found.is_handed_over()
}

/// Makes the SYN an acknowledgement of what its sender has sent before (RFC 5961 section 4.2). A client that has begun anew
/// resets the old connection by the number that it finds there, and its next SYN finds none; one that has not, and whose
/// SYN was forged, has had all of this and says so.
#[inline(always)]
pub(crate) fn answer<A: Family>(
    packet: &mut impl Packet,
    segment: &Segment<A>,
    found: &Found<A>,
) -> Result<(), Verdict> {
    let Some(translation) = found.translation() else { return Err(Verdict::Unanswered) };
    let other = found.direction.reversed();
    let told = found.record.expected(other).wrapping_add(translation.sequence(other));
    let acknowledgement = found.record.expected(found.direction);
    if turn(packet, segment, told.wrapping_sub(1), acknowledgement) {
        Ok(())
    } else {
        Err(Verdict::Unanswered)
    }
}

/// A function of its own for the sake of the stack.
#[inline(never)]
fn turn<A: Family>(
    packet: &mut impl Packet,
    segment: &Segment<A>,
    sequence: u32,
    acknowledgement: u32,
) -> bool {
    // An end that is in the middle of the connection leaves the window of a segment with an old number alone.
    let answer = Answer { sequence, acknowledgement, flags: Seen::ACK, window: 0, segment_size: 0 };
    answer::write(packet, segment, &answer).is_ok()
}
