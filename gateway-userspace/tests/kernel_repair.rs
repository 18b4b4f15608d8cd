//! Repair mode of the kernel's TCP: what handing connections over, and ending them in a word, rest on.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod kernel;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gateway_userspace::net::repair::{self, Queue};
use kernel::{Namespace, PATIENCE};
use socket2::{Domain, Socket, Type};

const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];

/// Held by whoever starts processes or closes sockets: until a new process executes its program it holds all
/// sockets of this one, so that those that another test closes meanwhile are not gone.
static ALONE: Mutex<()> = Mutex::new(());

/// A connection over loopback, which nobody else uses.
struct Pair {
    alone: MutexGuard<'static, ()>,
    namespace: Namespace,
    near: TcpStream,
    far: TcpStream,
}

impl Pair {
    fn new(ip: &str) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let namespace = Namespace::new();
        let ip: IpAddr = ip.parse().unwrap();
        let listener = namespace.enter(|| TcpListener::bind((ip, 0)).unwrap());
        let near = namespace.enter(|| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let far = listener.accept().unwrap().0;
        for stream in [&near, &far] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        Self { alone, namespace, near, far }
    }

    /// Withdraws the near end.
    fn withdraw(self) -> Withdrawn {
        let addresses = [self.near.local_addr().unwrap(), self.near.peer_addr().unwrap()];
        repair::enter(&self.near).unwrap();
        let numbers =
            [Queue::Send, Queue::Receive].map(|queue| repair::queue_sequence(&self.near, queue).unwrap());
        Withdrawn { _alone: self.alone, namespace: self.namespace, far: self.far, addresses, numbers }
    }
}

/// A connection with one end.
struct Withdrawn {
    _alone: MutexGuard<'static, ()>,
    namespace: Namespace,
    far: TcpStream,
    /// Of the end that is gone, and of the other.
    addresses: [SocketAddr; 2],
    /// Of what the end that is gone would have sent and received next.
    numbers: [u32; 2],
}

impl Withdrawn {
    /// A socket in place of the one that is gone, still in repair mode. Its numbers of what it sends are shifted.
    fn replace(&self, shift: u32) -> Socket {
        let ([local, peer], [send, receive]) = (self.addresses, self.numbers);
        self.namespace.enter(|| {
            let socket = Socket::new(Domain::for_address(local), Type::STREAM, None).unwrap();
            repair::enter(&socket).unwrap();
            socket.bind(&local.into()).unwrap();
            repair::set_queue_sequence(&socket, Queue::Send, send.wrapping_add(shift)).unwrap();
            repair::set_queue_sequence(&socket, Queue::Receive, receive).unwrap();
            socket.connect(&peer.into()).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        })
    }

    /// What the other end finds within a moment.
    fn find(&mut self) -> ErrorKind {
        self.far.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let end = self.far.read(&mut [0]).unwrap_err().kind();
        self.far.set_read_timeout(Some(PATIENCE)).unwrap();
        end
    }
}

#[test]
fn both_ends_agree_on_the_numbers_of_both_queues() {
    for ip in LOOPBACK {
        let mut pair = Pair::new(ip);
        pair.near.write_all(&[1; 1234]).unwrap();
        pair.far.write_all(&[2; 77]).unwrap();
        pair.far.read_exact(&mut [0; 1234]).unwrap();
        pair.near.read_exact(&mut [0; 77]).unwrap();
        for stream in [&pair.near, &pair.far] {
            repair::enter(stream).unwrap();
        }
        let number = |stream: &TcpStream, queue| repair::queue_sequence(stream, queue).unwrap();
        assert_eq!(number(&pair.near, Queue::Send), number(&pair.far, Queue::Receive), "{ip}");
        assert_eq!(number(&pair.far, Queue::Send), number(&pair.near, Queue::Receive), "{ip}");
        for stream in [&pair.near, &pair.far] {
            repair::leave(stream, false).unwrap();
        }
        // Whoever has been there can go on.
        pair.near.write_all(b"x").unwrap();
        pair.far.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn a_timestamp_goes_on_from_what_was_set() {
    let pair = Pair::new(LOOPBACK[0]);
    repair::enter(&pair.near).unwrap();
    let wanted = repair::timestamp(&pair.near).unwrap().wrapping_add(1_000_000_000) & !1;
    repair::set_timestamp(&pair.near, wanted).unwrap();
    let passed = repair::timestamp(&pair.near).unwrap().wrapping_sub(wanted);
    assert!(Duration::from_millis(passed.into()) < PATIENCE, "{passed} ms");
}

#[test]
fn a_connection_goes_on_by_another_socket_and_the_peer_notices_nothing() {
    for ip in LOOPBACK {
        let mut pair = Pair::new(ip);
        pair.near.write_all(b"before").unwrap();
        pair.far.read_exact(&mut [0; 6]).unwrap();
        let mut pair = pair.withdraw();
        assert_eq!(pair.find(), ErrorKind::WouldBlock, "{ip}: the peer heard of it");

        let mut socket = pair.replace(0);
        // The answer to the probe tells the peer's window, without which nothing could be sent for now.
        repair::leave(&socket, true).unwrap();
        socket.write_all(b"after").unwrap();
        let mut bytes = [0; 5];
        pair.far.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"after", "{ip}");
        pair.far.write_all(b"back").unwrap();
        socket.read_exact(&mut bytes[..4]).unwrap();
        assert_eq!(&bytes[..4], b"back", "{ip}");
    }
}

#[test]
fn a_socket_out_of_repair_mode_resets_its_peer_if_its_number_is_in_the_window() {
    for ip in LOOPBACK {
        // One behind the right number is asked about (RFC 5961), and the answer has the right one.
        for (shift, is_reset) in [(0, true), (1, true), (1_u32.wrapping_neg(), false), (1 << 30, false)] {
            let mut pair = Pair::new(ip).withdraw();
            let socket = pair.replace(shift);
            repair::leave(&socket, false).unwrap();
            socket.set_linger(Some(Duration::ZERO)).unwrap();
            drop(socket);
            let want = if is_reset { ErrorKind::ConnectionReset } else { ErrorKind::WouldBlock };
            assert_eq!(pair.find(), want, "{ip}: {shift} off");
        }
    }
}
