//! ICMP errors about packets of flows: to whoever sent such a packet the error must speak of the packet as it sent it.
//! Path MTU discovery (RFC 1191, RFC 8201) depends on it.

use gateway_common::{Be16, Be32, FlowKey, Hash, Sum, Verdict};

use crate::{
    flow::Found,
    limit, maps,
    packet::{FURTHEST, Packet, Way},
    parse::{ETHERNET, Family, Segment, TCP, TCP_CHECKSUM, Word},
    rewrite::{self, Change},
    skb::Skb,
    transparent,
};

/// The header of ICMP errors, of both versions.
#[repr(C)]
pub(crate) struct Icmp {
    kind: u8,
    code: u8,
    checksum: Be16,
    rest: [u16; 2],
}

/// The beginning of a TCP header, of which errors embed no more for certain.
#[repr(C)]
pub(crate) struct Ports {
    source: Be16,
    destination: Be16,
    sequence: [u16; 2],
}

crate::packet::wire!(Icmp, Ports);

const HEADER: u32 = size_of::<Icmp>() as u32;
const _: () = assert!(HEADER == 8 && size_of::<Ports>() == 8);

/// Where the checksum lies in an ICMP header.
const CHECKSUM: u32 = core::mem::offset_of!(Icmp, checksum) as u32;

/// Where the parts of an error are.
struct Report {
    /// The ICMP header.
    message: u32,
    /// The embedded IP header, less the Ethernet header that it does not have.
    base: u32,
    /// The embedded TCP header.
    tcp: u32,
    /// Whether the embedded bytes go as far as the TCP checksum.
    has_checksum: bool,
}

/// Sends an error about a flow's packet to the packet's sender. Any other ICMP is the stack's, and what is about a packet
/// of a socket under a client's address is not to be forwarded to the client.
#[inline(always)]
pub(crate) fn steer<A: Family>(packet: &mut Skb<'_>) -> Result<(Way, Verdict), Verdict> {
    let segment = maps::segment::<A>().ok_or(Verdict::Unconfigured)?;
    let report = read(packet, segment)?;
    let config = maps::config().ok_or(Verdict::Unconfigured)?;
    let hash = Hash::new(config.index_key, &segment.key);
    let Ok((found, _)) = A::find(segment, hash).found() else {
        let is_ours = transparent::claim(packet, segment);
        return Err(if is_ours { Verdict::Transparent } else { Verdict::NotTcp });
    };
    let (source, _, hops) = A::read(packet.header::<A::Ip>(0)?);
    limit::check_source(config, source)?;
    if hops <= 1 {
        return Err(Verdict::Expired);
    }
    let way = packet.way(&found)?;
    if !translate(packet, segment, &found, &report) {
        return Err(Verdict::Truncated);
    }
    Ok((way, Verdict::IcmpError))
}

/// Finds the embedded packet. Its tuple turned round is the one that packets of the other direction arrive with: that
/// is the one put into the segment.
#[inline(always)]
fn read<A: Family>(packet: &mut impl Packet, segment: &mut Segment<A>) -> Result<Report, Verdict> {
    let carried = A::check(packet, 0, A::ICMP)?;
    let end = carried.offset + carried.length(packet.len())?;
    let message = carried.offset;
    if !A::is_error(packet.header::<Icmp>(message)?.kind) {
        return Err(Verdict::NotTcp);
    }
    let base = message + HEADER - ETHERNET;
    let embedded = A::check(packet, base, TCP).map_err(|_| Verdict::NotTcp)?;
    let tcp = embedded.offset;
    if tcp + size_of::<Ports>() as u32 > end || tcp + TCP_CHECKSUM > FURTHEST {
        return Err(Verdict::NotTcp);
    }
    let (_, receiver, _) = A::read(packet.header::<A::Ip>(0)?);
    (segment.key.destination, segment.key.source, _) = A::read(packet.header::<A::Ip>(base)?);
    let ports = packet.header::<Ports>(tcp)?;
    segment.key.destination_port = ports.source;
    segment.key.source_port = ports.destination;
    if receiver != segment.key.destination {
        // On its way to somebody else than the sender of what it is about.
        return Err(Verdict::NotTcp);
    }
    let has_checksum = tcp + TCP_CHECKSUM + size_of::<Word>() as u32 <= end;
    Ok(Report { message, base, tcp, has_checksum })
}

/// Gives the error, and the packet in it, the addresses and ports that its receiver knows. The sender of the error
/// becomes the gateway: no inside address gets out. A function of its own for the sake of the stack.
#[inline(never)]
fn translate<A: Family>(
    packet: &mut impl Packet,
    segment: &Segment<A>,
    found: &Found<A>,
    report: &Report,
) -> bool {
    let shift = found.translation().map_or(0, |translation| translation.acknowledgement(found.direction));
    write(packet, &segment.key, &found.leaving(), report, shift).is_ok()
}

#[inline(always)]
fn write<A: Family>(
    packet: &mut impl Packet,
    old: &FlowKey<A>,
    new: &FlowKey<A>,
    report: &Report,
    shift: u32,
) -> Result<(), Verdict> {
    // Sums do not care that the embedded tuple is turned round.
    let addresses = rewrite::addresses(new).minus(rewrite::addresses(old));
    let ports = rewrite::ports(new).minus(rewrite::ports(old));

    let embedded = packet.header::<Ports>(report.tcp)?;
    embedded.source = new.destination_port;
    embedded.destination = new.source_port;
    // What was sent is told to its sender as the acknowledgement of it would be.
    let sent = Be32::from_halves(embedded.sequence);
    let known = Be32::new(sent.get().wrapping_add(shift));
    embedded.sequence = known.halves();
    let segment = ports.plus(Sum::default().add(known)).minus(Sum::default().add(sent));
    let mut message = segment;
    if report.has_checksum {
        let field = packet.header::<Word>(report.tcp + TCP_CHECKSUM)?;
        let before = field.get();
        let after = addresses.plus(segment).update(before);
        field.set(after);
        message = message.plus(Sum::default().add16(after)).minus(Sum::default().add16(before));
    }
    let ip = packet.header::<A::Ip>(report.base)?;
    message = message.plus(A::write_embedded(ip, new.destination, new.source, addresses));

    let ip = packet.header::<A::Ip>(0)?;
    let (source, destination, _) = A::read(ip);
    let outer = rewrite::addresses(new).minus(source.sum().plus(destination.sum()));
    let rest = A::write(ip, new.source, new.destination, outer);
    let pseudo = if A::FAMILY == 6 { outer } else { Sum::default() };
    let change = Change { segment: message, addresses: pseudo, rest };
    packet.fix_checksums::<A>(report.message + CHECKSUM, &change);
    Ok(())
}
