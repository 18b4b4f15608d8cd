//! The dashboard of a gateway whose kernel plane carries flows: steered and handed over, with the bytes that client and server counted.
//! Also takes the pictures of the documentation. Needs root; fails where the kernel plane cannot be had.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use harness::authority::Authority;
use harness::backend::{Backend, Version};
use harness::browser::{Browser, Page, expect_quiet};
use harness::bulk::{self, Plan};
use harness::client::{self, echoed};
use harness::documents::{
    self, Server, http_service, secret, service, sni_route, tcp_route, tcp_service, virtual_service,
};
use harness::gateway::{Gateway, Kernel};
use harness::lab::{Family, Lab};
use harness::serve::{self, Place};
use harness::tls::TlsClient;
use harness::{echo, wait};

const ADMIN: &str = "127.0.0.1:15000";
const OWN: &str = "http://127.0.0.1:15000/";
const TCP: u16 = 31400;
const TLS: u16 = 8443;
const VAULT: &str = "vault.example.com";
/// What a [`Plan`] is told by, and the digest that answers it.
const OF_PLAN: u64 = 24;
const OF_DIGEST: u64 = 32;

fn place(lab: &Lab) -> Place {
    Place::within(&lab.backends[0], SocketAddr::new(lab.backend_address(Family::V4, 0), 0))
}

fn start(lab: &Lab, documents: &str, flags: &[&str]) -> Gateway {
    Gateway::arrange()
        .within(&lab.gateway)
        .kernel(Kernel::Require)
        .flags(&["--interface", "c0", "--admin-address", ADMIN])
        .flags(flags)
        .document("site", documents)
        .start()
}

fn connect(lab: &Lab, port: u16) -> TcpStream {
    let to = SocketAddr::new(lab.gateway_address(Family::V4), port);
    lab.client.enter(move || client::connect(to))
}

/// A connection that is handed over.
fn handed_over(lab: &Lab, gateway: &Gateway) -> TcpStream {
    let before = gateway.handed_over();
    let mut stream = connect(lab, TLS);
    let hello = TlsClient::new(Authority::new("nobody's").roots(), VAULT).hello();
    stream.write_all(&hello).expect("sending");
    stream.read_exact(&mut vec![0; hello.len()]).expect("hearing");
    wait::until("a hand-over", || (gateway.handed_over() > before).then_some(()));
    stream
}

#[test]
fn steered_flows_are_listed_with_the_bytes_of_client_and_server() {
    let lab = Lab::new(1).expect("namespaces");
    let (bulk, echo) = (bulk::start(place(&lab)), echo::start_silent(place(&lab)));
    let servers = [Server::tcp(TCP), Server::passthrough(TLS, &[VAULT])];
    let documents = documents::gateway("edge", &servers)
        + &tcp_route("steered", TCP, "edge", "steered")
        + &sni_route("vault", TLS, VAULT, "edge", "vault")
        + &tcp_service("steered", &[bulk.address])
        + &service("vault", "https", &[echo.address]);
    let gateway = start(&lab, &documents, &[]);
    let browser = Browser::within(&lab.gateway);
    let page = browser.page();
    page.open(&format!("{OWN}#flows"));

    let mut vault = handed_over(&lab, &gateway);
    echoed(&mut vault, 300_000);
    // Its name was read by user space, though the kernel carries it.
    page.until("a flow that was handed over", "[...document.querySelectorAll('#panel-flows tbody tr')].some((it) => it.innerText.includes('handoff') && it.innerText.includes('vault.example.com'))");

    let plan = Plan { up: 256 << 20, down: 256 << 20, seed: 7 };
    let to = SocketAddr::new(lab.gateway_address(Family::V4), TCP);
    let stream = connect(&lab, TCP);
    let held = stream.try_clone().expect("a second handle");
    let own = stream.local_addr().expect("an address").to_string();
    bulk::transfer(stream, plan, |_| {}).expect("equal digests");
    let wanted = plan.up + plan.down + OF_PLAN + OF_DIGEST;
    let row = format!(
        "[...document.querySelectorAll('#panel-flows tbody tr')].find((it) => it.innerText.includes('{own}'))?.innerText"
    );
    let ask = format!(
        "fetch('/dashboard/flows?filter={own}').then((it) => it.json()).then((it) => it.rows[0] && \
         it.rows[0].bytesToBackend + it.rows[0].bytesToClient)"
    );
    wait::until("all bytes", || (page.evaluate(&ask).as_u64() == Some(wanted)).then_some(()));
    let row = page.until("the row", &format!("{row}.includes('256.0 MiB') && {row}"));
    let row = row.as_str().expect("text");
    assert!(row.contains("kernel") && row.contains(&to.to_string()), "{row}");
    drop(held);

    page.evaluate("document.getElementById('tab-topology').click()");
    page.until("the steered listener", "[...document.querySelectorAll('.node.listener')].some((it) => it.innerText.includes(':31400') && it.innerText.includes('kernel'))");
    // The kernel's flows are counted with those of user space.
    page.evaluate("[...document.querySelectorAll('.node.cluster')].find((it) => it.innerText.startsWith('steered.')).click()");
    page.until("its bytes", "document.querySelector('.details').innerText.includes('268,435,480 in')");
    page.evaluate("document.getElementById('tab-planes').click()");
    page.until("verdicts", "document.getElementById('panel-planes').innerText.includes('steered')");
    page.until("hand-overs", "document.getElementById('panel-planes').innerText.includes('1 of 1 attempts')");
    expect_quiet(&page, OWN);
}

