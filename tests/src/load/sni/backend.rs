//! The backends behind server names.

use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustls::{ServerConfig, ServerConnection};

use super::{ANSWER, Choice, Ends, Kind, Name, PACE, REQUEST, record_length};
use crate::arena::Arena;
use crate::load::backend::{Backend, File, Port, Talk, Work};

/// Between two portions of a paced stream.
const TICK: Duration = Duration::from_millis(1);
/// A hello is far smaller.
const LONGEST: usize = 16 * 1024;

/// Starts both, with all their work.
pub fn start(arena: &Arena, ends: &Ends) -> Result<Backend> {
    let file = Arc::new(File::new()?);
    let mut ports = Vec::new();
    for name in Name::all() {
        ports.extend(name.addresses(arena).into_iter().map(|at| Port { at, work: work(name, ends, &file) }));
    }
    Backend::serve(arena.lab.backends[0].open(), ports)
}

/// One that only answers requests, at one address.
pub fn answering(choice: Choice, at: SocketAddr) -> Port {
    Port { at, work: Work::Answer(Box::new(move || Box::new(Plain::new(choice)))) }
}

fn work(name: Name, ends: &Ends, file: &Arc<File>) -> Work {
    let (choice, file) = (name.choice, file.clone());
    match name.kind {
        Kind::Bulk => Work::Stream(Arc::new(move |stream| {
            greet(stream, choice)?;
            file.send_without_end(stream)
        })),
        Kind::Paced => Work::Stream(Arc::new(move |stream| {
            greet(stream, choice)?;
            send_paced(stream, &file)
        })),
        Kind::Answers => Work::Answer(Box::new(move || Box::new(Plain::new(choice)))),
        Kind::Tls => {
            let config = ends.servers[usize::from(choice == Choice::B)].clone();
            Work::Answer(Box::new(move || Box::new(Encrypted::new(config.clone()))))
        }
    }
}

/// Reads a ClientHello and says who answers.
fn greet(mut stream: &TcpStream, choice: Choice) -> std::io::Result<()> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let mut rest = vec![0; record_length(&head).unwrap_or_default() - head.len()];
    stream.read_exact(&mut rest)?;
    stream.write_all(&[choice.letter()])
}

/// What the clock says is due, in portions: what a slow receiver missed is not caught up with.
fn send_paced(stream: &TcpStream, file: &File) -> std::io::Result<()> {
    let portion = (PACE as f64 / 8.0 * TICK.as_secs_f64()) as usize;
    let mut due = Instant::now();
    loop {
        due = (due + TICK).max(Instant::now());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        file.send(stream, portion)?;
    }
}

/// A ClientHello, then requests, in plain TCP.
struct Plain {
    choice: Choice,
    /// What there is of the ClientHello, until it is whole.
    hello: Option<Vec<u8>>,
    /// Bytes of the present request that are there.
    received: usize,
}

impl Plain {
    fn new(choice: Choice) -> Self {
        Self { choice, hello: Some(Vec::new()), received: 0 }
    }

    /// Bytes behind the ClientHello among those that came.
    fn behind_hello(&mut self, stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<usize> {
        let Some(hello) = &mut self.hello else { return Ok(bytes.len()) };
        hello.extend_from_slice(bytes);
        let Some(length) = record_length(hello).filter(|length| hello.len() >= *length) else {
            return if hello.len() > LONGEST { Err(ErrorKind::InvalidData.into()) } else { Ok(0) };
        };
        let behind = hello.len() - length;
        self.hello = None;
        stream.write_all(&[self.choice.letter()])?;
        Ok(behind)
    }
}

impl Talk for Plain {
    fn hear(&mut self, stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
        self.received += self.behind_hello(stream, bytes)?;
        let whole = self.received / REQUEST;
        self.received %= REQUEST;
        (0..whole).try_for_each(|_| stream.write_all(&[0x5a; ANSWER]))
    }
}

/// TLS, and requests within.
struct Encrypted {
    /// None when rustls refused to begin, which ends the connection.
    connection: Option<ServerConnection>,
    received: usize,
}

impl Encrypted {
    fn new(config: Arc<ServerConfig>) -> Self {
        Self { connection: ServerConnection::new(config).ok(), received: 0 }
    }
}

impl Talk for Encrypted {
    fn hear(&mut self, stream: &mut TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
        let connection = self.connection.as_mut().ok_or(ErrorKind::Other)?;
        while !bytes.is_empty() {
            connection.read_tls(&mut bytes)?;
            let state = connection.process_new_packets().map_err(Error::other)?;
            let mut buffer = vec![0; state.plaintext_bytes_to_read()];
            connection.reader().read_exact(&mut buffer)?;
            self.received += buffer.len();
        }
        for _ in 0..self.received / REQUEST {
            connection.writer().write_all(&[0x5a; ANSWER])?;
        }
        self.received %= REQUEST;
        while connection.wants_write() {
            connection.write_tls(stream)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::sni::hello;
    use std::net::TcpListener;

    #[test]
    fn a_hello_in_pieces_with_a_request_behind_is_answered_once_each() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = hello(Name { kind: Kind::Answers, choice: Choice::B });
        bytes.extend_from_slice(&[0; REQUEST]);
        let mut plain = Plain::new(Choice::B);
        for part in bytes.chunks(100) {
            plain.hear(&mut stream, part).unwrap();
        }
        drop(stream);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer.len(), 1 + ANSWER);
        assert_eq!(answer[0], b'b');
    }
}
