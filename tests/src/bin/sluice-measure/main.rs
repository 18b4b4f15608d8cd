//! What the project claims in numbers, measured so that others can measure it again: HTTP and the data plane of TCP and
//! TLS passthrough beside their peers', throughput of the kernel's path beside user space's, faults and who notices them,
//! time from start to serving, memory at rest, a cluster's documents from the API server to traffic. A table for people, JSON for machines.

mod compare;
mod dashboard;
mod faults;
mod figures;
mod idle;
mod kube;
mod l4;
mod l7;
mod memory;
mod sni;
mod steering;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use harness::load::sni::idle as idle_ends;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", about, arg_required_else_help = true)]
struct Measure {
    #[command(subcommand)]
    what: What,
    /// Rounds; medians are reported.
    #[arg(long, default_value_t = 5, global = true, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// JSON alone.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The data plane of TCP beside its peers: bulk, new connections, latency, and bulk under a flood of SYNs.
    L4(l4::Options),
    /// HTTP and TLS beside its peers: requests a second, CPU, latency at a rate that all can bear, memory.
    L7(l7::Options),
    /// TLS passthrough beside its peers: bulk, new connections, latency, memory, and what is handed over to the kernel.
    Sni(sni::Options),
    /// TCP streams through the kernel's path, through user space's, and with no gateway at all, in turns.
    Steering {
        /// GiB sent in each turn, by all streams together.
        #[arg(long, default_value_t = 4)]
        gib: u64,
        /// Streams at once.
        #[arg(long, default_value_t = 1)]
        streams: u64,
    },
    /// What clients notice while documents change, agents take over, and backends fail.
    Faults(faults::Options),
    /// From the start of the process to the first connection accepted and to readiness, on the quickstart's documents.
    Start,
    /// Resident memory of an idle agent: on the quickstart's documents, and on those of a large mesh.
    Memory {
        /// VirtualServices of the mesh, with half as many Services; 0 leaves it out.
        #[arg(long, default_value_t = 10_000)]
        virtual_services: usize,
    },
    /// How soon the dashboard is seen, and what pages that poll cost a gateway of ten thousand routes.
    Dashboard,
    /// A cluster's documents: how soon what changes at the API server is in traffic, and what a large mesh takes.
    Kube(kube::Options),
    /// Both ends of a share of idle connections, for `sni`.
    #[command(hide = true, name = idle_ends::SUBCOMMAND)]
    Hold {
        /// What to hold.
        share: String,
    },
}

fn main() -> ExitCode {
    match run(&Measure::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(measure: &Measure) -> Result<()> {
    let rounds = usize::from(measure.rounds);
    let (table, numbers) = match &measure.what {
        What::L4(options) => l4::run(rounds, options)?,
        What::L7(options) => l7::run(rounds, options)?,
        What::Sni(options) => sni::run(rounds, options)?,
        What::Hold { share } => return idle_ends::hold(share),
        What::Steering { gib, streams } => steering::run(rounds, *gib, (*streams).max(1))?,
        What::Faults(options) => faults::run(options)?,
        What::Dashboard => dashboard::run(rounds)?,
        What::Start => idle::start(rounds)?,
        What::Kube(options) => kube::run(rounds, options)?,
        What::Memory { virtual_services } => idle::memory(rounds, *virtual_services)?,
    };
    if !measure.json {
        println!("{table}");
    }
    // Those of comparisons are long, and in a file.
    if measure.json || !matches!(measure.what, What::L4(_) | What::L7(_) | What::Sni(_)) {
        println!("{numbers}");
    }
    Ok(())
}
