//! Options of TCP sockets that nobody wraps: `TCP_REPAIR` (Linux 3.5, needs CAP_NET_ADMIN), by which a connection's
//! numbers are read, set, and a socket made or withdrawn without a packet; and what the kernel tells of a connection.
//! Nothing here decides when; the kernel plane does.
#![expect(unsafe_code, reason = "socket options that no crate wraps, on integers and plain bytes")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use socket2::SockRef;

/// `TCP_REPAIR`: into it, and out of it with and without a packet (Linux 4.19).
const REPAIR_ON: libc::c_int = 1;
const REPAIR_OFF_PROBE: libc::c_int = 0;
const REPAIR_OFF: libc::c_int = -1;

/// A side of a connection, as `TCP_REPAIR_QUEUE` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// What the peer sent.
    Receive = 1,
    /// What we send.
    Send = 2,
}

/// Puts a socket into repair mode: from now on it sends nothing, and closing it tells nobody. It may be bound whoever
/// has its address already, and connecting it is to declare it connected. It can't be received from until it is out
/// again.
pub fn enter(socket: &impl AsFd) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, REPAIR_ON)
}

/// Takes a socket out of repair mode. With a `probe` a connected one sends an empty segment whose number the peer has
/// had already, so that it answers; else nothing is sent.
pub fn leave(socket: &impl AsFd, probe: bool) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, if probe { REPAIR_OFF_PROBE } else { REPAIR_OFF })?;
    // The kernel takes the permission away on the way out; without it the TIME-WAIT would keep others from the port.
    SockRef::from(socket).set_reuse_address(true)
}

/// The number of the next byte of a queue: of those that will be received, or that will be written. What has been
/// written and not acknowledged yet is before it. The socket is in repair mode.
pub fn queue_sequence(socket: &impl AsFd, queue: Queue) -> io::Result<u32> {
    choose(socket, queue)?;
    get(socket, libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ).map(u32::from_ne_bytes)
}

/// Sets the number of the next byte of a queue. The socket is in repair mode, and not connected yet.
pub fn set_queue_sequence(socket: &impl AsFd, queue: Queue, sequence: u32) -> io::Result<()> {
    choose(socket, queue)?;
    set(socket, libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ, sequence.cast_signed())
}

fn choose(socket: &impl AsFd, queue: Queue) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, queue as libc::c_int)
}

/// The timestamp (RFC 7323) that a socket would send now. Its lowest bit is none of it: set if the unit is 1 µs instead
/// of 1 ms.
pub fn timestamp(socket: &impl AsFd) -> io::Result<u32> {
    get(socket, libc::IPPROTO_TCP, libc::TCP_TIMESTAMP).map(u32::from_ne_bytes)
}

/// Has a socket count its timestamps on from this one; the lowest bit is as in [`timestamp`]. The socket is in repair
/// mode.
pub fn set_timestamp(socket: &impl AsFd, timestamp: u32) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_TIMESTAMP, timestamp.cast_signed())
}

/// Lets a socket be bound to an address that is not this machine's, and send from it (`IP_TRANSPARENT`).
pub fn make_transparent(socket: &impl AsFd, v6: bool) -> io::Result<()> {
    let (level, option) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT)
    } else {
        (libc::IPPROTO_IP, libc::IP_TRANSPARENT)
    };
    set(socket, level, option, 1)
}

/// What `TCP_INFO` tells of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpInfo {
    /// State, as in `include/net/tcp_states.h`.
    pub state: u8,
    /// What both ends agreed on in the handshake: the constants of this type.
    pub options: u8,
    /// The peer's window is in units of two to the power of this.
    pub send_scale: u8,
    /// So is ours.
    pub receive_scale: u8,
    /// Largest segment that is sent, in bytes, without options.
    pub send_mss: u32,
    /// Largest segment that the peer was told to send, in bytes.
    pub advertised_mss: u32,
    /// Segments that were sent and not acknowledged.
    pub unacknowledged: u32,
    /// Bytes that the peer takes beyond those that it has acknowledged.
    pub send_window: u32,
}

impl TcpInfo {
    /// State of a connection that neither end has closed.
    pub const ESTABLISHED: u8 = 1;
    /// State of one that is over, or that the kernel gave up.
    pub const CLOSED: u8 = 7;
    /// Timestamps.
    pub const TIMESTAMPS: u8 = 1;
    /// Selective acknowledgements.
    pub const SACK: u8 = 2;
    /// Window scales.
    pub const SCALED: u8 = 4;
    /// Explicit congestion notification.
    pub const ECN: u8 = 8;
    /// Timestamps in units of 1 µs (Linux 6.7).
    pub const MICROSECONDS: u8 = 64;

    /// The beginning of `struct tcp_info`, up to and with `tcpi_snd_wnd` (Linux 5.4).
    const LENGTH: usize = 232;

    fn of(info: [u8; Self::LENGTH]) -> Self {
        let [state, _, _, _, _, options, scales, ..] = info;
        let word = |offset: usize| {
            let bytes = info.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_ne_bytes)
        };
        // Bit fields: the first one is the lower half where the lower byte comes first, which the kernel's programs
        // are made for anyway.
        let (send_scale, receive_scale) = (scales & 15, scales >> 4);
        let (send_mss, unacknowledged, advertised_mss, send_window) =
            (word(16), word(24), word(84), word(228));
        Self {
            state,
            options,
            send_scale,
            receive_scale,
            send_mss,
            advertised_mss,
            unacknowledged,
            send_window,
        }
    }
}

