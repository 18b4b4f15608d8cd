//! HPACK (RFC 7541), for a server: requests' heads and trailers are decoded, responses' are encoded. No I/O and no frames here: a
//! block is whole, HEADERS and its CONTINUATIONs joined.
//!
//! Either side keeps a table for as long as its connection lives, mostly idle: it takes memory for its entries and nothing else, and
//! nothing at all before there is one. What a peer says is hostile: a block that is small may mean much, so that what is beyond a
//! limit is counted and not copied.

mod decode;
mod encode;
mod error;
mod field;
mod huffman;
mod integer;
mod ring;
mod seen;
mod statics;
mod table;

#[cfg(test)]
mod tests;

pub use decode::{Decoder, Size};
pub use encode::Encoder;
pub use error::Error;
pub use field::{Field, Malformed};

/// What an entry takes beside its name and its value, in tables (RFC 7541, 4.1) as in limits of heads (RFC 9113, 6.5.2).
const OVERHEAD: usize = 32;

/// Bytes of a table at most: what holds where no SETTINGS say otherwise (RFC 9113, 6.5.2: `SETTINGS_HEADER_TABLE_SIZE`). We announce
/// nothing else, and take no more than this of what a peer allows.
const TABLE: usize = 4096;
