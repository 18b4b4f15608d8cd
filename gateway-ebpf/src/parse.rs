//! From bytes to a TCP segment. Whatever is not plain Ethernet, IPv4 without options or IPv6 without extension
//! headers, and TCP, ends here with the verdict that says why.

use gateway_common::{Addr4, Addr6, Be16, Be32, FlowKey, Sum, Verdict, flow::Seen};

use crate::{
    boundary::Steps,
    maps,
    packet::{Packet, Wire},
};

const IPV4: Be16 = Be16::new(0x0800);
const IPV6: Be16 = Be16::new(0x86dd);
const VLAN: Be16 = Be16::new(0x8100);
const SERVICE_VLAN: Be16 = Be16::new(0x88a8);

const TCP: u8 = 6;
/// IPv4: "more fragments" and the offset. "Don't fragment" and the reserved bit are left out.
const FRAGMENT_BITS: Be16 = Be16::new(0x3fff);
/// IPv6: next header numbers of extension headers (IANA), the fragment header apart.
const EXTENSION_HEADERS: [u8; 7] = [0, 43, 50, 51, 60, 135, 139];
const FRAGMENT_HEADER: u8 = 44;

const TCP_HEADER: u32 = 20;

/// IP version of a frame.
pub(crate) enum Version {
    V4,
    V6,
}

/// A TCP segment that may belong to a flow.
#[repr(C)]
pub(crate) struct Segment<A> {
    pub(crate) key: FlowKey<A>,
    /// TCP flags as [`Seen`] bits.
    pub(crate) flags: u32,
    /// Time to live or hop limit.
    pub(crate) hops: u32,
    /// Where the TCP header begins.
    pub(crate) offset: u32,
    /// Sequence number.
    pub(crate) sequence: u32,
    /// Acknowledgement number.
    pub(crate) acknowledgement: u32,
}

impl<A> Segment<A> {
    /// Whether it opens a connection: SYN and none of ACK, FIN and RST.
    #[inline(always)]
    pub(crate) fn opens(&self) -> bool {
        self.flags == Seen::SYN
    }
}

/// The Ethernet header.
#[repr(C)]
pub(crate) struct Ethernet {
    addresses: [u16; 6],
    ethertype: Be16,
}

/// The TCP header without options.
#[repr(C)]
pub(crate) struct Tcp {
    pub(crate) source_port: Be16,
    pub(crate) destination_port: Be16,
    sequence: [u16; 2],
    acknowledgement: [u16; 2],
    /// Header length in words, in the upper half.
    offset: u8,
    flags: u8,
    window: u16,
    pub(crate) checksum: Be16,
    urgent: u16,
}

/// Ethernet and IPv4.
#[repr(C)]
pub(crate) struct Ip4 {
    ethernet: Ethernet,
    version_and_length: u8,
    service: u8,
    total_length: Be16,
    identification: u16,
    fragment: Be16,
    pub(crate) hops: u8,
    protocol: u8,
    pub(crate) checksum: Be16,
    pub(crate) source: [u16; 2],
    pub(crate) destination: [u16; 2],
}

/// Ethernet and IPv6.
#[repr(C)]
pub(crate) struct Ip6 {
    ethernet: Ethernet,
    version_and_label: [u16; 2],
    payload_length: Be16,
    next_header: u8,
    pub(crate) hops: u8,
    pub(crate) source: [[u16; 2]; 4],
    pub(crate) destination: [[u16; 2]; 4],
}

crate::packet::wire!(Ethernet, Ip4, Ip6, Tcp);

const _: () = assert!(size_of::<Ip4>() == 34 && size_of::<Ip6>() == 54 && size_of::<Tcp>() == 20);

/// Where the checksum lies in a TCP header.
pub(crate) const TCP_CHECKSUM: u32 = core::mem::offset_of!(Tcp, checksum) as u32;

/// Reads the Ethernet header.
#[inline(always)]
pub(crate) fn version(packet: &mut impl Packet) -> Result<Version, Verdict> {
    if packet.has_vlan_tag() {
        return Err(Verdict::Vlan);
    }
    match packet.header::<Ethernet>(0)?.ethertype {
        IPV4 => Ok(Version::V4),
        IPV6 => Ok(Version::V6),
        VLAN | SERVICE_VLAN => Err(Verdict::Vlan),
        _ => Err(Verdict::NotIp),
    }
}

/// What the steps after parsing ask of an address family.
pub(crate) trait Family: Steps {
    /// Ethernet and IP header.
    type Ip: Wire;

    /// Checks the IP header and returns the length of what it carries, in bytes.
    fn check(packet: &mut impl Packet) -> Result<u32, Verdict>;

    /// Reads addresses and hop limit.
    fn read(ip: &Self::Ip) -> (Self, Self, u32);

