//! What clients notice while documents change, agents take over from one another, and backends fail: requests of HTTP/1.1, TLS
//! and HTTP/2 on connections that stay open, and streams of TCP and of TLS that is passed through.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use harness::chatter::Chatter;
use harness::client::{self, Connection};
use harness::documents::virtual_service;
use harness::faults::backend::Health;
use harness::faults::{Load, Stand};
use harness::gateway::Kernel;
use serde_json::{Value, json};

use crate::figures::median;
use crate::idle::resident_mib;

/// Flags of `bench faults`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Documents that change, one after the other.
    #[arg(long, default_value_t = 200)]
    changes: usize,
    /// Agents that take over, one after the other.
    #[arg(long, default_value_t = 50)]
    successions: usize,
    /// Clients of each of the three protocols.
    #[arg(long, default_value_t = 17)]
    clients: usize,
    /// Requests a second of all of them together.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Streams of TCP, and as many of TLS that is passed through.
    #[arg(long, default_value_t = 50)]
    streams: usize,
    /// With the kernel plane.
    #[arg(long)]
    kernel: bool,
}

/// How long each backend's fault lasts.
const FAULT: Duration = Duration::from_secs(5);
const PROBE: &str = "probe.test";

/// What happened, and what was noticed of it.
struct Sheet {
    table: String,
    numbers: Vec<Value>,
}

impl Sheet {
    fn note(&mut self, what: &str, load: Load, chats: &[Chatter]) -> Result<()> {
        let seen = load.seen();
        let streams: usize = chats.iter().map(|chat| chat.failures().len()).sum();
        let (failed, slowest) = (seen.failures.len(), seen.slowest.as_secs_f64() * 1e3);
        let (answered, connections) = (seen.answered, seen.connections);
        writeln!(
            self.table,
            "{what:<34} {answered:>8} {failed:>7} {connections:>12} {slowest:>12.0} {streams:>12}"
        )?;
        for failure in seen.failures.iter().take(3) {
            writeln!(self.table, "    {failure}")?;
        }
        self.numbers.push(json!({
            "during": what, "answered": answered, "failed": failed, "connections": connections,
            "slowest_ms": slowest, "streams_cut": streams,
        }));
        Ok(())
    }

    fn say(&mut self, what: &str, value: f64, unit: &str) -> Result<()> {
        writeln!(self.table, "{what:<34} {value:>8.1} {unit}")?;
        self.numbers.push(json!({"what": what, "value": value, "unit": unit}));
        Ok(())
    }
}

/// Runs all of it, once.
pub(crate) fn run(options: &Options) -> Result<(String, Value)> {
    let table = format!(
        "{:<34} {:>8} {:>7} {:>12} {:>12} {:>12}\n",
        "during", "answered", "failed", "connections", "slowest, ms", "streams cut"
    );
    let mut sheet = Sheet { table, numbers: Vec::new() };
    changes(options, &mut sheet)?;
    successions(options, &mut sheet)?;
    backends(options, &mut sheet)?;
    Ok((sheet.table, json!({"faults": sheet.numbers})))
}

fn kernel(options: &Options) -> Kernel {
    if options.kernel { Kernel::Require } else { Kernel::Off }
}

fn load(stand: &Stand, options: &Options) -> Load {
    let period = Duration::from_secs(1) * (3 * options.clients as u32) / options.rate;
    Load::start(&stand.lab.client, &stand.target(), options.clients, period)
}

fn changes(options: &Options, sheet: &mut Sheet) -> Result<()> {
    let stand = Stand::start(kernel(options), &[]);
    let (load, chats) = (load(&stand, options), stand.chat(options.streams));
    let before = resident(&stand)?;
    let mut seen = Vec::new();
    for turn in 0..options.changes {
        if turn % 2 == 1 {
            stand.change(turn / 2);
        }
        seen.push(until_seen(&stand, turn)?.as_secs_f64() * 1e3);
    }
    load.next_round();
    chats.iter().for_each(Chatter::next_round);
    sheet.note(&format!("{} changes of documents", options.changes), load, &chats)?;
    sheet.say("until a change is seen, median", median(&seen), "ms")?;
    sheet.say("growth", resident(&stand)? - before, "MiB")
}

/// From a document's being written until an answer is as it says.
fn until_seen(stand: &Stand, turn: usize) -> Result<Duration> {
    let body = format!("turn {turn}");
    let rules = format!("  http:\n  - directResponse: {{status: 200, body: {{string: {body}}}}}");
    let (address, document) = (stand.target().http, virtual_service("probe", &[PROBE], "edge", &rules));
    let begun = Instant::now();
    stand.gateway.write("probe", &document);
    stand.lab.client.enter(move || ask_until(address, &body))?;
    Ok(begun.elapsed())
}

fn ask_until(address: SocketAddr, body: &str) -> Result<()> {
    client::runtime().block_on(async {
        let mut connection = Connection::open(address).await?;
        let begun = Instant::now();
        while begun.elapsed() < client::LIMIT {
            let answer = connection.send(client::request("GET", PROBE, "/", &[])).await?;
            if answer.text() == body {
                return Ok(());
            }
        }
        anyhow::bail!("the change is not seen within {:?}", client::LIMIT)
    })
}

fn successions(options: &Options, sheet: &mut Sheet) -> Result<()> {
    let mut stand = Stand::start(kernel(options), &["--drain-time", "5"]);
    let first = load(&stand, options);
    let before = resident(&stand)?;
    for _ in 0..options.successions {
        let relieved = stand.gateway.replace();
        first.next_round();
        relieved.expect_end();
    }
    sheet.note(&format!("{} agents that take over", options.successions), first, &[])?;
    sheet.say("growth", resident(&stand)? - before, "MiB")?;
    drop(stand);
    let mut stand = Stand::start(kernel(options), &["--drain-time", "60"]);
    let (load, chats) = (load(&stand, options), stand.chat(options.streams));
    let relieved: Vec<_> = (0..5).map(|_| stand.gateway.replace()).collect();
    load.next_round();
    chats.iter().for_each(Chatter::next_round);
    sheet.note("5 agents that take over, streams", load, &chats)?;
    drop((chats, relieved));
    Ok(())
}

fn backends(options: &Options, sheet: &mut Sheet) -> Result<()> {
    type Act = Box<dyn Fn(&mut Stand)>;
    let fall = |health: Health| -> Act {
        Box::new(move |stand| {
            if let Some(backend) = &stand.backends[0] {
                backend.fall(health);
            }
        })
    };
    let link = |state: &'static str| -> Act {
        Box::new(move |stand| {
            stand.lab.backends[0].ip(&["link", "set", "e0", state]).expect("a link");
        })
    };
    let faults: [(&str, Act, Act); 4] = [
        ("a backend of two killed", Box::new(|stand| stand.kill(0)), Box::new(|stand| stand.revive(0))),
        ("a backend of two hanging", fall(Health::Hanging), fall(Health::Well)),
        ("a backend of two resetting", fall(Health::Resetting), fall(Health::Well)),
        ("a backend of two unreachable", link("down"), link("up")),
    ];
    for (what, fail, mend) in faults {
        let mut stand = Stand::start(kernel(options), &[]);
        let load = load(&stand, options);
        for act in [fail, mend] {
            act(&mut stand);
            let begun = Instant::now();
            while begun.elapsed() < FAULT {
                load.next_round();
            }
        }
        sheet.note(what, load, &[])?;
    }
    Ok(())
}

/// MiB of the agent.
fn resident(stand: &Stand) -> Result<f64> {
    resident_mib(stand.gateway.pid())
}
