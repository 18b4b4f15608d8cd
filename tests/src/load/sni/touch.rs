//! The shortest connections: a ClientHello, and the byte by which the backend says which one it is.

use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::sync::Arc;

use nix::sys::epoll::EpollFlags;
use socket2::Socket;

use super::Choice;
use crate::load::connections::Exchange;

/// See the module.
#[derive(Debug)]
pub struct Touch {
    hello: Arc<[u8]>,
    /// What the backend says.
    letter: u8,
    has_asked: bool,
}

impl Touch {
    /// With a backend that this ClientHello names.
    pub fn new(hello: Arc<[u8]>, choice: Choice) -> Self {
        Self { hello, letter: choice.letter(), has_asked: false }
    }
}

impl Exchange for Touch {
    fn advance(&mut self, socket: &mut Socket, events: EpollFlags) -> std::io::Result<bool> {
        if !self.has_asked {
            if !events.contains(EpollFlags::EPOLLOUT) {
                return Ok(false);
            }
            socket.write_all(&self.hello)?;
            self.has_asked = true;
        }
        let mut letter = [0];
        match socket.read_exact(&mut letter) {
            Ok(()) if letter[0] == self.letter => Ok(true),
            Ok(()) => Err(Error::other("another backend answers")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}
