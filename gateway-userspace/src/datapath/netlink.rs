//! A question or an order to the kernel by `netlink(7)`, and its answer.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// `NLM_F_CREATE`.
pub(super) const CREATE: u16 = 0x400;
/// `NLM_F_EXCL`: an error if it is there already.
pub(super) const EXCLUSIVE: u16 = 0x200;

/// Kind of the answer that is an error.
pub(super) const NLMSG_ERROR: u16 = 2;

/// Of `rtnetlink(7)`, what questions about routes and orders to make them share.
pub(super) const RTM_NEWROUTE: u16 = 24;
pub(super) const RTA_OIF: u16 = 4;
pub(super) const RTN_LOCAL: u8 = 2;

/// Length of `nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens the socket, in the calling thread's network namespace.
    pub(super) fn open(protocol: SockProtocol) -> io::Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // The kernel answers at once; the limit is against waiting for ever if it ever does not.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(1, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks, and waits for a message that `parse` makes an answer to the question of this number of.
    pub(super) fn ask<T>(
        &mut self,
        kind: u16,
        body: &[u8],
        parse: impl Fn(&[u8], u32) -> Option<T>,
    ) -> io::Result<T> {
        self.exchange(kind, 0, body, parse)
    }

    /// Has something done.
    pub(super) fn tell(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        match self.exchange(kind, flags | NLM_F_ACK, body, outcome)? {
            0 => Ok(()),
            number => Err(io::Error::from_raw_os_error(number)),
        }
    }

    fn exchange<T>(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        parse: impl Fn(&[u8], u32) -> Option<T>,
    ) -> io::Result<T> {
        self.sequence = self.sequence.wrapping_add(1);
        send(self.socket.as_raw_fd(), &question(kind, flags, self.sequence, body), MsgFlags::empty())?;
        let mut buffer = [0_u8; 4096];
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            // An answer to a question that was given up is skipped.
            if let Some(answer) = parse(buffer.get(..length).unwrap_or_default(), self.sequence) {
                return Ok(answer);
            }
        }
    }
}

fn question(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend([0; 4]);
    message.extend(body);
    message
}

/// The number of the error that something ended with, or 0.
fn outcome(message: &[u8], sequence: u32) -> Option<i32> {
    if kind(message, sequence)? != NLMSG_ERROR {
        return None;
    }
    Some(-i32::from_ne_bytes(bytes(message, HEADER)?))
}

/// The kind of a message that is about the question of a number; `None` for any other.
pub(super) fn kind(message: &[u8], sequence: u32) -> Option<u16> {
    let kind = u16::from_ne_bytes(bytes(message, 4)?);
    (u32::from_ne_bytes(bytes(message, 8)?) == sequence).then_some(kind)
}

/// Puts an attribute behind the body of a message, padded to words.
pub(super) fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend((4 + value.len() as u16).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// So many bytes of a message.
pub(super) fn bytes<const N: usize>(message: &[u8], offset: usize) -> Option<[u8; N]> {
    message.get(offset..offset + N)?.try_into().ok()
}
