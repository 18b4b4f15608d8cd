//! Giving a segment its new addresses and ports, one hop less, and checksums that fit.

use gateway_common::{Be32, FlowKey, Sum, Verdict};

use crate::{
    flow::Found,
    mss,
    packet::Packet,
    parse::{Family, Segment, TCP_CHECKSUM, Tcp},
};

/// By how much the words of a packet changed.
pub(crate) struct Change {
    /// Words of the TCP segment.
    pub(crate) segment: Sum,
    /// Addresses, which the pseudo header has in it.
    pub(crate) addresses: Sum,
    /// What else changed in an IP header that has no checksum of its own.
    pub(crate) rest: Sum,
}

/// Gives a segment that has a hop left another tuple. The headers are written first and the TCP checksum is left to
/// the hook, which knows whether the hardware still has to fill it in: so super-packets and packets of local senders
/// come out right too. `told` is
/// what [`crate::translate::apply_if`] returned. False if a header cannot be read any more. A function of its own for the sake of the stack.
#[inline(never)]
pub(crate) fn apply<A: Family>(
    packet: &mut impl Packet,
    segment: &Segment<A>,
    found: &Found<A>,
    told: u64,
) -> bool {
    let changed = mss::clamp(packet, segment, found).plus(Sum::folded(told as u32));
    let changed = (changed, Sum::folded((told >> 32) as u32));
    write(packet, segment, &found.leaving(), changed).is_ok()
}

#[inline(always)]
fn write<A: Family>(
    packet: &mut impl Packet,
    segment: &Segment<A>,
    new: &FlowKey<A>,
    (changed, beside): (Sum, Sum),
) -> Result<(), Verdict> {
    let old = &segment.key;
    let addresses = addresses(new).minus(addresses(old));
    let ports = ports(new).minus(ports(old));

    let tcp = packet.header::<Tcp>(segment.offset)?;
    tcp.source_port = new.source_port;
    tcp.destination_port = new.destination_port;
    let ip = packet.header::<A::Ip>(0)?;
    let rest = A::write(ip, new.source, new.destination, addresses).plus(beside);

    let change = Change { segment: ports.plus(changed), addresses, rest };
    packet.fix_checksums::<A>(segment.offset + TCP_CHECKSUM, &change);
    Ok(())
}

/// Sum over the addresses of a tuple.
#[inline(always)]
pub(crate) fn addresses<A: Family>(key: &FlowKey<A>) -> Sum {
    key.source.sum().plus(key.destination.sum())
}

/// Sum over the ports of a tuple.
#[inline(always)]
pub(crate) fn ports<A: Family>(key: &FlowKey<A>) -> Sum {
    Sum::default().add(Be32::from_halves([key.source_port.wire(), key.destination_port.wire()]))
}
