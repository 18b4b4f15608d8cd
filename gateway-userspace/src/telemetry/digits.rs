//! Numbers and addresses as lines have them. A line has a dozen, and the formatting of the standard library costs a few hundred
//! instructions for each.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Digits of the largest number.
const MOST: usize = 20;

/// Adds a number in decimal.
pub fn push(text: &mut String, number: u64) {
    push_wide(text, number, 1);
}

/// Likewise, with leading zeros up to a width of 20 digits at most.
pub fn push_wide(text: &mut String, number: u64, width: usize) {
    if number >= 1000 {
        push_wide(text, number / 1000, width.min(MOST).saturating_sub(3));
        return push_three(text, (number % 1000) as u16, 3);
    }
    (3..width.min(MOST)).for_each(|_| text.push('0'));
    push_three(text, number as u16, width);
}

/// A number below 1000, as most are.
fn push_three(text: &mut String, number: u16, width: usize) {
    let digit = |number: u16| char::from(b'0' + (number % 10) as u8);
    if number >= 100 || width >= 3 {
        text.push(digit(number / 100));
    }
    if number >= 10 || width >= 2 {
        text.push(digit(number / 10));
    }
    text.push(digit(number));
}

/// Adds an address, `10.0.0.1` or `fd00::1`.
pub fn push_ip(text: &mut String, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => push_ipv4(text, ip),
        // Writing to a string cannot fail.
        IpAddr::V6(ip) => drop(write!(text, "{ip}")),
    }
}

/// Adds an address and a port, `10.0.0.1:80` or `[fd00::1]:80`.
pub fn push_address(text: &mut String, address: SocketAddr) {
    match address {
        SocketAddr::V4(address) => {
            push_ipv4(text, *address.ip());
            text.push(':');
            push(text, address.port().into());
        }
        SocketAddr::V6(address) => drop(write!(text, "{address}")),
    }
}

fn push_ipv4(text: &mut String, ip: Ipv4Addr) {
    for (index, octet) in ip.octets().into_iter().enumerate() {
        if index > 0 {
            text.push('.');
        }
        push(text, octet.into());
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
