//! HTTP/2 frame by frame (RFC 9113): a client that sends what no library would, and a backend that notes what came.

mod connection;
mod recorder;
mod write;

pub use connection::{Connection, Outcome};
pub use recorder::Recorder;
pub use write::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY,
    PRIORITY_FLAG, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, field, frame, setting,
};

/// Error codes (RFC 9113, 7).
pub mod code {
    /// No error.
    pub const NO_ERROR: u32 = 0;
    /// Not understood.
    pub const PROTOCOL_ERROR: u32 = 1;
    /// More than a window allows.
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    /// For a stream that has ended.
    pub const STREAM_CLOSED: u32 = 5;
    /// A frame of a wrong size.
    pub const FRAME_SIZE_ERROR: u32 = 6;
    /// Not looked at.
    pub const REFUSED_STREAM: u32 = 7;
    /// Of no use any more.
    pub const CANCEL: u32 = 8;
    /// Headers that cannot be unpacked.
    pub const COMPRESSION_ERROR: u32 = 9;
    /// Too much.
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}
