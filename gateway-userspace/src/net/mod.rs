//! Bytes and sockets: listening, rewinding, relaying, draining. Knows no documents and no routes.

pub mod drain;
pub mod relay;
pub mod rewind;
pub mod socket;
