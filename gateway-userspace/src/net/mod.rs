//! Bytes and sockets: listening, rewinding, relaying, draining, saying who the client is, repairing, passing to another process. Knows no documents and no routes.

pub mod drain;
pub mod gather;
mod outer;
pub mod passing;
pub mod proxy_header;
pub mod proxy_protocol;
pub mod relay;
pub mod repair;
pub mod rewind;
pub mod seldom;
pub mod socket;

pub(crate) use outer::writes_to_inner;
