//! Answering packets of flows whose backend is gone: the sender learns at once that the connection is no more.

use gateway_common::{Be16, Be32, Seen, Verdict};

use crate::{
    packet::Packet,
    parse::{ETHERNET, Ethernet, Family, Segment, TCP, TCP_CHECKSUM, TCP_HEADER, Tcp},
    rewrite,
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
    write(packet, segment).is_ok()
}

#[inline(always)]
fn write<A: Family>(packet: &mut impl Packet, segment: &Segment<A>) -> Result<(), Verdict> {
    let length = segment.offset + TCP_HEADER;
    if packet.len() != length && !packet.cut(length) {
        return Err(Verdict::Unanswered);
    }
    packet.header::<Ethernet>(0)?.turn();
    A::turn(packet.header::<A::Ip>(0)?, length - ETHERNET);

    let key = &segment.key;
    let (sequence, acknowledgement, flags) = numbers(segment);
    *packet.header::<Tcp>(segment.offset)? =
        Tcp::bare([key.destination_port, key.source_port], sequence, acknowledgement, flags);
    // Sums do not care that addresses and ports are turned round.
    let pseudo = rewrite::addresses(key).add16(Be16::new(TCP.into())).add16(Be16::new(TCP_HEADER as u16));
    let header = rewrite::ports(key)
        .add(Be32::new(sequence))
        .add(Be32::new(acknowledgement))
        .add16(Be16::new((TCP_HEADER as u16 / 4) << 12 | flags as u16));
    if packet.seal(segment.offset + TCP_CHECKSUM, pseudo, header) { Ok(()) } else { Err(Verdict::Unanswered) }
}

/// Sequence number, acknowledgement number and flags of the reset: numbers by which the sender sees that it is an answer.
#[inline(always)]
fn numbers<A: Family>(segment: &Segment<A>) -> (u32, u32, u32) {
    if segment.flags & Seen::ACK != 0 {
        return (segment.acknowledgement, 0, Seen::RST);
    }
    let phantom = u32::from(segment.flags & Seen::SYN != 0) + u32::from(segment.flags & Seen::FIN != 0);
    let end = segment.sequence.wrapping_add(segment.payload).wrapping_add(phantom);
    (0, end, Seen::RST | Seen::ACK)
}
