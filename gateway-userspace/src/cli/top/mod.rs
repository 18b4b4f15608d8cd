//! `sluice top`: what an agent does at the moment, on the whole terminal, read again and again; or as plain text.

mod app;
mod asking;
mod pane;
mod rates;
mod screen;
mod state;
mod tables;
mod view;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use self::app::App;
use self::asking::Asking;
use self::pane::Pane;
use self::state::State;
use self::view::{Look, Size};
use super::admin_client::Agent;
use super::flows::reading::Sources;
use super::options::ColorArgs;
use super::remote::RemoteArgs;
use super::table;
use crate::settings::{DEFAULT_PIN_DIR, default_admin_socket};

/// Lines above and below the rows of a pane.
const FRAME: usize = 8;

/// Flags of `sluice top`.
#[derive(Debug, Args)]
#[command(after_help = "\
Panes: overview, listeners, clusters, endpoints, routes, flows, findings. Keys: 1 to 7, Tab and arrows choose the pane; s the
column that it is sorted by, r the other way round; / only rows with a text; p pauses; ? shows all keys; q or Ctrl-C
ends it. Without a terminal, --batch prints frames as text. Where no agent answers, flows of the kernel are shown all the same.

Examples:
  sluice top
  sluice top --pane flows --filter 10.0.0.7
  sluice top --interval 5 sluice-7xk2p.sluice-system
  sluice top --batch 1 --pane clusters --sort P99")]
pub struct TopArgs {
    /// A gateway in a cluster, by its pod (POD, POD.NAMESPACE) or its node, which is asked through the API server.
    #[arg(value_name = "POD|NODE")]
    pub pod: Option<String>,
    /// Namespace of the pod. Default: that of the kubeconfig's context.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Seconds between two readings.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
    /// Pane that is shown first.
    #[arg(long, value_enum, default_value_t = Pane::Overview)]
    pub pane: Pane,
    /// Column that this pane is sorted by: its heading, or the beginning of it.
    #[arg(long, value_name = "COLUMN")]
    pub sort: Option<String>,
    /// Only rows with this text in them.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub filter: String,
    /// Print so many frames as text, each of all rows, and end.
    #[arg(long, value_name = "FRAMES", value_parser = clap::value_parser!(u64).range(1..))]
    pub batch: Option<u64>,
    /// Width of these frames.
    #[arg(long, env = "COLUMNS", value_name = "COLUMNS", default_value_t = 100, value_parser = clap::value_parser!(u16).range(20..=2000))]
    pub width: u16,
    /// Colours.
    #[command(flatten)]
    pub color: ColorArgs,
    /// Directory of bpffs that the kernel plane's maps are pinned in.
    #[arg(long, env = "SLUICE_PIN_DIR", value_name = "DIR", default_value = DEFAULT_PIN_DIR)]
    pub pin_dir: PathBuf,
    /// The agent's unix socket.
    #[arg(long, env = "SLUICE_ADMIN_SOCKET", value_name = "SOCKET", default_value_os_t = default_admin_socket())]
    pub admin_socket: PathBuf,
    /// Which cluster.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Shows frames until there are enough, or the user has.
pub fn run(args: &TopArgs) -> Result<ExitCode> {
    let app = App::new(args.pane, args.sort.as_deref(), &args.filter).map_err(anyhow::Error::msg)?;
    let whole = args.batch.is_none();
    if whole && !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
        bail!(
            "there is no terminal to draw on: --batch 1 prints a frame as text; `sluice status` and `sluice flows` do too"
        );
    }
    if whole && std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
        bail!("this terminal cannot be drawn on (TERM): --batch 1 prints a frame as text");
    }
    let agent = Agent::of(&args.admin_socket, args.pod.as_deref(), args.namespace.as_deref(), &args.remote)?;
    let mut asking = Asking::new(Sources::new(&args.pin_dir, agent), args.pin_dir.clone());
    let mut state = State::default();
    let first = asking.read(args.pane);
    first.expect_something()?;
    state.take(first, Instant::now());
    if let Some(frames) = args.batch {
        batch(asking, state, &app, frames, args)?;
    } else {
        let look = Look { color: args.color.on(io::stdout().is_terminal()), ascii: !is_utf8() };
        screen::run(asking, state, app, Duration::from_secs(args.interval), look)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn batch(mut asking: Asking, mut state: State, app: &App, frames: u64, args: &TopArgs) -> Result<()> {
    let look = Look { color: false, ascii: !is_utf8() };
    for frame in 0..frames {
        std::thread::sleep(Duration::from_secs(args.interval));
        state.take(asking.read(args.pane), Instant::now());
        let rows = tables::table(args.pane, &state).map_or(view::OVERVIEW, |table| table.rows.len());
        let size = Size { width: args.width.into(), height: rows + FRAME };
        let mut text = String::new();
        for line in view::lines(&state, app, size, look, Instant::now()) {
            text.push_str(line.to_string().trim_end());
            text.push('\n');
        }
        let gap = if frame > 0 { "\n" } else { "" };
        if table::print_on(&format!("{gap}{}\n", text.trim_end()))?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Whether the locale's characters are Unicode's, as setlocale(3) looks for it.
fn is_utf8() -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter();
    let locale = names.filter_map(|name| std::env::var(name).ok()).find(|value| !value.is_empty());
    // Who says nothing has a terminal of this century.
    locale.is_none_or(|locale| {
        let upper = locale.to_ascii_uppercase();
        upper.contains("UTF-8") || upper.contains("UTF8")
    })
}
