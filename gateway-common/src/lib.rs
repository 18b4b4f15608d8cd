//! The contract of Sluice's kernel programs and its agent: keys and values of the maps, verdicts, and the
//! arithmetic (checksums, hashing, table index) that both sides must do alike. Nothing here allocates, reads a
//! clock or touches a map.
#![no_std]
#![expect(
    clippy::inline_always,
    reason = "what the kernel's programs do on every packet is part of their functions"
)]

pub mod addr;
pub mod backend;
pub mod config;
pub mod csum;
pub mod event;
pub mod flow;
pub mod handover;
pub mod hash;
pub mod index;
pub mod listener;
pub mod numbers;
pub mod offer;
pub mod ports;
pub mod rate;
pub mod translation;
pub mod verdict;
pub mod word;

#[cfg(feature = "user")]
mod pod;

pub use addr::{Addr4, Addr6, Address, Be16, Be32};
pub use backend::{Backend, BackendId, NO_BACKEND};
pub use config::{Config, Link, Pool};
pub use csum::Sum;
pub use event::{Event, EventKind};
pub use flow::{Direction, Flow, FlowKey, Half, Phase, Seen, State};
pub use hash::Hash;
pub use index::{Bucket, Pair, Reference};
pub use listener::{ListenerId, ListenerKey, Load, Table};
pub use numbers::Numbers;
pub use translation::Translation;
pub use verdict::{Action, Verdict};
pub use word::Word;

/// Version of every layout in this crate. Pinned objects lie below a directory of this name, so that an agent with
/// other layouts never reads them by mistake. Count it up with every change to a map's key, value or meaning.
pub const SCHEMA: &str = "v8";
