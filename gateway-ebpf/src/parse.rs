//! From bytes to a TCP segment. Whatever is not plain Ethernet, IPv4 or IPv6, and TCP, ends here with the verdict that
//! says why; so do options and extension headers that ask something of a router.

use gateway_common::{Addr4, Addr6, Address, Be16, Be32, FlowKey, Sum, Verdict, flow::Seen};

use crate::{
    boundary, maps,
    packet::{Packet, Wire},
    trace::Trace,
};

const IPV4: Be16 = Be16::new(0x0800);
const IPV6: Be16 = Be16::new(0x86dd);
const VLAN: Be16 = Be16::new(0x8100);
const SERVICE_VLAN: Be16 = Be16::new(0x88a8);

pub(crate) const TCP: u8 = 6;
/// IPv4: "more fragments" and the offset. "Don't fragment" and the reserved bit are left out.
const FRAGMENT_BITS: Be16 = Be16::new(0x3fff);
/// IPv6: next header numbers of extension headers (IANA), the fragment header apart.
const EXTENSION_HEADERS: [u8; 7] = [0, 43, 50, 51, 60, 135, 139];
const FRAGMENT_HEADER: u8 = 44;

/// Both bits of congestion notification in a service class.
const MARKS: u8 = 3;

/// Bytes of a TCP header without options.
pub(crate) const TCP_HEADER: u32 = 20;

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
    /// Length of the TCP header, with its options.
    pub(crate) header: u32,
    /// Bytes of the stream in it.
    pub(crate) payload: u32,
    /// Sequence number.
    pub(crate) sequence: u32,
    /// Acknowledgement number.
    pub(crate) acknowledgement: u32,
}

impl<A: Address> Segment<A> {
    /// Whether it opens a connection: SYN and none of ACK, FIN and RST.
    #[inline(always)]
    pub(crate) fn opens(&self) -> bool {
        self.flags == Seen::SYN
    }

    /// Whether its source is no other host's (RFC 1812 section 5.3.7): an answer would go to many, or come back.
    #[inline(always)]
    pub(crate) fn is_martian(&self) -> bool {
        !self.key.source.is_host() || self.key.source == self.key.destination
    }
}

/// The Ethernet header.
#[repr(C)]
pub(crate) struct Ethernet {
    addresses: [u16; 6],
    ethertype: Be16,
}

impl Ethernet {
    /// Sends the frame back to where it came from.
    #[inline(always)]
    pub(crate) fn turn(&mut self) {
        let [a, b, c, d, e, f] = self.addresses;
        self.addresses = [d, e, f, a, b, c];
    }

    /// Writes the addresses, destination first.
    #[inline(always)]
    pub(crate) fn set(&mut self, addresses: [u16; 6]) {
        self.addresses = addresses;
    }
}

/// The TCP header without options.
#[repr(C)]
pub(crate) struct Tcp {
    pub(crate) source_port: Be16,
    pub(crate) destination_port: Be16,
    pub(crate) sequence: [u16; 2],
    pub(crate) acknowledgement: [u16; 2],
    /// Header length in words, in the upper half.
    offset: u8,
    pub(crate) flags: u8,
    pub(crate) window: Be16,
    pub(crate) checksum: Be16,
    urgent: u16,
}

impl Tcp {
    /// Sum over what a translation changes.
    #[inline(always)]
    pub(crate) fn changing(&self) -> Sum {
        let numbers = Sum::default().add(Be32::from_halves(self.sequence));
        numbers.add(Be32::from_halves(self.acknowledgement)).add16(self.window)
    }

    /// A header without its options, which end where `header` says, and with a checksum of 0. Source port first, and
    /// the sequence number before the acknowledgement.
    #[inline(always)]
    pub(crate) fn bare(ports: [Be16; 2], numbers: [u32; 2], header: u32, flags: u32, window: u32) -> Self {
        Self {
            source_port: ports[0],
            destination_port: ports[1],
            sequence: Be32::new(numbers[0]).halves(),
            acknowledgement: Be32::new(numbers[1]).halves(),
            offset: (header as u8 / 4) << 4,
            flags: flags as u8,
            window: Be16::new(window as u16),
            checksum: Be16::new(0),
            urgent: 0,
        }
    }
}

