//! Sockets with the options that a gateway needs.

use std::fs::{File, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener};

/// A peer that vanished without a word is noticed this long after its last sign of life, plus the kernel's probes.
const KEEPALIVE: Duration = Duration::from_mins(5);

/// Connections that wait for an accept; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Opens a listening socket that shares its port with the other workers' (`SO_REUSEPORT`). Without an address it
/// takes IPv4 and IPv6, or IPv4 alone where the machine has no IPv6.
pub fn listen(bind: Option<IpAddr>, port: u16) -> io::Result<TcpListener> {
    match bind {
        Some(ip) => listen_on(SocketAddr::new(ip, port), true),
        None => match listen_on((Ipv6Addr::UNSPECIFIED, port).into(), false) {
            Err(error) if is_no_ipv6(&error) => listen_on((Ipv4Addr::UNSPECIFIED, port).into(), true),
            other => other,
        },
    }
}

fn is_no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn listen_on(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // What it accepts has the same options: that spares three system calls a connection.
    prepare(&socket);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A listening socket that another process has opened likewise.
pub fn adopt(socket: OwnedFd) -> io::Result<TcpListener> {
    let socket = std::net::TcpListener::from(socket);
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

/// Opens a unix socket for its owner alone. The mode is set before the file is there: Linux makes the file with the
/// mode of the socket, so that there is no moment in which others could connect.
pub fn listen_private(path: &Path) -> io::Result<UnixListener> {
    let socket = File::from(OwnedFd::from(Socket::new(Domain::UNIX, Type::STREAM, None)?));
    socket.set_permissions(Permissions::from_mode(0o600))?;
    let socket = Socket::from(OwnedFd::from(socket));
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    UnixListener::from_std(socket.into())
}

/// Sets what every connection of ours has: no Nagle, keepalive that notices a vanished peer within minutes.
pub fn prepare(socket: &impl AsFd) {
    let socket = SockRef::from(socket);
    // Both are optimisations: a stream whose peer is already gone refuses them, and the next read says so.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
}

/// Has a connection probed so often, after so long a silence and at such intervals; what is not said
/// stays as it is.
pub fn keep_alive(
    socket: &impl AsFd,
    probes: Option<u32>,
    time: Option<Duration>,
    interval: Option<Duration>,
) {
    // Seconds are the smallest unit of the kernel's, and none of them may be 0.
    let whole = |time: Duration| time.max(Duration::from_secs(1));
    let mut keepalive = TcpKeepalive::new();
    if let Some(time) = time {
        keepalive = keepalive.with_time(whole(time));
    }
    if let Some(interval) = interval {
        keepalive = keepalive.with_interval(whole(interval));
    }
    if let Some(probes) = probes {
        keepalive = keepalive.with_retries(probes);
    }
    // As in `prepare`: a socket that refuses is one whose connection is over already.
    let _ = SockRef::from(socket).set_tcp_keepalive(&keepalive);
}

/// Closes with RST instead of FIN: what Envoy does with a connection that no filter chain takes.
pub fn reset(stream: TcpStream) {
    reset_when_closed(&stream, true);
}

/// Whether a socket says RST instead of FIN when it is closed, be it by the death of this process.
pub fn reset_when_closed(stream: &TcpStream, resets: bool) {
    // If it fails the connection is gone already.
    let _ = SockRef::from(stream).set_linger(resets.then_some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silent_connections_are_probed_as_asked() {
        let listener = listen(Some(Ipv4Addr::LOCALHOST.into()), 0).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        prepare(&client);
        let of = || {
            let socket = SockRef::from(&client);
            (
                socket.tcp_keepalive_retries().unwrap(),
                socket.tcp_keepalive_time().unwrap(),
                socket.tcp_keepalive_interval().unwrap(),
            )
        };
        let (probes, _, interval) = of();
        let seconds = Duration::from_secs;
        keep_alive(&client, None, Some(seconds(60)), None);
        assert_eq!(of(), (probes, seconds(60), interval), "what is not said stays");
        keep_alive(&client, Some(3), Some(Duration::from_millis(5)), Some(seconds(7)));
        assert_eq!(of(), (3, seconds(1), seconds(7)));
        assert!(SockRef::from(&client).keepalive().unwrap());
    }

    #[tokio::test]
    async fn what_is_accepted_has_the_listeners_options() {
        let listener = listen(Some(Ipv4Addr::LOCALHOST.into()), 0).unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let _client = client.unwrap();
        let (stream, _) = accepted.unwrap();
        assert!(stream.nodelay().unwrap());
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
    }

    #[tokio::test]
    async fn a_private_socket_is_its_owners_from_the_first_moment() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _listener = listen_private(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::os::unix::net::UnixStream::connect(&path).unwrap();
    }
}