/// What the pictures show: an ordinary day, with a few things that are wrong.
struct Scene {
    lab: Lab,
    gateway: Gateway,
    _backends: Vec<Backend>,
    _echo: serve::Server,
    streams: Vec<TcpStream>,
}

const RULES: &str = "  http:
  - name: cart
    match: [{uri: {prefix: /cart}}]
    route: [{destination: {host: cart}}]
  - name: search
    match: [{uri: {prefix: /search}}]
    route: [{destination: {host: search}, weight: 90}, {destination: {host: search-next}, weight: 10}]
  - match: [{uri: {exact: /old}}]
    redirect: {uri: /new, redirectCode: 302}
  - route: [{destination: {host: web}}]";
const API: &str = "  http:
  - match: [{uri: {prefix: /v1/orders}, method: {exact: POST}}]
    route: [{destination: {host: orders}}]
  - match: [{uri: {prefix: /}}]
    route: [{destination: {host: web}}]";
const BROKEN: &str = "  http:
  - timeout: soon
    route: [{destination: {host: web}}]";

impl Scene {
    fn start() -> Self {
        let lab = Lab::new(1).expect("namespaces");
        let backends: Vec<_> = ["web-0", "web-1", "cart-0", "search-0"]
            .iter()
            .map(|name| Backend::start(name, Version::Http1, place(&lab)))
            .collect();
        let echo = echo::start_silent(place(&lab));
        let at = |index: usize| backends[index].server.address;
        let gone = SocketAddr::new(lab.backend_address(Family::V4, 0), 9);
        let authority = Authority::new("Example CA");
        let servers = [
            Server::http(80, &["shop.example.com", "api.example.com", "legacy.example.com"]),
            Server::https(443, "SIMPLE", "shop-credential", &["shop.example.com"]),
            Server::https(443, "SIMPLE", "old-credential", &["old.example.com"]),
            Server::tcp(TCP),
            Server::passthrough(TLS, &[VAULT]),
        ];
        let documents = documents::gateway("edge", &servers)
            + &virtual_service("shop", &["shop.example.com"], "edge", RULES)
            + &virtual_service("api", &["api.example.com"], "edge", API)
            + &virtual_service("broken", &["broken.example.com"], "edge", BROKEN)
            + &documents::http_route("legacy", "legacy.example.com", "edge", "retired")
            + &tcp_route("mqtt", TCP, "edge", "mqtt")
            + &sni_route("vault", TLS, VAULT, "edge", "vault")
            + &http_service("web", &[at(0), at(1)])
            + &http_service("cart", &[at(2)])
            + &http_service("search", &[at(3), at(0)])
            + &http_service("search-next", &[at(1)])
            + &http_service("orders", &[at(2), gone])
            + &documents::annotated_rule(
                "orders",
                &["sluice.dev/health-check: 'http:///healthz'"],
                "{loadBalancer: {simple: RANDOM}}",
            )
            + &tcp_service("mqtt", &[echo.address])
            + &service("vault", "https", &[echo.address])
            + &secret(
                "shop-credential",
                &authority.issue(&["shop.example.com", "www.shop.example.com"]),
                None,
            );
        let gateway = start(&lab, &documents, &[]);
        let mut streams: Vec<_> = (0..6).map(|_| connect(&lab, TCP)).collect();
        streams.extend((0..3).map(|_| handed_over(&lab, &gateway)));
        let scene = Self { lab, gateway, _backends: backends, _echo: echo, streams };
        scene.work(1);
        scene
    }

