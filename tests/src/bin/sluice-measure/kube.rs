//! A cluster's documents: how soon what changes at the API server is in traffic, and what the documents of a large mesh take, at
//! start, at rest and at each change.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use harness::client::{self, Answer, Connection};
use harness::cpu::Spent;
use harness::documents::{self, Server, virtual_service};
use harness::gateway::Gateway;
use harness::kube::{Api, ControlPlane, Tenant, ask};
use harness::mesh::Mesh;
use harness::{port, wait};
use serde_json::{Value, json};

use crate::figures::{least, median, most, quantile};
use crate::idle::resident_mib;

/// Flags of `bench kube`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Changes of a VirtualService, each once the one before is in traffic.
    #[arg(long, default_value_t = 1000)]
    changes: usize,
    /// VirtualServices of the mesh, with half as many Services of ten endpoints each; 0 leaves it out.
    #[arg(long, default_value_t = 10_000)]
    virtual_services: usize,
    /// Seconds for which processor time is counted while nothing changes.
    #[arg(long, default_value_t = 30)]
    rest: u64,
}

/// Connections to the API server that the mesh is put in by.
const WRITERS: usize = 16;
const PROBE: &str = "probe.test";
const PROBES: &str = "probe";
/// Between two looks at traffic: processors are to be left to those who are measured.
const STEP: Duration = Duration::from_millis(1);
/// How long the writing of status may take.
const WRITTEN: Duration = Duration::from_mins(5);

/// What was measured.
#[derive(Default)]
struct Sheet {
    table: String,
    numbers: Vec<Value>,
}

impl Sheet {
    /// Times of one kind.
    fn times(&mut self, what: &str, times: &[f64]) -> Result<()> {
        let (middle, nearly_all) = (median(times), quantile(times, 0.99));
        writeln!(
            self.table,
            "{what:<52} {middle:>9.1} ms in the middle, {nearly_all:.1} for 99 %, {:.1} to {:.1}",
            least(times),
            most(times)
        )?;
        self.numbers.push(json!({"what": what, "ms": times, "median_ms": middle, "p99_ms": nearly_all}));
        Ok(())
    }

    fn say(&mut self, what: &str, value: f64, unit: &str) -> Result<()> {
        writeln!(self.table, "{what:<52} {value:>9.1} {unit}")?;
        self.numbers.push(json!({"what": what, "value": value, "unit": unit}));
        Ok(())
    }
}

/// Runs all of it; starts are repeated.
pub(crate) fn run(rounds: usize, options: &Options) -> Result<(String, Value)> {
    let tenant = Tenant::of(Arc::new(ControlPlane::start()));
    let port = port::free();
    tenant.apply(&(documents::gateway("edge", &[Server::http(port, &["*"])]) + &probe("-1")));
    let mut sheet = Sheet::default();
    {
        let gateway = tenant.arrange_for_all().start();
        sheet.times(
            "a change, from the API server to traffic",
            &changes(&tenant, gateway.at(port), options.changes)?,
        )?;
    }
    if options.virtual_services > 0 {
        of_mesh(&tenant, port, rounds, options, &mut sheet)?;
    }
    Ok((sheet.table, json!({"kube": sheet.numbers})))
}

fn of_mesh(tenant: &Tenant, port: u16, rounds: usize, options: &Options, sheet: &mut Sheet) -> Result<()> {
    let mesh = Mesh::of(options.virtual_services);
    let begun = Instant::now();
    let count = put(&tenant.plane.api(), &tenant.applications, documents_of(mesh))?;
    sheet.say(&format!("{count} documents put into the API server"), begun.elapsed().as_secs_f64(), "s")?;
    let mut starts = Vec::new();
    let mut last = None;
    for _ in 0..rounds {
        // It listens on the same ports.
        drop(last.take());
        let begun = Instant::now();
        let gateway = tenant.arrange_for_all().start();
        starts.push(begun.elapsed().as_secs_f64() * 1e3);
        last = Some(gateway);
    }
    sheet.times("from its start until a gateway is ready", &starts)?;
    let gateway = last.context("--rounds 0")?;
    let address = gateway.at(port);
    ensure!(client::get(address, "h7.example.com", "/nothing").status == 404, "the mesh is served");
    let begun = Instant::now();
    wait_until_written(tenant, options.virtual_services)?;
    sheet.say("the status of all documents written after", begun.elapsed().as_secs_f64(), "s")?;
    sheet.say("resident", resident_mib(gateway.pid())?, "MiB")?;
    sheet.say(
        "processor time while nothing changes",
        resting(&gateway, options.rest)? * 100.0,
        "% of one",
    )?;
    sheet.times(
        "a change in the mesh, from the API server to traffic",
        &changes(tenant, address, options.changes)?,
    )?;
    sheet.say("resident after that", resident_mib(gateway.pid())?, "MiB")
}

