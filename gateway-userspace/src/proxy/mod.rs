//! The user-space data plane: accepts, detects, terminates, routes and forwards. One worker a core, each with its own
//! thread, runtime, listening sockets (`SO_REUSEPORT`) and pool; they share nothing but the published runtime
//! and what is counted for all of them.

mod access;
mod climb;
mod connection;
mod detect;
mod drains;
mod error;
mod http;
mod listening;
mod memory;
mod metering;
mod opaque;
mod overload;
mod reserve;
mod tcp;
mod terminated;
mod tls;
mod worker;

use std::sync::Arc;

use crate::model::Snapshot;
use crate::tls::{ClientConfigs, ServerConfigs};

pub use http::as_rules_see;
pub use listening::{BindFailure, Lent};
pub use memory::{Meter, come_in_small_pages};
pub use overload::{Level, Overload, raise_descriptors};
pub use worker::{Bounds, ProxySettings, Spoken, WorkerReport, Workers};

/// What the proxy serves: a snapshot and the TLS configurations made for it, published together.
#[derive(Debug, Default)]
pub struct Runtime {
    /// Listeners, routes, clusters.
    pub snapshot: Arc<Snapshot>,
    /// One for each terminating chain whose credential works.
    pub tls: Arc<ServerConfigs>,
    /// One for each way of speaking TLS to backends.
    pub upstream_tls: ClientConfigs,
}
