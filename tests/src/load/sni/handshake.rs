//! Short connections: a full TLS handshake, a request, its answer.

use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::sync::Arc;

use nix::sys::epoll::EpollFlags;
use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;
use socket2::Socket;

use super::{ANSWER, Name, REQUEST};
use crate::load::connections::Exchange;

/// See the module. The certificate shows that the right backend answered.
#[derive(Debug)]
pub struct Handshake {
    /// Why rustls refused to begin, otherwise.
    connection: Result<ClientConnection, rustls::Error>,
    is_connected: bool,
    asked: bool,
    received: usize,
}

impl Handshake {
    /// With the backend of a name.
    pub fn new(config: &Arc<ClientConfig>, name: Name) -> Self {
        let connection = ServerName::try_from(name.host())
            .map_err(|error| rustls::Error::General(error.to_string()))
            .and_then(|name| ClientConnection::new(config.clone(), name));
        Self { connection, is_connected: false, asked: false, received: 0 }
    }
}

impl Exchange for Handshake {
    fn advance(&mut self, socket: &mut Socket, events: EpollFlags) -> std::io::Result<bool> {
        self.is_connected |= events.contains(EpollFlags::EPOLLOUT);
        let connection = self.connection.as_mut().map_err(|error| Error::other(error.clone()))?;
        while self.is_connected && self.received < ANSWER {
            if !self.asked && !connection.is_handshaking() {
                self.asked = true;
                connection.writer().write_all(&[0x5a; REQUEST])?;
            }
            match step(connection, socket) {
                Ok(received) => self.received += received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(self.is_connected)
    }
}

/// Sends what is to be sent, else takes what came. Returns how many bytes of the answer that brought.
fn step(connection: &mut ClientConnection, socket: &mut Socket) -> std::io::Result<usize> {
    if connection.wants_write() {
        return connection.write_tls(socket).map(|_| 0);
    }
    if connection.read_tls(socket)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let state = connection.process_new_packets().map_err(Error::other)?;
    let mut buffer = vec![0; state.plaintext_bytes_to_read()];
    connection.reader().read_exact(&mut buffer)?;
    Ok(buffer.len())
}
