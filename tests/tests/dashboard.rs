//! The dashboard in a real browser: what it shows is what the gateway did, it asks nobody else, whatever names say stays
//! text, and everybody can use it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use harness::authority::Authority;
use harness::backend::Backend;
use harness::browser::{Browser, Key, Page, expect_quiet};
use harness::client::{self, echoed, read_to_end};
use harness::documents::{
    self, Server, http_route, http_service, secret, tcp_route, tcp_service, virtual_service,
};
use harness::gateway::{Arrangement, Gateway};
use harness::serve::Place;
use harness::{echo, port, wait};
use serde_json::Value;

const VIEWS: [&str; 7] =
    ["topology", "flows", "planes", "certificates", "diagnostics", "documents", "explain"];

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

    fn with(documents: &str) -> Self {
        Self::arranged(|arrangement| arrangement.document("site", documents))
    }

    fn url(&self, view: &str) -> String {
        format!("http://{}/#{view}", self.admin)
    }

    #[track_caller]
    fn expect_quiet(&self, page: &Page<'_>) {
        expect_quiet(page, &format!("http://{}/", self.admin));
    }

    /// Says something on the admin address and hears the answer.
    fn say(&self, request: &str) -> String {
        let mut stream = client::connect(self.admin);
        stream.write_all(request.as_bytes()).expect("sending");
        String::from_utf8_lossy(&read_to_end(&mut stream).0).into_owned()
    }

    /// An answer of the dashboard, as JSON.
    fn ask(&self, path: &str) -> Value {
        let answer =
            self.say(&format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.admin));
        let (_, body) = answer.split_once("\r\n\r\n").expect("an answer");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }
}

/// Shows a view by its tab.
fn show(page: &Page<'_>, view: &str) {
    page.evaluate(&format!("document.getElementById('tab-{view}').click()"));
    page.until("the view", &format!("!document.getElementById('panel-{view}').hidden"));
}

/// What a view says.
fn panel(view: &str) -> String {
    format!("document.getElementById('panel-{view}').innerText")
}

#[test]
fn the_topology_is_that_of_the_gateway_and_counts_what_was_sent() {
    let backend = Backend::http("web");
    let port = port::free();
    let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &http_route("web", "shop.test", "edge", "web")
        + &http_route("lost", "lost.test", "edge", "empty")
        + &http_service("web", &[backend.server.address])
        + &http_service("empty", &[]);
    let site = Site::with(&documents);
    for _ in 0..37 {
        client::get(site.gateway.at(port), "shop.test", "/");
    }
    for _ in 0..4 {
        client::get(site.gateway.at(port), "shop.test", "/status/500");
    }
    for _ in 0..3 {
        client::get(site.gateway.at(port), "lost.test", "/");
    }
    let browser = Browser::start();
    let page = browser.page();
    page.open(&site.url("topology"));
    page.until(
        "the host",
        "[...document.querySelectorAll('.node.host')].some((it) => it.innerText == 'shop.test')",
    );
    page.until(
        "all requests",
        "document.querySelector('[data-sign=requests]').innerText.includes('44 in all')",
    );
    page.until("all errors", "document.querySelector('[data-sign=errors]').innerText.includes('7 in all')");
    let listener = page.evaluate("document.querySelector('.node.listener').innerText");
    let listener = listener.as_str().expect("text");
    assert!(
        listener.contains(&format!("0.0.0.0:{port}")) && listener.contains("user space needs HTTP"),
        "{listener}"
    );

    // A cluster's own numbers, and its endpoint.
    page.evaluate("[...document.querySelectorAll('.node.cluster')].find((it) => it.innerText.startsWith('web.')).focus()");
    page.press(Key::ENTER);
    let details = |what: &str, wanted: &str| {
        page.until(what, &format!("document.querySelector('.details').innerText.includes({wanted:?})"));
    };
    details("requests", "Requests\n41");
    details("errors", "Errors (5xx)\n4");
    details("the endpoint", &backend.server.address.to_string());
    page.press(Key::ESCAPE);
    page.until("the details to go", "document.querySelector('.details').hidden");
    assert_eq!(
        page.evaluate("document.activeElement.classList.contains('cluster')"),
        true,
        "the focus is given back"
    );

    // What is wrong, alone.
    page.evaluate("document.getElementById('only-trouble').click()");
    for words in ["of 1 route", "lost.test", "no endpoint"] {
        page.until(words, &format!("{}.includes({words:?})", panel("topology")));
    }

    // Another generation is shown without a word.
    page.evaluate("document.getElementById('only-trouble').click()");
    site.gateway.apply("more", &http_route("more", "more.test", "edge", "web"));
    page.until("the new host", &format!("{}.includes('more.test')", panel("topology")));
    site.expect_quiet(&page);
}

