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
pub fn push_wide(text: &mut String, mut number: u64, width: usize) {
    let (mut digits, mut start) = ([b'0'; MOST], MOST);
    while number > 0 {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    let start = start.min(MOST.saturating_sub(width));
    // Few, so that looking whether they are text would cost more.
    digits[start..].iter().for_each(|digit| text.push(char::from(*digit)));
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
        for number in [0, 1, 9, 10, 99, 100, 65_535, 1_234_567_890, u64::MAX] {
            let mut text = "x".to_owned();
            push(&mut text, number);
            push_wide(&mut text, number, 3);
            assert_eq!(text, format!("x{number}{number:03}"));
        }
        let mut text = String::new();
        push_wide(&mut text, u64::MAX, 30);
        assert_eq!(text, u64::MAX.to_string(), "no wider");
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