    /// Writes the addresses, takes one hop away, and keeps the header's checksum right if it has one. Returns by
    /// how much the sum over the header changed apart from addresses and checksum.
    fn write(ip: &mut Self::Ip, source: Self, destination: Self, addresses: Sum) -> Sum;
}

impl Family for Addr4 {
    type Ip = Ip4;

    #[inline(always)]
    fn check(packet: &mut impl Packet) -> Result<u32, Verdict> {
        let length = packet.len();
        let ip = packet.header::<Ip4>(0)?;
        if ip.version_and_length >> 4 != 4 {
            return Err(Verdict::Malformed);
        }
        if ip.protocol != TCP {
            return Err(Verdict::NotTcp);
        }
        if ip.fragment.wire() & FRAGMENT_BITS.wire() != 0 {
            return Err(Verdict::Fragment);
        }
        match ip.version_and_length & 0x0f {
            5 => {}
            0..5 => return Err(Verdict::Malformed),
            _ => return Err(Verdict::IpOptions),
        }
        let total = u32::from(ip.total_length.get());
        carried(total, 20, length)
    }

    #[inline(always)]
    fn read(ip: &Ip4) -> (Self, Self, u32) {
        (Self(Be32::from_halves(ip.source)), Self(Be32::from_halves(ip.destination)), ip.hops.into())
    }

    #[inline(always)]
    fn write(ip: &mut Ip4, source: Self, destination: Self, addresses: Sum) -> Sum {
        ip.source = source.0.halves();
        ip.destination = destination.0.halves();
        // The word of hop count and protocol lost 0x0100.
        let difference = addresses.minus(Sum::default().add16(Be16::new(0x0100)));
        ip.hops -= 1;
        ip.checksum = difference.update(ip.checksum);
        // The checksum outweighs all else.
        Sum::default()
    }
}

impl Family for Addr6 {
    type Ip = Ip6;

    #[inline(always)]
    fn check(packet: &mut impl Packet) -> Result<u32, Verdict> {
        let length = packet.len();
        let ip = packet.header::<Ip6>(0)?;
        if Be32::from_halves(ip.version_and_label).get() >> 28 != 6 {
            return Err(Verdict::Malformed);
        }
        match ip.next_header {
            TCP => {}
            FRAGMENT_HEADER => return Err(Verdict::Fragment),
            next if EXTENSION_HEADERS.contains(&next) => return Err(Verdict::ExtensionHeader),
            _ => return Err(Verdict::NotTcp),
        }
        // A payload length of 0 is a super-packet above 64 KiB, with a header in front that says so: not ours.
        let total = u32::from(ip.payload_length.get()) + 40;
        carried(total, 40, length)
    }

    #[inline(always)]
    fn read(ip: &Ip6) -> (Self, Self, u32) {
        (Self(ip.source.map(Be32::from_halves)), Self(ip.destination.map(Be32::from_halves)), ip.hops.into())
    }

    #[inline(always)]
    fn write(ip: &mut Ip6, source: Self, destination: Self, _addresses: Sum) -> Sum {
        ip.source = source.0.map(Be32::halves);
        ip.destination = destination.0.map(Be32::halves);
        ip.hops -= 1;
        Sum::default().minus(Sum::default().add16(Be16::new(0x0001)))
    }
}

/// Length of what an IP header of `header` bytes carries, when it claims `total` in a frame of `frame` bytes.
/// Frames may be longer than they claim: Ethernet pads them to 60 bytes.
#[inline(always)]
fn carried(total: u32, header: u32, frame: u32) -> Result<u32, Verdict> {
    if total + size_of::<Ethernet>() as u32 > frame || total < header {
        return Err(Verdict::Truncated);
    }
    Ok(total - header)
}

/// Reads IP and TCP header.
#[inline(always)]
pub(crate) fn segment<A: Family>(packet: &mut impl Packet) -> Result<&'static Segment<A>, Verdict> {
    let segment = maps::segment::<A>().ok_or(Verdict::Unconfigured)?;
    let carried = A::check(packet)?;
    if carried < TCP_HEADER {
        return Err(Verdict::Truncated);
    }
    (segment.key.source, segment.key.destination, segment.hops) = A::read(packet.header::<A::Ip>(0)?);
    segment.offset = size_of::<A::Ip>() as u32;
    let tcp = packet.header::<Tcp>(size_of::<A::Ip>() as u32)?;
    let header = u32::from(tcp.offset >> 4) * 4;
    if header < TCP_HEADER {
        return Err(Verdict::Malformed);
    }
    if header > carried {
        return Err(Verdict::Truncated);
    }
    segment.key.source_port = tcp.source_port;
    segment.key.destination_port = tcp.destination_port;
    segment.flags = u32::from(tcp.flags) & Seen::TCP;
    segment.sequence = Be32::from_halves(tcp.sequence).get();
    segment.acknowledgement = Be32::from_halves(tcp.acknowledgement).get();
    Ok(segment)
}
