//! Frames as a sender would write them, checksums summed up from nothing: an account of its own to hold the
//! programs' incremental one against.

use std::net::{IpAddr, SocketAddr};

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;

pub(crate) const URG: u8 = 0x20;
pub(crate) const ECE: u8 = 0x40;
pub(crate) const CWR: u8 = 0x80;

/// IPv4: the flag of that name.
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;

const ETHERNET: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// A TCP segment in an Ethernet frame.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) flags: u8,
    pub(crate) hops: u8,
    /// TCP options; a multiple of four bytes.
    pub(crate) options: Vec<u8>,
    /// IPv4 options; a multiple of four bytes.
    pub(crate) ip_options: Vec<u8>,
    /// IPv6 extension headers, each with its number; the first byte of each is filled in.
    pub(crate) extensions: Vec<(u8, Vec<u8>)>,
    pub(crate) payload: Vec<u8>,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) window: u16,
    /// Of the urgent byte; says something with the flag URG alone.
    pub(crate) urgent: u16,
    /// The four bits behind the header's length.
    pub(crate) reserved: u8,
    /// Service class and the two bits of ECN.
    pub(crate) service: u8,
    /// IPv6: 20 bits.
    pub(crate) label: u32,
    /// IPv4: flags of fragmentation, and the offset.
    pub(crate) fragment: u16,
}

/// What the ends of test connections begin with.
pub(crate) const CLIENT_INITIAL: u32 = 0x1234_5678;
pub(crate) const BACKEND_INITIAL: u32 = 0x9abc_def0;

impl Segment {
    /// Without options and payload.
    pub(crate) fn new(source: SocketAddr, destination: SocketAddr, flags: u8) -> Self {
        Self {
            source,
            destination,
            flags,
            hops: 64,
            options: Vec::new(),
            ip_options: Vec::new(),
            extensions: Vec::new(),
            payload: Vec::new(),
            sequence: BACKEND_INITIAL,
            acknowledgement: BACKEND_INITIAL + 1,
            window: 0xfaf0,
            urgent: 0,
            reserved: 0,
            service: 0,
            label: 0x1_2345,
            fragment: DONT_FRAGMENT,
        }
    }

    pub(crate) fn with_payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    pub(crate) fn with_options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    pub(crate) fn with_ip_options(mut self, options: &[u8]) -> Self {
        self.ip_options = options.to_vec();
        self
    }

    pub(crate) fn with_extensions(mut self, extensions: &[(u8, &[u8])]) -> Self {
        self.extensions = extensions.iter().map(|(kind, header)| (*kind, header.to_vec())).collect();
        self
    }

    pub(crate) fn with_numbers(mut self, sequence: u32, acknowledgement: u32) -> Self {
        (self.sequence, self.acknowledgement) = (sequence, acknowledgement);
        self
    }

    pub(crate) fn with_hops(mut self, hops: u8) -> Self {
        self.hops = hops;
        self
    }

    /// The same segment after a gateway gave it other ends.
    pub(crate) fn forwarded(&self, source: SocketAddr, destination: SocketAddr) -> Self {
        Self { source, destination, hops: self.hops - 1, ..self.clone() }
    }

