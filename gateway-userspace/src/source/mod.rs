//! Where documents come from. Each source gives the set of sound objects and what was wrong with the others.

mod directory;
pub mod file;
pub mod named;
pub mod watch;

pub use file::{FileSource, Loaded};
pub use named::{NamedFiles, read_named};
pub use watch::{Watcher, watch};
