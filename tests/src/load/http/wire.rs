//! A client's connection, in TLS or not: bytes in, bytes out, and nobody waits.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use nix::sys::socket::{MsgFlags, recv};
use rustls::{ClientConnection, HandshakeKind};
use socket2::{Domain, Protocol, Socket, Type};

use super::sealed::Sealing;

/// See the module.
#[derive(Debug)]
pub(super) struct Wire {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// What the socket has not taken yet.
    left: Vec<u8>,
}

impl Wire {
    /// Connects from an address, and says hello where there is TLS. Waits for the connection, which the kernel at the
    /// other end makes as soon as it is asked to.
    pub(super) fn connect(from: SocketAddr, to: SocketAddr, sealing: Option<&Sealing>) -> Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.into())?;
        socket.connect(&to.into()).with_context(|| format!("connecting to {to}"))?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let tls = sealing.map(Sealing::begin).transpose()?.map(Box::new);
        let mut wire = Self { socket: socket.into(), tls, left: Vec::new() };
        wire.send(&[])?;
        Ok(wire)
    }

    /// Whether what is sent now is sent.
    pub(super) fn is_open(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
    }

    /// Whether its handshake took up an earlier one.
    pub(super) fn is_resumed(&self) -> bool {
        let kind = self.tls.as_ref().and_then(|tls| tls.handshake_kind());
        kind == Some(HandshakeKind::Resumed)
    }

    /// Whether the socket has taken everything; otherwise it is to be asked again when it is writable.
    pub(super) fn is_sent(&self) -> bool {
        self.left.is_empty()
    }

    /// Sends these bytes behind those that are left.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            let taken = if self.left.is_empty() { write(&mut self.socket, bytes)? } else { 0 };
            self.left.extend_from_slice(&bytes[taken..]);
            return self.send_rest();
        };
        if !bytes.is_empty() {
            tls.writer().write_all(bytes)?;
        }
        while tls.wants_write() {
            tls.write_tls(&mut self.left)?;
        }
        self.send_rest()
    }

    fn send_rest(&mut self) -> io::Result<()> {
        if !self.left.is_empty() {
            let taken = write(&mut self.socket, &self.left)?;
            self.left.drain(..taken);
        }
        Ok(())
    }

    /// Reads once, and adds what came to `into`.
    pub(super) fn receive(&mut self, buffer: &mut [u8], into: &mut Vec<u8>) -> io::Result<()> {
        let length = match self.socket.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(tls) = &mut self.tls else {
            into.extend_from_slice(&buffer[..length]);
            return Ok(());
        };
        let mut sealed = &buffer[..length];
        while !sealed.is_empty() {
            tls.read_tls(&mut sealed)?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let (before, count) = (into.len(), state.plaintext_bytes_to_read());
            into.resize(before + count, 0);
            tls.reader().read_exact(&mut into[before..])?;
        }
        // Its part of the handshake, if that is what it has to say.
        self.send(&[])
    }

    /// Throws away at most so many bytes that come next, without copying them (MSG_TRUNC of tcp(7)); how many there
    /// were. None in TLS, where they must be looked at.
    pub(super) fn pass_over(&mut self, buffer: &mut [u8], most: usize) -> io::Result<Option<usize>> {
        if self.tls.is_some() || most == 0 {
            return Ok(None);
        }
        let room = most.min(buffer.len());
        match recv(self.socket.as_raw_fd(), &mut buffer[..room], MsgFlags::MSG_TRUNC) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => Ok(Some(length)),
            Err(nix::errno::Errno::EAGAIN) => Ok(Some(0)),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How many of the bytes are taken now.
fn write(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    match socket.write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}
