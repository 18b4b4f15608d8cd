//! TLS: reading a ClientHello, parsing certificates, and the rustls configurations of terminating servers. The
//! only module that configures rustls.

pub mod certificate;
pub mod client;
pub mod client_hello;
mod endpoint;
pub mod server;

pub use client::{ClientConfigs, ClientFault};
pub use client_hello::{ClientHello, HelloError, HelloReader};
pub use server::{CredentialFault, ServerConfigs};
