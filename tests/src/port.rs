//! Free ports to listen on.

use std::net::{Ipv6Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below Linux's default range for outgoing connections, so that no client of another test gets the port between
/// our question and the gateway's `bind`.
const FIRST: u16 = 10_000;
const COUNT: u16 = 18_000;

/// A port that nobody listens on, and that this process hands out once.
pub fn free() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run one after the other begin at different places: ports of the last one may linger.
    let start = (std::process::id().wrapping_mul(7919) % u32::from(COUNT)) as u16;
    (0..COUNT)
        .map(|_| FIRST + (start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT))
        .find(|port| is_free(*port))
        .expect("a free port between 10000 and 28000")
}

/// Whether both families can be listened on.
pub fn is_free(port: u16) -> bool {
    let v4 = TcpListener::bind(("0.0.0.0", port));
    // Without IPv6 on the machine the first answer is the whole answer.
    v4.is_ok() && (drop(v4), TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))).1.map_or_else(no_v6, |_| true)
}

fn no_v6(error: std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
}
