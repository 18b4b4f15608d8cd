//! The documents below config/ and deploy/examples as they are, with endpoints and ports of the test's own: what the comments in them
//! promise is what happens.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use harness::authority::Authority;
use harness::backend::{Backend, Version};
use harness::client::{self, get, line, request, send};
use harness::documents::{self, Slice, endpoint_slice, gateway_service};
use harness::gateway::{Arrangement, Gateway};
use harness::serve::Place;
use harness::tls::{TlsClient, exchange, server_config};
use harness::{echo, port, wait};
use hyper::StatusCode;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents name no namespace: they lie in the default one.
fn endpoints(services: &[(&str, &str, SocketAddr)]) -> String {
    services
        .iter()
        .map(|(service, port_name, endpoint)| {
            let endpoint = *endpoint;
            endpoint_slice(&Slice { namespace: "default", service, index: 0, port_name, endpoint })
        })
        .collect()
}

/// A gateway on one file, whose port 80 is another.
fn example(path: &str, backends: &[(&str, &Backend)]) -> (Gateway, SocketAddr) {
    let port = port::free();
    let services: Vec<_> =
        backends.iter().map(|(name, backend)| (*name, "http", backend.server.address)).collect();
    let gateway = Gateway::arrange()
        .document("example", &read(path))
        .document("endpoints", &endpoints(&services))
        .document("service", &gateway_service(&[(80, port)]))
        .start();
    assert_eq!(gateway.status()["diagnostics"], serde_json::json!([]), "the example is sound");
    let address = gateway.at(port);
    (gateway, address)
}

#[test]
fn access_log() {
    let backend = Backend::http("books");
    let (gateway, address) = example("examples/access-log.yaml", &[("books", &backend)]);
    assert_eq!(get(address, "books.example.com", "/").status, StatusCode::OK);
    assert_eq!(get(address, "none.example.com", "/there").status, StatusCode::NOT_FOUND);
    let line = wait::until("the line of what failed", || {
        gateway.log().lines().find(|line| line.starts_with('{')).map(str::to_owned)
    });
    let told: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(
        (&told["asked"], &told["status"], &told["flags"]),
        (&"GET none.example.com/there".into(), &404.into(), &"NR".into()),
        "{told}"
    );
    let status = gateway.sluice(&["status"]).out;
    assert!(status.contains("access log:    /dev/stdout (failures) if response.code >= 400"), "{status}");
}

#[test]
fn canary() {
    let (old, new) = (Backend::http("v1"), Backend::http("v2"));
    let (_gateway, address) = example("examples/canary.yaml", &[("shop-v1", &old), ("shop-v2", &new)]);
    let tester = || request("GET", "shop.example.com", "/", &[("x-tester", "yes")]);
    assert!((0..20).all(|_| send(address, tester()).backend() == "v2"));
    let before = new.requests();
    let answers = (0..500).map(|_| get(address, "shop.example.com", "/")).collect::<Vec<_>>();
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    // 50 expected, 6.7 standard deviation: five of them on either side.
    assert!((16..=84).contains(&(new.requests() - before)), "{} of 500", new.requests() - before);
}

#[test]
fn routing() {
    let kiali = Backend::http("kiali");
    let (_gateway, address) = example("examples/routing.yaml", &[("kiali", &kiali)]);
    let host = "dashboard.example.com";
    assert_eq!(get(address, host, "/healthz").text(), "ok\n");
    let moved = get(address, host, "/old/things");
    assert_eq!(
        (moved.status, moved.header("location")),
        (StatusCode::FOUND, "http://dashboard.example.com/kiali/")
    );
    for (path, seen) in [("/kiali/graph?x=1", "/graph?x=1"), ("/kiali", "/"), ("/kiali/", "/")] {
        let answer = get(address, host, path);
        assert_eq!(answer.json()["path"], seen, "{path}");
        assert_eq!(answer.header("x-served-by"), "dashboard");
    }
    assert_eq!(get(address, host, "/elsewhere").status, StatusCode::NOT_FOUND);
}

#[test]
fn dashboards() {
    let (kiali, jaeger) = (Backend::http("kiali"), Backend::http("jaeger"));
    let port = port::free();
    let service = |name: &str, number: u16, backend: &Backend| {
        let endpoint = backend.server.address;
        let slice = Slice { namespace: "istio-system", service: name, index: 0, port_name: "http", endpoint };
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: istio-system}}\n\
             spec: {{ports: [{{name: http, port: {number}}}]}}\n{}",
            endpoint_slice(&slice)
        )
    };
    let gateway = Gateway::arrange()
        .document("example", &read("../deploy/examples/dashboards.yaml"))
        .document("kiali", &service("kiali", 20001, &kiali))
        .document("tracing", &service("tracing", 80, &jaeger))
        .document("service", &gateway_service(&[(80, port)]))
        .start();
    assert_eq!(gateway.status()["diagnostics"], serde_json::json!([]), "the example is sound");
    let (address, dashboard) = (gateway.at(port), "dashboard.example.com");
    for path in ["/kiali", "/kiali/", "/kiali/console/overview?namespaces=shop"] {
        let answer = get(address, dashboard, path);
        assert_eq!(answer.backend(), "kiali", "{path}");
        assert_eq!(answer.json()["path"], path, "its prefix is Kiali's own");
    }
    let answer = get(address, "tracing.example.com", "/search");
    assert_eq!((answer.backend().as_str(), &answer.json()["path"]), ("jaeger", &"/search".into()));
    assert_eq!(get(address, dashboard, "/").header("location"), "http://dashboard.example.com/kiali/");
    assert_eq!(get(address, dashboard, "/kialiish").status, StatusCode::NOT_FOUND);
    assert_eq!(get(address, "other.example.com", "/kiali").status, StatusCode::NOT_FOUND);
}

