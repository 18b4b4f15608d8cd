//! A gateway in a network of its own that serves HTTP, HTTPS, TCP and passthrough, before two backends of each kind.

use std::net::SocketAddr;
use std::sync::Arc;

use super::backend::Faulty;
use super::requests::Target;
use crate::authority::Authority;
use crate::chatter::Chatter;
use crate::documents::{self, Server as Listening};
use crate::echo;
use crate::gateway::{Gateway, Kernel};
use crate::lab::{Family, Lab};
use crate::serve::{Place, Server};
use crate::steered::place;
use crate::tls::TlsClient;

const HTTP: u16 = 80;
const HTTPS: u16 = 443;
const TCP: u16 = 31400;
const PASSTHROUGH: u16 = 8443;
const HOST: &str = "shop.example.com";
const SEALED: &str = "vault.example.com";

/// See the module. Fields are dropped in order.
pub struct Stand {
    /// The gateway.
    pub gateway: Gateway,
    /// `None`: killed.
    pub backends: [Option<Faulty>; 2],
    echoes: [Server; 2],
    addresses: [SocketAddr; 2],
    authority: Authority,
    /// Who is where.
    pub lab: Lab,
}

impl Stand {
    /// Starts everything.
    #[track_caller]
    pub fn start(kernel: Kernel, flags: &[&str]) -> Self {
        let lab = Lab::new(2).expect("namespaces");
        let authority = Authority::new("faults");
        let backends = [0, 1].map(|index| Faulty::start(NAMES[index], place(&lab, Family::V4, index)));
        let echoes = [0, 1].map(|index| echo::start_silent(place(&lab, Family::V4, index)));
        let addresses = backends.each_ref().map(|backend| backend.server.address);
        let backends = backends.map(Some);
        let gateway = Gateway::arrange()
            .within(&lab.gateway)
            .kernel(kernel)
            .flags(flags)
            .document("secret", &documents::secret("shop", &authority.issue(&[HOST]), None))
            .document("gateway", &listeners())
            .document("routes", &routes())
            .document("services", &services(addresses, echoes.each_ref().map(|echo| echo.address)))
            .start();
        Self { gateway, backends, echoes, addresses, authority, lab }
    }

    /// Where clients of HTTP go.
    pub fn target(&self) -> Target {
        let address = |port| SocketAddr::new(self.lab.gateway_address(Family::V4), port);
        let tls = Arc::new(TlsClient::new(self.authority.roots(), HOST));
        Target { http: address(HTTP), https: address(HTTPS), host: HOST.to_owned(), tls }
    }

    /// Streams of TCP, and as many of TLS that is passed through.
    #[track_caller]
    pub fn chat(&self, of_each: usize) -> [Chatter; 2] {
        let address = |port| SocketAddr::new(self.lab.gateway_address(Family::V4), port);
        let hello = TlsClient::new(self.authority.roots(), SEALED).hello();
        [
            Chatter::start(&self.lab.client, address(TCP), of_each),
            Chatter::start_behind(&self.lab.client, address(PASSTHROUGH), of_each, hello),
        ]
    }

    /// Changes a document without a meaning for anybody, or back.
    pub fn change(&self, turn: usize) {
        match turn % 4 {
            0 => self
                .gateway
                .write("extra", &documents::http_route("extra", &format!("x{turn}.test"), "edge", "shop")),
            1 => self.gateway.write("services", &(self.services() + &documents::http_service("more", &[]))),
            2 => self.gateway.write("services", &self.services()),
            _ => self.gateway.write("gateway", &(listeners() + &format!("# {turn}\n"))),
        }
    }

    /// Kills a backend.
    pub fn kill(&mut self, index: usize) {
        self.backends[index] = None;
    }

    /// Starts one again, where it was.
    pub fn revive(&mut self, index: usize) {
        let place = Place::within(&self.lab.backends[index], self.addresses[index]);
        self.backends[index] = Some(Faulty::start(NAMES[index], place));
    }

    fn services(&self) -> String {
        services(self.addresses, self.echoes.each_ref().map(|echo| echo.address))
    }
}

const NAMES: [&str; 2] = ["blue", "green"];

fn listeners() -> String {
    documents::gateway(
        "edge",
        &[
            Listening::http(HTTP, &["*"]),
            Listening::https(HTTPS, "SIMPLE", "shop", &[HOST]),
            Listening::tcp(TCP),
            Listening::passthrough(PASSTHROUGH, &[SEALED]),
        ],
    )
}

fn routes() -> String {
    documents::http_route("shop", HOST, "edge", "shop")
        + &documents::tcp_route("echo", TCP, "edge", "echo")
        + &documents::sni_route("vault", PASSTHROUGH, SEALED, "edge", "echo")
}

fn services(http: [SocketAddr; 2], echoes: [SocketAddr; 2]) -> String {
    documents::http_service("shop", &http) + &documents::tcp_service("echo", &echoes)
}
