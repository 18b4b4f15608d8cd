//! The access log of requests, and of TCP connections, whichever plane carried them: a line each when it is over, by rules
//! that documents decide: where to, in which format, and which ones. A thread of its own formats and writes; whoever has a
//! record to hand over never waits.

mod encoding;
mod filter;
mod follow;
mod format;
mod json;
mod operator;
mod path;
mod peer;
mod record;
mod rotation;
mod rule;
mod time;
mod writer;

pub use encoding::Encoding;
pub use filter::Filter;
pub use follow::{Following, Line, Wish};
pub use format::Format;
pub use record::{Connection, Handshake, Request};
pub use rotation::Rotation;
pub use rule::{Logging, Rule, Wanted};
pub use writer::{AccessLog, probe};
