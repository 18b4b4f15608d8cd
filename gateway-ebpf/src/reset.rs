//! Answering packets of flows whose backend is gone: the sender learns at once that the connection is no more.

use gateway_common::{Seen, Verdict};

use crate::{
    answer::{self, Answer},
    packet::Packet,
    parse::{Family, Segment},
};

/// Makes the packet a reset to its sender (RFC 9293 section 3.10.7.1). A reset is not answered; nor is what cannot be
/// cut to its headers.
#[inline(always)]
pub(crate) fn answer<A: Family>(packet: &mut impl Packet, segment: &Segment<A>) -> Result<(), Verdict> {
    let answered = segment.flags & Seen::RST == 0 && turn(packet, segment);
    if answered { Ok(()) } else { Err(Verdict::Unanswered) }
}

/// A function of its own for the sake of the stack.
#[inline(never)]
fn turn<A: Family>(packet: &mut impl Packet, segment: &Segment<A>) -> bool {
    answer::write(packet, segment, &reset_of(segment)).is_ok()
}

/// Numbers by which the sender sees that the reset is an answer.
#[inline(always)]
fn reset_of<A: Family>(segment: &Segment<A>) -> Answer {
    let (sequence, acknowledgement, flags) = if segment.flags & Seen::ACK != 0 {
        (segment.acknowledgement, 0, Seen::RST)
    } else {
        let phantom = u32::from(segment.flags & Seen::SYN != 0) + u32::from(segment.flags & Seen::FIN != 0);
        let end = segment.sequence.wrapping_add(segment.payload).wrapping_add(phantom);
        (0, end, Seen::RST | Seen::ACK)
    };
    Answer { sequence, acknowledgement, flags, window: 0, segment_size: 0 }
}
