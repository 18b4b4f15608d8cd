//! The commands that are not the agent.

pub mod check;
