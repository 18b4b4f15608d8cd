//! An agent on the quickstart's documents: how soon it serves, and what it takes when it has nothing to do.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use harness::gateway::{Gateway, Kernel};
use harness::lab::Lab;
use harness::mesh::Mesh;
use serde_json::{Value, json};

use crate::figures::{least, median, most};

/// The planes that are compared.
const PLANES: [(&str, Kernel); 2] = [("kernel plane", Kernel::Require), ("user space alone", Kernel::Off)];

/// From the start of the process to the first connection accepted and to readiness.
pub(crate) fn start(rounds: usize) -> Result<(String, Value)> {
    let lab = Lab::new(0)?;
    let mut table = format!("from the start of the process, medians of {rounds} starts (least, most)\n");
    let mut numbers = Vec::new();
    for (name, kernel) in PLANES {
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

/// Resident memory.
pub(crate) fn memory(rounds: usize, virtual_services: usize) -> Result<(String, Value)> {
    let lab = Lab::new(0)?;
    let mut table = format!("of an idle agent, medians of {rounds} starts (least, most)\n");
    let mut numbers = Vec::new();
    for (name, kernel) in PLANES {
        let mut resident = Vec::new();
        for _ in 0..rounds {
            let gateway = quickstart_gateway(&lab, kernel)?;
            resident.push(at_rest(&gateway)?);
        }
        let (middle, least, most) = (median(&resident), least(&resident), most(&resident));
        writeln!(table, "{name:<18} {middle:6.1} MiB ({least:.1}, {most:.1})")?;
        numbers.push(json!({"plane": name, "rss_mib": resident, "median_rss_mib": middle}));
    }
    if virtual_services > 0 {
        for (when, resident) in of_mesh(&lab, Mesh::of(virtual_services))? {
            writeln!(table, "{virtual_services} VirtualServices, {when:<42} {resident:6.1} MiB")?;
            numbers.push(json!({"virtual_services": virtual_services, "when": when, "rss_mib": resident}));
        }
    }
    Ok((table, json!({"memory": numbers})))
}

/// How often documents of a mesh change one by one.
const CHANGES: usize = 100;

/// Resident memory with the documents of a mesh, read once, and after some have changed, each change put in force before the
/// next.
fn of_mesh(lab: &Lab, mesh: Mesh) -> Result<[(&'static str, f64); 3]> {
    let arranged = Gateway::arrange().within(&lab.gateway).kernel(Kernel::Off);
    let gateway =
        mesh.files().fold(arranged, |arranged, (name, text)| arranged.document(&name, &text)).start();
    let change = |changed: fn(Mesh, usize) -> (String, String)| {
        for change in 1..=CHANGES {
            let (name, text) = changed(mesh, change);
            gateway.apply(&name, &text);
        }
        at_rest(&gateway)
    };
    Ok([
        ("loaded", at_rest(&gateway)?),
        ("after 100 changes of a VirtualService", change(Mesh::changed_virtual_service)?),
        ("after 100 changes of an EndpointSlice", change(Mesh::changed_endpoint_slice)?),
    ])
}

/// Resident memory once what was done last has given back what it needed, which takes a second or two.
fn at_rest(gateway: &Gateway) -> Result<f64> {
    std::thread::sleep(Duration::from_secs(3));
    resident_mib(gateway.pid())
}

/// MiB that a process has.
pub(crate) fn resident_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
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
