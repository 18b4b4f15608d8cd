//! What goes wrong on a connection, or on a stream of it (RFC 9113, 5.4 and 7).

use std::fmt;

/// An error code, as the wire has it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    /// `NO_ERROR`.
    pub const NONE: Self = Self(0);
    /// `PROTOCOL_ERROR`.
    pub const PROTOCOL: Self = Self(1);
    /// `INTERNAL_ERROR`.
    pub const INTERNAL: Self = Self(2);
    /// `FLOW_CONTROL_ERROR`.
    pub const FLOW_CONTROL: Self = Self(3);
    /// `STREAM_CLOSED`.
    pub const STREAM_CLOSED: Self = Self(5);
    /// `FRAME_SIZE_ERROR`.
    pub const FRAME_SIZE: Self = Self(6);
    /// `REFUSED_STREAM`: nothing was done about the request.
    pub const REFUSED_STREAM: Self = Self(7);
    /// `CANCEL`.
    pub const CANCEL: Self = Self(8);
    /// `COMPRESSION_ERROR`.
    pub const COMPRESSION: Self = Self(9);
    /// `ENHANCE_YOUR_CALM`.
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0 => "NO_ERROR",
            1 => "PROTOCOL_ERROR",
            2 => "INTERNAL_ERROR",
            3 => "FLOW_CONTROL_ERROR",
            5 => "STREAM_CLOSED",
            6 => "FRAME_SIZE_ERROR",
            7 => "REFUSED_STREAM",
            8 => "CANCEL",
            9 => "COMPRESSION_ERROR",
            11 => "ENHANCE_YOUR_CALM",
            other => return write!(f, "{other}"),
        };
        f.write_str(name)
    }
}

/// What the peer has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is of no use any more.
    Connection(Code),
    /// A stream is.
    Stream(u32, Code),
}

/// Why a stream broke off, for who reads from it or writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The peer has taken it back, or the connection has ended.
    #[error("the client went amid a stream")]
    Gone,
    /// What came on it was no HTTP, or not what its head had announced.
    #[error("a stream that breaks the rules of HTTP/2")]
    Flawed,
}
