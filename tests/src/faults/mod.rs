//! A gateway under load while something happens to it or to its backends, and whether anybody noticed: requests on
//! connections that stay open, each held against its answer, and streams compared byte for byte.

pub mod backend;
pub mod requests;
pub mod stand;

pub use backend::Faulty;
pub use requests::{Load, Protocol, Seen};
pub use stand::Stand;
