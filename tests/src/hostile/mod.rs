//! Hostile bytes of HTTP/1, as tables: what a client or a backend says, octet by octet, and what must come of it. Here is
//! how a row is written, read and changed at random, the backend that records, and the client that reads strictly; the
//! rows are in `tests/data/hostile`, and `tests/tests/hostile*.rs` run them.

mod asking;
mod bytes;
mod message;
mod mutation;
mod recorder;
mod row;

pub use asking::{Ask, Seen, ask, ask_in_pieces};
pub use bytes::bytes;
pub use message::{Field, Fields};
pub use mutation::mutated;
pub use recorder::{Got, Recorder};
pub use row::{End, Row, Said, rows};
