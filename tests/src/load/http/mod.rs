//! HTTP as clients speak it, and backends that answer it: one thread on each side, prepared bytes, and no more parsing
//! than it takes to know a right answer from a wrong one.
//!
//! A server name and three paths: `/small` answers with [`SMALL`] bytes, to a POST with none, `/large` with [`LARGE`],
//! and a gRPC method with a message. The backends of these listen on ports of their own; what goes without a gateway goes
//! there, and for TLS to a port that no gateway uses.

pub mod backend;
pub mod drive;
mod frame;
mod h1;
mod h2;
pub mod sealed;
mod upgraded;
mod wire;

use std::io;
use std::time::Instant;

/// The server's name.
pub const HOST: &str = "bench.example";
/// Bytes of a usual answer.
pub const SMALL: usize = 1024;
/// Bytes of a large answer.
pub const LARGE: usize = 1 << 20;
/// Bytes of a posted body.
pub const POSTED: usize = 16 * 1024;
/// Bytes of a gRPC message up, and of a WebSocket's both ways; [`SMALL`] bytes are gRPC's down.
pub const MESSAGE: usize = 128;
/// What `/large` begins with.
pub const LARGE_PATH: &str = "/large";
/// What gRPC's path begins with: package and service.
pub const GRPC_PATH: &str = "/bench.Echo/";
/// Where WebSockets are.
pub const SOCKET_PATH: &str = "/socket";

/// Where gateways listen for cleartext, and backends for all that is neither large nor gRPC.
pub const CLEAR: u16 = 721;
/// Where gateways listen for TLS, and where a backend does for who has no gateway.
pub const SEALED: u16 = 722;
/// Where backends send large bodies.
pub const LARGE_PORT: u16 = 723;
/// Where backends speak gRPC in cleartext.
pub const GRPC_PORT: u16 = 724;

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// HTTP/1.1 on connections that stay.
    Small,
    /// Likewise, with large answers.
    Large,
    /// Likewise, with bodies of requests.
    Post,
    /// HTTP/1.1, a connection for each request.
    Fresh,
    /// HTTP/1.1 in TLS on connections that stay.
    Tls,
    /// A connection with a full handshake for each request.
    Full,
    /// A connection with a handshake that resumes a session for each request.
    Resumed,
    /// HTTP/2 in TLS.
    H2,
    /// gRPC's unary calls: HTTP/2 in TLS, with trailers.
    Grpc,
    /// Messages on WebSockets.
    Socket,
}

impl Work {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Small,
        Self::Large,
        Self::Post,
        Self::Fresh,
        Self::Tls,
        Self::Full,
        Self::Resumed,
        Self::H2,
        Self::Grpc,
        Self::Socket,
    ];

    /// Connections at once.
    pub fn connections(self) -> usize {
        match self {
            Self::Large | Self::H2 | Self::Grpc => 8,
            _ => 64,
        }
    }

    /// Requests at once on each of them.
    pub fn depth(self) -> usize {
        if self.is_h2() { 32 } else { 1 }
    }

    /// Whether it is in TLS.
    pub fn is_sealed(self) -> bool {
        matches!(self, Self::Tls | Self::Full | Self::Resumed) || self.is_h2()
    }

    /// Whether it is HTTP/2.
    pub fn is_h2(self) -> bool {
        matches!(self, Self::H2 | Self::Grpc)
    }

    /// Whether each request has a connection of its own.
    pub fn is_fresh(self) -> bool {
        matches!(self, Self::Fresh | Self::Full | Self::Resumed)
    }

    /// Where a gateway listens for it.
    pub fn gateway_port(self) -> u16 {
        if self.is_sealed() { SEALED } else { CLEAR }
    }

    /// Where a backend does, for who has no gateway.
    pub fn backend_port(self) -> u16 {
        match self {
            Self::Large => LARGE_PORT,
            _ => self.gateway_port(),
        }
    }

    fn dialect(self) -> Box<dyn Dialect> {
        match self {
            Self::Small | Self::Tls => Box::new(h1::Client::get("/small", SMALL, false)),
            Self::Large => Box::new(h1::Client::get(LARGE_PATH, LARGE, false)),
            Self::Post => Box::new(h1::Client::post("/small", POSTED)),
            Self::Fresh | Self::Full | Self::Resumed => Box::new(h1::Client::get("/small", SMALL, true)),
            Self::H2 => Box::new(h2::Client::get("/small", self.depth())),
            Self::Grpc => Box::new(h2::Client::call(&format!("{GRPC_PATH}Say"), self.depth())),
            Self::Socket => Box::new(upgraded::Client::new()),
        }
    }
}

/// A client's side of a protocol on one connection.
trait Dialect: Send {
    /// What is said first.
    fn begin(&mut self, out: &mut Vec<u8>);

    /// Requests that may be asked now.
    fn room(&self) -> usize;

    /// Asks one more, which was due then.
    fn ask(&mut self, due: Instant, out: &mut Vec<u8>);

    /// Takes what came; adds the times of the requests that it ended. An answer that is not as it should be is an error.
    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>, done: &mut Vec<Instant>) -> io::Result<()>;

    /// Bytes that come next and need not be seen: the rest of a body.
    fn unseen(&self) -> usize {
        0
    }

    /// So many of these came.
    fn pass_over(&mut self, _count: usize, _done: &mut Vec<Instant>) {}
}

/// A backend's side of a protocol on one connection.
trait Service: Send {
    /// Takes what came and says what is to be answered.
    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()>;
}

/// What breaks a protocol, or is not the answer that was asked for.
fn wrong(why: impl Into<String>) -> io::Error {
    io::Error::other(why.into())
}
