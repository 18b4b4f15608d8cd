//! WebSockets on a cleartext listener, which the kernel plane carries once both sides have switched. Needs root; fails
//! where the kernel plane cannot be had.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use harness::client::{self, line, read_to_end};
use harness::documents::{self, http_route, http_service};
use harness::gateway::{Gateway, Kernel};
use harness::lab::{Family, Lab};
use harness::program::run;
use harness::serve::{Place, Server};
use harness::steered::place;
use harness::{wait, websocket};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::{Message, WebSocket};

const PORT: u16 = 80;
const HOST: &str = "chat.test";
const CLUSTER: &str = "outbound|80||chat.istioinaction.svc.cluster.local";
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// Lengths on both sides of those at which a frame's header grows (RFC 6455, 5.2), and one that no socket holds.
const LENGTHS: [usize; 6] = [0, 125, 126, 65_535, 65_536, 8 << 20];
const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
/// More than any end reads at once.
const MUCH: usize = 300_000;

/// A gateway that serves HTTP in clear before one backend.
struct Site {
    gateway: Gateway,
    server: Server,
    log: tempfile::TempDir,
    lab: Lab,
    family: Family,
}

impl Site {
    fn start(family: Family, serve: impl FnOnce(Place) -> Server, flags: &[&str]) -> Self {
        Self::within(Lab::new(1).expect("namespaces"), family, serve, flags)
    }

    fn within(lab: Lab, family: Family, serve: impl FnOnce(Place) -> Server, flags: &[&str]) -> Self {
        let server = serve(place(&lab, family, 0));
        let log = tempfile::tempdir().expect("a directory");
        let path = log.path().join("access").display().to_string();
        let documents = documents::gateway("edge", &[documents::Server::http(PORT, &["*"])])
            + &http_route("chat", HOST, "edge", "chat")
            + &http_service("chat", &[server.address]);
        let gateway = Gateway::arrange()
            .within(&lab.gateway)
            .kernel(Kernel::Require)
            .flags(&["--interface", "c0", "--access-log", &path, "--access-log-format", "json"])
            .flags(flags)
            .document("site", &documents)
            .start();
        Self { gateway, server, log, lab, family }
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.lab.gateway_address(self.family), PORT)
    }

    fn dial(&self) -> TcpStream {
        let address = self.address();
        self.lab.client.enter(move || client::connect(address))
    }

    fn connect(&self) -> WebSocket<TcpStream> {
        let address = self.address();
        self.lab.client.enter(move || websocket::connect(address, HOST))
    }

    /// Waits until so many have been handed over in all, and user space has nothing left of them.
    #[track_caller]
    fn expect_handed_over(&self, count: u64) {
        wait::until("a hand-over", || (self.gateway.handed_over() == count).then_some(()));
        wait::until("the end of the sockets", || (self.sockets() == 0).then_some(()));
    }

    /// TCP sockets of the gateway's that have a peer.
    fn sockets(&self) -> usize {
        let said = run(self.lab.gateway.command("ss").args(["-Htan", "state", "connected"]));
        said.expect_success().out.lines().count()
    }

    fn flows(&self) -> Vec<Value> {
        let said = self.gateway.sluice(&["flows", "-o", "json"]).expect_success();
        serde_json::from_str(&said.out).expect("rows")
    }

    /// Lines of the access log, once there are so many.
    fn lines(&self, count: usize) -> Vec<Value> {
        let path = self.log.path().join("access");
        let text = wait::until("lines in the access log", || {
            std::fs::read_to_string(&path).ok().filter(|text| text.lines().count() >= count)
        });
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// The request for a WebSocket, and what is sent right behind it.
fn request(behind: &[u8]) -> Vec<u8> {
    let head = format!(
        "GET /chat HTTP/1.1\r\nhost: {HOST}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    [head.as_bytes(), behind].concat()
}

/// A head up to its empty line; `None` where there is none.
async fn read_head(stream: &mut tokio::net::TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).to_ascii_lowercase())
}

/// A backend that answers requests for a WebSocket with these bytes and says again what comes then, and others by `ok`.
fn answering(place: Place, answer: Vec<u8>) -> Server {
    Server::start(place, move |mut stream| {
        let answer = answer.clone();
        async move {
            while let Some(head) = read_head(&mut stream).await {
                if head.contains("upgrade: websocket") {
                    let (mut reader, mut writer) = stream.split();
                    if writer.write_all(&answer).await.is_ok() {
                        let _ = tokio::io::copy(&mut reader, &mut writer).await;
                    }
                    return;
                }
                if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n").await.is_err() {
                    return;
                }
            }
        }
    })
}

#[track_caller]
fn skip_head(stream: &mut TcpStream, first: &str) {
    let status = line(stream, "");
    assert!(status.starts_with(&format!("HTTP/1.1 {first} ")), "{status}");
    while line(stream, "") != "\r\n" {}
}

fn pattern(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; MUCH];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

