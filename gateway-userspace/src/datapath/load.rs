//! Loading the embedded programs, with new maps or with those that an agent before this one pinned.

use std::path::Path;

use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfLoader};

use super::maps::{self, Maps, MapsError, SHAPES};

/// The object that the build script found, aligned as the ELF reader wants it.
#[cfg(kernel_object)]
static OBJECT: Option<&[u8]> = Some(aya::include_bytes_aligned!(env!("KERNEL_OBJECT")));
#[cfg(not(kernel_object))]
static OBJECT: Option<&[u8]> = None;

/// The classifier's name in the object.
const PROGRAM: &str = "sluice_tc";

/// Slots for backend tables, 4 bytes each: room for 63 tables of the largest size.
pub const TABLE_SLOTS: u32 = 1 << 22;

/// Sizes of the maps that have no fixed one.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Flows of each address family.
    pub flows: u32,
    /// Slots for backend tables.
    pub slots: u32,
}

/// Why the programs could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// See the words.
    #[error("built without the kernel programs: run `cargo xtask build-ebpf`, then build again")]
    NoObject,
    /// The kernel or aya refused.
    #[error("the kernel refuses the programs: {0}")]
    Ebpf(#[from] aya::EbpfError),
    /// The verifier refused.
    #[error("the kernel refuses the program: {0}")]
    Program(#[from] aya::programs::ProgramError),
    /// Pinned maps are not ours.
    #[error(transparent)]
    Maps(#[from] MapsError),
}

/// The programs in the kernel and their maps.
pub struct Loaded {
    ebpf: Ebpf,
    /// The maps.
    pub maps: Maps,
}

impl Loaded {
    /// The tc classifier.
    pub fn classifier(&mut self) -> Result<&mut SchedClassifier, LoadError> {
        let program = self.ebpf.program_mut(PROGRAM).ok_or(LoadError::NoObject)?;
        Ok(program.try_into()?)
    }
}

/// Whether the agent was built with the kernel programs.
pub fn has_object() -> bool {
    OBJECT.is_some()
}

/// Loads the programs. With a directory of bpffs the maps pinned there are adopted and missing ones are pinned;
/// adopted maps keep the sizes that they have.
pub fn load(sizes: Sizes, pins: Option<&Path>) -> Result<Loaded, LoadError> {
    let object = OBJECT.ok_or(LoadError::NoObject)?;
    let paths: Vec<_> = pins
        .into_iter()
        .flat_map(|directory| SHAPES.iter().map(|shape| (shape.name, directory.join(shape.name))))
        .collect();
    let mut loader = EbpfLoader::new();
    // Two entries a flow.
    let entries = sizes.flows.saturating_mul(2);
    loader.map_max_entries("FLOWS4", entries).map_max_entries("FLOWS6", entries);
    loader.map_max_entries("MAGLEV", sizes.slots);
    for (name, path) in &paths {
        if path.exists() {
            maps::open(path.parent().unwrap_or(path), name)?;
        }
        loader.map_pin_path(name, path);
    }
    let mut ebpf = loader.load(object)?;
    let maps = Maps::gather(|name| ebpf.take_map(name).ok_or(MapsError::Missing { name }))?;
    let mut loaded = Loaded { ebpf, maps };
    loaded.classifier()?.load()?;
    Ok(loaded)
}
