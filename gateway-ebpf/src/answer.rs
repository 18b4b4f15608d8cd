//! Turning a packet round: its sender gets a bare TCP header back, along the way that it came by.

use gateway_common::{Be16, Be32, Sum, Verdict};

use crate::{
    packet::Packet,
    parse::{
        ETHERNET, Ethernet, Family, SEGMENT_SIZE_OPTION, Segment, SegmentSize, TCP, TCP_CHECKSUM, TCP_HEADER,
        Tcp,
    },
    rewrite,
};

/// What an answer says.
pub(crate) struct Answer {
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    /// As [`gateway_common::Seen`] bits.
    pub(crate) flags: u32,
    /// In bytes, unscaled.
    pub(crate) window: u32,
    /// Maximum segment size; 0 for no such option.
    pub(crate) segment_size: u32,
}

impl Answer {
    /// Length of the TCP header with its option.
    #[inline(always)]
    fn header(&self) -> u32 {
        if self.segment_size == 0 { TCP_HEADER } else { TCP_HEADER + SEGMENT_SIZE_OPTION }
    }

    /// Sum over all words of the header but ports and checksum.
    #[inline(always)]
    fn sum(&self) -> Sum {
        let option =
            if self.segment_size == 0 { Sum::default() } else { SegmentSize::new(self.segment_size).sum() };
        option
            .add(Be32::new(self.sequence))
            .add(Be32::new(self.acknowledgement))
            .add16(Be16::new((self.header() as u16 / 4) << 12 | self.flags as u16))
            .add16(Be16::new(self.window as u16))
    }
}

/// Makes the packet an answer to its sender. After an error it must not leave any more: it may be half of one.
#[inline(always)]
pub(crate) fn write<A: Family>(
    packet: &mut impl Packet,
    segment: &Segment<A>,
    answer: &Answer,
) -> Result<(), Verdict> {
    let header = answer.header();
    let length = segment.offset + header;
    if packet.len() != length && !packet.cut(length) {
        return Err(Verdict::Unanswered);
    }
    packet.header::<Ethernet>(0)?.turn();
    A::turn(packet.header::<A::Ip>(0)?, length - ETHERNET);

    let key = &segment.key;
    *packet.header::<Tcp>(segment.offset)? = Tcp::bare(
        [key.destination_port, key.source_port],
        [answer.sequence, answer.acknowledgement],
        header,
        answer.flags,
        answer.window,
    );
    if answer.segment_size != 0 {
        *packet.header::<SegmentSize>(segment.offset + TCP_HEADER)? = SegmentSize::new(answer.segment_size);
    }
    // Sums do not care that addresses and ports are turned round.
    let pseudo = rewrite::addresses(key).add16(Be16::new(TCP.into())).add16(Be16::new(header as u16));
    let whole = answer.sum().plus(rewrite::ports(key));
    if packet.seal(segment.offset + TCP_CHECKSUM, pseudo, whole) { Ok(()) } else { Err(Verdict::Unanswered) }
}
