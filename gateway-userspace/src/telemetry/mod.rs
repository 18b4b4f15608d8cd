//! How the agent speaks: logging, the access log, metrics of traffic, and the response flags users know. Used by all, uses none.

pub mod access;
pub mod clock;
pub mod digits;
pub mod log;
pub mod metrics;
pub mod response_flag;

pub use access::AccessLog;
pub use response_flag::ResponseFlag;
