//! The backend: answers requests on one port, and gives bytes without end on another.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
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

impl Backend {
    /// Listens on every address of the arena's backend.
    pub fn start(arena: &Arena) -> Result<Self> {
        let (stop, stopped) = UnixStream::pair()?;
        let place = arena.lab.backends[0].open();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            namespace::join(&place);
            match Service::new(stopped) {
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

/// A client's connection, and the bytes of its present request that are there.
struct Connection {
    stream: TcpStream,
    received: usize,
}

struct Service {
    epoll: Epoll,
    stopped: UnixStream,
    requests: TcpListener,
    bulk: TcpListener,
    /// By file descriptor.
    connections: Vec<Option<Connection>>,
    file: Arc<OwnedFd>,
}

impl Service {
    fn new(stopped: UnixStream) -> Result<Self> {
        cpu::pin(cpu::LOAD)?;
        let (requests, bulk) = (listen(REQUESTS)?, listen(BULK)?);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let readable = |number: i32| EpollEvent::new(EpollFlags::EPOLLIN, number.cast_unsigned().into());
        epoll.add(&stopped, readable(stopped.as_raw_fd()))?;
        epoll.add(&requests, readable(requests.as_raw_fd()))?;
        epoll.add(&bulk, readable(bulk.as_raw_fd()))?;
        Ok(Self { epoll, stopped, requests, bulk, connections: Vec::new(), file: Arc::new(file()?) })
    }

    fn run(mut self) {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut buffer = vec![0; 16 * REQUEST];
        loop {
            let Ok(count) = self.epoll.wait(&mut events, EpollTimeout::NONE) else { continue };
            for event in &events[..count] {
                let number = event.data() as i32;
                if number == self.stopped.as_raw_fd() {
                    return;
                } else if number == self.requests.as_raw_fd() {
                    self.accept();
                } else if number == self.bulk.as_raw_fd() {
                    self.accept_bulk();
                } else {
                    self.answer(number as usize, &mut buffer);
                }
            }
        }
    }

    fn accept(&mut self) {
        // A client that is gone before it is accepted is the client's matter; so are all failures below.
        let Ok((stream, _)) = self.requests.accept() else { return };
        let number = stream.as_raw_fd() as usize;
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, number as u64);
        if self.epoll.add(&stream, readable).is_ok() {
            self.connections.resize_with(self.connections.len().max(number + 1), || None);
            self.connections[number] = Some(Connection { stream, received: 0 });
        }
    }

    /// Reads what is there: it never waits, and answers are far smaller than what a socket takes without waiting.
    fn answer(&mut self, number: usize, buffer: &mut [u8]) {
        let Some(Some(connection)) = self.connections.get_mut(number) else { return };
        let length = connection.stream.read(buffer).unwrap_or(0);
        connection.received += length;
        let whole = connection.received / REQUEST;
        connection.received %= REQUEST;
        let answered = (0..whole).try_for_each(|_| connection.stream.write_all(&[0x5a; ANSWER]));
        if length == 0 || answered.is_err() {
            self.connections[number] = None;
        }
    }

    fn accept_bulk(&mut self) {
        let Ok((stream, _)) = self.bulk.accept() else { return };
        let file = self.file.clone();
        std::thread::spawn(move || {
            if stream.set_write_timeout(Some(STUCK)).is_ok() {
                send_without_end(&stream, &file);
            }
        });
    }
}

/// Sends from the page cache: no copy on the backend's side. Ends when the client does.
fn send_without_end(stream: &TcpStream, file: &OwnedFd) {
    loop {
        let mut offset = 0;
        while offset < i64::from(FILE) {
            let left = (i64::from(FILE) - offset) as usize;
            if sendfile(stream, file, Some(&mut offset), left).is_err() {
                return;
            }
        }
    }
}

fn file() -> Result<OwnedFd> {
    let mut file = std::fs::File::from(memfd_create("bulk", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&vec![0x5a; FILE as usize])?;
    Ok(file.into())
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Connections have it from their listener.
    SockRef::from(&socket).set_tcp_nodelay(true)?;
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
