//! A gateway that steers one TCP listener in the kernel, before the backends of a laboratory.

use std::net::{IpAddr, SocketAddr, TcpStream};

use serde_json::Value;

use crate::client::{self, line};
use crate::documents::{self, Server, tcp_route, tcp_service};
use crate::gateway::{Gateway, Kernel};
use crate::lab::{Family, Lab};
use crate::namespace::Namespace;
use crate::program::{must, run};
use crate::serve::Place;

/// Port of the listener. The gateway has its namespace for itself.
pub const PORT: u16 = 31400;
/// A second listener before the same backends.
pub const OTHER_PORT: u16 = 31401;

/// What the documents say besides listeners and backends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wishes<'a> {
    /// Of the Gateway, each `name: value`.
    pub annotations: &'a [&'a str],
    /// A DestinationRule's `trafficPolicy`.
    pub policy: Option<&'a str>,
}

impl Wishes<'_> {
    /// The documents.
    pub fn documents(&self, backends: &[SocketAddr]) -> String {
        let servers = [Server::tcp(PORT), Server::tcp(OTHER_PORT)];
        let mut text = documents::annotated_gateway("edge", self.annotations, &servers);
        text += &tcp_route("one", PORT, "edge", "backend");
        text += &tcp_route("other", OTHER_PORT, "edge", "backend");
        text += &tcp_service("backend", backends);
        text += &self.policy.map(|policy| documents::destination_rule("backend", policy)).unwrap_or_default();
        text
    }
}

/// See the module. The gateway ends before its namespaces.
#[derive(Debug)]
pub struct Steered {
    /// The agent.
    pub gateway: Gateway,
    /// The namespaces.
    pub lab: Lab,
}

impl Steered {
    /// Starts it in a laboratory.
    #[track_caller]
    pub fn start(lab: Lab, wishes: &Wishes<'_>, backends: &[SocketAddr], flags: &[&str]) -> Self {
        let gateway = Gateway::arrange()
            .within(&lab.gateway)
            .kernel(Kernel::Require)
            .flags(&["--interface", "c0"])
            .flags(flags)
            .document("site", &wishes.documents(backends))
            .start();
        Self { gateway, lab }
    }

    /// Where clients connect to.
    pub fn address(&self, family: Family) -> SocketAddr {
        SocketAddr::new(self.lab.gateway_address(family), PORT)
    }

    /// Runs something in the client's namespace.
    pub fn with_client<T: Send + 'static>(&self, run: impl FnOnce(SocketAddr) -> T + Send + 'static) -> T {
        let address = self.address(Family::V4);
        self.lab.client.enter(move || run(address))
    }

    /// A connection of the client that has had an answer of an echo service.
    #[track_caller]
    pub fn greet(&self, family: Family) -> TcpStream {
        let address = self.address(family);
        self.lab.client.enter(move || greet(address))
    }

    /// Stops the agent by a kill, and starts another with these flags besides those that every test needs.
    #[track_caller]
    pub fn replace_agent(&mut self, flags: &[&str]) {
        self.gateway.kill();
        self.gateway.restart_with(&[&["--interface", "c0"], flags].concat());
    }

    /// What the agent says of the kernel plane.
    pub fn kernel(&self) -> Value {
        self.gateway.status()["kernel"].clone()
    }

    /// Packets that got a verdict.
    pub fn verdict(&self, label: &str) -> u64 {
        self.kernel()["verdicts"][label].as_u64().unwrap_or(0)
    }

    /// Rows of a pinned map.
    #[track_caller]
    pub fn dump(&self, map: &str) -> Vec<Value> {
        let said = self.gateway.sluice(&["maps", "dump", map, "-o", "json"]).expect_success();
        serde_json::from_str(&said.out).expect("rows")
    }

    /// Whether the kernel carries a client's flow.
    #[track_caller]
    pub fn steers(&self, client: SocketAddr) -> bool {
        let client = client.to_string();
        self.dump("FLOWS").iter().any(|row| row["client"] == *client)
    }

    /// TCP sockets of the gateway's namespace that have a peer: connections that user space serves.
    #[track_caller]
    pub fn sockets(&self) -> usize {
        let said = run(self.lab.gateway.command("ss").args(["-Htan", "state", "connected"]));
        said.expect_success().out.lines().count()
    }
}

/// A connection that has had an answer of an echo service.
#[track_caller]
pub fn greet(address: SocketAddr) -> TcpStream {
    let mut stream = client::connect(address);
    assert_eq!(line(&mut stream, "hello\n"), "hello\n");
    stream
}

/// A place for a backend, on a port of the system's choice.
pub fn place(lab: &Lab, family: Family, index: usize) -> Place {
    Place::within(&lab.backends[index], SocketAddr::new(lab.backend_address(family, index), 0))
}

/// Has both ends compute and verify every checksum themselves: veth pairs hand packets over unfinished otherwise.
#[track_caller]
pub fn verify_checksums(lab: &Lab) {
    for end in [&lab.client].into_iter().chain(&lab.backends) {
        switch_offloads_off(end, "e0");
    }
}

/// The same for one device.
#[track_caller]
pub fn switch_offloads_off(namespace: &Namespace, device: &str) {
    must(namespace.command("ethtool").args(["-K", device, "tx", "off"])).expect("a device without offloads");
}

/// XDP sees the bytes as they are, so the ends must have summed them up; and it reaches veth devices that receive by
/// NAPI, as they do with GRO (Linux 5.13).
#[track_caller]
pub fn prepare_for_xdp(lab: &Lab) {
    verify_checksums(lab);
    for end in [&lab.client].into_iter().chain(&lab.backends) {
        must(end.command("ethtool").args(["-K", "e0", "gro", "on"])).expect("a device that receives by NAPI");
    }
}

/// A connection from an address and port of the caller's choice. It is reset when it is dropped, so that the port can
/// be used again at once.
pub fn connect_from(source: impl Into<IpAddr>, port: u16, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(source.into(), port).into())?;
    socket.set_linger(Some(std::time::Duration::ZERO))?;
    socket.connect_timeout(&address.into(), client::LIMIT)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(client::LIMIT))?;
    Ok(stream)
}
