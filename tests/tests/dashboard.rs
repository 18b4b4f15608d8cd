//! The dashboard in a real browser: what it shows is what the gateway did, it asks nobody else, and everybody can use it.

use std::net::SocketAddr;

use harness::backend::Backend;
use harness::browser::{Browser, Page};
use harness::client;
use harness::documents::{self, Server, http_route, http_service};
use harness::gateway::{Arrangement, Gateway};
use harness::port;

/// A gateway with its admin interface on a TCP address.
struct Site {
    gateway: Gateway,
    admin: SocketAddr,
}

impl Site {
    fn arranged(arrange: impl FnOnce(Arrangement) -> Arrangement) -> Self {
        let admin = SocketAddr::from(([127, 0, 0, 1], port::free()));
        let gateway = arrange(Gateway::arrange().flags(&["--admin-address", &admin.to_string()])).start();
        Self { gateway, admin }
    }

    fn url(&self, view: &str) -> String {
        format!("http://{}/#{view}", self.admin)
    }
}

/// What must hold of every page when it was used: it asked nobody but the agent, and complained of nothing.
#[track_caller]
fn expect_quiet(page: &Page<'_>, site: &Site) {
    let own = format!("http://{}/", site.admin);
    let strangers: Vec<_> = page.requested().into_iter().filter(|url| !url.starts_with(&own)).collect();
    assert_eq!(strangers, Vec::<String>::new());
    assert_eq!(page.complaints(), Vec::<serde_json::Value>::new());
}

#[test]
fn the_topology_is_that_of_the_gateway_and_counts_what_was_sent() {
    let backend = Backend::http("web");
    let port = port::free();
    let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &http_route("web", "shop.test", "edge", "web")
        + &http_service("web", &[backend.server.address]);
    let site = Site::arranged(|arrangement| arrangement.document("site", &documents));
    for _ in 0..37 {
        client::get(site.gateway.at(port), "shop.test", "/");
    }
    let browser = Browser::start();
    let page = browser.page();
    page.open(&site.url("topology"));
    page.until(
        "the host on the map",
        "document.querySelector('.node.host')?.innerText.includes('shop.test')",
    );
    page.until("37 requests", "document.querySelector('#vitals').innerText.includes('37 in all')");
    expect_quiet(&page, &site);
}