    /// Traffic for a moment.
    fn work(&self, rounds: usize) {
        let to = SocketAddr::new(self.lab.gateway_address(Family::V4), 80);
        for round in 0..rounds {
            self.lab.client.enter(move || {
                for (host, path) in [
                    ("shop.example.com", "/cart"),
                    ("shop.example.com", "/search"),
                    ("shop.example.com", "/bytes/20000"),
                    ("shop.example.com", "/"),
                    ("api.example.com", "/v1/items"),
                ] {
                    client::get(to, host, path);
                }
                if round % 7 == 0 {
                    client::get(to, "api.example.com", "/status/503");
                }
            });
            for (at, stream) in self.streams.iter().enumerate() {
                echoed(&mut stream.try_clone().expect("a second handle"), 20_000 * (at + 1));
            }
        }
    }
}

/// Shows a view, with the focus nowhere.
fn show(page: &Page<'_>, view: &str) {
    page.evaluate(&format!("document.getElementById('tab-{view}').click(); document.activeElement.blur()"));
}

/// Where the pictures go: `SLUICE_SCREENSHOTS`, or nowhere that stays.
fn gallery(nowhere: &Path) -> PathBuf {
    std::env::var_os("SLUICE_SCREENSHOTS").map_or_else(|| nowhere.to_owned(), PathBuf::from)
}

#[test]
fn the_pictures_of_the_documentation_can_be_taken() {
    let nowhere = tempfile::tempdir().expect("a directory");
    let gallery = gallery(nowhere.path());
    std::fs::create_dir_all(&gallery).expect("a directory for pictures");
    let scene = Scene::start();
    let browser = Browser::within(&scene.lab.gateway);
    let page = browser.page();
    page.prefer("light");
    page.open(OWN);
    // Long enough for lines to be seen, if the pictures are wanted.
    let rounds = if std::env::var_os("SLUICE_SCREENSHOTS").is_some() { 600 } else { 20 };
    scene.work(rounds);
    page.until(
        "errors",
        "document.querySelector('[data-sign=errors] .note').innerText.match(/[1-9]/) !== null",
    );
    page.until(
        "rates",
        "[...document.querySelectorAll('.node.cluster')].some((it) => /[1-9].*\\/s/.test(it.innerText))",
    );
    let take = |name: &str| {
        let picture = page.picture();
        assert!(picture.len() > 10_000 && picture.len() < 400_000, "{name}: {} bytes", picture.len());
        std::fs::write(gallery.join(format!("{name}.png")), picture).expect("writing a picture");
    };
    scene.work(20);
    show(&page, "topology");
    take("dashboard-topology-light");
    page.prefer("dark");
    take("dashboard-topology-dark");
    show(&page, "flows");
    scene.work(20);
    page.until("rates", "document.querySelector('#panel-flows tbody tr')?.innerText.includes('iB/s')");
    take("dashboard-flows-dark");
    page.prefer("light");
    show(&page, "diagnostics");
    page.until("findings", "Boolean(document.querySelector('.finding'))");
    take("dashboard-diagnostics");
    show(&page, "planes");
    page.until("verdicts", "Boolean(document.querySelector('#panel-planes tbody tr'))");
    show(&page, "explain");
    page.evaluate("(() => { document.getElementById('explain-url').value = 'http://shop.example.com/search?q=shoes'; document.querySelector('.ask').requestSubmit() })()");
    page.until("steps", "Boolean(document.querySelector('.steps'))");
    take("dashboard-explain");
    page.resize(400, 860);
    show(&page, "topology");
    page.until("cards", "Boolean(document.querySelector('#panel-topology tbody tr'))");
    take("dashboard-narrow");
    assert!(scene.gateway.log().contains("soon"), "the finding is the log's too");
    expect_quiet(&page, OWN);
}
