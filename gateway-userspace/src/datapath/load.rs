//! Loading the embedded programs, with new maps or with those that an agent before this one pinned.

use std::io;
use std::path::Path;

use aya::programs::{Program, ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};

use gateway_common::index;
use gateway_common::ports::PORTS_PER_WORD;

use super::attach::Programs;
use super::maps::{self, Maps, MapsError, SHAPES, SLOTS_PER_ELEMENT};

/// The object that the build script found, aligned as the ELF reader wants it.
#[cfg(kernel_object)]
static OBJECT: Option<&[u8]> = Some(aya::include_bytes_aligned!(env!("KERNEL_OBJECT")));
#[cfg(not(kernel_object))]
static OBJECT: Option<&[u8]> = None;

/// Names of the programs in the object.
const CLASSIFIER: &str = "sluice_tc";
const GUARD: &str = "sluice_guard";
const XDP: &str = "sluice_xdp";

/// Slots for backend tables, 2 bytes each: room for 63 tables of the largest size.
pub const TABLE_SLOTS: u32 = 1 << 22;

/// Bitmaps of source ports that there is room for, each for one address and port of a backend.
const BITMAPS: u32 = 1024;

/// Words of the largest bitmap.
const BITMAP_WORDS: u32 = (1 << 16) / PORTS_PER_WORD;

/// For so many established flows there is one handshake: 16,384 of them by default, which stay in a CPU's cache.
const FLOWS_PER_HANDSHAKE: u32 = 16;

/// The ring of handshakes has at least so many places.
const LEAST_HANDSHAKES: u32 = 64;

/// How often the verifier is asked again.
const LOADS: u32 = 5;

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
        program(&mut self.ebpf, CLASSIFIER)
    }

    /// The XDP program. It leaves to the classifier whatever it cannot send on itself.
    pub fn xdp(&mut self) -> Result<&mut Xdp, LoadError> {
        self.other_xdp(XDP)
    }

    /// All programs at once.
    pub fn programs(&mut self) -> Result<Programs<'_>, LoadError> {
        let (mut classifier, mut guard, mut xdp) = (None, None, None);
        for (name, program) in self.ebpf.programs_mut() {
            match program {
                Program::SchedClassifier(program) => match name {
                    CLASSIFIER => classifier = Some(program),
                    GUARD => guard = Some(program),
                    _ => {}
                },
                Program::Xdp(program) if name == XDP => xdp = Some(program),
                _ => {}
            }
        }
        match (classifier, guard, xdp) {
            (Some(classifier), Some(guard), Some(xdp)) => Ok(Programs { classifier, guard, xdp }),
            _ => Err(LoadError::NoObject),
        }
    }

    /// A classifier of another name; objects for measuring have some.
    pub fn other(&mut self, name: &str) -> Result<&mut SchedClassifier, LoadError> {
        program(&mut self.ebpf, name)
    }

    /// An XDP program of another name, likewise.
    pub fn other_xdp(&mut self, name: &str) -> Result<&mut Xdp, LoadError> {
        Ok(self.ebpf.program_mut(name).ok_or(LoadError::NoObject)?.try_into()?)
    }

    /// A map that the datapath knows nothing of.
    pub fn take_map(&mut self, name: &str) -> Option<aya::maps::Map> {
        self.ebpf.take_map(name)
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, LoadError> {
    let program = ebpf.program_mut(name).ok_or(LoadError::NoObject)?;
    Ok(program.try_into()?)
}

/// Whether the agent was built with the kernel programs.
pub fn has_object() -> bool {
    OBJECT.is_some()
}

/// Loads the programs. With a directory of bpffs the maps pinned there are adopted and missing ones are pinned;
/// adopted maps keep the sizes that they have.
pub fn load(sizes: Sizes, pins: Option<&Path>) -> Result<Loaded, LoadError> {
    load_object(OBJECT.ok_or(LoadError::NoObject)?, sizes, pins)
}

/// Flows of each family that tables have room for: record numbers are two to a word.
pub fn flows(wanted: u32) -> u32 {
    wanted.next_multiple_of(2)
}

/// Loads an object with the same maps, such as the one for measuring.
pub fn load_object(object: &[u8], sizes: Sizes, pins: Option<&Path>) -> Result<Loaded, LoadError> {
    let paths: Vec<_> = pins
        .into_iter()
        .flat_map(|directory| SHAPES.iter().map(|shape| (shape.name, directory.join(shape.name))))
        .collect();
    let mut loader = EbpfLoader::new();
    let flows = flows(sizes.flows);
    let handshakes = (flows / FLOWS_PER_HANDSHAKE).max(LEAST_HANDSHAKES);
    for (name, elements) in [
        ("FLOWS4", flows),
        ("FLOWS6", flows),
        // Two entries a flow, two record numbers a word.
        ("INDEX4", index::buckets(2 * flows)),
        ("INDEX6", index::buckets(2 * flows)),
        ("FREE4", flows / 2),
        ("FREE6", flows / 2),
        // Of both families together; a flow that finds none stays in user space.
        ("TRANSLATIONS", flows),
        ("HALF4", handshakes),
        ("HALF6", handshakes),
        ("HALFIDX4", index::buckets(2 * handshakes)),
        ("HALFIDX6", index::buckets(2 * handshakes)),
        ("MAGLEV", sizes.slots.div_ceil(SLOTS_PER_ELEMENT)),
        ("PORTS", BITMAPS * BITMAP_WORDS),
    ] {
        loader.map_max_entries(name, elements);
    }
    for (name, path) in &paths {
        if path.exists() {
            maps::open(path.parent().unwrap_or(path), name)?;
        }
        loader.map_pin_path(name, path);
    }
    let mut ebpf = loader.load(object)?;
    // First the programs: they name maps by descriptors, some of which are closed when the maps have been mapped.
    for (_, program) in ebpf.programs_mut() {
        match program {
            Program::SchedClassifier(program) => patiently(|| program.load())?,
            Program::Xdp(program) => patiently(|| program.load())?,
            _ => return Err(LoadError::NoObject),
        }
    }
    let maps = Maps::gather(|name| ebpf.take_map(name).ok_or(MapsError::Missing { name }))?;
    Ok(Loaded { ebpf, maps })
}

/// Asks again when the verifier gave up because the thread had a signal to take (`EAGAIN`); it tells nothing of the
/// program.
fn patiently(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    for _ in 0..LOADS {
        match load() {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == io::ErrorKind::WouldBlock => {
            }
            done => return done,
        }
    }
    load()
}