#[test]
fn one_leaves_user_space_and_carries_every_message() {
    for family in FAMILIES {
        let site = Site::start(family, websocket::start, &["--tier", "handoff"]);
        let mut socket = site.connect();
        site.expect_handed_over(1);
        for (seed, length) in (0..).zip(LENGTHS) {
            websocket::exchange(&mut socket, seed, length);
        }
        let flows = site.flows();
        assert_eq!(
            (flows.len(), &flows[0]["tier"], &flows[0]["backend"]),
            (1, &"handoff".into(), &site.server.address.to_string().into()),
            "{flows:?}"
        );
        assert_eq!(site.sockets(), 0);
        drop(socket);
        site.gateway.expect_all_given_back();
    }
}

/// What the test above would see if nothing were handed over.
#[test]
fn one_that_may_not_leave_user_space_says_why() {
    let site = Site::start(Family::V4, websocket::start, &["--tier", "splice"]);
    let mut socket = site.connect();
    for (seed, length) in (0..).zip(LENGTHS) {
        websocket::exchange(&mut socket, seed, length);
    }
    let flows = site.flows();
    assert_eq!(
        (flows.len(), &flows[0]["tier"], &flows[0]["reason"]),
        (1, &"splice".into(), &"limited".into()),
        "{flows:?}"
    );
    assert_eq!((site.gateway.handed_over(), site.sockets()), (0, 2));
}

#[test]
fn one_that_is_quiet_leaves_user_space_and_talks_on() {
    for family in FAMILIES {
        let site = Site::start(family, websocket::start, &["--tier", "lasting"]);
        let mut socket = site.connect();
        websocket::exchange(&mut socket, 1, 1000);
        site.expect_handed_over(1);
        for (seed, length) in (2..).zip(LENGTHS) {
            websocket::exchange(&mut socket, seed, length);
        }
        socket.send(Message::Ping("still there?".into())).expect("sending");
        assert_eq!(socket.read().expect("an answer"), Message::Pong("still there?".into()));
    }
}

#[test]
fn what_both_ends_have_sent_ahead_is_carried_first() {
    for family in FAMILIES {
        for tier in ["handoff", "random", "copy"] {
            let (ahead, behind) = (pattern(1), pattern(2));
            let answer = [SWITCHING.as_bytes(), &ahead].concat();
            let site = Site::start(family, |place| answering(place, answer), &["--tier", tier]);
            let mut stream = site.dial();
            // A connection that has served a request before is as good as a new one.
            stream.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).expect("sending");
            skip_head(&mut stream, "200");
            assert_eq!(line(&mut stream, ""), "ok\n");
            let mut sending = stream.try_clone().expect("a second handle");
            let asked = request(&behind);
            let sent = std::thread::spawn(move || sending.write_all(&asked).expect("sending"));
            skip_head(&mut stream, "101");
            let mut heard = vec![0; 2 * MUCH];
            stream.read_exact(&mut heard).expect("all of it");
            sent.join().expect("a thread that does not panic");
            assert!(heard[..MUCH] == ahead, "{family:?} {tier}: what the backend sent ahead");
            assert!(heard[MUCH..] == behind, "{family:?} {tier}: what the client sent ahead, said again");
            assert_eq!(line(&mut stream, "and on\n"), "and on\n");
            if tier == "handoff" {
                wait::until("a hand-over", || (site.gateway.handed_over() == 1).then_some(()));
            }
        }
    }
}

/// A way in which one ends.
struct End {
    name: &'static str,
    bring_about: fn(WebSocket<TcpStream>),
    flag: &'static str,
}

const ENDS: [End; 4] = [
    End { name: "the client closes", bring_about: close, flag: "-" },
    End { name: "the backend closes", bring_about: have_backend_close, flag: "-" },
    End { name: "the client's stream ends", bring_about: end_stream, flag: "-" },
    End { name: "the client resets", bring_about: reset, flag: "DC" },
];

fn close(mut socket: WebSocket<TcpStream>) {
    socket.close(None).expect("sending");
    websocket::expect_closed(&mut socket);
}

fn have_backend_close(mut socket: WebSocket<TcpStream>) {
    socket.send(Message::text(websocket::BYE)).expect("sending");
    websocket::expect_closed(&mut socket);
}

fn end_stream(socket: WebSocket<TcpStream>) {
    socket.get_ref().shutdown(Shutdown::Write).expect("half-closing");
    assert_eq!(read_to_end(&mut socket.get_ref()), (vec![], None));
}

fn reset(socket: WebSocket<TcpStream>) {
    let linger = Some(Duration::ZERO);
    socket2::SockRef::from(socket.get_ref()).set_linger(linger).expect("a socket option");
}

