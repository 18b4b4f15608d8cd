//! Connections against scripted backends, byte for byte.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::Instant;

use super::*;
use crate::datapath::Targets;
use crate::model::{
    Ascent, Cluster, ClusterName, Counts, Endpoint, Forward, Health, HostPattern, Limits, ListenerKey,
    OutlierDetection, Published, Route, RouteAction, RouteMatch, RouteRule, Tier, UpstreamProtocol,
    VirtualHost, WeightedCluster,
};
use crate::net::drain::{DrainTrigger, drain};
use crate::proxy::connection::HTTP_IDLE;
use crate::proxy::drains::Drains;
use crate::proxy::metering::Metering;
use crate::proxy::{Bounds, Overload, Runtime, Spoken};
use crate::upstream::{Balancer, LocalExecutor, Pool};

#[path = "serve_body_tests.rs"]
mod bodies;

const GET: &str = "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A worker's worth of state and one backend.
struct Rig {
    shared: Rc<Shared>,
    table: Arc<RouteTable>,
    drain: DrainTrigger,
    backend: TcpListener,
}

impl Rig {
    async fn new() -> Self {
        Self::speaking(UpstreamProtocol::Http1).await
    }

    async fn speaking(protocol: UpstreamProtocol) -> Self {
        Self::with(|cluster| cluster.protocol = protocol).await
    }

    async fn with(say: impl FnOnce(&mut Cluster)) -> Self {
        Self::routed(say, |_| {}).await
    }

    async fn routed(say: impl FnOnce(&mut Cluster), say_of_route: impl FnOnce(&mut Forward)) -> Self {
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = ClusterName { host: "a".into(), port: 80, subset: None };
        let endpoint = Endpoint::new(backend.local_addr().unwrap(), Health::Healthy);
        let mut cluster = Cluster::new(name, UpstreamProtocol::Http1, vec![endpoint]);
        cluster.connect_timeout = Duration::from_secs(5);
        say(&mut cluster);
        let table = Arc::new(table(cluster, say_of_route));
        let runtime = Published::new(Runtime::default()).subscribe();
        let (counts, balancer) = (Counts::default(), Balancer::default());
        let pool = Pool::new(counts.clone());
        Self {
            shared: Rc::new(Shared {
                targets: Published::<Targets>::default().subscribe(),
                runtime,
                pool,
                balancer,
                server_header: None,
                counts,
                bounds: Bounds {
                    body: None,
                    streams: 100,
                    stream_idle: None,
                    body_rate: None,
                    age: None,
                    source: Limits::default(),
                },
                overload: Overload::new(1024, None),
                exchanges: Rc::default(),
                spoken: Spoken::default(),
                highest_tier: Tier::Handoff,
                ascent: Ascent::default(),
                handoff: RefCell::new(None),
                access_log: None,
                metering: Metering::default(),
                copies: Cell::new(0),
                drains: Drains::new(Duration::from_secs(10)),
                is_successor: false,
            }),
            table,
            drain: drain(),
            backend,
        }
    }

    fn client(&self) -> (DuplexStream, JoinHandle<()>) {
        self.client_of(HttpVersion::One)
    }

    fn client_of(&self, version: HttpVersion) -> (DuplexStream, JoinHandle<()>) {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let server = Rewound::new(Bytes::new(), server);
        (client, tokio::task::spawn_local(serve(Rc::new(self.connection()), server, version)))
    }

    fn connection(&self) -> Connection {
        let ends = Ends {
            listener: ListenerKey { bind: None, port: 80 },
            peer: SocketAddr::from(([10, 0, 0, 1], 1)),
            local: SocketAddr::from(([10, 0, 0, 2], 80)),
            since: std::time::Instant::now(),
            told: None,
        };
        let in_force = InForce::of(&self.shared.runtime.current().snapshot, self.table.clone());
        Connection::new(self.shared.clone(), ends, None, in_force, self.drain.watch())
    }

    async fn accept(&self) -> TcpStream {
        soon(self.backend.accept()).await.unwrap().0
    }
}

