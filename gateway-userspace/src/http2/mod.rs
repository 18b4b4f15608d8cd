//! HTTP/2 as a server speaks it (RFC 9113): frames, headers in short (`hpack`), streams and their windows, and nothing of who talks or
//! what is asked for. What is idle holds no buffer.

pub mod fault;
pub mod frame;
pub mod head;
pub mod hpack;
pub mod inbound;
mod inflow;
pub mod outbound;
pub mod session;
pub mod settings;
mod state;
mod stream;
pub mod tunnel;

pub use fault::{Broken, Code, Fault};
pub use frame::{Frame, FrameHead};
pub use head::{Protocol, RequestHead};
pub use inbound::Inbound;
pub use outbound::Outbound;
pub use session::{Asked, Heard, Session};
pub use settings::Settings;
pub use tunnel::Tunnel;