#[test]
fn findings_certificates_and_explanations_are_those_of_the_command_line() {
    let port = port::free();
    let authority = Authority::new("the test's");
    let broken = virtual_service(
        "broken",
        &["broken.test"],
        "edge",
        "  http:\n  - timeout: soon\n    route: [{destination: {host: web}}]",
    );
    let documents = documents::gateway(
        "edge",
        &[
            Server::https(port, "SIMPLE", "shop-credential", &["shop.test"]),
            Server::https(port, "SIMPLE", "absent-credential", &["absent.test"]),
        ],
    ) + &http_route("web", "shop.test", "edge", "web")
        + &broken
        + &http_service("web", &[([127, 0, 0, 1], 9).into()])
        + &secret("shop-credential", &authority.issue(&["shop.test", "www.shop.test"]), None);
    let site = Site::with(&documents);
    let browser = Browser::start();
    let page = browser.page();
    page.open(&site.url("diagnostics"));
    page.until("findings", "document.querySelectorAll('.finding').length >= 2");
    let shown = page.evaluate("[...document.querySelectorAll('.finding pre')].map((it) => it.textContent)");
    let log = site.gateway.log();
    for text in shown.as_array().expect("texts") {
        let text = text.as_str().expect("text").trim_end();
        assert!(log.contains(text), "{text}\nis not in\n{log}");
    }
    let marks = page.evaluate("document.querySelector('.finding .underline').textContent");
    assert_eq!(marks, "^^^^\n", "`soon` is underlined");

    show(&page, "certificates");
    page.until("certificates", &format!("{}.includes('www.shop.test')", panel("certificates")));
    let text = page.evaluate(&panel("certificates"));
    let text = text.as_str().expect("text");
    for wanted in ["shop.test", "valid", "ECDSA, 256 bits", "absent-credential not found", "cannot be used"] {
        assert!(text.contains(wanted), "{wanted} in\n{text}");
    }
    let pem = authority.issue(&["x.test"]);
    assert!(!format!("{}", site.ask("/dashboard/certificates")).contains("PRIVATE"), "{pem:?}");

    show(&page, "documents");
    page.until("documents", &format!("{}.includes('shop-credential')", panel("documents")));
    page.until("their age", &format!("{}.includes('Last applied')", panel("documents")));

    show(&page, "explain");
    page.evaluate("document.getElementById('explain-url').focus()");
    page.type_text(&format!("https://shop.test:{port}/cart?a=b"));
    page.press(Key::ENTER);
    page.until("an explanation", "document.querySelectorAll('.steps > li').length > 2");
    let said = site
        .gateway
        .sluice(&["explain", "--url", &format!("https://shop.test:{port}/cart?a=b")])
        .expect_success();
    let text = page.evaluate("document.querySelector('.explanation').innerText");
    let text = text.as_str().expect("text").replace('\n', " ");
    for line in said.out.lines().skip(1).map(str::trim).filter(|line| !line.is_empty()) {
        let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&words), "{words} in\n{text}");
    }
    page.evaluate("document.getElementById('explain-url').select()");
    page.type_text("shop.test");
    page.press(Key::ENTER);
    page.until(
        "what to do",
        "document.querySelector('.explanation .fault')?.innerText.includes('begin it with http')",
    );
    // The refusal is an answer of the agent's, which browsers log.
    let complaints = page.complaints();
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].to_string().contains("400 (Bad Request)"), "{complaints:?}");
}

