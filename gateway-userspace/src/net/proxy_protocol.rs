//! The PROXY protocol's header (HAProxy's proxy-protocol.txt, versions 1 and 2) for a TCP connection: who the client is,
//! said to the backend before the first byte.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Begins a header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
/// TCP over IPv4 and IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Version 1: one line of text, at most 107 bytes.
pub fn version_1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (family, (from, to)) = match same_family(source.ip(), destination.ip()) {
        Pair::V4(from, to) => ("TCP4", (from.to_string(), to.to_string())),
        Pair::V6(from, to) => ("TCP6", (from.to_string(), to.to_string())),
    };
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

/// Version 2: binary, 28 or 52 bytes, without TLVs.
pub fn version_2(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.push(PROXY);
    match same_family(source.ip(), destination.ip()) {
        Pair::V4(from, to) => {
            header.extend([TCP4, 0, 12]);
            header.extend(from.octets());
            header.extend(to.octets());
        }
        Pair::V6(from, to) => {
            header.extend([TCP6, 0, 36]);
            header.extend(from.octets());
            header.extend(to.octets());
        }
    }
    header.extend(source.port().to_be_bytes());
    header.extend(destination.port().to_be_bytes());
    header
}

enum Pair {
    V4(std::net::Ipv4Addr, std::net::Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// Both addresses must be of one family; an IPv4 address beside an IPv6 one is written mapped. A mapped one that came
/// from a dual-stack socket is IPv4.
fn same_family(source: IpAddr, destination: IpAddr) -> Pair {
    let mapped = |ip| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    match (source.to_canonical(), destination.to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Pair::V4(source, destination),
        (source, destination) => Pair::V6(mapped(source), mapped(destination)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    #[test]
    fn headers_are_as_specified() {
        const START: &str = "0d0a0d0a 000d0a51 5549540a";
        for (source, destination, text, binary) in [
            (
                "192.168.0.1:56324",
                "192.168.0.11:443",
                "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
                "21 11 000c c0a80001 c0a8000b dc04 01bb",
            ),
            (
                "255.255.255.255:65535",
                "255.255.255.255:65535",
                "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
                "21 11 000c ffffffff ffffffff ffff ffff",
            ),
            (
                "[2001:db8::1]:1",
                "[fd00::2]:80",
                "PROXY TCP6 2001:db8::1 fd00::2 1 80\r\n",
                "21 21 0024 20010db8000000000000000000000001 fd000000000000000000000000000002 0001 0050",
            ),
            (
                "[::ffff:10.0.0.1]:1",
                "[::ffff:10.0.0.2]:80",
                "PROXY TCP4 10.0.0.1 10.0.0.2 1 80\r\n",
                "21 11 000c 0a000001 0a000002 0001 0050",
            ),
            (
                "10.0.0.1:1",
                "[fd00::2]:80",
                "PROXY TCP6 ::ffff:10.0.0.1 fd00::2 1 80\r\n",
                "21 21 0024 00000000000000000000ffff0a000001 fd000000000000000000000000000002 0001 0050",
            ),
            (
                "[fd00::2]:1",
                "10.0.0.1:80",
                "PROXY TCP6 fd00::2 ::ffff:10.0.0.1 1 80\r\n",
                "21 21 0024 fd000000000000000000000000000002 00000000000000000000ffff0a000001 0001 0050",
            ),
        ] {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            assert_eq!(String::from_utf8(version_1(source, destination)).unwrap(), text);
            assert_eq!(version_2(source, destination), bytes(&format!("{START} {binary}")), "{text}");
        }
    }

    #[test]
    fn a_line_of_version_1_fits_the_107_bytes_that_receivers_read() {
        let longest: SocketAddr = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
        assert!(version_1(longest, longest).len() <= 107);
    }
}