    /// The frame.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (source, destination) = (self.source.ip(), self.destination.ip());
        let mut payload = Vec::new();
        let kinds = self.extensions.iter().map(|(kind, _)| *kind).chain([TCP]);
        for ((_, header), next) in self.extensions.iter().zip(kinds.clone().skip(1)) {
            payload.push(next);
            payload.extend(&header[1..]);
        }
        payload.extend(self.tcp());
        let protocol = kinds.into_iter().next().unwrap_or(TCP);
        let kind = IpKind {
            protocol,
            hops: self.hops,
            service: self.service,
            label: self.label,
            fragment: self.fragment,
        };
        ip_with_options(source, destination, kind, &self.ip_options, &payload)
    }

    /// The packet, without Ethernet around it.
    pub(crate) fn packet(&self) -> Vec<u8> {
        self.bytes()[14..].to_vec()
    }

    fn tcp(&self) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(self.source.port().to_be_bytes());
        tcp.extend(self.destination.port().to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledgement.to_be_bytes());
        tcp.push(((5 + self.options.len() / 4) << 4) as u8 | self.reserved);
        tcp.push(self.flags);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 2]);
        tcp.extend(self.urgent.to_be_bytes());
        tcp.extend(&self.options);
        tcp.extend(&self.payload);
        let mut covered = pseudo_header(self.source.ip(), self.destination.ip(), tcp.len());
        covered.extend(&tcp);
        tcp[16..18].copy_from_slice(&checksum(&covered));
        tcp
    }
}

/// Wraps a payload into IP and Ethernet.
pub(crate) fn ip(source: IpAddr, destination: IpAddr, protocol: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let kind = IpKind { protocol, hops, service: 0, label: 0x1_2345, fragment: DONT_FRAGMENT };
    ip_with_options(source, destination, kind, &[], payload)
}

/// Fields of an IP header that are not about its length or ends.
struct IpKind {
    protocol: u8,
    hops: u8,
    service: u8,
    label: u32,
    fragment: u16,
}

fn ip_with_options(
    source: IpAddr,
    destination: IpAddr,
    kind: IpKind,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let IpKind { protocol, hops, service, label, fragment } = kind;
    let mut frame = ETHERNET.to_vec();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([0x08, 0x00]);
            let mut header = vec![0x45 + (options.len() / 4) as u8, service];
            header.extend(((20 + options.len() + payload.len()) as u16).to_be_bytes());
            header.extend([0xab, 0xcd]);
            header.extend(fragment.to_be_bytes());
            header.extend([hops, protocol, 0, 0]);
            header.extend(source.octets());
            header.extend(destination.octets());
            header.extend(options);
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum);
            frame.extend(header);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend([0x86, 0xdd]);
            frame.extend((6 << 28 | u32::from(service) << 20 | label).to_be_bytes());
            frame.extend((payload.len() as u16).to_be_bytes());
            frame.extend([protocol, hops]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        _ => panic!("addresses of two families"),
    }
    frame.extend(payload);
    frame
}

/// An ICMP error about a packet, which it embeds; `rest` are the four bytes behind the checksum.
pub(crate) fn icmp_error(
    (source, destination): (IpAddr, IpAddr),
    hops: u8,
    (kind, code): (u8, u8),
    rest: [u8; 4],
    embedded: &[u8],
) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest);
    message.extend(embedded);
    let protocol = if source.is_ipv4() { ICMP } else { ICMPV6 };
    let mut covered = if source.is_ipv4() {
        Vec::new()
    } else {
        pseudo_header_of(source, destination, message.len(), ICMPV6)
    };
    covered.extend(&message);
    message[2..4].copy_from_slice(&checksum(&covered));
    ip(source, destination, protocol, hops, &message)
}

fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize) -> Vec<u8> {
    pseudo_header_of(source, destination, length, TCP)
}

fn pseudo_header_of(source: IpAddr, destination: IpAddr, length: usize, protocol: u8) -> Vec<u8> {
    let mut header = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(ip) => header.extend(ip.octets()),
            IpAddr::V6(ip) => header.extend(ip.octets()),
        }
    }
    header.extend((length as u32).to_be_bytes());
    header.extend([0, 0, 0, protocol]);
    header
}

/// RFC 1071, by the book.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// Writes the checksum of an IPv4 header anew after a test changed the header.
pub(crate) fn fix_ipv4_checksum(frame: &mut [u8]) {
    let length = usize::from(frame[14] & 0x0f) * 4;
    frame[24..26].fill(0);
    let sum = checksum(&frame[14..14 + length]);
    frame[24..26].copy_from_slice(&sum);
}