#[test]
fn each_end_is_told_once_whoever_carries_it() {
    for family in FAMILIES {
        for tier in ["handoff", "copy"] {
            let site = Site::start(family, websocket::start, &["--tier", tier]);
            for (number, End { name, bring_about, flag }) in ENDS.into_iter().enumerate() {
                let mut socket = site.connect();
                let client = socket.get_ref().local_addr().expect("an address").to_string();
                if tier == "handoff" {
                    wait::until("a hand-over", || (site.gateway.handed_over() > number as u64).then_some(()));
                }
                websocket::exchange(&mut socket, 1, 5000);
                bring_about(socket);
                let told = site.lines(number + 1);
                assert_eq!(told.len(), number + 1, "{name}, {tier}: {told:?}");
                let told = &told[number];
                let said =
                    ["downstream_remote_address", "upstream_host", "upstream_cluster", "response_flags"];
                let want = [&*client, &site.server.address.to_string(), CLUSTER, flag];
                assert_eq!(
                    said.map(|field| told[field].as_str().unwrap_or("")),
                    want,
                    "{name}, {tier}: {told}"
                );
                for field in ["bytes_received", "bytes_sent"] {
                    let bytes = told[field].as_u64().expect("a number");
                    // A frame with a header of 4 or 8 bytes, and perhaps one to close by; no heads.
                    assert!((5004..5030).contains(&bytes), "{field}: {name}, {tier}: {told}");
                }
            }
        }
    }
}

#[test]
fn one_that_does_not_come_about_leaves_nothing() {
    for (answer, status) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nno\n", "200"),
        ("HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n3\r\nno\n\r\n0\r\n\r\n", "403"),
    ] {
        let site = Site::start(Family::V4, |place| answering(place, answer.into()), &["--tier", "handoff"]);
        let mut stream = site.dial();
        let plain = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
        for (asked, status, accepted) in
            [(plain.as_bytes(), "200", 1), (&request(b""), status, 2), (plain.as_bytes(), "200", 2)]
        {
            stream.write_all(asked).expect("sending");
            skip_head(&mut stream, status);
            let mut rest = String::new();
            while !rest.contains("no\n") && !rest.contains("ok\n") {
                rest += &line(&mut stream, "");
            }
            if rest.starts_with('3') {
                assert_eq!(
                    line(&mut stream, "") + &line(&mut stream, "") + &line(&mut stream, ""),
                    "\r\n0\r\n\r\n"
                );
            }
            assert_eq!(site.server.accepted(), accepted, "the pool keeps its own, and gets no other");
        }
        // While the client's connection goes on.
        site.gateway.expect_all_given_back();
        assert_eq!((site.gateway.handed_over(), site.flows().len()), (0, 0));
        // Of the requests alone: no connection has come of the one in the middle.
        let told = site.lines(3);
        assert!(told.len() == 3 && told.iter().all(|line| line["method"] == "GET"), "{told:?}");
    }
}

#[test]
fn clients_without_options_of_tcp_have_backends_that_do_without_them_too() {
    for option in ["tcp_timestamps", "tcp_sack", "tcp_window_scaling"] {
        let site = Site::start(Family::V4, websocket::start, &["--tier", "handoff"]);
        site.lab.client.sysctl(&format!("net/ipv4/{option}"), "0").expect("a setting");
        let mut socket = site.connect();
        wait::until(option, || (site.gateway.handed_over() == 1).then_some(()));
        websocket::exchange(&mut socket, 1, 1 << 20);
    }
}

#[test]
fn a_narrower_link_to_the_backend_is_no_obstacle() {
    for family in FAMILIES {
        let lab = Lab::new(1).expect("namespaces");
        for (end, device) in [(&lab.gateway, "b0"), (&lab.backends[0], "e0")] {
            end.ip(&["link", "set", device, "mtu", "1380"]).expect("a narrow link");
        }
        let site = Site::within(lab, family, websocket::start, &["--tier", "handoff"]);
        // The listener may be open before the kernel plane knows of the link.
        let mut socket = wait::until("a hand-over", || {
            let mut socket = site.connect();
            websocket::exchange(&mut socket, 0, 10);
            (site.gateway.handed_over() > 0).then_some(socket)
        });
        websocket::exchange(&mut socket, 1, 8 << 20);
    }
}

#[test]
fn a_stop_hands_them_over_and_the_next_agent_tells_of_their_end() {
    for family in FAMILIES {
        let mut site = Site::start(family, websocket::start, &["--tier", "lasting"]);
        let mut sockets: Vec<_> = (0..10).map(|_| site.connect()).collect();
        let talk = |sockets: &mut [WebSocket<TcpStream>]| {
            sockets.iter_mut().zip(0..).for_each(|(socket, seed)| websocket::exchange(socket, seed, 3000));
        };
        talk(&mut sockets);
        assert!(site.gateway.stop().success());
        talk(&mut sockets);
        site.gateway.restart();
        talk(&mut sockets);
        for socket in sockets {
            close(socket);
        }
        for told in site.lines(10) {
            assert_eq!(
                (&told["response_flags"], &told["upstream_cluster"]),
                (&"-".into(), &CLUSTER.into()),
                "{told}"
            );
        }
    }
}
