//! HTTP/1.0 and 1.1 in octets (RFC 9112), for both sides of the gateway: heads and bodies as they are read and written, and nothing of
//! who talks. A message is read in one way: what says twice how long it is, is told as [`Ambiguous`], and so is for who serves it to
//! refuse.

pub mod decode;
pub mod encode;
pub mod head;
pub mod inbound;
pub mod length;
pub mod write;

pub use decode::{Decoder, Flawed};
pub use encode::{Encoder, WrongLength};
pub use head::{HeadError, Limits, Looked, Reason, RequestHead, ResponseHead};
pub use inbound::{Inbound, InboundError, Inlet, inbound};
pub use length::{Ambiguous, Length};
pub use write::{Answering, write_request, write_response};
