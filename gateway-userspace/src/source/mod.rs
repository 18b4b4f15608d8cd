//! Where documents come from. Each source gives the set of sound objects and what was wrong with the others.

mod directory;
pub mod file;
pub mod kubernetes;
pub mod named;
pub mod together;
pub mod watch;

pub use file::FileSource;
pub use kubernetes::KubernetesSource;
pub use named::{NamedFiles, read_named};
pub use together::{Loaded, Sources};
pub use watch::{Watcher, watch};