/// What the kernel knows of a connection.
pub fn info(socket: &impl AsFd) -> io::Result<TcpInfo> {
    get(socket, libc::IPPROTO_TCP, libc::TCP_INFO).map(TcpInfo::of)
}

/// Bytes of memory that received segments take which nobody has read: 0 if there are none, in order or out of it.
pub fn receive_memory(socket: &impl AsFd) -> io::Result<u32> {
    // The first of the nine words is `SK_MEMINFO_RMEM_ALLOC`; the kernel writes as many as fit.
    get(socket, libc::SOL_SOCKET, libc::SO_MEMINFO).map(u32::from_ne_bytes)
}

/// Bytes that were written and not acknowledged yet (`SIOCOUTQ`).
pub fn unacknowledged(socket: &impl AsFd) -> io::Result<u32> {
    // The number is one of terminals, and has that name there.
    ask(socket, libc::TIOCOUTQ)
}

/// Bytes that can be read (`FIONREAD`).
pub fn unread(socket: &impl AsFd) -> io::Result<u32> {
    ask(socket, libc::FIONREAD)
}

fn set(socket: &impl AsFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: an open descriptor, and an integer that outlives the call, with its own size.
    let done = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), length) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// An option's first `N` bytes; fewer are an error.
fn get<const N: usize>(socket: &impl AsFd, level: libc::c_int, option: libc::c_int) -> io::Result<[u8; N]> {
    let fd = socket.as_fd().as_raw_fd();
    let mut value = [0; N];
    let mut length = N as libc::socklen_t;
    // SAFETY: an open descriptor, and a buffer of as many bytes as its length says; the kernel writes no more.
    let done = unsafe { libc::getsockopt(fd, level, option, value.as_mut_ptr().cast(), &raw mut length) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    if (length as usize) < N {
        return Err(io::Error::other(format!("option {option}: {length} bytes instead of {N}")));
    }
    Ok(value)
}

fn ask(socket: &impl AsFd, request: libc::Ioctl) -> io::Result<u32> {
    let fd = socket.as_fd().as_raw_fd();
    let mut answer: libc::c_int = 0;
    // SAFETY: an open descriptor, and requests that write one integer.
    if unsafe { libc::ioctl(fd, request, &raw mut answer) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn what_waits_to_be_read_is_told_in_bytes_and_in_memory() {
        let (mut client, mut server) = pair();
        assert_eq!((unread(&server).unwrap(), receive_memory(&server).unwrap()), (0, 0));
        client.write_all(&[7; 1000]).unwrap();
        server.peek(&mut [0]).unwrap();
        assert_eq!(unread(&server).unwrap(), 1000);
        assert!(receive_memory(&server).unwrap() >= 1000);
        server.read_exact(&mut [0; 1000]).unwrap();
        assert_eq!((unread(&server).unwrap(), receive_memory(&server).unwrap()), (0, 0));
    }

    #[test]
    fn what_the_peer_has_no_room_for_is_not_acknowledged() {
        let (client, server) = pair();
        client.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(more) = (&client).write(&[7; 8192]) {
            written += more;
        }
        let waiting = unacknowledged(&client).unwrap() as usize;
        assert!(0 < waiting && waiting < written, "{waiting} of {written}");
        drop(server);
    }

    #[test]
    fn a_connection_tells_what_was_agreed_on() {
        let (client, server) = pair();
        let (near, far) = (info(&client).unwrap(), info(&server).unwrap());
        assert_eq!((near.state, near.unacknowledged), (TcpInfo::ESTABLISHED, 0));
        assert_eq!(near.options & 7, TcpInfo::TIMESTAMPS | TcpInfo::SACK | TcpInfo::SCALED);
        assert_eq!((near.send_scale, near.receive_scale), (far.receive_scale, far.send_scale));
        assert!(near.receive_scale > 0);
        // Loopback carries packets of 64 KiB, and the clamp of a socket may be lower.
        assert!(near.advertised_mss >= far.send_mss && far.send_mss > 1000, "{near:?} {far:?}");
    }

    #[test]
    fn the_fields_of_tcp_info_are_where_the_kernel_has_them() {
        let mut bytes = [0; TcpInfo::LENGTH];
        bytes[0] = 8;
        bytes[5] = 0x47;
        bytes[6] = 0xa7;
        for (offset, value) in [(16, 1448_u32), (24, 3), (84, 8960), (228, 65_535)] {
            bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        }
        let want = TcpInfo {
            state: 8,
            options: TcpInfo::TIMESTAMPS | TcpInfo::SACK | TcpInfo::SCALED | TcpInfo::MICROSECONDS,
            send_scale: 7,
            receive_scale: 10,
            send_mss: 1448,
            advertised_mss: 8960,
            unacknowledged: 3,
            send_window: 65_535,
        };
        assert_eq!(TcpInfo::of(bytes), want);
    }
}
