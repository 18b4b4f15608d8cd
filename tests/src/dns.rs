//! A name server whose answers a test changes as it goes: IPv4 addresses over UDP (RFC 1035).

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Seconds that answers hold, so that a test sees the next one.
const TTL: u32 = 1;
/// Bytes before the question.
const HEAD: usize = 12;
/// A name that is written at the question already.
const SAME_NAME: [u8; 2] = [0xc0, HEAD as u8];

/// What a name server says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// Its addresses.
    Addresses(Vec<Ipv4Addr>),
    /// Nothing at all.
    Nothing,
    /// That it cannot tell: SERVFAIL.
    Failure,
}

/// What it says of names, and how often it was asked for each.
#[derive(Debug, Default)]
struct Zone {
    says: HashMap<String, Says>,
    asked: HashMap<String, usize>,
}

/// A running name server. Of names that it was told nothing about it says that they don't exist. Ends when dropped.
#[derive(Debug)]
pub struct NameServer {
    /// Where it listens.
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Listens on a free port of 127.0.0.1.
    pub fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for a name server");
        let address = socket.local_addr().expect("its address");
        let (zone, is_over) = (Arc::<Mutex<Zone>>::default(), Arc::<AtomicBool>::default());
        let (of_thread, end) = (zone.clone(), is_over.clone());
        let thread = std::thread::spawn(move || serve(&socket, &of_thread, &end));
        Self { address, zone, is_over, thread: Some(thread) }
    }

    /// What it says of a name from now on.
    pub fn say(&self, name: &str, says: Says) {
        self.zone().says.insert(name.to_owned(), says);
    }

    /// How often it was asked for a name.
    pub fn asked(&self, name: &str) -> usize {
        self.zone().asked.get(name).copied().unwrap_or(0)
    }

    fn zone(&self) -> std::sync::MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Any datagram wakes it.
        let _ =
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.send_to(&[0], self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, zone: &Mutex<Zone>, is_over: &AtomicBool) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if is_over.load(Ordering::SeqCst) {
            return;
        }
        let Some((name, question)) = question(&buffer[..length]) else { continue };
        let mut zone = zone.lock().unwrap_or_else(PoisonError::into_inner);
        *zone.asked.entry(name.clone()).or_default() += 1;
        let says = zone.says.get(&name);
        if let Some(answer) = answer(&buffer[..2], question, says) {
            // A client that is gone needs no answer.
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// The name asked for, and the question as it came.
fn question(message: &[u8]) -> Option<(String, &[u8])> {
    let (mut labels, mut at) = (Vec::new(), HEAD);
    loop {
        let length = usize::from(*message.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(message.get(at + 1..at + 1 + length)?).to_ascii_lowercase());
        at += 1 + length;
    }
    // The root label, type and class.
    Some((labels.join("."), message.get(HEAD..at + 5)?))
}

fn answer(id: &[u8], question: &[u8], says: Option<&Says>) -> Option<Vec<u8>> {
    let (code, addresses) = match says {
        None => (3, &[][..]),
        Some(Says::Failure) => (2, &[][..]),
        Some(Says::Addresses(addresses)) => (0, addresses.as_slice()),
        Some(Says::Nothing) => return None,
    };
    let count = u8::try_from(addresses.len()).expect("few addresses");
    // A response to a query with recursion, with one question.
    let mut message = [id, &[0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0], question].concat();
    for address in addresses {
        message
            .extend([&SAME_NAME[..], &[0, 1, 0, 1], &TTL.to_be_bytes(), &[0, 4], &address.octets()].concat());
    }
    Some(message)
}
