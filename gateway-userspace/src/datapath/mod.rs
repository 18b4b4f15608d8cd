//! The kernel plane's agent side: what the maps should hold (`plan`, `maglev`, `regions`), carrying it out (`install`, and
//! `maps`, the only writer), reading it back (`view`), telling workers where flows can be sent (`targets`), and the
//! programs' life in the kernel (`load`, `attach`, `pin`). aya is used nowhere else. The agent drives a [`KernelPlane`]
//! from one thread of its own.

pub mod ageing;
pub mod attach;
pub mod bitmaps;
pub mod delivery;
pub mod departed;
pub mod events;
pub mod farewell;
pub mod flows;
pub mod handoff;
pub mod install;
pub mod interfaces;
pub mod load;
pub mod maglev;
pub mod maps;
mod memory;
mod netlink;
pub mod numbers;
mod orphans;
pub mod pin;
pub mod plan;
mod plane;
pub mod ports;
pub mod regions;
pub mod routes;
mod sockets;
mod speaking;
pub mod stats;
mod sys;
mod takeover;
pub mod tally;
pub mod targets;
pub mod trace;
pub mod translations;
pub mod view;

pub use events::Failure;
pub use pin::Pins;
pub use plan::{Placement, Refusal};
pub use plane::{Applied, DatapathError, KernelPlane, Stopped, Unavailable};
pub use stats::Status;
pub use targets::Targets;