/// Share of a processor.
fn resting(gateway: &Gateway, seconds: u64) -> Result<f64> {
    let (begun, before) = (Instant::now(), Spent::now(&[gateway.pid()])?);
    std::thread::sleep(Duration::from_secs(seconds));
    Ok(Spent::now(&[gateway.pid()])?.since(&before).own / begun.elapsed().as_secs_f64())
}

/// Waits until gateways have written a status for so many VirtualServices, all in all.
fn wait_until_written(tenant: &Tenant, documents: usize) -> Result<()> {
    let user = tenant.user();
    let written = || {
        let asked = tenant.plane.asked_by(&user);
        asked.iter().filter(|it| it.verb == "patch" && it.uri.contains("/status") && it.status == 200).count()
    };
    let all = wait::within(WRITTEN, || {
        // Notes are long by now, and reading them takes a processor.
        std::thread::sleep(Duration::from_secs(1));
        (written() >= documents).then_some(())
    });
    all.with_context(|| format!("after {WRITTEN:?} {} of {documents} have a status", written()))
}

fn probe(body: &str) -> String {
    virtual_service(PROBES, &[PROBE], "edge", &format!("  http:\n  - {}", direct(body)))
}

fn direct(body: &str) -> String {
    format!("directResponse: {{status: 200, body: {{string: \"{body}\"}}}}")
}

/// Milliseconds from each change's being sent to the API server until the gateway's answers are as it says.
fn changes(tenant: &Tenant, gateway: SocketAddr, count: usize) -> Result<Vec<f64>> {
    let path =
        format!("/apis/networking.istio.io/v1/namespaces/{}/virtualservices/{PROBES}", tenant.applications);
    client::runtime().block_on(async {
        let (mut server, mut traffic) =
            (tenant.plane.api().connect().await?, Connection::open(gateway).await?);
        let mut times = Vec::new();
        for change in 0..count {
            let body = change.to_string();
            let rule = json!({"directResponse": {"status": 200, "body": {"string": body}}});
            let patch = json!({"spec": {"http": [rule]}}).to_string();
            let begun = Instant::now();
            let answer = server.send(ask("PATCH", &path, "application/merge-patch+json", patch)).await?;
            ensure!(answer.status == 200, "the API server: {} {}", answer.status, answer.text());
            until_seen(&mut traffic, &body).await?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    })
}

async fn until_seen(traffic: &mut Connection, body: &str) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < client::LIMIT {
        if traffic.send(client::request("GET", PROBE, "/", &[])).await?.text() == body {
            return Ok(());
        }
        tokio::time::sleep(STEP).await;
    }
    bail!("the change is not seen within {:?}", client::LIMIT)
}

/// Path below a namespace, and text, of each document of a mesh but its Gateway.
fn documents_of(mesh: Mesh) -> Vec<(&'static str, String)> {
    let texts = mesh.files().flat_map(|(_, text)| text.split("---\n").map(str::to_owned).collect::<Vec<_>>());
    texts.filter_map(|text| Some((collection(&text)?, placed(&text)))).collect()
}

fn collection(text: &str) -> Option<&'static str> {
    let kind = text.lines().find_map(|line| line.strip_prefix("kind: "))?;
    match kind {
        "VirtualService" => Some("/apis/networking.istio.io/v1/namespaces/*/virtualservices"),
        "Service" => Some("/api/v1/namespaces/*/services"),
        "EndpointSlice" => Some("/apis/discovery.k8s.io/v1/namespaces/*/endpointslices"),
        _ => None,
    }
}

/// With what API servers ask for, and files need not say.
fn placed(text: &str) -> String {
    text.replace("kind: EndpointSlice\n", "kind: EndpointSlice\naddressType: IPv4\n")
}

/// Puts documents into a namespace, and says how many there were.
fn put(api: &Api, namespace: &str, documents: Vec<(&'static str, String)>) -> Result<usize> {
    let count = documents.len();
    let documents = Arc::new(Mutex::new(documents));
    client::runtime().block_on(async {
        let mut writers = Vec::new();
        for _ in 0..WRITERS {
            let (connection, documents) = (api.connect().await?, documents.clone());
            writers.push(tokio::spawn(write(connection, namespace.to_owned(), documents)));
        }
        for writer in writers {
            writer.await??;
        }
        Ok(count)
    })
}

async fn write(
    mut connection: Connection,
    namespace: String,
    documents: Arc<Mutex<Vec<(&'static str, String)>>>,
) -> Result<()> {
    loop {
        let next = documents.lock().expect("no panic elsewhere").pop();
        let Some((path, text)) = next else { return Ok(()) };
        let path = path.replace('*', &namespace);
        let answer: Answer = connection.send(ask("POST", &path, "application/yaml", text)).await?;
        ensure!(answer.status == 201, "{path}: {} {}", answer.status, answer.text());
    }
}
