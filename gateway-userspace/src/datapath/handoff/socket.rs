//! One of the two sockets of a connection that is handed over: what it agreed on with its peer, where its numbers stand,
//! and withdrawing it without a word to the peer.

use std::io::{self, Read as _};
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::fault::{self, Step};
use super::refusal::Refusal;
use crate::net::repair::{self, Queue, TcpInfo};

/// So much may be in a socket's receive queue when its connection is frozen. It is sent on by the other one, whose send
/// buffer has about that room.
const MOST_UNREAD: usize = 256 * 1024;

/// Where a connection stands, as its frozen socket has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    /// The next sequence number of the peer.
    pub(super) next_in: u32,
    /// The number behind all that was written.
    pub(super) next_out: u32,
    /// Bytes written that the peer has not acknowledged.
    pub(super) in_flight: u32,
    /// The timestamp clock, in ms, ahead of the monotonic one.
    pub(super) clock: u32,
    /// What was agreed on in the handshake, and the peer's window.
    pub(super) info: TcpInfo,
}

impl Numbers {
    /// Whether the peer takes all that was written and so many bytes more.
    pub(super) fn has_room(&self, more: usize) -> bool {
        let owed = self.in_flight as usize + more;
        owed <= self.info.send_window as usize
    }
}

/// Whether a client asked for another address than its connection has here: the node's netfilter translated it (DNAT), as
/// kube-proxy does for NodePorts and load balancers' addresses. The programs see packets before that, under an address that no flow of
/// this connection would have. Asked of connection tracking (`SO_ORIGINAL_DST`); what it does not know it has not translated.
pub(super) fn is_translated(client: &TcpStream, destination: SocketAddr) -> bool {
    let socket = SockRef::from(client);
    let asked_for = if destination.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    let asked_for = asked_for.ok().and_then(|address| address.as_socket());
    asked_for.is_some_and(|it| (it.ip(), it.port()) != (destination.ip(), destination.port()))
}

/// What the kernel tells of a connection that neither end has closed.
fn open_info(stream: &TcpStream) -> Result<TcpInfo, Refusal> {
    let info = repair::info(stream).map_err(Refusal::system("TCP_INFO"))?;
    if info.state == TcpInfo::ESTABLISHED { Ok(info) } else { Err(Refusal::Closed) }
}

/// Reads all that has come, behind what is there already. That the peer has closed is for [`numbers`] to see.
pub(super) fn drain(stream: &TcpStream, into: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut socket = &*SockRef::from(stream);
    let most = into.len() + MOST_UNREAD;
    loop {
        let length = into.len();
        if length >= most {
            return Err(Refusal::Busy);
        }
        match repair::unread(stream) {
            Ok(0) => return Ok(()),
            Ok(unread) => into.resize(length + unread as usize, 0),
            Err(error) => return Err(Refusal::system("FIONREAD")(error)),
        }
        let read = socket.read(&mut into[length..]);
        into.truncate(length + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => return Err(Refusal::Closed),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Refusal::system("recv")(error)),
        }
    }
}

/// Reads where a connection stands whose flow is frozen. Its socket is left as it was.
pub(super) fn numbers(stream: &TcpStream, now_ms: impl Fn() -> u32) -> Result<Numbers, Refusal> {
    repair::enter(stream).map_err(Refusal::system("TCP_REPAIR"))?;
    fault::reached(Step::InRepair);
    let numbers = read_numbers(stream, now_ms);
    fault::reached(Step::NumbersRead);
    repair::leave(stream, false).map_err(Refusal::system("TCP_REPAIR"))?;
    fault::reached(Step::OutOfRepair);
    numbers
}

fn read_numbers(stream: &TcpStream, now_ms: impl Fn() -> u32) -> Result<Numbers, Refusal> {
    let sequence = |queue| repair::queue_sequence(stream, queue).map_err(Refusal::system("TCP_QUEUE_SEQ"));
    let numbers = Numbers {
        next_in: sequence(Queue::Receive)?,
        next_out: sequence(Queue::Send)?,
        in_flight: repair::unacknowledged(stream).map_err(Refusal::system("SIOCOUTQ"))?,
        clock: {
            let now = now_ms();
            let stamp = repair::timestamp(stream).map_err(Refusal::system("TCP_TIMESTAMP"))?;
            stamp.wrapping_sub(now)
        },
        info: open_info(stream)?,
    };
    // What came out of order is in no queue that can be read, and has been acknowledged selectively.
    match repair::receive_memory(stream).map_err(Refusal::system("SO_MEMINFO"))? {
        0 => Ok(numbers),
        _ => Err(Refusal::Missing),
    }
}

/// Closes a socket without a word to its peer.
pub(super) fn withdraw(stream: TcpStream) {
    // Without repair mode it would say FIN, which the guard keeps back.
    let _ = repair::enter(&stream);
}
