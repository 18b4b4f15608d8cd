//! Streams that take as many bytes as come.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{MsgFlags, recv};

use crate::cpu;
use crate::namespace::Namespace;

const BLOCK: usize = 256 * 1024;
/// From the first byte to a steady pace.
const WARM_UP: Duration = Duration::from_millis(200);

/// Streams under way. They end when dropped.
#[derive(Debug)]
pub struct Streams {
    received: Arc<AtomicU64>,
    sockets: Vec<TcpStream>,
    threads: Vec<JoinHandle<()>>,
}

/// What came in a while.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// 10^9 bits each second.
    pub gigabits: f64,
    /// CPU seconds of the whole machine for 10^9 bytes; infinite when nothing came.
    pub cpu_per_gigabyte: f64,
}

impl Streams {
    /// Connects `count` streams, to the targets in turns, and waits until they flow.
    pub fn start(client: &Namespace, targets: &[SocketAddr], count: usize) -> Result<Self> {
        let connecting = targets.to_vec();
        let sockets = client.enter(move || {
            let connect =
                |target| TcpStream::connect(target).with_context(|| format!("connecting to {target}"));
            connecting.iter().cycle().take(count).map(connect).collect::<Result<_>>()
        })?;
        Self::of(sockets)
    }

    /// Of connections that have bytes coming. Waits until they flow.
    pub fn of(sockets: Vec<TcpStream>) -> Result<Self> {
        let received = Arc::new(AtomicU64::new(0));
        let threads = sockets.iter().map(|socket| Ok(take_all(socket.try_clone()?, received.clone())));
        let threads = threads.collect::<Result<_>>()?;
        let streams = Self { received, sockets, threads };
        std::thread::sleep(WARM_UP);
        ensure!(streams.received.load(Ordering::Relaxed) > 0, "no byte came in {WARM_UP:?}");
        Ok(streams)
    }

    /// Looks on for a while. That nothing comes is a result too.
    pub fn watch(&self, length: Duration) -> Result<Flow> {
        let (bytes, busy, begun) =
            (self.received.load(Ordering::Relaxed), cpu::busy_seconds()?, Instant::now());
        std::thread::sleep(length);
        let seconds = begun.elapsed().as_secs_f64();
        let busy = cpu::busy_seconds()? - busy;
        let gigabytes = (self.received.load(Ordering::Relaxed) - bytes) as f64 * 1e-9;
        Ok(Flow { gigabits: gigabytes * 8.0 / seconds, cpu_per_gigabyte: busy / gigabytes })
    }
}

/// MSG_TRUNC lets the kernel throw the bytes away instead of copying them (tcp(7)): none is looked at.
fn take_all(stream: TcpStream, received: Arc<AtomicU64>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        // An unpinned thread costs precision, not truth.
        let _ = cpu::pin(cpu::LOAD);
        let mut buffer = vec![0; BLOCK];
        while let Ok(length @ 1..) = recv(stream.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
            received.fetch_add(length as u64, Ordering::Relaxed);
        }
    })
}

impl Drop for Streams {
    fn drop(&mut self) {
        for socket in &self.sockets {
            // One that ended by itself cannot be ended.
            let _ = socket.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
