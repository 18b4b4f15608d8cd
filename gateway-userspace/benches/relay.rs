//! What the relay between two sockets costs its thread: CPU seconds for each GiB, spliced and copied, and CPU µs for each
//! message of a conversation. Loopback's receivers work in the sender's system call, so that the numbers hold the work of
//! both stacks that the relay talks to; they bear other work on the machine. `cargo bench --package gateway-userspace
//! --bench relay`.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made ends")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use gateway_userspace::net::relay::Relay;
use nix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 5;
const IDLE: Duration = Duration::from_mins(1);
const BLOCK: usize = 256 * 1024;
const BULK: usize = 1 << 30;
/// Messages of a conversation.
const MESSAGES: usize = 20_000;
/// Connections that carry no more than a short question and answer.
const SHORT: usize = 5_000;

fn main() {
    println!("medians of {ROUNDS} rounds, CPU time of the relay's thread");
    let ways = [("copy", false), ("splice", true)];
    for (name, splices) in ways {
        let bulk = median(|| bulk(splices));
        println!("{name:<7} {bulk:.3} s/GiB, one direction");
    }
    for (name, splices) in ways {
        for size in [64, 4096, 16 * 1024, 32 * 1024, 64 * 1024, 256 * 1024] {
            let count = (MESSAGES * 1024 / size.max(1024)).max(500);
            let each = median(|| conversation(splices, size, count) * 1e6 / count as f64);
            println!("{name:<7} {each:.2} µs/message there and back, {size} bytes");
        }
    }
    let each = median(|| short() * 1e6 / SHORT as f64);
    println!("short   {each:.2} µs/connection, 517 bytes up, 1 KiB down");
}

fn median(mut measure: impl FnMut() -> f64) -> f64 {
    let mut all: Vec<f64> = (0..ROUNDS).map(|_| measure()).collect();
    all.sort_by(f64::total_cmp);
    all[ROUNDS / 2]
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let accepted = listener.accept().unwrap().0;
    connected.set_nodelay(true).unwrap();
    accepted.set_nodelay(true).unwrap();
    (connected, accepted)
}

/// CPU seconds of this thread that relaying took.
fn relayed(connections: impl IntoIterator<Item = (TcpStream, TcpStream)>, splices: bool) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut spent = 0.0;
    for (downstream, upstream) in connections {
        downstream.set_nonblocking(true).unwrap();
        upstream.set_nonblocking(true).unwrap();
        let begun = seconds();
        runtime.block_on(async {
            let socket = |stream| tokio::net::TcpStream::from_std(stream).unwrap();
            let relay = Relay::new(socket(downstream), socket(upstream), Bytes::new(), IDLE);
            let mut relay = if splices { relay } else { relay.without_splice() };
            relay.run(|| {}, |_| false).await
        });
        spent += seconds() - begun;
    }
    spent
}

fn seconds() -> f64 {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    now.tv_sec() as f64 + now.tv_nsec() as f64 * 1e-9
}

fn bulk(splices: bool) -> f64 {
    let ((mut client, downstream), (upstream, mut backend)) = (pair(), pair());
    let sending = std::thread::spawn(move || {
        let block = vec![0x5a; BLOCK];
        (0..BULK / BLOCK).for_each(|_| backend.write_all(&block).unwrap());
    });
    let receiving = std::thread::spawn(move || {
        let mut block = vec![0; BLOCK];
        (0..BULK / BLOCK).for_each(|_| client.read_exact(&mut block).unwrap());
    });
    let spent = relayed([(downstream, upstream)], splices);
    sending.join().unwrap();
    receiving.join().unwrap();
    spent
}

fn conversation(splices: bool, size: usize, count: usize) -> f64 {
    let ((mut client, downstream), (upstream, mut backend)) = (pair(), pair());
    let answering = std::thread::spawn(move || {
        let mut message = vec![0; size];
        for _ in 0..count {
            backend.read_exact(&mut message).unwrap();
            backend.write_all(&message).unwrap();
        }
    });
    let asking = std::thread::spawn(move || {
        let mut message = vec![0; size];
        for _ in 0..count {
            client.write_all(&message).unwrap();
            client.read_exact(&mut message).unwrap();
        }
    });
    let spent = relayed([(downstream, upstream)], splices);
    answering.join().unwrap();
    asking.join().unwrap();
    spent
}

/// Each connection has said all before it is relayed.
fn short() -> f64 {
    let mut far = Vec::new();
    let connections = (0..SHORT).map(|_| {
        far.clear();
        let ((mut client, downstream), (upstream, mut backend)) = (pair(), pair());
        client.write_all(&[0x5a; 517]).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        backend.write_all(&[0x5a; 1024]).unwrap();
        backend.shutdown(std::net::Shutdown::Write).unwrap();
        far.push((client, backend));
        (downstream, upstream)
    });
    relayed(connections, true)
}
