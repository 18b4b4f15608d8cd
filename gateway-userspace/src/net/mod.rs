//! Bytes and sockets: listening, rewinding, relaying, draining, saying who the client is, repairing. Knows no documents and no routes.

pub mod drain;
pub mod keeping;
pub mod proxy_protocol;
pub mod relay;
pub mod repair;
pub mod rewind;
pub mod socket;
