//! Backends: one thread that answers whatever comes on several ports, and a thread for each stream of bulk.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::sendfile::sendfile;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{ANSWER, REQUEST};
use crate::arena::{Arena, BULK, REQUESTS};
use crate::{cpu, namespace};

const EVENTS: usize = 256;
const BACKLOG: i32 = 16_384;
/// Bytes that are read at once.
const BUFFER: usize = 16 * 1024;
/// Bytes of the file that bulk is sent from, again and again.
const FILE: u32 = 1 << 20;
/// A receiver that takes nothing for so long is gone.
const STUCK: Duration = Duration::from_secs(5);

/// A running backend. Ends when dropped.
#[derive(Debug)]
pub struct Backend {
    stop: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// A port, and what is done there.
pub struct Port {
    /// Where.
    pub at: SocketAddr,
    /// What.
    pub work: Work,
}

/// What is done with connections.
pub enum Work {
    /// Something for each of them, that is told what came.
    Answer(Begin),
    /// By a thread for each, which may wait for as long as [`STUCK`].
    Stream(Arc<Whole>),
}

/// Begins a conversation.
type Begin = Box<dyn Fn() -> Box<dyn Talk> + Send>;
/// All that is done with a connection.
type Whole = dyn Fn(&TcpStream) -> std::io::Result<()> + Send + Sync;

/// One side of a conversation.
pub trait Talk: Send {
    /// Takes what came, and sends what is to be answered: never more than what a socket takes without waiting. An error
    /// ends the connection.
    fn hear(&mut self, stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()>;
}

impl Backend {
    /// Answers requests of plain TCP on every address of the arena's backend, and gives bytes without end.
    pub fn start(arena: &Arena) -> Result<Self> {
        let file = Arc::new(File::new()?);
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        let requests = Work::Answer(Box::new(|| Box::new(Requests::default())));
        let bulk = Work::Stream(Arc::new(move |stream: &TcpStream| file.send_without_end(stream)));
        let ports = vec![Port { at: any(REQUESTS), work: requests }, Port { at: any(BULK), work: bulk }];
        Self::serve(arena.lab.backends[0].open(), ports)
    }

    /// Listens in a namespace, which is given as a handle.
    pub fn serve(within: std::fs::File, ports: Vec<Port>) -> Result<Self> {
        let (stop, stopped) = UnixStream::pair()?;
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            namespace::join(&within);
            match Service::new(stopped, ports) {
                Ok(service) => {
                    let _ = tell.send(Ok(()));
                    service.run();
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        });
        told.recv().context("the backend ended")??;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.stop.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Port({})", self.at)
    }
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Answer(_) => "Answer",
            Self::Stream(_) => "Stream",
        })
    }
}

/// Answers each [`REQUEST`] bytes.
#[derive(Debug, Default)]
struct Requests {
    /// Bytes of the present request that are there.
    received: usize,
}

impl Talk for Requests {
    fn hear(&mut self, stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
        self.received += bytes.len();
        let whole = self.received / REQUEST;
        self.received %= REQUEST;
        (0..whole).try_for_each(|_| stream.write_all(&[0x5a; ANSWER]))
    }
}

struct Service {
    epoll: Epoll,
    stopped: UnixStream,
    listeners: Vec<(TcpListener, Work)>,
    /// By file descriptor.
    connections: Vec<Option<(TcpStream, Box<dyn Talk>)>>,
}

impl Service {
    fn new(stopped: UnixStream, ports: Vec<Port>) -> Result<Self> {
        cpu::pin(cpu::LOAD)?;
        let listeners = ports.into_iter().map(|port| Ok((listen(port.at)?, port.work)));
        let listeners = listeners.collect::<Result<Vec<_>>>()?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let readable = |number: i32| EpollEvent::new(EpollFlags::EPOLLIN, number.cast_unsigned().into());
        epoll.add(&stopped, readable(stopped.as_raw_fd()))?;
        for (listener, _) in &listeners {
            epoll.add(listener, readable(listener.as_raw_fd()))?;
        }
        Ok(Self { epoll, stopped, listeners, connections: Vec::new() })
    }

    fn run(mut self) {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut buffer = vec![0; BUFFER];
        loop {
            let Ok(count) = self.epoll.wait(&mut events, EpollTimeout::NONE) else { continue };
            for event in &events[..count] {
                let number = event.data() as i32;
                let is_number = |(listener, _): &(TcpListener, Work)| listener.as_raw_fd() == number;
                if number == self.stopped.as_raw_fd() {
                    return;
                } else if let Some(place) = self.listeners.iter().position(is_number) {
                    self.accept(place);
                } else {
                    self.answer(number as usize, &mut buffer);
                }
            }
        }
    }

    fn accept(&mut self, place: usize) {
        let (listener, work) = &self.listeners[place];
        // A client that is gone before it is accepted is the client's matter; so are all failures below.
        let Ok((stream, _)) = listener.accept() else { return };
        match work {
            Work::Answer(talk) => {
                let talk = talk();
                self.keep(stream, talk);
            }
            Work::Stream(work) => {
                let work = work.clone();
                std::thread::spawn(move || {
                    let limit = Some(STUCK);
                    if stream.set_write_timeout(limit).and_then(|()| stream.set_read_timeout(limit)).is_ok() {
                        // It ends when the client does.
                        let _ = work(&stream);
                    }
                });
            }
        }
    }

    fn keep(&mut self, stream: TcpStream, talk: Box<dyn Talk>) {
        let number = stream.as_raw_fd() as usize;
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, number as u64);
        if self.epoll.add(&stream, readable).is_ok() {
            self.connections.resize_with(self.connections.len().max(number + 1), || None);
            self.connections[number] = Some((stream, talk));
        }
    }

    /// Reads what is there: it never waits.
    fn answer(&mut self, number: usize, buffer: &mut [u8]) {
        let Some(Some((stream, talk))) = self.connections.get_mut(number) else { return };
        let length = stream.read(buffer).unwrap_or(0);
        if length == 0 || talk.hear(stream, &buffer[..length]).is_err() {
            self.connections[number] = None;
        }
    }
}

/// Bytes in the page cache, that are sent without a copy on the backend's side.
#[derive(Debug)]
pub struct File(OwnedFd);

impl File {
    /// Makes it, of [`FILE`] bytes, in memory.
    pub fn new() -> Result<Self> {
        let mut file = std::fs::File::from(memfd_create("bulk", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&vec![0x5a; FILE as usize])?;
        Ok(Self(file.into()))
    }

    /// Sends `length` bytes of it, at most [`FILE`].
    pub fn send(&self, stream: &TcpStream, length: usize) -> std::io::Result<()> {
        let mut offset = 0;
        while (offset as usize) < length {
            let left = length - offset as usize;
            sendfile(stream, &self.0, Some(&mut offset), left)?;
        }
        Ok(())
    }

    /// Until the client ends.
    pub fn send_without_end(&self, stream: &TcpStream) -> std::io::Result<()> {
        loop {
            self.send(stream, FILE as usize)?;
        }
    }
}

fn listen(at: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Connections have it from their listener.
    SockRef::from(&socket).set_tcp_nodelay(true)?;
    socket.bind(&at.into()).with_context(|| format!("listening on {at}"))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
