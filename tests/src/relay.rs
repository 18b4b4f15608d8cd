//! A link that loses, doubles and swaps frames, by count and not by chance, so that every run meets the same. It stands
//! in a namespace of its own between two veth pairs and copies frames from one to the other (packet(7)).

use std::fs::File;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use crate::namespace::{self, Namespace};

/// What befalls the frames of each direction: each so manieth, counted from one; 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Harm {
    /// Is lost.
    pub lost: usize,
    /// Comes twice.
    pub doubled: usize,
    /// Comes after the one that follows it.
    pub swapped: usize,
}

impl Harm {
    /// Prime numbers, so that all of it befalls all kinds of packets.
    pub const ALL: Self = Self { lost: 37, doubled: 41, swapped: 13 };
}

/// A frame that is held back for the next one waits no longer than this, in ms.
const HELD: u16 = 2;
/// Longer than any frame of a link without super-packets.
const FRAME: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct Relay {
    namespace: Namespace,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stop: UnixStream,
    thread: JoinHandle<()>,
    damage: Arc<Damage>,
}

/// What was done to frames.
#[derive(Debug, Default)]
pub struct Damage {
    lost: AtomicUsize,
    doubled: AtomicUsize,
    swapped: AtomicUsize,
}

impl Damage {
    /// Frames lost, doubled and swapped.
    pub fn counts(&self) -> [usize; 3] {
        [&self.lost, &self.doubled, &self.swapped].map(|count| count.load(Ordering::Relaxed))
    }
}

impl Relay {
    /// In a namespace whose interfaces `client` and `gateway` are up. It does not run yet.
    pub(crate) fn new(namespace: Namespace) -> Self {
        Self { namespace, running: None }
    }

    /// Copies frames from now on, with all harm.
    pub fn run(&mut self) {
        self.run_with(Harm::ALL);
    }

    /// Copies frames from now on.
    pub fn run_with(&mut self, harm: Harm) {
        let (stop, stopped) = UnixStream::pair().expect("a pair of sockets");
        let damage = Arc::new(Damage::default());
        let (namespace, own) = (self.namespace.open(), damage.clone());
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut ways = open(&namespace, harm);
            tell.send(()).expect("the starter waits");
            copy(&mut ways, &stopped, &own);
        });
        told.recv().expect("a relay that runs");
        self.running = Some(Running { stop, thread, damage });
    }

    /// What it has done so far.
    pub fn damage(&self) -> [usize; 3] {
        self.running.as_ref().map_or([0; 3], |running| running.damage.counts())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // The thread sees the end of the stream.
            let _ = running.stop.shutdown(Shutdown::Both);
            // A panic in there has been printed.
            let _ = running.thread.join();
        }
    }
}

/// One direction: a socket of its own to each of its interfaces.
#[derive(Debug)]
struct Way {
    from: usize,
    to: usize,
    harm: Harm,
    count: usize,
    held: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Ways {
    sockets: [OwnedFd; 2],
    ways: [Way; 2],
}

fn open(namespace: &File, harm: Harm) -> Ways {
    namespace::join(namespace);
    let way = |from, to| Way { from, to, harm, count: 0, held: None };
    Ways { sockets: ["client", "gateway"].map(packet_socket), ways: [way(0, 1), way(1, 0)] }
}

/// Receives every frame that comes in by an interface. Those that it sends itself the kernel does not show it.
fn packet_socket(interface: &str) -> OwnedFd {
    let opened = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_NONBLOCK, SockProtocol::EthAll);
    let socket = opened.expect("a packet socket needs root");
    bind(socket.as_raw_fd(), &address(interface)).expect("binding to an interface");
    // Bursts of a whole window must be lost by count only.
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(16 << 20))
        .expect("a larger buffer needs root");
    socket
}

fn address(interface: &str) -> LinkAddr {
    let found = nix::ifaddrs::getifaddrs().expect("the interfaces");
    let mut links = found.filter(|found| found.interface_name == interface);
    let link = links.find_map(|found| found.address?.as_link_addr().copied());
    link.unwrap_or_else(|| panic!("no interface {interface}"))
}

fn copy(Ways { sockets, ways }: &mut Ways, stopped: &UnixStream, damage: &Damage) {
    loop {
        let waiting = [&sockets[0], &sockets[1]].map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        let [client, gateway] = waiting;
        let mut waiting = [client, gateway, PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
        let holds = ways.iter().any(|way| way.held.is_some());
        match poll(&mut waiting, if holds { PollTimeout::from(HELD) } else { PollTimeout::NONE }) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => panic!("polling: {error}"),
        }
        if waiting[2].any() == Some(true) {
            return;
        }
        for way in ways.iter_mut() {
            way.carry(sockets, damage);
        }
    }
}

impl Way {
    /// Sends on what has come, and what was held back for something that has not.
    fn carry(&mut self, sockets: &[OwnedFd; 2], damage: &Damage) {
        let mut frame = [0; FRAME];
        let mut came = false;
        while let Ok(length) = recv(sockets[self.from].as_raw_fd(), &mut frame, MsgFlags::MSG_TRUNC) {
            assert!(length <= FRAME, "a super-packet of {length} bytes; its sender was to segment");
            came = true;
            self.treat(&sockets[self.to], &frame[..length], damage);
        }
        if !came && let Some(held) = self.held.take() {
            put(&sockets[self.to], &held);
        }
    }

    fn treat(&mut self, to: &OwnedFd, frame: &[u8], damage: &Damage) {
        self.count += 1;
        let is = |every: usize| every != 0 && self.count.is_multiple_of(every);
        if is(self.harm.lost) {
            damage.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if is(self.harm.swapped) && self.held.is_none() {
            damage.swapped.fetch_add(1, Ordering::Relaxed);
            self.held = Some(frame.to_owned());
            return;
        }
        put(to, frame);
        if is(self.harm.doubled) {
            damage.doubled.fetch_add(1, Ordering::Relaxed);
            put(to, frame);
        }
        if let Some(held) = self.held.take() {
            put(to, &held);
        }
    }
}

/// A full queue loses the frame, as a link does.
fn put(to: &OwnedFd, frame: &[u8]) {
    let _ = send(to.as_raw_fd(), frame, MsgFlags::empty());
}
