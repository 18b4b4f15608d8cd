//! Both ends of TLS, and a ClientHello as bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::pki_types::ServerName;
use rustls::{
    ALL_VERSIONS, ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
    SupportedProtocolVersion,
};

use crate::authority::Identity;
use crate::client::LIMIT;

/// A server's configuration.
pub fn server_config(identity: &Identity) -> Arc<ServerConfig> {
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(identity.chain(), identity.private_key())
        .expect("a certificate that fits its key");
    Arc::new(config)
}

/// A TLS client's wishes.
#[derive(Debug, Clone)]
pub struct TlsClient {
    roots: RootCertStore,
    identity: Option<Identity>,
    alpn: Vec<Vec<u8>>,
    name: String,
    sends_name: bool,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl TlsClient {
    /// One that asks for `name` and trusts `roots`.
    pub fn new(roots: RootCertStore, name: &str) -> Self {
        Self {
            roots,
            identity: None,
            alpn: Vec::new(),
            name: name.to_owned(),
            sends_name: true,
            versions: ALL_VERSIONS,
        }
    }

    /// Speaks these versions of TLS only.
    pub fn versions(mut self, versions: &'static [&'static SupportedProtocolVersion]) -> Self {
        self.versions = versions;
        self
    }

    /// Shows a certificate when asked.
    pub fn identity(mut self, identity: &Identity) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// Offers protocols.
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// Sends no SNI.
    pub fn without_name(mut self) -> Self {
        self.sends_name = false;
        self
    }

    /// For tokio-rustls.
    pub fn config(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_protocol_versions(self.versions)
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            Some(identity) => builder
                .with_client_auth_cert(identity.chain(), identity.private_key())
                .expect("a certificate that fits its key"),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.enable_sni = self.sends_name;
        Arc::new(config)
    }

    /// For tokio-rustls.
    pub fn server_name(&self) -> ServerName<'static> {
        ServerName::try_from(self.name.clone()).expect("a server's name")
    }

    fn connection(&self) -> ClientConnection {
        ClientConnection::new(self.config(), self.server_name()).expect("a client")
    }

    /// Connects and shakes hands.
    pub fn connect(&self, address: SocketAddr) -> Result<StreamOwned<ClientConnection, TcpStream>> {
        self.connect_by(address, Write::write_all)
    }

    /// Connects and shakes hands, with the ClientHello sent by the caller's function.
    pub fn connect_by(
        &self,
        address: SocketAddr,
        send: impl FnOnce(&mut TcpStream, &[u8]) -> std::io::Result<()>,
    ) -> Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut stream = TcpStream::connect_timeout(&address, LIMIT).context("connecting")?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        let mut connection = self.connection();
        let mut hello = Vec::new();
        connection.write_tls(&mut hello)?;
        send(&mut stream, &hello).context("sending the ClientHello")?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).context("shaking hands")?;
        }
        Ok(StreamOwned::new(connection, stream))
    }

    /// A ClientHello in one record.
    pub fn hello(&self) -> Vec<u8> {
        let mut hello = Vec::new();
        self.connection().write_tls(&mut hello).expect("writing into memory");
        hello
    }
}

/// A request and its whole answer over a TLS connection.
pub fn exchange(stream: &mut (impl Read + Write), request: &str) -> Result<String> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // A peer that closes without close_notify has said all the same what it said.
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(error.into()),
        _ => {}
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The same handshake message, in records of at most `size` bytes each.
pub fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let (header, message) = hello.split_at(5);
    let mut records = Vec::new();
    for part in message.chunks(size) {
        records.extend_from_slice(&header[..3]);
        records.extend_from_slice(&(part.len() as u16).to_be_bytes());
        records.extend_from_slice(part);
    }
    records
}

/// The same ClientHello with a padding extension (RFC 7685) that makes the message at least `length` bytes long.
pub fn padded(hello: &[u8], length: usize) -> Vec<u8> {
    let message = &hello[5..];
    let extensions_at = extensions_at(message);
    let padding = length.saturating_sub(message.len() + 4);
    let mut padded = message[..extensions_at].to_vec();
    let extensions = &message[extensions_at + 2..];
    // rustls puts a pre-shared key last, as it must be; a first handshake has none, so the padding may be last.
    padded.extend_from_slice(&((extensions.len() + 4 + padding) as u16).to_be_bytes());
    padded.extend_from_slice(extensions);
    padded.extend_from_slice(&21_u16.to_be_bytes());
    padded.extend_from_slice(&(padding as u16).to_be_bytes());
    padded.resize(padded.len() + padding, 0);
    let body = (padded.len() - 4) as u32;
    padded[1..4].copy_from_slice(&body.to_be_bytes()[1..]);
    let mut whole = hello[..5].to_vec();
    whole.extend_from_slice(&padded);
    whole
}

/// Skips the message's header, version, random, session id, cipher suites and compression methods.
fn extensions_at(message: &[u8]) -> usize {
    let mut at = 4 + 2 + 32;
    at += 1 + usize::from(message[at]);
    at += 2 + usize::from(u16::from_be_bytes([message[at], message[at + 1]]));
    at + 1 + usize::from(message[at])
}
