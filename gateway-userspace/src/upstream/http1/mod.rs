//! Requests of HTTP/1.1 on a connection to an endpoint, driven by whoever waits for the response: there is no task and no channel
//! between the two. Which connection it is, and what becomes of it, is not decided here.

mod channel;
mod fault;
mod sending;

pub(super) use channel::Channel;
pub use fault::Fault;
pub(super) use sending::{Lend, Sending};
