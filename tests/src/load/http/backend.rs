//! The backends: in cleartext for gateways, and one in TLS for who comes without a gateway.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::Result;
use rustls::{ServerConfig, ServerConnection};

use super::{CLEAR, GRPC_PORT, LARGE, LARGE_PATH, LARGE_PORT, SEALED, Service, h1, h2, sealed, wrong};
use crate::arena::Arena;
use crate::authority::Identity;
use crate::load::backend::{Backend, File, Port, Talk, Work};

/// Starts all of them.
pub fn start(arena: &Arena, identity: &Identity) -> Result<Backend> {
    let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
    let (tls, file) = (sealed::server(identity)?, File::new()?);
    let clear = Work::Answer(Box::new(|| Box::new(Clear::new(h1::Answers::new()))));
    let grpc = Work::Answer(Box::new(|| Box::new(Clear::new(h2::Answers::new()))));
    let sealed = Work::Answer(Box::new(move || Box::new(Sealed::new(tls.clone()))));
    let large = Work::Stream(Arc::new(move |stream: &TcpStream| send_large(stream, &file)));
    let ports = [(CLEAR, clear), (SEALED, sealed), (LARGE_PORT, large), (GRPC_PORT, grpc)];
    let ports = ports.into_iter().map(|(port, work)| Port { at: any(port), work }).collect();
    Backend::serve(arena.lab.backends[0].open(), ports)
}

/// A service in cleartext.
struct Clear<S> {
    service: S,
    out: Vec<u8>,
}

impl<S: Service> Clear<S> {
    fn new(service: S) -> Self {
        Self { service, out: Vec::new() }
    }
}

impl<S: Service> Talk for Clear<S> {
    fn hear(&mut self, stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        let heard = self.service.hear(bytes, &mut self.out);
        stream.write_all(&self.out)?;
        self.out.clear();
        heard
    }
}

/// TLS, and within it what the client asks for.
struct Sealed {
    /// None when rustls refused to begin, which ends the connection.
    tls: Option<ServerConnection>,
    /// Once the client has said which.
    service: Option<Box<dyn Service>>,
}

impl Sealed {
    fn new(config: Arc<ServerConfig>) -> Self {
        Self { tls: ServerConnection::new(config).ok(), service: None }
    }
}

impl Talk for Sealed {
    fn hear(&mut self, stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        let tls = self.tls.as_mut().ok_or_else(|| wrong("TLS did not begin"))?;
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        while !bytes.is_empty() {
            tls.read_tls(&mut bytes)?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let (before, count) = (plain.len(), state.plaintext_bytes_to_read());
            plain.resize(before + count, 0);
            tls.reader().read_exact(&mut plain[before..])?;
        }
        if !plain.is_empty() {
            let is_h2 = tls.alpn_protocol() == Some(b"h2");
            let service = self.service.get_or_insert_with(|| service(is_h2));
            service.hear(&plain, &mut out)?;
            tls.writer().write_all(&out)?;
        }
        let mut sealed = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut sealed)?;
        }
        stream.write_all(&sealed)
    }
}

fn service(is_h2: bool) -> Box<dyn Service> {
    if is_h2 { Box::new(h2::Answers::new()) } else { Box::new(h1::Answers::new()) }
}

/// Answers each request for a large body, which no other asks for here.
fn send_large(mut stream: &TcpStream, file: &File) -> io::Result<()> {
    let head = h1::answer_head(LARGE, 0);
    let (mut asked, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        asked.extend_from_slice(&buffer[..length]);
        if let Some(end) = h1::end_of_head(&asked, 0) {
            if !asked.starts_with(format!("GET {LARGE_PATH}").as_bytes()) {
                return Err(wrong("not a request for a large body"));
            }
            asked.drain(..end);
            stream.write_all(&head)?;
            file.send(stream, LARGE)?;
        }
    }
}
