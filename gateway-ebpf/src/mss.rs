//! The maximum segment size that both ends of a connection tell each other in their SYN: lowered to what both of the
//! gateway's links carry. Nobody else can: the ends see their own link only, and many networks lose the ICMP messages by
//! which they would learn of the other's.

use gateway_common::{Be16, Sum, flow::Seen};

use crate::{
    boundary,
    flow::Found,
    maps,
    packet::Packet,
    parse::{ETHERNET, Family, Segment, TCP_HEADER, Word},
};

/// Lowers the option, if the segment has it and it is too high. Returns by how much the sum over the segment changed.
#[inline(always)]
pub(crate) fn clamp<A: Family>(packet: &mut impl Packet, segment: &Segment<A>, found: &Found<A>) -> Sum {
    if segment.flags & Seen::SYN == 0 || segment.header == TCP_HEADER {
        return Sum::default();
    }
    let mtu = lower(mtu(packet.interface()), mtu(found.oif()));
    let headers = headers::<A>();
    if mtu <= headers {
        return Sum::default();
    }
    let change = lower_to(packet, segment, mtu - headers);
    let word = |word: u32| Sum::default().add16(Be16::from_wire(word as u16));
    word(change).minus(word(change >> 16))
}

/// A segment size, lowered to what the packets of an interface hold.
#[inline(always)]
pub(crate) fn within<A: Family>(size: u32, interface: u32) -> u32 {
    let (mtu, headers) = (mtu(interface), headers::<A>());
    if mtu > headers && mtu - headers < size { mtu - headers } else { size }
}

/// Bytes of a packet that are no payload, without options.
#[inline(always)]
fn headers<A: Family>() -> u32 {
    size_of::<A::Ip>() as u32 - ETHERNET + TCP_HEADER
}

/// Largest packet of an interface; 0 if it is not known.
#[inline(always)]
fn mtu(interface: u32) -> u32 {
    maps::link(interface).map_or(0, |link| link.mtu)
}

#[inline(always)]
fn lower(one: u32, other: u32) -> u32 {
    if one == 0 || other != 0 && other < one { other } else { one }
}

/// The new word in the lower half and the old one in the upper half, both as the checksum sees them; 0 if the option
/// stays as it is. A function of its own for the sake of the stack.
#[inline(never)]
fn lower_to<A: Family>(packet: &mut impl Packet, segment: &Segment<A>, limit: u32) -> u32 {
    let Some(options) = packet.copy(segment.offset + TCP_HEADER, segment.header - TCP_HEADER) else {
        return 0;
    };
    let Some(place) = boundary::segment_size(options) else { return 0 };
    let Ok(field) = packet.header::<Word>(segment.offset + TCP_HEADER + place) else { return 0 };
    let old = field.get();
    if u32::from(old.get()) <= limit {
        return 0;
    }
    let new = Be16::new(limit as u16);
    field.set(new);
    let (old, new) = (u32::from(old.wire()), u32::from(new.wire()));
    // Behind padding of one byte the value lies in two words of the sum: as if its bytes were swapped.
    if place % 2 == 0 { new | old << 16 } else { (new | old << 16).swap_bytes().rotate_left(16) }
}
