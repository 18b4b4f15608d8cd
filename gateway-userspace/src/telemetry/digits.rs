//! Numbers and addresses as lines have them. A line has a dozen, and the formatting of the standard library costs a few hundred
//! instructions for each.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Digits of the largest number.
const MOST: usize = 20;

/// Bytes of the longest address of IPv4 with its port.
const LONGEST: usize = "255.255.255.255:65535".len();

/// A short text that is put together from its end, which numbers are easiest to write from, and added as a whole: a string looks
/// for room at every addition.
pub(super) struct Backwards<const N: usize> {
    bytes: [u8; N],
    first: usize,
}

impl<const N: usize> Backwards<N> {
    pub(super) fn new() -> Self {
        Self { bytes: [0; N], first: N }
    }

    /// Puts a character of ASCII before what is there.
    pub(super) fn put(&mut self, character: u8) {
        self.first -= 1;
        self.bytes[self.first] = character;
    }

    /// Puts a number there, in decimal, with leading zeros up to a width.
    pub(super) fn number(&mut self, number: u64, width: usize) {
        let (end, mut left) = (self.first, number);
        loop {
            self.put(b'0' + (left % 10) as u8);
            left /= 10;
            if left == 0 {
                break;
            }
        }
        while end - self.first < width {
            self.put(b'0');
        }
    }

    pub(super) fn text(&self) -> &str {
        str::from_utf8(&self.bytes[self.first..]).expect("ASCII")
    }

    fn ipv4(&mut self, ip: Ipv4Addr) {
        let [a, b, c, d] = ip.octets();
        self.number(d.into(), 1);
        for octet in [c, b, a] {
            self.put(b'.');
            self.number(octet.into(), 1);
        }
    }
}

/// Adds a number in decimal.
pub fn push(text: &mut String, number: u64) {
    push_wide(text, number, 1);
}

/// Likewise, with leading zeros up to a width of 20 digits at most.
pub fn push_wide(text: &mut String, number: u64, width: usize) {
    let mut digits = Backwards::<MOST>::new();
    digits.number(number, width.min(MOST));
    text.push_str(digits.text());
}

/// Adds an address, `10.0.0.1` or `fd00::1`.
pub fn push_ip(text: &mut String, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            let mut address = Backwards::<LONGEST>::new();
            address.ipv4(ip);
            text.push_str(address.text());
        }
        // Writing to a string cannot fail.
        IpAddr::V6(ip) => drop(write!(text, "{ip}")),
    }
}

/// Adds an address and a port, `10.0.0.1:80` or `[fd00::1]:80`.
pub fn push_address(text: &mut String, address: SocketAddr) {
    match address {
        SocketAddr::V4(address) => {
            let mut both = Backwards::<LONGEST>::new();
            both.number(address.port().into(), 1);
            both.put(b':');
            both.ipv4(*address.ip());
            text.push_str(both.text());
        }
        SocketAddr::V6(address) => drop(write!(text, "{address}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_the_standard_library_writes_them() {
        for number in [0, 1, 9, 10, 99, 100, 999, 1000, 65_535, 1_000_000, 1_020_003_000, u64::MAX] {
            let mut text = "x".to_owned();
            push(&mut text, number);
            assert_eq!(text, format!("x{number}"));
            for width in 0..=MOST {
                text.clear();
                push_wide(&mut text, number, width);
                assert_eq!(text, format!("{number:0width$}"));
            }
        }
        let mut text = String::new();
        push_wide(&mut text, u64::MAX, 30);
        push_wide(&mut text, 7, 30);
        assert_eq!(text, format!("{}{:020}", u64::MAX, 7), "no wider");
    }

    #[test]
    fn addresses_are_as_the_standard_library_writes_them() {
        for address in
            ["10.0.0.1:80", "255.255.255.255:65535", "0.0.0.0:0", "[fd00::1]:80", "[::ffff:1.2.3.4]:1"]
        {
            let (address, mut text) = (address.parse::<SocketAddr>().unwrap(), String::new());
            push_address(&mut text, address);
            text.push(' ');
            push_ip(&mut text, address.ip());
            assert_eq!(text, format!("{address} {}", address.ip()));
        }
    }
}