#[test]
fn connections_of_user_space_are_listed_with_bytes_rates_and_reasons() {
    let backend = echo::start_silent(Place::loopback());
    let port = port::free();
    let documents = documents::gateway("edge", &[Server::tcp(port)])
        + &tcp_route("plain", port, "edge", "echo")
        + &tcp_service("echo", &[backend.address]);
    let site = Site::with(&documents);
    let mut streams: Vec<_> = (0..3).map(|_| client::connect(site.gateway.at(port))).collect();
    for stream in &mut streams {
        echoed(stream, 1 << 20);
    }
    let browser = Browser::start();
    let page = browser.page();
    page.open(&site.url("flows"));
    page.until("three connections", "document.querySelectorAll('#panel-flows tbody tr').length == 3");
    let own = streams[1].local_addr().expect("an address");
    // The second one alone moves: it is the fastest, so the first.
    let first = page.until("the busy one first", &{
        echoed(&mut streams[1], 4 << 20);
        format!(
            "(() => {{ const row = document.querySelector('#panel-flows tbody tr'); \
             return row.innerText.includes('{own}') && row.innerText.includes('5.0 MiB') && row.innerText }})()"
        )
    });
    let first = first.as_str().expect("text");
    for wanted in ["user space", "splice", "no kernel plane", &backend.address.to_string()] {
        assert!(first.contains(wanted), "{wanted} in {first}");
    }
    // The agent pages and filters, not the page.
    let all = site.ask("/dashboard/flows?limit=2&offset=1");
    assert_eq!((&all["total"], all["rows"].as_array().map(Vec::len)), (&3.into(), Some(2)), "{all}");
    page.evaluate("document.querySelector('#panel-flows input').focus()");
    page.type_text(&own.port().to_string());
    page.until("one connection", "document.querySelectorAll('#panel-flows tbody tr').length == 1");
    page.until(
        "that somebody hears it",
        "document.getElementById('announce').textContent.includes('1–1 of 1 flow')",
    );
    drop(streams);
    page.until("none", &format!("{}.includes('No flow fits')", panel("flows")));
    site.expect_quiet(&page);
}

#[test]
fn whatever_names_say_is_text() {
    let port = port::free();
    let image = "<img src=x onerror=\"window.hit=1\">";
    let turned = "safe\u{202e}lmth.evil";
    let long = "x".repeat(10_000);
    let mut rules = String::from("  http:\n");
    for (name, path) in [(image, "/<script>window.hit=2</script>"), (turned, "/turned"), (&long, "/long")] {
        let (name, path) = (Value::from(name), Value::from(path));
        let _ = writeln!(
            rules,
            "  - name: {name}\n    match: [{{uri: {{exact: {path}}}}}]\n    route: [{{destination: {{host: web}}}}]"
        );
    }
    let documents = documents::gateway(
        "edge",
        &[Server::http(port, &["*"]), Server::https(port::free(), "SIMPLE", "'<b>bold</b>'", &["a.test"])],
    ) + &virtual_service("hostile", &["shop.test"], "edge", &rules)
        + &http_service("web", &[([127, 0, 0, 1], 9).into()]);
    let site = Site::with(&documents);
    let browser = Browser::start();
    let page = browser.page();
    for width in [1280, 400] {
        page.resize(width, 800);
        page.open("about:blank");
        page.open(&site.url("topology"));
        page.until("the routes", &format!("{}.includes('<script>window.hit=2')", panel("topology")));
        for view in VIEWS {
            show(&page, view);
        }
        page.until("the credential", &format!("{}.includes('<b>bold</b>')", panel("certificates")));
        let made =
            page.evaluate("document.querySelectorAll('main img, main script, main b, main iframe').length");
        assert_eq!((made, page.evaluate("window.hit ?? null")), (0.into(), Value::Null));
        // Neither a long name nor a turned one breaks the page.
        for view in VIEWS {
            show(&page, view);
            let wide = page.evaluate("document.documentElement.scrollWidth");
            assert!(wide.as_u64() <= Some(width.into()), "{view} is {wide} wide at {width}");
        }
        assert_eq!(page.evaluate("document.body.innerText.includes('\\u202e')"), false);
    }
    // On the map names stand below their conditions.
    page.resize(1280, 800);
    show(&page, "topology");
    for wanted in [image, "safe\u{2423}202Elmth.evil", "xxxxxxxx"] {
        let wanted = Value::from(wanted);
        page.until("the name", &format!("document.querySelector('.map')?.textContent.includes({wanted})"));
    }
    site.expect_quiet(&page);
}

