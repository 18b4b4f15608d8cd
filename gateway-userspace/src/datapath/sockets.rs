//! Whether this node has a socket with a four-tuple, whosever it is and whatever its state: `sock_diag(7)`, as ss asks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use nix::sys::socket::SockProtocol;

use super::netlink::{self, HEADER, NLMSG_ERROR, Netlink, bytes};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// State of a socket that listens, as in `include/net/tcp_states.h`.
const LISTEN: u8 = 10;

/// Length of `inet_diag_req_v2`.
const REQUEST: usize = 56;

/// See the module.
#[derive(Debug)]
pub(super) struct Sockets(Netlink);

/// What the kernel answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// A socket in this state.
    State(u8),
    /// The number of an error.
    Error(i32),
}

impl Sockets {
    /// Must be called in the network namespace of the sockets. Fails also where the kernel has no such answers: it says
    /// then that there is no socket, whichever it is asked for.
    pub(super) fn open() -> io::Result<Self> {
        let mut sockets = Self(Netlink::open(SockProtocol::NetlinkSockDiag)?);
        let known = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match sockets.ask(address(known.local_addr()?.port()), address(1))? {
            Answer::State(LISTEN) => Ok(sockets),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether there is one. One in TIME-WAIT counts, one that listens does not.
    pub(super) fn has(&mut self, local: SocketAddr, remote: SocketAddr) -> io::Result<bool> {
        match self.ask(local, remote)? {
            Answer::State(state) => Ok(state != LISTEN),
            Answer::Error(libc::ENOENT) => Ok(false),
            Answer::Error(number) => Err(io::Error::from_raw_os_error(number)),
        }
    }

    fn ask(&mut self, local: SocketAddr, remote: SocketAddr) -> io::Result<Answer> {
        self.0.ask(SOCK_DIAG_BY_FAMILY, &request(local, remote), parse)
    }
}

fn request(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut message = Vec::with_capacity(REQUEST);
    message.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    // Any state.
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(local.port().to_be_bytes());
    message.extend(remote.port().to_be_bytes());
    for address in [local, remote] {
        let mut field = [0; 16];
        match address.ip() {
            IpAddr::V4(ip) => field[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => field = ip.octets(),
        }
        message.extend(field);
    }
    // By any interface, and without a cookie.
    message.extend([0; 4]);
    message.extend([0xff; 8]);
    message
}

/// Reads the answer to a question; `None` for any other message.
fn parse(message: &[u8], sequence: u32) -> Option<Answer> {
    match netlink::kind(message, sequence)? {
        NLMSG_ERROR => Some(Answer::Error(-i32::from_ne_bytes(bytes(message, HEADER)?))),
        SOCK_DIAG_BY_FAMILY => message.get(HEADER + 1).map(|state| Answer::State(*state)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpStream};

    use super::*;

    /// A connection of which one end closes first, and so keeps the TIME-WAIT.
    fn is_told_of(address: IpAddr) {
        let mut sockets = Sockets::open().unwrap();
        let listener = TcpListener::bind((address, 0)).unwrap();
        let remote = listener.local_addr().unwrap();
        let client = TcpStream::connect(remote).unwrap();
        let (server, local) = listener.accept().unwrap();
        assert!(sockets.has(local, remote).unwrap() && sockets.has(remote, local).unwrap());
        let nobody = SocketAddr::new(address, local.port() ^ 1);
        assert!(!sockets.has(nobody, remote).unwrap(), "another port");
        assert!(!sockets.has(remote, nobody).unwrap(), "the listener is no connection");
        drop(client);
        drop(server);
        assert!(sockets.has(local, remote).unwrap(), "in TIME-WAIT");
    }

    #[test]
    fn connections_are_told_of_until_their_last_trace_is_gone() {
        is_told_of(Ipv4Addr::LOCALHOST.into());
        is_told_of(Ipv6Addr::LOCALHOST.into());
    }

    #[test]
    fn no_prefix_of_an_answer_is_a_panic() {
        let mut message = vec![0; HEADER + 72];
        message[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        message[8..12].copy_from_slice(&7_u32.to_ne_bytes());
        message[HEADER + 1] = 6;
        for length in 0..message.len() {
            let answer = parse(&message[..length], 7);
            assert_eq!(answer, (length > HEADER + 1).then_some(Answer::State(6)));
        }
        assert_eq!(parse(&message, 8), None);
    }
}
