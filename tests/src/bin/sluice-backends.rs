//! The backends of the quickstart: the tutorials' services on free ports, and the documents that tell the gateway
//! where they are. Ends on SIGTERM, Ctrl-C, or when its standard input is closed.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::Parser;
use harness::authority::Authority;
use harness::documents::{self, Slice};
use harness::echo;
use harness::serve::{Place, Server};
use harness::tls::server_config;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;

/// Serve the quickstart's backends and write documents for them.
#[derive(Debug, Parser)]
struct Arguments {
    /// Directory for the documents (documents.yaml) and the authority's certificate (ca-chain.cert.pem).
    #[arg(long)]
    out: PathBuf,
    /// Address to listen on; the ports are free ones.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Namespace of the documents; secrets lie in istio-system.
    #[arg(long, default_value = "default")]
    namespace: String,
}

const PRODUCTS: &str = r#"[
  {"id": 1, "color": "amber", "department": "Eyewear", "name": "Elinor Glasses", "price": "282.00"},
  {"id": 2, "color": "cyan", "department": "Clothing", "name": "Atlas Shirt", "price": "127.00"},
  {"id": 3, "color": "teal", "department": "Clothing", "name": "Small Metal Shoes", "price": "232.00"},
  {"id": 4, "color": "red", "department": "Watches", "name": "Red Dragon Watch", "price": "232.00"}
]
"#;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let place = || Place::at(SocketAddr::new(arguments.address, 0));
    let authority = Authority::new("Sluice's quickstart");
    let tls = server_config(&authority.issue(&["simple-sni-1.istioinaction.io"]));
    let backends = [
        ("webapp", "http", start(place(), None, webapp)),
        ("catalog", "http", start(place(), None, catalog)),
        ("tcp-echo-service", "tcp", echo::start("demo", place())),
        ("simple-tls-service-1", "https", start(place(), Some(tls.into()), simple_tls_service)),
    ];
    write(&arguments, &authority, &backends)?;
    println!("backends are ready: {}", arguments.out.display());
    wait_for_end()
}

/// The certificate last: whoever sees it finds the documents too.
fn write(arguments: &Arguments, authority: &Authority, backends: &[(&str, &str, Server)]) -> Result<()> {
    std::fs::create_dir_all(&arguments.out).with_context(|| arguments.out.display().to_string())?;
    let mut text =
        String::from("# Written by sluice-backends: where the services are, and the certificates.\n");
    for (name, port_name, server) in backends {
        text.push_str(&documents::endpoint_slice(&Slice {
            namespace: &arguments.namespace,
            service: name,
            index: 0,
            port_name,
            endpoint: server.address,
        }));
    }
    let webapp = authority.issue(&["webapp.istioinaction.io", "secure.istioinaction.io"]);
    let catalog = authority.issue(&["catalog.istioinaction.io"]);
    text.push_str(&documents::secret("webapp-credential", &webapp, None));
    text.push_str(&documents::secret("catalog-credential", &catalog, None));
    write_whole(&arguments.out.join("documents.yaml"), &text)?;
    authority.write(&arguments.out);
    Ok(())
}

/// A watcher never sees half a file. Keys are for their owner alone.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let begun = path.with_extension("begun");
    let mut file =
        std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&begun)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&begun, path).with_context(|| path.display().to_string())
}

fn wait_for_end() -> Result<()> {
    let (closed, input) = tokio::sync::oneshot::channel();
    // A thread of its own: nothing can end a read that nobody answers, and the process does not wait for it.
    std::thread::spawn(move || {
        let read = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        closed.send(read.is_ok())
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = input => {}
        }
        Ok(())
    })
}

type Handler = fn(&Request<Incoming>) -> Response<Full<Bytes>>;

fn start(place: Place, tls: Option<TlsAcceptor>, handler: Handler) -> Server {
    Server::start(place, move |stream| {
        let tls = tls.clone();
        async move {
            match tls {
                None => serve(stream, handler).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, handler).await;
                    }
                }
            }
        }
    })
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, handler: Handler) {
    let service = service_fn(move |request| async move { Ok::<_, Infallible>(handler(&request)) });
    // Clients come and go.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn webapp(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/" => answer(StatusCode::OK, "text/plain", "webapp: ask for /api/catalog\n"),
        "/api/catalog" => answer(StatusCode::OK, "application/json", PRODUCTS),
        _ => answer(StatusCode::NOT_FOUND, "text/plain", "webapp: no such page\n"),
    }
}

fn catalog(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/items" => answer(StatusCode::OK, "application/json", PRODUCTS),
        _ => answer(StatusCode::NOT_FOUND, "text/plain", "catalog: ask for /items\n"),
    }
}

fn simple_tls_service(_: &Request<Incoming>) -> Response<Full<Bytes>> {
    answer(StatusCode::OK, "text/plain", "Hello from simple-tls-service-1!!!\n")
}

fn answer(status: StatusCode, content_type: &'static str, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