fn table(cluster: Cluster, say: impl FnOnce(&mut Forward)) -> RouteTable {
    let name = cluster.name.clone();
    let mut forward =
        Forward::to(vec![WeightedCluster { name, cluster: Some(Arc::new(cluster)), weight: 1 }]);
    say(&mut forward);
    let route = Route {
        name: "".into(),
        matcher: RouteMatch::default(),
        rule: Arc::new(RouteRule::new(RouteAction::Forward(forward), "v.default".into())),
        operation: http::HeaderValue::from_static(""),
        origin: None,
    };
    let host = VirtualHost {
        domain: HostPattern::Any,
        routes: [Arc::new(route)].into_iter().collect(),
        https_redirect: false,
    };
    RouteTable::new("http.80".into(), vec![host])
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("nothing within 10 s")
}

/// What comes until it ends in `end`.
async fn read_to(stream: &mut (impl AsyncReadExt + Unpin), end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let byte = soon(stream.read_u8()).await;
        read.push(byte.unwrap_or_else(|_| panic!("ended after {:?}", String::from_utf8_lossy(&read))));
    }
    String::from_utf8(read).unwrap()
}

async fn run(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn what_cannot_be_passed_on_is_refused() {
    run(async {
        for (request, status) in [
            ("GET / HTTP/1.0\r\nhost: a.example\r\nconnection: keep-alive\r\n\r\n", "426 Upgrade Required"),
            ("FOOBAR / HTTP/1.1\r\nhost: a\r\n\r\n", "400 Bad Request"),
            ("get / HTTP/1.1\r\nhost: a\r\n\r\n", "400 Bad Request"),
            ("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", "404 Not Found"),
            ("CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n", "404 Not Found"),
            ("GET https://a/ HTTP/1.1\r\nhost: a\r\n\r\n", "403 Forbidden"),
            ("GET / HTTP/1.1\r\nhost: me@a.example\r\n\r\n", "400 Bad Request"),
            ("GET http://me@a.example/ HTTP/1.1\r\nhost: a.example\r\n\r\n", "400 Bad Request"),
            ("GET / HTTP/1.1\r\nhost: a.example/b\r\n\r\n", "400 Bad Request"),
            ("GET / HTTP/1.1\r\nhost:\r\n\r\n", "400 Bad Request"),
            (
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
                "501 Not Implemented",
            ),
        ] {
            let rig = Rig::new().await;
            let (mut client, _serving) = rig.client();
            client.write_all(request.as_bytes()).await.unwrap();
            let head = read_to(&mut client, "\r\n\r\n").await;
            assert_eq!(head.lines().next().unwrap().split_once(' ').unwrap().1, status, "{request}");
        }
    })
    .await;
}

#[tokio::test]
async fn http_1_0_is_told_to_upgrade_and_the_connection_closed() {
    run(async {
        let rig = Rig::new().await;
        let (mut client, serving) = rig.client();
        let request = b"GET / HTTP/1.0\r\nhost: a.example\r\nconnection: keep-alive\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut answer = String::new();
        soon(client.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.contains("connection: upgrade, close"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nUpgrade Required"), "{answer}");
        soon(serving).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_chunked_body_of_a_get_reaches_the_backend() {
    run(async {
        let rig = Rig::new().await;
        let (mut client, _serving) = rig.client();
        let head =
            "GET /_search HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n";
        client.write_all(format!("{head}5\r\nhello\r\n0\r\n\r\n").as_bytes()).await.unwrap();
        let mut backend = rig.accept().await;
        let request = read_to(&mut backend, "0\r\n\r\n").await;
        assert!(request.contains("transfer-encoding: chunked\r\n"), "{request}");
        assert!(request.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{request}");
        assert!(!request.contains("expect"), "{request}");
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_answers_badly_in_a_row_is_ejected() {
    run(async {
        let rules = OutlierDetection { consecutive_5xx: 2, ..OutlierDetection::default() };
        let rig = Rig::with(|cluster| cluster.outlier = Some(rules)).await;
        let (mut client, _serving) = rig.client();
        for answer in ["500 Broken", "200 OK", "502 Broken", "503 Broken"] {
            client.write_all(GET.as_bytes()).await.unwrap();
            let mut backend = rig.accept().await;
            read_to(&mut backend, "\r\n\r\n").await;
            let answer = format!("HTTP/1.1 {answer}\r\nconnection: close\r\ncontent-length: 3\r\n\r\nown");
            backend.write_all(answer.as_bytes()).await.unwrap();
            read_to(&mut client, "own").await;
        }
        client.write_all(GET.as_bytes()).await.unwrap();
        read_to(&mut client, "no healthy upstream").await;
    })
    .await;
}

#[tokio::test]
async fn trailers_end_a_request_whose_client_closes_its_side_behind_them() {
    run(async {
        let rig = Rig::new().await;
        let (mut client, _serving) = rig.client();
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntrailer: x-t\r\ntransfer-encoding: chunked\r\n\r\n";
        client.write_all(format!("{head}5\r\nhello\r\n").as_bytes()).await.unwrap();
        let mut backend = rig.accept().await;
        read_to(&mut backend, "hello\r\n").await;
        client.write_all(b"0\r\nx-t: 1\r\nx-forwarded-for: 6.6.6.6\r\n\r\n").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_to(&mut backend, "\r\n\r\n").await, "0\r\nx-t: 1\r\n\r\n");
        backend.write_all(OK.as_bytes()).await.unwrap();
        read_to(&mut client, "ok").await;
    })
    .await;
}

#[tokio::test]
async fn a_nominated_content_length_is_said_again() {
    run(async {
        let rig = Rig::new().await;
        let (mut client, _serving) = rig.client();
        let head =
            "POST / HTTP/1.1\r\nhost: a\r\nconnection: content-length, host\r\ncontent-length: 5\r\n\r\n";
        client.write_all(format!("{head}hello").as_bytes()).await.unwrap();
        let request = read_to(&mut rig.accept().await, "hello").await;
        assert!(request.contains("content-length: 5\r\n") && request.contains("host: a\r\n"), "{request}");
    })
    .await;
}

#[tokio::test]
async fn a_client_cannot_have_the_gateways_word_on_it_taken_away() {
    run(async {
        let rig = Rig::new().await;
        let (mut client, _serving) = rig.client();
        let names = ["x-forwarded-for", "x-forwarded-proto", "x-request-id", "x-envoy-external-address"];
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: {}\r\n\r\n", names.join(", "));
        client.write_all(request.as_bytes()).await.unwrap();
        let asked = read_to(&mut rig.accept().await, "\r\n\r\n").await;
        for name in names {
            assert!(asked.contains(&format!("\r\n{name}: ")), "{name}: {asked}");
        }
        assert!(!asked.contains("connection"), "{asked}");
    })
    .await;
}

#[tokio::test]
async fn an_http_1_0_backend_does_not_end_the_clients_connection() {
    run(async {
        let rig = Rig::new().await;
        let (mut client, _serving) = rig.client();
        for _ in 0..2 {
            client.write_all(GET.as_bytes()).await.unwrap();
            let mut backend = rig.accept().await;
            read_to(&mut backend, "\r\n\r\n").await;
            backend.write_all(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            let answer = read_to(&mut client, "\r\n\r\nok").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_is_not_reused_before_its_request_is_sent() {
    run(async {
        let rig = Rig::new().await;
        let (mut slow, _serving) = rig.client();
        slow.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n1").await.unwrap();
        let mut first = rig.accept().await;
        read_to(&mut first, "\r\n\r\n").await;
        first.write_all(OK.as_bytes()).await.unwrap();
        read_to(&mut slow, "ok").await;

        let (mut client, _serving) = rig.client();
        client.write_all(GET.as_bytes()).await.unwrap();
        let mut second = rig.accept().await;
        read_to(&mut second, "\r\n\r\n").await;
        second.write_all(OK.as_bytes()).await.unwrap();
        read_to(&mut client, "ok").await;
    })
    .await;
}

#[tokio::test]
async fn a_connection_is_reused_and_one_that_the_backend_closed_is_replaced() {
    run(async {
        let rig = Rig::new().await;
        let (mut client, _serving) = rig.client();
        let mut backend = None;
        for _ in 0..3 {
            client.write_all(GET.as_bytes()).await.unwrap();
            let stream = match &mut backend {
                Some(stream) => stream,
                None => backend.insert(rig.accept().await),
            };
            read_to(stream, "\r\n\r\n").await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            read_to(&mut client, "ok").await;
        }
        // Quiet for long enough, and closed just before the next request comes.
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::time::resume();
        drop(backend);
        client.write_all(GET.as_bytes()).await.unwrap();
        let mut fresh = rig.accept().await;
        read_to(&mut fresh, "\r\n\r\n").await;
        fresh.write_all(OK.as_bytes()).await.unwrap();
        assert!(read_to(&mut client, "ok").await.starts_with("HTTP/1.1 200"));
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_frees_its_backend() {
    run(async {
        let rig = Rig::new().await;
        let (mut client, _serving) = rig.client();
        client.write_all(GET.as_bytes()).await.unwrap();
        let mut backend = rig.accept().await;
        read_to(&mut backend, "\r\n\r\n").await;
        backend.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nsome").await.unwrap();
        read_to(&mut client, "some").await;
        drop(client);
        // It might have closed its own side alone, and is waited for some time.
        tokio::time::pause();
        // The end of the stream or a reset: either way the backend hears of it.
        let heard = tokio::time::timeout(Duration::from_mins(1), backend.read_u8()).await;
        assert!(heard.expect("within a minute").is_err());
    })
    .await;
}

/// Answers over HTTP/2 until told to go away.
fn http2_backend(stream: TcpStream) -> (Rc<tokio::sync::Notify>, JoinHandle<()>) {
    let away = Rc::new(tokio::sync::Notify::new());
    let told = away.clone();
    let serving = tokio::task::spawn_local(async move {
        let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
            assert_eq!(request.headers()["cookie"], "a=1; b=2");
            Ok::<_, Infallible>(http::Response::new("ok".to_owned()))
        });
        let served = http2::Builder::new(LocalExecutor).serve_connection(TokioIo::new(stream), service);
        let mut served = std::pin::pin!(served);
        tokio::select! {
            result = served.as_mut() => return result.unwrap(),
            () = told.notified() => served.as_mut().graceful_shutdown(),
        }
        served.await.unwrap();
    });
    (away, serving)
}

#[tokio::test]
async fn an_http2_backend_that_goes_away_is_replaced() {
    run(async {
        let rig = Rig::speaking(UpstreamProtocol::Http2).await;
        let (mut client, _serving) = rig.client();
        for _ in 0..3 {
            let request = "GET / HTTP/1.1\r\nhost: a\r\ncookie: a=1\r\ncookie: b=2\r\n\r\n";
            client.write_all(request.as_bytes()).await.unwrap();
            let (away, serving) = http2_backend(rig.accept().await);
            assert!(read_to(&mut client, "ok").await.starts_with("HTTP/1.1 200"));
            away.notify_one();
            soon(serving).await.unwrap();
        }
    })
    .await;
}

/// Serves HTTP/2: `/large` is more than what a stream is sent ahead, `/held` is counted and never answered.
fn http2_of_sizes(stream: TcpStream, held: &Rc<Semaphore>) -> JoinHandle<()> {
    let held = held.clone();
    tokio::task::spawn_local(async move {
        let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
            let held = held.clone();
            async move {
                let length = match request.uri().path() {
                    "/large" => 1024 * 1024,
                    "/held" => {
                        held.add_permits(1);
                        std::future::pending().await
                    }
                    _ => 2,
                };
                Ok::<_, Infallible>(http::Response::new("x".repeat(length)))
            }
        });
        let served = http2::Builder::new(LocalExecutor).serve_connection(TokioIo::new(stream), service);
        // The client closes it as it likes.
        let _ = served.await;
    })
}

#[tokio::test]
async fn clients_that_do_not_read_leave_others_their_share_of_an_http2_connection() {
    run(async {
        let rig = Rig::speaking(UpstreamProtocol::Http2).await;
        let mut lazy = Vec::new();
        for at in 0..8 {
            let (mut client, serving) = rig.client();
            client.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            if at == 0 {
                http2_of_sizes(rig.accept().await, &Rc::new(Semaphore::new(0)));
            }
            read_to(&mut client, "\r\n\r\n").await;
            lazy.push((client, serving));
        }
        // Each of them has been sent as much as there is room for.
        let (mut client, _serving) = rig.client();
        client.write_all(GET.as_bytes()).await.unwrap();
        assert!(read_to(&mut client, "\r\n\r\nxx").await.starts_with("HTTP/1.1 200"));
        for (client, _) in &mut lazy {
            let mut body = vec![0; 1024 * 1024];
            soon(client.read_exact(&mut body)).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn streams_beyond_what_a_connection_carries_get_another_one() {
    run(async {
        for bounded in [false, true] {
            let rig = Rig::with(|cluster| {
                cluster.protocol = UpstreamProtocol::Http2;
                cluster.max_connections = bounded.then_some(1);
            })
            .await;
            let held = Rc::new(Semaphore::new(0));
            let (mut client, _serving) = rig.client();
            client.write_all(GET.as_bytes()).await.unwrap();
            http2_of_sizes(rig.accept().await, &held);
            read_to(&mut client, "\r\n\r\nxx").await;

            let mut waiting = Vec::new();
            for _ in 0..100 {
                let (mut client, serving) = rig.client();
                client.write_all(b"GET /held HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
                waiting.push((client, serving));
            }
            soon(held.acquire_many(100)).await.unwrap().forget();
            client.write_all(GET.as_bytes()).await.unwrap();
            if !bounded {
                http2_of_sizes(rig.accept().await, &held);
            }
            assert!(read_to(&mut client, "\r\n\r\nxx").await.starts_with("HTTP/1.1 200"), "{bounded}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_with_a_body_waits_for_a_connection_no_longer_than_its_time() {
    run(async {
        let time = Duration::from_millis(50);
        let rig =
            Rig::routed(|cluster| cluster.max_connections = Some(1), |forward| forward.timeout = Some(time))
                .await;
        // A request whose end does not come has all the time it wants, and the connection.
        let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n";
        let (mut slow, _serving) = rig.client();
        slow.write_all(head.as_bytes()).await.unwrap();
        let mut backend = rig.accept().await;
        read_to(&mut backend, "\r\n\r\n").await;

        let (mut client, _serving) = rig.client();
        client.write_all(format!("{head}hello").as_bytes()).await.unwrap();
        let answer = read_to(&mut client, "upstream request timeout").await;
        assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");

        slow.write_all(b"hello").await.unwrap();
        read_to(&mut backend, "hello").await;
        backend.write_all(OK.as_bytes()).await.unwrap();
        assert!(read_to(&mut slow, "ok").await.starts_with("HTTP/1.1 200"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_that_asks_for_nothing_is_let_go() {
    run(async {
        let rig = Rig::new().await;
        for requests in [0, 1] {
            let (client, serving) = rig.client_of(HttpVersion::Two);
            let handshake = hyper::client::conn::http2::handshake(LocalExecutor, TokioIo::new(client));
            let (mut sender, connection) = handshake.await.unwrap();
            let client = tokio::task::spawn_local(connection);
            for _ in 0..requests {
                let refused = http::Request::get("http://a/%00").body(String::new()).unwrap();
                assert_eq!(sender.send_request(refused).await.unwrap().status(), 400);
            }
            tokio::time::timeout(Duration::from_hours(2), serving).await.expect("for two hours").unwrap();
            client.await.unwrap().unwrap();
            drop(sender);
        }
        // One that does not even say what it takes.
        let (mut client, serving) = rig.client_of(HttpVersion::Two);
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        tokio::time::timeout(Duration::from_mins(2), serving).await.expect("for two minutes").unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_come_to_the_end_of_a_head_is_let_go() {
    run(async {
        let rig = Rig::new().await;
        // At the beginning, and after a pause.
        for (pause, first) in [(0, "GET / HTTP/1.1\r\nx: "), (20, "G"), (20, "GET / HTTP/1.1\r\nx: ")] {
            let (mut client, serving) = rig.client();
            sleep(Duration::from_secs(pause)).await;
            let begun = Instant::now();
            client.write_all(first.as_bytes()).await.unwrap();
            let trickle = tokio::task::spawn_local(async move {
                while first.len() > 1 && client.write_all(b"a").await.is_ok() {
                    sleep(Duration::from_secs(10)).await;
                }
                client.read_to_end(&mut Vec::new()).await.unwrap();
            });
            serving.await.unwrap();
            let took = begun.elapsed();
            assert!(
                (HTTP_IDLE..HTTP_IDLE + 2 * conversation::PAUSE).contains(&took),
                "{took:?} after {pause} s"
            );
            trickle.await.unwrap();
        }
        // Nor is it waited for on a connection that has come of age meanwhile.
        let mut rig = Rig::new().await;
        Rc::get_mut(&mut rig.shared).unwrap().bounds.age = Some(Duration::from_secs(10));
        let (mut client, serving) = rig.client();
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        tokio::time::timeout(2 * HTTP_IDLE, serving).await.expect("in time").unwrap();
    })
    .await;
}

const WEBSOCKET: &str =
    "GET / HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\r\n";

#[tokio::test]
async fn a_drain_waits_for_websockets() {
    run(async {
        let rig = Rig::new().await;
        let (mut client, _serving) = rig.client();
        client.write_all(WEBSOCKET.as_bytes()).await.unwrap();
        let mut backend = rig.accept().await;
        let asked = read_to(&mut backend, "\r\n\r\n").await;
        assert!(asked.contains("connection: upgrade\r\n") && asked.contains("upgrade: websocket\r\n"));
        let switch =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nfirst";
        backend.write_all(switch).await.unwrap();
        assert!(read_to(&mut client, "first").await.starts_with("HTTP/1.1 101"));

        let draining = tokio::task::spawn_local(rig.drain.drain(Duration::from_mins(1)));
        client.write_all(b"ping").await.unwrap();
        read_to(&mut backend, "ping").await;
        assert!(!draining.is_finished());
        drop((client, backend));
        assert!(soon(draining).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_request_for_an_upgrade_has_a_connection_of_its_own() {
    run(async {
        let rig = Rig::new().await;
        let (mut client, _serving) = rig.client();
        client.write_all(GET.as_bytes()).await.unwrap();
        let mut pooled = rig.accept().await;
        read_to(&mut pooled, "\r\n\r\n").await;
        pooled.write_all(OK.as_bytes()).await.unwrap();
        read_to(&mut client, "ok").await;

        for answer in ["200 OK", "403 Forbidden"] {
            client.write_all(WEBSOCKET.as_bytes()).await.unwrap();
            let mut own = rig.accept().await;
            read_to(&mut own, "\r\n\r\n").await;
            own.write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 3\r\n\r\nown").as_bytes())
                .await
                .unwrap();
            let heard = read_to(&mut client, "own").await;
            assert!(heard.starts_with(&format!("HTTP/1.1 {answer}")), "{heard}");
            assert_eq!(soon(own.read(&mut [0])).await.unwrap(), 0, "closed, as nobody else may have it");
        }

        client.write_all(GET.as_bytes()).await.unwrap();
        read_to(&mut pooled, "\r\n\r\n").await;
        pooled.write_all(OK.as_bytes()).await.unwrap();
        read_to(&mut client, "ok").await;
    })
    .await;
}

#[tokio::test]
async fn upgrade_asks_for_nothing_unless_connection_names_it() {
    run(async {
        let rig = Rig::new().await;
        let (mut client, _serving) = rig.client();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n").await.unwrap();
        let request = read_to(&mut rig.accept().await, "\r\n\r\n").await;
        assert!(!request.contains("upgrade"), "{request}");
    })
    .await;
}

/// A client that has been answered once.
async fn answered(rig: &Rig) -> (DuplexStream, JoinHandle<()>, TcpStream) {
    let (mut client, serving) = rig.client();
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut backend = rig.accept().await;
    read_to(&mut backend, "\r\n\r\n").await;
    backend.write_all(OK.as_bytes()).await.unwrap();
    assert!(!read_to(&mut client, "ok").await.contains("close"));
    (client, serving, backend)
}

#[tokio::test]
async fn a_drain_tells_idle_clients_by_their_next_answer() {
    run(async {
        let rig = Rig::new().await;
        let (mut client, serving, mut backend) = answered(&rig).await;
        let draining = tokio::task::spawn_local(rig.drain.drain(Duration::from_mins(1)));
        tokio::task::yield_now().await;
        client.write_all(GET.as_bytes()).await.unwrap();
        read_to(&mut backend, "\r\n\r\n").await;
        backend.write_all(OK.as_bytes()).await.unwrap();
        let answer = read_to(&mut client, "ok").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(soon(client.read(&mut [0])).await.unwrap(), 0);
        soon(serving).await.unwrap();
        assert!(soon(draining).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_drain_lets_clients_go_that_stay_quiet() {
    run(async {
        let rig = Rig::new().await;
        let (_client, serving, _backend) = answered(&rig).await;
        let (_silent, silence) = rig.client();
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        assert!(rig.drain.drain(Duration::from_mins(1)).await);
        serving.await.unwrap();
        silence.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 5, "not at once, and not at the drain's end");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_has_closed_its_side_is_answered() {
    run(async {
        let rig = Rig::new().await;
        let (_first, _serving, mut backend) = answered(&rig).await;
        for request in [GET, "POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 4\r\n\r\nbody"] {
            let (mut client, serving) = rig.client();
            client.write_all(request.as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            read_to(&mut backend, if request == GET { "\r\n\r\n" } else { "body" }).await;
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            backend.write_all(OK.as_bytes()).await.unwrap();
            assert!(read_to(&mut client, "ok").await.starts_with("HTTP/1.1 200"));
            assert_eq!(soon(client.read(&mut [0])).await.unwrap(), 0, "nothing follows");
            soon(serving).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_breaks_off_its_request_is_not_waited_for() {
    run(async {
        let rig = Rig::new().await;
        let (mut client, serving) = rig.client();
        client
            .write_all(b"POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 400\r\n\r\nsome")
            .await
            .unwrap();
        let mut backend = rig.accept().await;
        read_to(&mut backend, "some").await;
        client.shutdown().await.unwrap();
        soon(serving).await.unwrap();
        assert_eq!(soon(backend.read(&mut [0])).await.unwrap_or(0), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn wherever_a_client_pauses_it_is_served_on_and_between_requests_holds_little() {
    // Answered without a backend.
    const ASK: &str = "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n";
    run(async {
        let rig = Rig::new().await;
        let words = ASK.repeat(3);
        for cut in 0..words.len() {
            let (mut client, server) = tokio::io::duplex(1024);
            let connection = Rc::new(rig.connection());
            let served = conversation::serve(connection.clone(), Rewound::new(Bytes::new(), server));
            let served = tokio::task::spawn_local(served);
            let answers = async |client: &mut DuplexStream, count: usize| {
                for _ in 0..count {
                    let answer = read_to(client, "\r\n\r\n").await;
                    assert!(answer.starts_with("HTTP/1.1 404"), "{cut}: {answer}");
                }
            };
            client.write_all(&words.as_bytes()[..cut]).await.unwrap();
            answers(&mut client, cut / ASK.len()).await;
            sleep(conversation::PAUSE * 3).await;
            if cut % ASK.len() == 0 {
                assert_eq!(Rc::strong_count(&connection), 2, "{cut}: the conversation's are gone");
            }
            client.write_all(&words.as_bytes()[cut..]).await.unwrap();
            answers(&mut client, 3 - cut / ASK.len()).await;
            drop(client);
            served.await.unwrap();
        }
    })
    .await;
}

/// Most connections are paused for most of their life, and each that is takes so much and what its socket does.
#[tokio::test]
async fn a_connection_that_is_paused_takes_little_room() {
    run(async {
        let rig = Rig::new().await;
        let address = rig.backend.local_addr().unwrap();
        let (_client, server) = (TcpStream::connect(address).await.unwrap(), rig.accept().await);
        let served = conversation::serve(Rc::new(rig.connection()), Rewound::new(Bytes::new(), server));
        let sizes = [size_of_val(&served), size_of::<Connection>()];
        assert!(sizes[0] <= 384 && sizes[1] <= 368, "{sizes:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_paused_hears_of_a_drain() {
    run(async {
        let mut rig = Rig::new().await;
        let (_client, serving) = rig.client();
        sleep(conversation::PAUSE * 3).await;
        rig.drain.begin(Duration::from_mins(1));
        rig.shared.drains.rouse();
        let begun = Instant::now();
        serving.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 5);
    })
    .await;
}
