//! The least that a site is: a gateway with an HTTP port, and a backend that all requests go to.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

use crate::backend::{Backend, Version};
use crate::client;
use crate::documents::{self, Server};
use crate::gateway::{Arrangement, Gateway};
use crate::port;
use crate::serve::Place;

/// A gateway whose HTTP port leads requests for a host to an endpoint of the test's own, behind a Service's port of this name;
/// and where it listens.
pub fn before(host: &str, port_name: &str, endpoint: SocketAddr) -> (Gateway, SocketAddr) {
    arranged_before((host, port_name, endpoint), |gateway| gateway)
}

fn arranged_before(
    (host, port_name, endpoint): (&str, &str, SocketAddr),
    arrange: impl FnOnce(Arrangement) -> Arrangement,
) -> (Gateway, SocketAddr) {
    let port = port::free();
    let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &documents::http_route("webapp", host, "edge", "webapp")
        + &documents::service("webapp", port_name, &[endpoint]);
    let gateway = arrange(Gateway::arrange().document("site", &documents)).start();
    let address = gateway.at(port);
    (gateway, address)
}

/// See the module.
#[derive(Debug)]
pub struct Site {
    /// Whose process is looked at.
    pub gateway: Gateway,
    /// `webapp`.
    pub backend: Backend,
    /// Where the gateway listens.
    pub address: SocketAddr,
}

impl Site {
    /// With a backend of HTTP/1.1, and further flags of the gateway.
    pub fn new(flags: &[&str]) -> Self {
        Self::speaking(Version::Http1, flags)
    }

    /// With a backend of some version.
    pub fn speaking(version: Version, flags: &[&str]) -> Self {
        Self::arranged(version, |gateway| gateway.flags(flags))
    }

    /// With a gateway of some arrangement.
    pub fn arranged(version: Version, arrange: impl FnOnce(Arrangement) -> Arrangement) -> Self {
        let backend = Backend::start("webapp", version, Place::loopback());
        let port_name = if version == Version::Http2 { "http2" } else { "http" };
        let (gateway, address) = arranged_before(("*", port_name, backend.server.address), arrange);
        Self { gateway, backend, address }
    }

    /// How often something was refused for a reason that `sluice status` has.
    pub fn refused(&self, reason: &str) -> u64 {
        self.gateway.status()["refused"][reason].as_u64().unwrap_or(0)
    }

    /// A connection on which something was said.
    pub fn says(&self, text: &str) -> TcpStream {
        let mut stream = client::connect(self.address);
        stream.write_all(text.as_bytes()).expect("sending");
        stream
    }

    /// Bytes of memory that the gateway has made use of, without what it shares with others.
    pub fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.gateway.pid())).expect("alive");
        let line =
            status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line of the kernel's");
        let kibibytes = line.split_whitespace().next().and_then(|number| number.parse::<usize>().ok());
        kibibytes.expect("a number") * 1024
    }
}
