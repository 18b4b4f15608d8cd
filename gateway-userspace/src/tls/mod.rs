//! TLS: reading a ClientHello, parsing certificates, session tickets, and the rustls configurations of terminating servers. The
//! only module that configures rustls.

mod agreed;
pub mod certificate;
mod chooser;
pub mod client;
pub mod client_hello;
mod endpoint;
pub mod forwarded;
mod ocsp;
pub mod own;
mod protocol;
pub mod server;
mod tickets;
mod verifier;
mod version_one;

pub use agreed::agreed;
pub use client::{ClientConfigs, ClientFault};
pub use client_hello::{ClientHello, HelloError, HelloReader};
pub use forwarded::client_certificate;
pub use server::{CredentialFault, ServerConfigs};
pub use tickets::{HandedKey, TicketKeys};