/// TCP's option "maximum segment size" (RFC 9293 section 3.7.1).
#[repr(C)]
pub(crate) struct SegmentSize {
    kind: u8,
    length: u8,
    size: Be16,
}

impl SegmentSize {
    /// The option for a number of bytes.
    #[inline(always)]
    pub(crate) fn new(size: u32) -> Self {
        Self { kind: 2, length: SEGMENT_SIZE_OPTION as u8, size: Be16::new(size as u16) }
    }

    /// Sum over it.
    #[inline(always)]
    pub(crate) fn sum(&self) -> Sum {
        Sum::default().add16(Be16::new(u16::from_be_bytes([self.kind, self.length]))).add16(self.size)
    }
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

/// Two bytes at any place.
#[repr(C)]
pub(crate) struct Word([u8; 2]);

impl Word {
    /// The number.
    #[inline(always)]
    pub(crate) fn get(&self) -> Be16 {
        Be16::from_wire(u16::from_ne_bytes(self.0))
    }

    /// Writes a number.
    #[inline(always)]
    pub(crate) fn set(&mut self, number: Be16) {
        self.0 = number.wire().to_ne_bytes();
    }
}

crate::packet::wire!(Ethernet, Ip4, Ip6, SegmentSize, Tcp, Word);

const _: () = assert!(size_of::<Ip4>() == 34 && size_of::<Ip6>() == 54 && size_of::<Tcp>() == 20);

/// Bytes of that option.
pub(crate) const SEGMENT_SIZE_OPTION: u32 = size_of::<SegmentSize>() as u32;
const _: () = assert!(SEGMENT_SIZE_OPTION == 4);

/// Bytes of the Ethernet header.
pub(crate) const ETHERNET: u32 = size_of::<Ethernet>() as u32;
/// Hop limit of what the programs send of their own.
const HOPS: u8 = 64;
const IP4_HEADER: u32 = 20;
const IP6_HEADER: u32 = 40;

/// What an IP header carries.
pub(crate) struct Carried {
    /// Where it begins in the frame.
    pub(crate) offset: u32,
    /// Length of the IP header, with options or extension headers.
    header: u32,
    /// Length of the header and of what it carries, by the header's own account.
    total: u32,
}

/// What the options of an IPv4 header ask for.
pub(crate) enum Options {
    /// Nothing of a router.
    Carried,
    /// A router must act.
    ForRouters,
    /// They contradict themselves.
    Broken,
}

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
pub(crate) trait Family: Trace {
    /// Ethernet and IP header.
    type Ip: Wire;

    /// Checks the IP header that has `base` bytes and room for an Ethernet header before it, and says where what it
    /// carries is. [`Verdict::NotTcp`] if that is of another protocol.
    fn check(packet: &mut impl Packet, base: u32, protocol: u8) -> Result<Carried, Verdict>;

    /// Protocol number of the family's ICMP.
    const ICMP: u8;

    /// Whether ICMP messages of this type are about a packet, which they embed.
    fn is_error(kind: u8) -> bool;

    /// Reads addresses and hop limit.
    fn read(ip: &Self::Ip) -> (Self, Self, u32);

    /// Writes the addresses, takes one hop away, and keeps the header's checksum right if it has one. Returns by
    /// how much the sum over the header changed apart from addresses and checksum.
    fn write(ip: &mut Self::Ip, source: Self, destination: Self, addresses: Sum) -> Sum;

    /// Says that the packet may not be marked for congestion (RFC 3168). Returns by how much the sum over the header
    /// changed, but for a checksum of its own.
    fn forbid_marks(ip: &mut Self::Ip) -> Sum;

    /// Turns a header round, for an answer of `length` bytes with the header.
    fn turn(ip: &mut Self::Ip, length: u32);

