//! Bytes and sockets: listening, rewinding, relaying, draining, saying who the client is. Knows no documents and no routes.

pub mod drain;
pub mod proxy_protocol;
pub mod relay;
pub mod rewind;
pub mod socket;