#[test]
fn ten_thousand_routes_are_found_by_a_filter_and_never_all_drawn() {
    let port = port::free();
    let mut documents = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &http_service("web", &[([127, 0, 0, 1], 9).into()]);
    for host in 0..200 {
        let mut rules = String::from("  http:\n");
        for route in 0..50 {
            let _ = writeln!(
                rules,
                "  - match: [{{uri: {{prefix: /p{route}/}}}}]\n    route: [{{destination: {{host: web}}}}]"
            );
        }
        documents += &virtual_service(&format!("v{host}"), &[&format!("h{host}.shop.test")], "edge", &rules);
    }
    let site = Site::with(&documents);
    let browser = Browser::start();
    let page = browser.page();
    page.open(&site.url("topology"));
    page.until("the first page", &format!("{}.includes('1–20 of 10,000 routes')", panel("topology")));
    let nodes = || page.evaluate("document.querySelectorAll('*').length").as_u64().expect("a number");
    assert!(nodes() < 1500, "{} elements", nodes());
    page.evaluate("document.querySelector('#panel-topology .filter').focus()");
    let begun = Instant::now();
    page.type_text("h173.shop");
    page.until("the host's routes", &format!("{}.includes('1–20 of 50 routes')", panel("topology")));
    let filtered = begun.elapsed();
    println!("10,000 routes: filtered in {filtered:?}, {} elements", nodes());
    assert!(filtered < Duration::from_secs(10), "{filtered:?}");
    page.evaluate("[...document.querySelectorAll('.segments button')].at(-1).click()");
    page.until("the table", "document.querySelectorAll('#panel-topology tbody tr').length == 50");
    assert!(nodes() < 3000, "{} elements", nodes());
    // What stays the same is not sent again.
    let all = "GET /dashboard/topology HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let first = site.say(&format!("{all}\r\n"));
    let tag = first.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag");
    let second = site.say(&format!("{all}if-none-match: {tag}\r\n\r\n"));
    assert!(second.starts_with("HTTP/1.1 304") && second.ends_with("\r\n\r\n"), "{second}");
    assert!(first.len() < 60_000, "{} bytes", first.len());
    site.expect_quiet(&page);
}

/// The WAI-ARIA pattern of tabs, by a keyboard alone.
#[test]
fn a_keyboard_reaches_everything() {
    let site = Site::with(&documents::gateway("edge", &[Server::http(port::free(), &["*"])]));
    let browser = Browser::start();
    let page = browser.page();
    page.open(&site.url("topology"));
    page.until("the topology", &format!("{}.includes('route')", panel("topology")));
    let focused = || page.evaluate("document.activeElement.id || document.activeElement.className");
    page.evaluate("document.activeElement.blur()");
    page.press(Key::TAB);
    assert_eq!(focused(), "skip");
    let visible = "(() => { const it = getComputedStyle(document.activeElement); \
                   return parseFloat(it.outlineWidth) >= 2 && it.outlineStyle != 'none' })()";
    for _ in 0..20 {
        if focused() == "tab-topology" {
            break;
        }
        assert_eq!(page.evaluate(visible), true, "{}", focused());
        page.press(Key::TAB);
    }
    assert_eq!(focused(), "tab-topology");
    for view in VIEWS.iter().skip(1) {
        page.press(Key::RIGHT);
        assert_eq!(focused(), *format!("tab-{view}"));
        assert_eq!(page.evaluate(visible), true, "{view}");
        let shown = page.evaluate("[...document.querySelectorAll('[role=tabpanel]')].filter((it) => !it.hidden).map((it) => it.id).join()");
        assert_eq!(shown, *format!("panel-{view}"));
        assert_eq!(page.evaluate("location.hash"), *format!("#{view}"));
    }
    page.press(Key::RIGHT);
    assert_eq!(focused(), "tab-topology", "around");
    page.press(Key::END);
    assert_eq!(focused(), "tab-explain");
    page.press(Key::TAB);
    assert_eq!(focused(), "panel-explain");
    page.press(Key::TAB);
    assert_eq!(focused(), "explain-method");
    page.press(Key::TAB);
    page.type_text("http://a.test/");
    page.press(Key::ENTER);
    page.until("an answer", &format!("{}.includes('refused')", panel("explain")));
    site.expect_quiet(&page);
}