    /// Writes the addresses of a header within an ICMP error. Returns by how much the sum over it changed.
    fn write_embedded(ip: &mut Self::Ip, source: Self, destination: Self, addresses: Sum) -> Sum;
}

impl Family for Addr4 {
    type Ip = Ip4;
    const ICMP: u8 = 1;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        // Destination unreachable, time exceeded, parameter problem.
        matches!(kind, 3 | 11 | 12)
    }

    #[inline(always)]
    fn check(packet: &mut impl Packet, base: u32, protocol: u8) -> Result<Carried, Verdict> {
        let ip = packet.header::<Ip4>(base)?;
        if ip.version_and_length >> 4 != 4 {
            return Err(Verdict::Malformed);
        }
        if ip.protocol != protocol {
            return Err(Verdict::NotTcp);
        }
        if ip.fragment.wire() & FRAGMENT_BITS.wire() != 0 {
            return Err(Verdict::Fragment);
        }
        let total = u32::from(ip.total_length.get());
        let header = u32::from(ip.version_and_length & 0x0f) * 4;
        if header < IP4_HEADER {
            return Err(Verdict::Malformed);
        }
        if header > IP4_HEADER {
            check_options(packet, base + size_of::<Ip4>() as u32, header - IP4_HEADER)?;
        }
        Ok(Carried { offset: base + ETHERNET + header, header, total })
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

    #[inline(always)]
    fn forbid_marks(ip: &mut Ip4) -> Sum {
        let word = |ip: &Ip4| Sum::default().add16(Be16::new(u16::from(ip.service)));
        let before = word(ip);
        ip.service &= !MARKS;
        ip.checksum = word(ip).minus(before).update(ip.checksum);
        Sum::default()
    }

    #[inline(always)]
    fn turn(ip: &mut Ip4, length: u32) {
        (ip.source, ip.destination) = (ip.destination, ip.source);
        let words =
            |ip: &Ip4| Sum::default().add16(ip.total_length).add16(Be16::new(u16::from(ip.hops) << 8));
        let before = words(ip);
        ip.total_length = Be16::new(length as u16);
        ip.hops = HOPS;
        ip.checksum = words(ip).minus(before).update(ip.checksum);
    }

    #[inline(always)]
    fn write_embedded(ip: &mut Ip4, source: Self, destination: Self, addresses: Sum) -> Sum {
        ip.source = source.0.halves();
        ip.destination = destination.0.halves();
        let before = ip.checksum;
        ip.checksum = addresses.update(before);
        addresses.plus(Sum::default().add16(ip.checksum)).minus(Sum::default().add16(before))
    }
}

impl Family for Addr6 {
    type Ip = Ip6;
    const ICMP: u8 = 58;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        // Destination unreachable, packet too big, time exceeded, parameter problem.
        matches!(kind, 1..=4)
    }

