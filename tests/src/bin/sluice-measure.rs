//! What the project claims in numbers, measured so that others can measure it again: throughput of the kernel's path
//! beside user space's in one run, time from start to serving, memory at rest. A table for people, JSON for machines.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use harness::documents::{Server as Port, gateway, tcp_route, tcp_service};
use harness::gateway::{Gateway, Kernel};
use harness::lab::{Family, Lab};
use harness::serve::{Place, Server};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const BLOCK: usize = 128 * 1024;
/// Bytes of a small message.
const MESSAGE: usize = 64;
const ROUND_TRIPS: u32 = 20_000;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", about, arg_required_else_help = true)]
struct Measure {
    #[command(subcommand)]
    what: What,
    /// Rounds; medians are reported.
    #[arg(long, default_value_t = 5, global = true)]
    rounds: usize,
    /// JSON alone.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// TCP streams through the kernel's path, through user space's, and with no gateway at all, in turns.
    Steering {
        /// GiB sent in each turn, by all streams together.
        #[arg(long, default_value_t = 4)]
        gib: u64,
        /// Streams at once.
        #[arg(long, default_value_t = 1)]
        streams: u64,
    },
    /// From the start of the process to the first connection accepted and to readiness, on the quickstart's documents.
    Start,
    /// Resident memory of an idle agent on the quickstart's documents.
    Memory,
}

fn main() -> Result<()> {
    let measure = Measure::parse();
    let (table, numbers) = match measure.what {
        What::Steering { gib, streams } => steering(measure.rounds, gib, streams.max(1))?,
        What::Start => start(measure.rounds)?,
        What::Memory => memory(measure.rounds)?,
    };
    if !measure.json {
        println!("{table}");
    }
    println!("{numbers}");
    Ok(())
}

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

fn steering(rounds: usize, gib: u64, streams: u64) -> Result<(String, Value)> {
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

/// Seconds that all CPUs together were busy, interrupts included.
fn busy_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("no CPU line")?;
    let ticks: Vec<u64> = line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq; in hundredths of a second on every Linux (USER_HZ).
    let busy: u64 =
        ticks.iter().enumerate().filter(|(index, _)| !matches!(index, 3 | 4)).map(|(_, tick)| tick).sum();
    Ok(busy as f64 / 100.0)
}

/// The quickstart's documents on ports that need no Service.
fn quickstart() -> Result<Vec<(String, String)>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/quickstart");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_stem().context("a name")?.to_string_lossy().into_owned();
        files.push((name, std::fs::read_to_string(path)?));
    }
    Ok(files)
}

fn quickstart_gateway(lab: &Lab, kernel: Kernel) -> Result<Gateway> {
    let mut arranged = Gateway::arrange().within(&lab.gateway).kernel(kernel);
    for (name, text) in quickstart()? {
        arranged = arranged.document(&name, &text);
    }
    Ok(arranged.start())
}

fn start(rounds: usize) -> Result<(String, Value)> {
    let lab = Lab::new(0)?;
    let mut table = format!("from the start of the process, medians of {rounds} starts (least, most)\n");
    let mut numbers = Vec::new();
    for (name, kernel) in [("kernel plane", Kernel::Require), ("user space alone", Kernel::Off)] {
        let (mut accepting, mut ready) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let first = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 80);
            let begun = Instant::now();
            let waiting = {
                let namespace = lab.gateway.open();
                std::thread::spawn(move || {
                    harness::namespace::join(&namespace);
                    while TcpStream::connect(first).is_err() {
                        std::thread::sleep(Duration::from_micros(500));
                    }
                    begun.elapsed()
                })
            };
            let gateway = quickstart_gateway(&lab, kernel)?;
            ready.push(begun.elapsed().as_secs_f64() * 1e3);
            accepting.push(waiting.join().expect("a thread that does not panic").as_secs_f64() * 1e3);
            drop(gateway);
        }
        for (what, times) in [("accepting", &accepting), ("ready", &ready)] {
            let (middle, least, most) = (median(times), least(times), most(times));
            writeln!(table, "{name:<18} {what:<10} {middle:6.1} ms ({least:.1}, {most:.1})")?;
            numbers.push(json!({"plane": name, "until": what, "ms": times, "median_ms": middle}));
        }
    }
    Ok((table, json!({"start": numbers})))
}

fn memory(rounds: usize) -> Result<(String, Value)> {
    let lab = Lab::new(0)?;
    let mut table = format!("of an idle agent, medians of {rounds} starts (least, most)\n");
    let mut numbers = Vec::new();
    for (name, kernel) in [("kernel plane", Kernel::Require), ("user space alone", Kernel::Off)] {
        let mut resident = Vec::new();
        for _ in 0..rounds {
            let gateway = quickstart_gateway(&lab, kernel)?;
            // What start-up needed is given back within a second or two; rest is what is asked for.
            std::thread::sleep(Duration::from_secs(3));
            resident.push(resident_mib(gateway.pid())?);
        }
        let (middle, least, most) = (median(&resident), least(&resident), most(&resident));
        writeln!(table, "{name:<18} {middle:6.1} MiB ({least:.1}, {most:.1})")?;
        numbers.push(json!({"plane": name, "rss_mib": resident, "median_rss_mib": middle}));
    }
    Ok((table, json!({"memory": numbers})))
}

fn resident_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn median(values: &[f64]) -> f64 {
    sorted(values).get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn least(values: &[f64]) -> f64 {
    sorted(values).first().copied().unwrap_or(f64::NAN)
}

fn most(values: &[f64]) -> f64 {
    sorted(values).last().copied().unwrap_or(f64::NAN)
}