/// Text and what it stands on, of all that is seen; WCAG 2.2, 1.4.3: 4.5 to 1, 3 to 1 where it is large. What is disabled is exempt.
const TOO_FAINT: &str = r"(() => {
  const paint = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const read = (colour) => { paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1); return [...paint.getImageData(0, 0, 1, 1).data]; };
  const over = (top, below) => top.slice(0, 3).map((part, at) => part * top[3] / 255 + below[at] * (1 - top[3] / 255));
  const ground = (element) => {
    const layers = [];
    for (let it = element; it; it = it.parentElement) { const own = read(getComputedStyle(it).backgroundColor); layers.push(own); if (own[3] === 255) break; }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const light = (colour) => { const [r, g, b] = colour.map((part) => { const it = part / 255; return it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const faint = [];
  let looked = 0;
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((it) => it.nodeType === 3 && it.textContent.trim());
    if (!own || element.closest(':disabled, noscript, svg, .skip') || !element.checkVisibility() || element.closest('.hidden')) continue;
    looked += 1;
    const style = getComputedStyle(element);
    const below = ground(element);
    const [a, b] = [light(over(read(style.color), below)), light(below)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) faint.push(`${ratio.toFixed(2)} ${element.className} ${element.textContent.slice(0, 40)}`);
  }
  return { looked, faint };
})()";

#[test]
fn everything_has_a_name_and_can_be_read_in_both_themes() {
    let backend = Backend::http("web");
    let (port, tcp) = (port::free(), port::free());
    let authority = Authority::new("the test's");
    let echo = echo::start_silent(Place::loopback());
    let documents = documents::gateway(
        "edge",
        &[
            Server::http(port, &["*"]),
            Server::tcp(tcp),
            Server::https(port::free(), "SIMPLE", "shop-credential", &["shop.test"]),
            Server::https(port::free(), "SIMPLE", "absent-credential", &["absent.test"]),
        ],
    ) + &http_route("web", "shop.test", "edge", "web")
        + &http_route("lost", "lost.test", "edge", "nowhere")
        + &tcp_route("tcp", tcp, "edge", "echo")
        + &http_service("web", &[backend.server.address])
        + &tcp_service("echo", &[echo.address])
        + &secret("shop-credential", &authority.issue(&["shop.test"]), None);
    let site = Site::with(&documents);
    client::get(site.gateway.at(port), "shop.test", "/status/500");
    client::get(site.gateway.at(port), "bad host", "/");
    let mut stream = client::connect(site.gateway.at(tcp));
    echoed(&mut stream, 100);
    let browser = Browser::start();
    let page = browser.page();
    for theme in ["light", "dark"] {
        page.prefer(theme);
        page.open("about:blank");
        page.open(&site.url("topology"));
        page.until("vital signs", "document.querySelector('#facts').innerText.includes('Generation')");
        for view in VIEWS {
            show(&page, view);
            wait_for_content(&page, view);
            assert_eq!(page.nameless(), Vec::<String>::new(), "{view}");
            let contrast = page.evaluate(TOO_FAINT);
            assert_eq!(contrast["faint"], Value::Array(vec![]), "{view}, {theme}");
            assert!(contrast["looked"].as_u64() > Some(20), "{view}: {contrast}");
            let headed = page.evaluate(
                "[...document.querySelectorAll('table')].every((it) => it.caption?.textContent && \
                 [...it.querySelectorAll('th')].every((head) => head.scope))",
            );
            assert_eq!(headed, true, "{view}");
        }
        // The switch has the last word.
        let ground = "getComputedStyle(document.body).backgroundColor";
        let before = page.evaluate(ground);
        let other = if theme == "light" { "dark" } else { "light" };
        page.evaluate(&format!(
            "(() => {{ const it = document.getElementById('theme'); it.value = '{other}'; it.dispatchEvent(new Event('change')) }})()"
        ));
        assert_ne!(page.evaluate(ground), before);
        assert_eq!(page.evaluate(TOO_FAINT)["faint"], Value::Array(vec![]), "{other} by the switch");
        page.evaluate("(() => { const it = document.getElementById('theme'); it.value = 'system'; it.dispatchEvent(new Event('change')) })()");
        assert_eq!(page.evaluate(ground), before);
    }
    site.expect_quiet(&page);
}

fn wait_for_content(page: &Page<'_>, view: &str) {
    let what = match view {
        "topology" => "document.querySelectorAll('.node').length > 5",
        "planes" => "document.querySelector('#panel-planes .pairs')",
        "diagnostics" => "document.querySelector('.finding')",
        "explain" => "document.querySelector('.ask')",
        _ => "document.querySelector('[role=tabpanel]:not([hidden]) tbody tr')",
    };
    page.until(view, &format!("Boolean({what})"));
}

#[test]
fn the_admin_address_answers_to_itself_alone() {
    let site = Site::with(&documents::gateway("edge", &[Server::http(port::free(), &["*"])]));
    let get = |path: &str, lines: &str| {
        site.say(&format!("GET {path} HTTP/1.1\r\n{lines}connection: close\r\n\r\n"))
    };
    for (host, want) in [
        ("localhost:15000", "200"),
        ("127.0.0.1", "200"),
        ("[::1]", "200"),
        ("evil.example", "421"),
        ("localhost.evil.example:15000", "421"),
        ("10.9.8.7", "421"),
    ] {
        for path in ["/status", "/dashboard/now", "/", "/metrics"] {
            let answer = get(path, &format!("host: {host}\r\n"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {want}")), "{host} {path}: {answer}");
        }
    }
    assert!(get("/status", "host: evil.example\r\n").contains("use the address in place of the name"));

    // What `/` says depends on who asks.
    assert!(get("/", "host: localhost\r\n").contains("/healthz/ready"));
    assert!(get("/", "host: localhost\r\naccept: */*\r\n").contains("text/plain"));
    let page = get("/", "host: localhost\r\naccept: text/html,*/*;q=0.8\r\n");
    let (head, body) = page.split_once("\r\n\r\n").expect("an answer");
    for wanted in [
        "content-security-policy: default-src 'none';",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
    ] {
        assert!(head.contains(wanted), "{wanted} in {head}");
    }
    let script = body.split('"').find(|part| part.ends_with("main.js")).expect("the script");
    let answer = get(script, "host: localhost\r\n");
    assert!(answer.contains("immutable") && answer.contains("text/javascript"), "{answer}");
    let other = script.replacen(&script[11..13], "zz", 1);
    assert!(get(&other, "host: localhost\r\n").starts_with("HTTP/1.1 404"), "{other}");
    assert!(get("/dashboard/topology?offset=x", "host: localhost\r\n").starts_with("HTTP/1.1 400"));
    assert!(
        get("/dashboard/traffic?generation=999&clusters=0", "host: localhost\r\n")
            .contains("\"clusters\":{}")
    );
    let posted = site.say("POST /dashboard/now HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert!(posted.starts_with("HTTP/1.1 405"), "{posted}");
    // On the unix socket too, whose host is nobody's.
    let socket = site.gateway.ask("/dashboard/now").expect("an answer");
    assert!(socket.starts_with("HTTP/1.1 200") && socket.contains("\"generation\":1"), "{socket}");
}

#[test]
fn a_page_says_when_the_agent_is_gone_and_goes_on_when_it_is_back() {
    let mut site = Site::with(&documents::gateway("edge", &[Server::http(port::free(), &["*"])]));
    let browser = Browser::start();
    let page = browser.page();
    page.open(&site.url("planes"));
    page.until("the agent", "document.getElementById('state').innerText == 'Ready'");
    let paint = page.evaluate(
        "performance.getEntriesByType('paint').find((it) => it.name == 'first-contentful-paint').startTime",
    );
    println!("first paint after {paint} ms");
    assert!(paint.as_f64() < Some(10_000.0), "{paint}");
    site.gateway.kill();
    page.until("that it is gone", "document.getElementById('state').innerText == 'Agent does not answer'");
    site.gateway.restart();
    page.until("that it is back", "document.getElementById('state').innerText == 'Ready'");
    page.evaluate("document.getElementById('pause').click()");
    assert_eq!(page.evaluate("document.getElementById('state').innerText"), "Paused");
    let asked = page.requested().len();
    site.gateway.apply("more", &documents::gateway("more", &[Server::http(port::free(), &["*"])]));
    // One that was under way may still come.
    assert!(page.requested().len() <= asked + 2);
    page.evaluate("document.getElementById('pause').click()");
    wait::until("questions again", || (page.requested().len() > asked + 2).then_some(()));
}
