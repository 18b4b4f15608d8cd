//! Load for comparing gateways, and the backend behind them: as little work of their own as Linux allows, so that what
//! is measured is the gateway. Everything runs on one processor, see `cpu`.
//!
//! A request of plain TCP is [`REQUEST`] bytes, its answer [`ANSWER`] bytes; what they say does not matter.

pub mod backend;
pub mod bulk;
pub mod connections;
pub mod flood;
pub mod http;
pub mod paced;
pub mod sni;

/// Bytes of a request.
pub const REQUEST: usize = 500;
/// Bytes of an answer.
pub const ANSWER: usize = 1024;
