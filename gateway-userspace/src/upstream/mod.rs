//! Towards the backends: which endpoint, a connection to it, and the pool that keeps HTTP connections. All of it
//! belongs to one worker and its thread; nothing is shared or locked but what `model::Counts` says.

pub mod alone;
pub mod balance;
pub mod body;
pub mod client_body;
pub mod connect;
mod departure;
mod dial;
pub mod ending;
pub mod executor;
pub(crate) mod framing;
pub mod held;
pub mod limits;
mod messages;
mod opening;
mod origin;
mod peer;
pub mod pool;
mod probe;
mod progress;
pub mod replay;
mod stream;
mod trailers;
mod turns;
mod witness;

pub use alone::send_alone;
pub use balance::{Balancer, Key, Lease};
pub use body::UpstreamBody;
pub use client_body::ClientBody;
pub use connect::ConnectError;
pub use departure::Departure;
pub use ending::Ending;
pub use executor::LocalExecutor;
pub use messages::Messages;
pub use opening::{Asked, Opening};
pub use peer::Peer;
pub use pool::{Pool, SendError};
pub use probe::probe;
pub use progress::Flaw;
pub use replay::{Ended, Pace, RequestBody, Upload};
pub use stream::UpstreamStream;
