//! How the agent speaks: logging and the response flags users know. Used by all, uses none.

pub mod log;
pub mod response_flag;

pub use response_flag::ResponseFlag;
