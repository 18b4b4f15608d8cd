//! TCP streams through the kernel's path, through user space's, and with no gateway at all, in turns.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::cpu::busy_seconds;
use harness::documents::{Server as Port, gateway, tcp_route, tcp_service};
use harness::gateway::{Gateway, Kernel};
use harness::lab::{Family, Lab};
use harness::serve::{Place, Server};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::figures::{least, median, most};

const BLOCK: usize = 128 * 1024;
/// Bytes of a small message.
const MESSAGE: usize = 64;
const ROUND_TRIPS: u32 = 20_000;

/// One way through the lab.
struct Way {
    name: &'static str,
    target: SocketAddr,
    gigabits: Vec<f64>,
    /// CPU seconds of the whole machine for each GiB.
    cpu: Vec<f64>,
    /// Round trips of [`MESSAGE`] bytes each second.
    trips: Vec<f64>,
}

/// Measures, and returns the table and the numbers.
pub(crate) fn run(rounds: usize, gib: u64, streams: u64) -> Result<(String, Value)> {
    let lab = Lab::new(1)?;
    lab.gateway.sysctl("net/ipv4/ip_forward", "1")?;
    let backend = SocketAddr::new(lab.backend_address(Family::V4, 0), 0);
    let server = Server::start(Place::within(&lab.backends[0], backend), |stream| async move {
        // A client that breaks off shows as a short transfer.
        let _ = source(stream).await;
    });
    let documents = |port| {
        [
            gateway("edge", &[Port::tcp(port)]),
            tcp_route("edge", port, "edge", "b"),
            tcp_service("b", &[server.address]),
        ]
        .join("\n---\n")
    };
    let arranged = |port, kernel| {
        let arranged = Gateway::arrange().within(&lab.gateway).kernel(kernel).flags(&["--interface", "c0"]);
        arranged.document("documents", &documents(port)).start()
    };
    let (_steering, _copying) = (arranged(31400, Kernel::Require), arranged(31401, Kernel::Off));
    let at = |port| SocketAddr::new(lab.gateway_address(Family::V4), port);
    let way = |name, target| Way { name, target, gigabits: Vec::new(), cpu: Vec::new(), trips: Vec::new() };
    let mut ways =
        [way("no gateway (routed)", server.address), way("kernel", at(31400)), way("user space", at(31401))];
    for _ in 0..rounds {
        for way in &mut ways {
            let target = way.target;
            let busy = busy_seconds()?;
            let elapsed = lab.client.enter(move || download_by(target, gib << 30, streams))?;
            way.gigabits.push((gib << 30) as f64 * 8e-9 / elapsed.as_secs_f64());
            way.cpu.push((busy_seconds()? - busy) / gib as f64);
            way.trips.push(lab.client.enter(move || round_trips(target))?);
        }
    }
    let (base, base_trips) = (median(&ways[2].gigabits), median(&ways[2].trips));
    let mut table = format!(
        "{gib} GiB down, streams: {streams}, medians of {rounds} rounds (least, most); × is against user space\n"
    );
    let mut numbers = Vec::new();
    for way in &ways {
        let (speed, cpu, trips) = (median(&way.gigabits), median(&way.cpu), median(&way.trips));
        writeln!(
            table,
            "{:<20} {speed:6.2} Gbit/s ({:.2}, {:.2})   {:.2} ×   {cpu:.2} CPU-s/GiB   {trips:6.0} round trips/s   {:.2} ×",
            way.name,
            least(&way.gigabits),
            most(&way.gigabits),
            speed / base,
            trips / base_trips
        )?;
        numbers.push(json!({"way": way.name, "gbit_per_s": way.gigabits, "cpu_s_per_gib": way.cpu,
            "median_gbit_per_s": speed, "ratio_to_user_space": speed / base, "round_trips_per_s": way.trips,
            "round_trips_ratio_to_user_space": trips / base_trips}));
    }
    Ok((table, json!({"steering": numbers, "streams": streams})))
}

/// Sends as many bytes as the client asks for; for none, sends back what it gets.
async fn source(mut stream: tokio::net::TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut left = stream.read_u64().await?;
    if left == 0 {
        let (mut from, mut to) = stream.split();
        return tokio::io::copy(&mut from, &mut to).await.map(drop);
    }
    let block = vec![0x5a; BLOCK];
    while left > 0 {
        let length = left.min(BLOCK as u64);
        stream.write_all(&block[..length as usize]).await?;
        left -= length;
    }
    stream.shutdown().await
}

/// Round trips each second on one connection.
fn round_trips(target: SocketAddr) -> Result<f64> {
    let mut stream = TcpStream::connect(target).with_context(|| target.to_string())?;
    stream.set_nodelay(true)?;
    stream.write_all(&0_u64.to_be_bytes())?;
    let mut message = [0x5a; MESSAGE];
    let begun = Instant::now();
    for _ in 0..ROUND_TRIPS {
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
    }
    Ok(f64::from(ROUND_TRIPS) / begun.elapsed().as_secs_f64())
}

/// Downloads by several streams at once.
fn download_by(target: SocketAddr, bytes: u64, streams: u64) -> Result<Duration> {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let running: Vec<_> =
            (0..streams).map(|_| scope.spawn(|| download(target, bytes / streams))).collect();
        running.into_iter().try_for_each(|stream| stream.join().expect("a thread that does not panic"))
    })?;
    Ok(begun.elapsed())
}

fn download(target: SocketAddr, bytes: u64) -> Result<()> {
    let mut stream = TcpStream::connect(target).with_context(|| target.to_string())?;
    stream.write_all(&bytes.to_be_bytes())?;
    let mut buffer = vec![0; BLOCK];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            length => received += length as u64,
        }
    }
    ensure!(received == bytes, "{received} of {bytes} bytes came");
    Ok(())
}
