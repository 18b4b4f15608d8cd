//! Giving a segment its new addresses and ports, one hop less, and checksums that fit.

use gateway_common::{Be32, FlowKey, Sum, Verdict};

use crate::{
    maps::Entry,
    packet::{Packet, Wire},
    parse::{Family, Frame, Segment, tcp_checksum_offset},
};

/// Rewrites a segment that has a hop left as its entry says and returns the interface that it leaves by. The headers are written
/// first and the TCP checksum is left to the kernel's helpers, which know whether the hardware still has to fill
/// it in: so super-packets and packets of local senders come out right too.
#[inline(always)]
pub(crate) fn apply<A: Family>(
    packet: &mut Packet<'_>,
    segment: &Segment<A>,
    entry: &Entry<A>,
) -> Result<u32, Verdict>
where
    Frame<A::Ip>: Wire,
{
    let (new, oif) = entry.rewritten();
    let old = &segment.key;
    let addresses = addresses(&new).minus(addresses(old));
    let ports = ports(&new).minus(ports(old));

    let frame = packet.headers::<Frame<A::Ip>>()?;
    frame.tcp.source_port = new.source_port;
    frame.tcp.destination_port = new.destination_port;
    let rest = A::write(&mut frame.ip, new.source, new.destination, addresses);

    packet.update_tcp_checksum(tcp_checksum_offset::<A::Ip>(), ports, addresses, A::IS_V6);
    if A::IS_V6 {
        packet.update_packet_sum(rest);
    }
    Ok(oif)
}

#[inline(always)]
fn addresses<A: Family>(key: &FlowKey<A>) -> Sum {
    key.source.sum().plus(key.destination.sum())
}

#[inline(always)]
fn ports<A: Family>(key: &FlowKey<A>) -> Sum {
    Sum::default().add(Be32::from_halves([key.source_port.wire(), key.destination_port.wire()]))
}
