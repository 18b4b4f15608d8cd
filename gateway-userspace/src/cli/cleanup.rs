//! `sluice cleanup`: takes the kernel plane off this machine, whoever left it there.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::table;
use crate::datapath::{Pins, attach, delivery, interfaces};
use crate::settings::DEFAULT_PIN_DIR;

/// `sluice cleanup`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice cleanup
  sluice cleanup --pin-dir /sys/fs/bpf/edge")]
pub struct CleanupArgs {
    /// Directory of bpffs that maps and links are pinned in.
    #[arg(long, env = "SLUICE_PIN_DIR", value_name = "DIR", default_value = DEFAULT_PIN_DIR)]
    pin_dir: PathBuf,
}

/// Detaches the programs and removes the maps; flows that they carried end.
pub fn run(args: &CleanupArgs) -> Result<()> {
    let directory = args.pin_dir.display();
    let pins = Pins::below(&args.pin_dir);
    if pins.exist()? && pins.lock()?.is_none() {
        bail!(
            "an agent is running at {directory}: stop it first; if no flow is left then, it removes everything itself"
        );
    }
    // Filters of kernels without links go first: no program runs with half of its maps gone.
    interfaces::list().map(|found| attach::detach_clsact(&found)).context("cannot list the interfaces")?;
    match delivery::remove() {
        // Whoever may remove none has installed none.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
        removed => removed.context("cannot remove the rules for answers to clients' addresses")?,
    }
    if pins.remove()? {
        table::print(&format!(
            "removed the kernel plane at {directory}; the flows that it carried are cut\n"
        ))?;
    } else {
        table::print(&format!("nothing to remove at {directory}\n"))?;
    }
    Ok(())
}
