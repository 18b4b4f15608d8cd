//! Source ports for flows towards backends: a range that the node's own sockets never take by themselves.

use std::fs;
use std::io;

use gateway_common::ports::PORTS_PER_WORD;

/// First port and number of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// First.
    pub first: u16,
    /// Number, at least 64 and a multiple of 64.
    pub count: u16,
}

/// The range in this network namespace.
pub fn choose() -> io::Result<PortRange> {
    // Below /proc/sys/net the kernel shows the reader's namespace. IPv6 has no setting of its own.
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    beside(&text).ok_or_else(|| {
        io::Error::other(format!("ip_local_port_range ({}) leaves no source ports free", text.trim()))
    })
}

/// The larger of the two ranges that `ip_local_port_range` leaves free, above the well-known ports.
fn beside(setting: &str) -> Option<PortRange> {
    let mut bounds = setting.split_ascii_whitespace().map(str::parse::<u16>);
    let (low, high) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    let below = low.saturating_sub(1024);
    let above = u16::MAX - high;
    let (first, count) = if below >= above { (1024, below) } else { (high + 1, above) };
    let count = count - count % PORTS_PER_WORD as u16;
    (count > 0).then_some(PortRange { first, count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_gap_is_taken() {
        for (setting, want) in [
            ("32768\t60999\n", Some((1024, 31_744))),
            ("1024 40000", Some((40_001, 25_472))),
            ("1024 65535", None),
            ("1050 65500", None),
            ("1 65535", None),
            ("x", None),
        ] {
            assert_eq!(beside(setting), want.map(|(first, count)| PortRange { first, count }), "{setting}");
        }
    }
}
