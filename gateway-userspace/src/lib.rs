//! Sluice's agent: from Istio's documents to traffic served in the kernel and in user space.
//!
//! ARCHITECTURE.md shows how the modules lie; each imports only from the levels below its own, and
//! `cargo xtask tidy` proves it. `agent` is the one place that sees everything.

pub mod admin;
pub mod admission;
pub mod agent;
pub mod analysis;
pub mod api;
pub mod cli;
pub mod datapath;
pub mod http1;
pub mod http2;
pub mod model;
pub mod net;
pub mod notation;
pub mod proxy;
pub mod resolve;
pub mod settings;
pub mod source;
pub mod telemetry;
pub mod tls;
pub mod translate;
pub mod upstream;
pub mod wire;
