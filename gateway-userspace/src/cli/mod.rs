//! The commands that talk to an agent or read maps.

pub mod cleanup;
pub mod maps;