    #[inline(always)]
    fn check(packet: &mut impl Packet, base: u32, protocol: u8) -> Result<Carried, Verdict> {
        let ip = packet.header::<Ip6>(base)?;
        if Be32::from_halves(ip.version_and_label).get() >> 28 != 6 {
            return Err(Verdict::Malformed);
        }
        let first = ip.next_header;
        // A payload length of 0 is a super-packet above 64 KiB, with a header in front that says so: not ours.
        let total = u32::from(ip.payload_length.get()) + IP6_HEADER;
        let offset = base + size_of::<Ip6>() as u32;
        if first == protocol {
            return Ok(Carried { offset, header: IP6_HEADER, total });
        }
        if !EXTENSION_HEADERS.contains(&first) {
            return Err(if first == FRAGMENT_HEADER { Verdict::Fragment } else { Verdict::NotTcp });
        }
        let (next, length) = walk(packet, offset, first)?;
        match next {
            next if next == protocol => {
                Ok(Carried { offset: offset + length, header: IP6_HEADER + length, total })
            }
            FRAGMENT_HEADER => Err(Verdict::Fragment),
            next if EXTENSION_HEADERS.contains(&next) => Err(Verdict::ExtensionHeader),
            _ => Err(Verdict::NotTcp),
        }
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

    #[inline(always)]
    fn forbid_marks(ip: &mut Ip6) -> Sum {
        let old = Be32::from_halves(ip.version_and_label);
        let new = Be32::new(old.get() & !(u32::from(MARKS) << 20));
        ip.version_and_label = new.halves();
        Sum::default().add(new).minus(Sum::default().add(old))
    }

    #[inline(always)]
    fn turn(ip: &mut Ip6, length: u32) {
        (ip.source, ip.destination) = (ip.destination, ip.source);
        ip.payload_length = Be16::new((length - IP6_HEADER) as u16);
        ip.hops = HOPS;
    }

    #[inline(always)]
    fn write_embedded(ip: &mut Ip6, source: Self, destination: Self, addresses: Sum) -> Sum {
        ip.source = source.0.map(Be32::halves);
        ip.destination = destination.0.map(Be32::halves);
        addresses
    }
}

/// Refuses IPv4 options that a router must act on. The others are carried along.
#[inline(always)]
fn check_options(packet: &mut impl Packet, offset: u32, length: u32) -> Result<(), Verdict> {
    let options = packet.copy(offset, length).ok_or(Verdict::Truncated)?;
    match boundary::ip_options(options) {
        Options::Carried => Ok(()),
        Options::ForRouters => Err(Verdict::IpOptions),
        Options::Broken => Err(Verdict::Malformed),
    }
}

/// Goes over IPv6 extension headers: which header comes behind them, and their length.
#[inline(always)]
fn walk(packet: &mut impl Packet, offset: u32, first: u8) -> Result<(u8, u32), Verdict> {
    let rest = packet.len().checked_sub(offset).ok_or(Verdict::Truncated)?;
    let headers = packet.copy(offset, rest.min(maps::SCRATCH_BYTES)).ok_or(Verdict::Truncated)?;
    Ok(boundary::extension_headers(headers, first))
}

impl Carried {
    /// Bytes that are carried, in a frame of `frame` bytes. Frames may be longer than they claim: Ethernet pads them
    /// to 60 bytes.
    #[inline(always)]
    pub(crate) fn length(&self, frame: u32) -> Result<u32, Verdict> {
        if self.total + ETHERNET > frame || self.total < self.header {
            return Err(Verdict::Truncated);
        }
        Ok(self.total - self.header)
    }
}

/// Reads IP and TCP header.
#[inline(always)]
pub(crate) fn segment<A: Family>(packet: &mut impl Packet) -> Result<&'static Segment<A>, Verdict> {
    read(packet).map(|segment| &*segment)
}

/// Reads those of a packet that leaves, as if it came from where it goes: its tuple is turned round.
#[inline(always)]
pub(crate) fn leaving<A: Family>(packet: &mut impl Packet) -> Result<&'static Segment<A>, Verdict> {
    let segment = read::<A>(packet)?;
    segment.key = segment.key.reversed();
    Ok(segment)
}

#[inline(always)]
fn read<A: Family>(packet: &mut impl Packet) -> Result<&'static mut Segment<A>, Verdict> {
    let segment = maps::segment::<A>().ok_or(Verdict::Unconfigured)?;
    let carried = A::check(packet, 0, TCP)?;
    let length = carried.length(packet.len())?;
    if length < TCP_HEADER {
        return Err(Verdict::Truncated);
    }
    (segment.key.source, segment.key.destination, segment.hops) = A::read(packet.header::<A::Ip>(0)?);
    segment.offset = carried.offset;
    let tcp = packet.header::<Tcp>(carried.offset)?;
    let header = u32::from(tcp.offset >> 4) * 4;
    if header < TCP_HEADER {
        return Err(Verdict::Malformed);
    }
    if header > length {
        return Err(Verdict::Truncated);
    }
    segment.header = header;
    segment.payload = length - header;
    segment.key.source_port = tcp.source_port;
    segment.key.destination_port = tcp.destination_port;
    segment.flags = u32::from(tcp.flags) & Seen::TCP;
    segment.sequence = Be32::from_halves(tcp.sequence).get();
    segment.acknowledgement = Be32::from_halves(tcp.acknowledgement).get();
    Ok(segment)
}
