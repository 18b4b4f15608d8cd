//! WebSockets (RFC 6455): a handshake, then messages of [`MESSAGE`] bytes that are said again.

use std::io;
use std::time::Instant;

use super::h1::{end_of_head, excerpt, field};
use super::{Dialect, HOST, MESSAGE, SOCKET_PATH, Service, wrong};

/// Key and what is answered to it, of RFC 6455 section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// What a backend answers to the handshake.
pub(super) const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: \
    Upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// A whole binary message of more than 125 bytes (RFC 6455 section 5.2).
const OPCODE: u8 = 0x82;
const LONGER: u8 = 126;
const MASKED: u8 = 0x80;
/// Bytes of a frame by a server and by a client, whose mask is of zeroes.
const SERVERS: usize = 4 + MESSAGE;
const CLIENTS: usize = SERVERS + 4;

/// A frame's head, and its message.
fn frame(is_masked: bool) -> Vec<u8> {
    let length = (MESSAGE as u16).to_be_bytes();
    let mask: &[u8] = if is_masked { &[0; 4] } else { &[] };
    let second = LONGER | if is_masked { MASKED } else { 0 };
    [&[OPCODE, second], &length[..], mask, &[b'Z'; MESSAGE]].concat()
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    message: Vec<u8>,
    answer: Vec<u8>,
    /// What there is of the handshake's answer, until it is whole.
    head: Option<Vec<u8>>,
    due: Option<Instant>,
    /// Bytes of the answer that have come.
    received: usize,
}

impl Client {
    pub(super) fn new() -> Self {
        Self { message: frame(true), answer: frame(false), head: Some(Vec::new()), due: None, received: 0 }
    }

    /// Takes the answer to the handshake, and returns what is behind it.
    fn behind_head<'a>(&mut self, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let Some(head) = &mut self.head else { return Ok(bytes) };
        let before = head.len();
        head.extend_from_slice(bytes);
        let Some(end) = end_of_head(head, before) else { return Ok(&[]) };
        let accepted = field(&head[..end], "sec-websocket-accept");
        if !head.starts_with(b"HTTP/1.1 101 ") || accepted != Some(ACCEPT.as_bytes()) {
            return Err(wrong(format!("no WebSocket: {}", excerpt(head))));
        }
        self.head = None;
        Ok(&bytes[end - before..])
    }
}

impl Dialect for Client {
    fn begin(&mut self, out: &mut Vec<u8>) {
        let request = format!(
            "GET {SOCKET_PATH} HTTP/1.1\r\nhost: {HOST}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-key: {KEY}\r\nsec-websocket-version: 13\r\n\r\n"
        );
        out.extend_from_slice(request.as_bytes());
    }

    fn room(&self) -> usize {
        usize::from(self.head.is_none() && self.due.is_none())
    }

    fn ask(&mut self, due: Instant, out: &mut Vec<u8>) {
        self.due = Some(due);
        out.extend_from_slice(&self.message);
    }

    fn hear(&mut self, bytes: &[u8], _: &mut Vec<u8>, done: &mut Vec<Instant>) -> io::Result<()> {
        let bytes = self.behind_head(bytes)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let expected = self.answer.get(self.received..self.received + bytes.len());
        if self.due.is_none() || expected != Some(bytes) {
            return Err(wrong(format!("not the message that was sent: {}", excerpt(bytes))));
        }
        self.received += bytes.len();
        if self.received == SERVERS {
            self.received = 0;
            done.extend(self.due.take());
        }
        Ok(())
    }
}

/// A backend that says messages again.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Bytes of the present message that are there.
    received: usize,
}

impl Service for Answers {
    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.received += bytes.len();
        for _ in 0..self.received / CLIENTS {
            out.extend_from_slice(&frame(false));
        }
        self.received %= CLIENTS;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::http::h1;

    #[test]
    fn messages_come_back_however_they_are_cut() {
        for size in [1, 50, 4000] {
            let (mut client, mut answers) = (Client::new(), h1::Answers::new());
            let (mut up, mut down, mut done) = (Vec::new(), Vec::new(), Vec::new());
            client.begin(&mut up);
            for messages in 0..3 {
                for piece in std::mem::take(&mut up).chunks(size) {
                    answers.hear(piece, &mut down).unwrap();
                }
                for piece in std::mem::take(&mut down).chunks(size) {
                    client.hear(piece, &mut up, &mut done).unwrap();
                }
                assert_eq!((done.len(), client.room()), (messages, 1), "{size}");
                client.ask(Instant::now(), &mut up);
            }
        }
    }

    #[test]
    fn who_does_not_switch_is_refused() {
        let refusal = b"HTTP/1.1 403 Forbidden\r\n\r\n";
        assert!(Client::new().hear(refusal, &mut Vec::new(), &mut Vec::new()).is_err());
    }
}