#[test]
fn passthrough() {
    let authority = Authority::new("the vault's");
    let tls = server_config(&authority.issue(&["vault.example.com", "other.example.com"]));
    let vault = Backend::tls("vault", tls, Place::loopback());
    let (port, document) = (port::free(), read("examples/passthrough.yaml"));
    let own = document.replace("port: 9443", &format!("port: {}", vault.server.address.port()));
    assert_ne!(own, document, "the backend's port");
    let gateway = Gateway::arrange()
        .document("example", &own)
        .document("service", &gateway_service(&[(8443, port)]))
        .start();
    assert_eq!(gateway.status()["diagnostics"], serde_json::json!([]), "the example is sound");
    let connect = |name| TlsClient::new(authority.roots(), name).connect(gateway.at(port));
    let mut stream = connect("vault.example.com").expect("a handshake with the backend");
    let request = "GET / HTTP/1.1\r\nhost: vault.example.com\r\nconnection: close\r\n\r\n";
    assert!(exchange(&mut stream, request).expect("an answer").contains("\"backend\":\"vault\""));
    assert!(connect("other.example.com").is_err(), "another name");
}

/// The quickstart's gateway with its backends.
struct Quickstart {
    gateway: Gateway,
    authority: Authority,
    ports: [u16; 4],
    _backends: [Backend; 3],
    _echo: harness::serve::Server,
}

impl Quickstart {
    fn start() -> Self {
        let authority = Authority::new("the quickstart's");
        let tls = server_config(&authority.issue(&["simple-sni-1.istioinaction.io"]));
        let backends = [
            Backend::start("webapp", Version::Http1, Place::loopback()),
            Backend::start("catalog", Version::Http1, Place::loopback()),
            Backend::tls("simple-tls-service-1", tls, Place::loopback()),
        ];
        let echo = echo::start("quickstart", Place::loopback());
        let slices = endpoints(&[
            ("webapp", "http", backends[0].server.address),
            ("catalog", "http", backends[1].server.address),
            ("simple-tls-service-1", "https", backends[2].server.address),
            ("tcp-echo-service", "tcp", echo.address),
        ]);
        let mut secrets = String::new();
        for host in ["webapp", "catalog"] {
            let names = [format!("{host}.istioinaction.io"), "secure.istioinaction.io".to_owned()];
            let identity = authority.issue(&names.each_ref().map(String::as_str));
            let _ = write!(secrets, "{}", documents::secret(&format!("{host}-credential"), &identity, None));
        }
        let ports = [0; 4].map(|_| port::free());
        let numbers: Vec<_> = [80, 443, 31400, 31401].into_iter().zip(ports).collect();
        let arrangement = ["gateway", "routes", "services"].into_iter().fold(
            Gateway::arrange(),
            |arrangement: Arrangement, name| {
                arrangement.document(name, &read(&format!("quickstart/{name}.yaml")))
            },
        );
        let gateway = arrangement
            .document("endpoints", &slices)
            .document("secrets", &secrets)
            .document("service", &gateway_service(&numbers))
            .start();
        assert_eq!(gateway.status()["diagnostics"], serde_json::json!([]), "the quickstart is sound");
        Self { gateway, authority, ports, _backends: backends, _echo: echo }
    }

    fn https(&self, port: u16, host: &str) -> String {
        let address = self.gateway.at(port);
        let mut stream = TlsClient::new(self.authority.roots(), host).connect(address).expect("a handshake");
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        exchange(&mut stream, &request).expect("an answer")
    }
}

#[test]
fn quickstart() {
    let site = Quickstart::start();
    let [http, https, tcp, sni] = site.ports;
    let cleartext = site.gateway.at(http);
    for name in ["webapp", "catalog"] {
        let host = format!("{name}.istioinaction.io");
        assert_eq!(get(cleartext, &host, "/").backend(), name);
        assert!(site.https(https, &host).contains(&format!("\"backend\":\"{name}\"")));
    }
    let redirect = get(cleartext, "secure.istioinaction.io", "/x");
    assert_eq!(redirect.status, StatusCode::MOVED_PERMANENTLY);
    assert_eq!(redirect.header("location"), "https://secure.istioinaction.io/x");
    assert!(site.https(https, "secure.istioinaction.io").contains("\"backend\":\"webapp\""));
    let mut echo = client::connect(site.gateway.at(tcp));
    assert!(line(&mut echo, "").starts_with("Welcome, you are connected to node quickstart"));
    assert!(site.https(sni, "simple-sni-1.istioinaction.io").contains("simple-tls-service-1"));
}
