//! `cargo xtask docs`: writes the pages of reference that are the code's to say, or checks that they are current.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use sluice_crds::reference;
use sluice_crds::written::{compare, write};

/// Writes pages of reference: flags, fields of documents.
#[derive(Debug, Parser)]
struct Flags {
    /// Where they lie, among others that are written by hand.
    directory: PathBuf,
    /// Write nothing; fail where a page is not what would be written.
    #[arg(long)]
    check: bool,
}

fn main() -> Result<()> {
    let Flags { directory, check } = Flags::parse();
    let files = reference::pages()?;
    if check { compare(&directory, &files, &[], reference::REMEDY) } else { write(&directory, &files) }
}
