//! Addresses and ports in network byte order, as packets carry them. The types keep them from being compared or
//! added as host numbers by mistake.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::csum::Sum;
use crate::hash::Mix;

/// A 16-bit number in network order (a port, an ethertype, a length).
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Be16(u16);

impl Be16 {
    /// From a host number.
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// From the two bytes of a packet, read as one native word.
    pub const fn from_wire(word: u16) -> Self {
        Self(word)
    }

    /// As a host number.
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The native word that has the packet's bytes in memory.
    pub const fn wire(self) -> u16 {
        self.0
    }
}

/// A 32-bit number in network order.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Be32(u32);

impl Be32 {
    /// From a host number.
    pub const fn new(host: u32) -> Self {
        Self(host.to_be())
    }

    /// From two 16-bit words in packet order. Packet data is aligned to two bytes only: behind the 14 bytes of the
    /// Ethernet header no word of the IP header lies at a multiple of four.
    #[inline]
    pub const fn from_halves(halves: [u16; 2]) -> Self {
        let (first, second) = (halves[0] as u32, halves[1] as u32);
        if cfg!(target_endian = "little") { Self(first | second << 16) } else { Self(first << 16 | second) }
    }

    /// The two 16-bit words in packet order.
    #[inline]
    pub const fn halves(self) -> [u16; 2] {
        let (low, high) = (self.0 as u16, (self.0 >> 16) as u16);
        if cfg!(target_endian = "little") { [low, high] } else { [high, low] }
    }

    /// As a host number.
    pub const fn get(self) -> u32 {
        u32::from_be(self.0)
    }

    /// The native word that has the packet's bytes in memory.
    pub const fn wire(self) -> u32 {
        self.0
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Addr4 {}
    impl Sealed for super::Addr6 {}
}

/// What the code that is the same for IPv4 and IPv6 asks of an address. Sealed: the map types are generic over it,
/// and that they have no padding is proved for these two families only.
pub trait Address: Copy + Eq + Ord + core::hash::Hash + core::fmt::Debug + sealed::Sealed + 'static {
    /// The address, if it is of this family.
    fn from_ip(ip: IpAddr) -> Option<Self>;
    /// Ones' complement sum of the address's words.
    fn sum(self) -> Sum;
    /// Mixes the address into a hash.
    fn mix(self, mix: Mix) -> Mix;
    /// Whether a packet can be sent to it as to one host: not to none, to many, or to whoever asks (RFC 1122 sections
    /// 3.2.1.3 and 4.2.3.10; RFC 4291 section 2.5).
    fn is_host(self) -> bool;
    /// For people and for the agent's tables.
    fn ip(self) -> IpAddr;
}

/// An IPv4 address.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Addr4(pub Be32);

impl Address for Addr4 {
    fn from_ip(ip: IpAddr) -> Option<Self> {
        if let IpAddr::V4(ip) = ip { Some(ip.into()) } else { None }
    }

    #[inline]
    fn sum(self) -> Sum {
        Sum::default().add(self.0)
    }

    #[inline]
    fn mix(self, mix: Mix) -> Mix {
        mix.word(self.0.wire())
    }

    #[inline]
    fn is_host(self) -> bool {
        let address = self.0.get();
        let network = address >> 24;
        network != 0 && network != 127 && network >> 4 != 0xe && address != u32::MAX
    }

    fn ip(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(self.0.get()))
    }
}

impl From<Ipv4Addr> for Addr4 {
    fn from(address: Ipv4Addr) -> Self {
        Self(Be32::new(address.to_bits()))
    }
}

/// An IPv6 address.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Addr6(pub [Be32; 4]);

impl Address for Addr6 {
    fn from_ip(ip: IpAddr) -> Option<Self> {
        if let IpAddr::V6(ip) = ip { Some(ip.into()) } else { None }
    }

    #[inline]
    fn sum(self) -> Sum {
        let [a, b, c, d] = self.0;
        Sum::default().add(a).add(b).add(c).add(d)
    }

    #[inline]
    fn mix(self, mix: Mix) -> Mix {
        let [a, b, c, d] = self.0;
        mix.word(a.wire()).word(b.wire()).word(c.wire()).word(d.wire())
    }

    #[inline]
    fn is_host(self) -> bool {
        let [a, b, c, _] = self.0.map(Be32::get);
        // The unspecified one, loopback, and IPv4's addresses in either of their dresses.
        let is_short = a | b == 0 && (c == 0 || c == 0xffff);
        !is_short && a >> 24 != 0xff
    }

    fn ip(self) -> IpAddr {
        let [a, b, c, d] = self.0.map(|word| u128::from(word.get()));
        IpAddr::V6(Ipv6Addr::from_bits(a << 96 | b << 64 | c << 32 | d))
    }
}

impl From<Ipv6Addr> for Addr6 {
    fn from(address: Ipv6Addr) -> Self {
        let bits = address.to_bits();
        Self([96, 64, 32, 0].map(|shift| Be32::new((bits >> shift) as u32)))
    }
}

const _: () = assert!(size_of::<Be16>() == 2 && size_of::<Addr4>() == 4 && size_of::<Addr6>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_lie_in_memory_as_the_word_does() {
        let word = Be32::new(0x0a01_0203);
        assert_eq!(word.halves(), [Be16::new(0x0a01).wire(), Be16::new(0x0203).wire()]);
        assert_eq!(Be32::from_halves(word.halves()), word);
    }

    #[test]
    fn a_host_is_one_that_is_not_oneself() {
        for (address, is_host) in [
            ("0.0.0.0", false),
            ("0.255.255.255", false),
            ("1.0.0.0", true),
            ("10.0.0.1", true),
            ("126.255.255.255", true),
            ("127.0.0.1", false),
            ("127.255.255.255", false),
            ("128.0.0.0", true),
            ("223.255.255.255", true),
            ("224.0.0.1", false),
            ("239.255.255.255", false),
            ("240.0.0.1", true),
            ("255.255.255.254", true),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::198.18.0.2", false),
            ("::ffff:198.18.0.2", false),
            ("::1:0:0:1", true),
            ("64:ff9b::198.18.0.2", true),
            ("2001:db8::1", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("feff::1", true),
            ("ff02::1", false),
        ] {
            let is = match address.parse().unwrap() {
                IpAddr::V4(ip) => Addr4::from(ip).is_host(),
                IpAddr::V6(ip) => Addr6::from(ip).is_host(),
            };
            assert_eq!(is, is_host, "{address}");
        }
    }

    #[test]
    fn addresses_come_back_as_they_went_in() {
        let (four, six) = (Ipv4Addr::new(10, 1, 2, 3), "fd00:1:2:3:4:5:6:7".parse::<Ipv6Addr>().unwrap());
        assert_eq!(Addr4::from(four).ip(), IpAddr::V4(four));
        assert_eq!(Addr6::from(six).ip(), IpAddr::V6(six));
    }
}
