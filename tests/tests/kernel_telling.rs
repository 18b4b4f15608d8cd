//! What the gateway tells of flows: its access log, its counters, its commands. Needs root; fails where the kernel
//! plane cannot be had.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use harness::authority::Authority;
use harness::client::{self, line, read_to_end};
use harness::documents::{self, Server, service, sni_route, tcp_route, tcp_service};
use harness::gateway::{Gateway, Kernel, program};
use harness::lab::{Family, Lab};
use harness::program::run;
use harness::serve::Place;
use harness::tls::TlsClient;
use harness::{echo, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use socket2::SockRef;

const PORT: u16 = 31400;
const TLS_PORT: u16 = 443;
const NAME: &str = "chat.test";

/// A gateway with an access log, before the backends of a laboratory.
struct Rig {
    lab: Lab,
    directory: tempfile::TempDir,
    gateway: Gateway,
}

impl Rig {
    fn new(lab: Lab, kernel: Kernel, backends: &[SocketAddr], flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("access").display().to_string();
        let documents = documents::gateway("edge", &[Server::tcp(PORT)])
            + &tcp_route("echo", PORT, "edge", "echo")
            + &tcp_service("echo", backends);
        let gateway = Gateway::arrange()
            .within(&lab.gateway)
            .kernel(kernel)
            .flags(&["--interface", "c0", "--access-log", &log])
            .flags(flags)
            .document("site", &documents)
            .start();
        Self { lab, directory, gateway }
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("access")
    }

    /// Waits for the first line of the access log.
    fn line(&self) -> String {
        wait::until("a line in the access log", || {
            let text = std::fs::read_to_string(self.log()).ok()?;
            text.lines().next().map(str::to_owned)
        })
    }

    fn with_client<T: Send + 'static>(
        &self,
        family: Family,
        run: impl FnOnce(SocketAddr) -> T + Send + 'static,
    ) -> T {
        let address = SocketAddr::new(self.lab.gateway_address(family), PORT);
        self.lab.client.enter(move || run(address))
    }

    fn connect(&self, family: Family) -> TcpStream {
        self.with_client(family, client::connect)
    }

    fn status(&self) -> Value {
        self.gateway.status()
    }
}

fn place(lab: &Lab, family: Family) -> Place {
    Place::within(&lab.backends[0], SocketAddr::new(lab.backend_address(family, 0), 0))
}

/// Says something, closes, and hears the echo.
fn talk(mut stream: TcpStream) -> (SocketAddr, usize) {
    stream.write_all(b"twelve bytes").expect("sending");
    stream.shutdown(Shutdown::Write).expect("half-closing");
    let (bytes, error) = read_to_end(&mut stream);
    assert_eq!(error, None);
    (stream.local_addr().expect("an address"), bytes.len())
}

#[test]
fn either_plane_writes_istios_line_when_a_connection_is_over() {
    for kernel in [Kernel::Require, Kernel::Off] {
        for family in [Family::V4, Family::V6] {
            let lab = Lab::new(1).expect("namespaces");
            let server = echo::start_silent(place(&lab, family));
            let rig = Rig::new(lab, kernel, &[server.address], &[]);
            let (client, answer) = talk(rig.connect(family));
            assert_eq!(answer, 12);
            let line = rig.line();
            let gateway = SocketAddr::new(rig.lab.gateway_address(family), PORT);
            let fields: Vec<&str> = line.split(' ').collect();
            assert!(line.contains("Z] \"- - -\" 0 - - - \"-\" "), "{line}");
            let host = format!("\"{}\"", server.address);
            let cluster = fields[18];
            assert_eq!((fields[17], fields[20]), (&*host, &*gateway.to_string()), "{kernel:?}: {line}");
            assert!(cluster.starts_with("outbound|") && cluster.contains("||echo."), "{line}");
            assert_eq!(fields[21..], [&*client.to_string(), "-", "-"], "{line}");
            let bytes: Vec<u64> =
                fields[9..12].iter().map(|field| field.parse().expect("a number")).collect();
            assert_eq!(bytes[..2], [12, 12], "{kernel:?}: {line}");
        }
    }
}

#[test]
fn a_flow_that_is_told_of_is_not_told_of_again() {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, Family::V4));
    let rig = Rig::new(lab, Kernel::Require, &[server.address], &["--access-log-format", "json"]);
    let (client, _) = talk(rig.connect(Family::V4));
    let told: Value = serde_json::from_str(&rig.line()).expect("JSON");
    assert_eq!(told["downstream_remote_address"], client.to_string(), "{told}");
    wait::until("the end of the record", || (rig.status()["kernel"]["flows"]["ipv4"] == 0).then_some(()));
    assert_eq!(std::fs::read_to_string(rig.log()).expect("the log").lines().count(), 1);
}

#[test]
fn a_reset_and_a_refusal_have_their_flags() {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, Family::V4));
    let rig = Rig::new(lab, Kernel::Require, &[server.address], &[]);
    let mut stream = rig.connect(Family::V4);
    assert_eq!(line(&mut stream, "x\n"), "x\n");
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
    drop(stream);
    assert!(rig.line().contains(" 0 DC - - "), "{}", rig.line());

    let address = server.address;
    drop(server);
    std::fs::write(rig.log(), "").expect("emptying the log");
    let refused = rig.with_client(Family::V4, |address| TcpStream::connect(address).is_err());
    assert!(refused, "{}\n{}\n{}", rig.line(), rig.status(), rig.gateway.log());
    let told = rig.line();
    assert!(told.contains(" 0 UF,URX - - ") && told.contains(&address.to_string()), "{told}");
    let backends = wait::until("the refusal among the counters", || {
        let backends = rig.status()["kernel"]["backendTraffic"].clone();
        (backends[0]["refused"].as_u64()? > 0).then_some(backends)
    });
    assert_eq!(backends[0]["backend"], address.to_string(), "{backends}");
}

/// A gateway that steers connections to one port and hands over those to another one, before the same backend. Its lines
/// have what [`Told`] has.
fn start_telling(lab: &Lab, backend: SocketAddr, flags: &[&str]) -> Gateway {
    let format = "%ACCESS_LOG_TYPE% %DOWNSTREAM_REMOTE_ADDRESS% %START_TIME(%s.%3f)% %UPSTREAM_HOST% %UPSTREAM_CLUSTER% \
                  %REQUESTED_SERVER_NAME% %BYTES_RECEIVED% %BYTES_SENT% %DURATION%";
    let servers = [Server::tcp(PORT), Server::passthrough(TLS_PORT, &[NAME])];
    let documents = documents::gateway("edge", &servers)
        + &tcp_route("echo", PORT, "edge", "echo")
        + &sni_route("chat", TLS_PORT, NAME, "edge", "chat")
        + &tcp_service("echo", &[backend])
        + &service("chat", "https", &[backend])
        + &documents::config_map(
            "istio-system",
            "istio",
            &[("mesh", &format!("accessLogFormat: '{format}'"))],
        );
    let gateway = Gateway::arrange().within(&lab.gateway).kernel(Kernel::Require);
    gateway.flags(flags).document("site", &documents).start()
}

/// A line of theirs.
#[derive(Debug, PartialEq)]
struct Told {
    kind: String,
    client: SocketAddr,
    /// Seconds since 1970.
    started: f64,
    backend: String,
    cluster: String,
    name: String,
    /// Bytes from the client and to it, and milliseconds.
    carried: [u64; 3],
}

impl Told {
    fn read(line: &str) -> Self {
        let fields: Vec<&str> = line.split(' ').collect();
        let number = |place: usize| fields[place].parse().expect("a number");
        Self {
            kind: fields[0].to_owned(),
            client: fields[1].parse().expect("an address"),
            started: fields[2].parse().expect("seconds"),
            backend: fields[3].to_owned(),
            cluster: fields[4].to_owned(),
            name: fields[5].to_owned(),
            carried: [6, 7, 8].map(number),
        }
    }
}

/// All lines, once there are so many.
#[track_caller]
fn told(log: &Path, count: usize) -> Vec<Told> {
    let text = wait::until("lines in the access log", || {
        std::fs::read_to_string(log).ok().filter(|text| text.lines().count() >= count)
    });
    assert_eq!(text.lines().count(), count, "{text}");
    text.lines().map(Told::read).collect()
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs_f64()
}

/// Flows as of a walk that has come by all of them.
fn expect_flows(gateway: &Gateway, count: u64) {
    wait::until("flows", || (gateway.status()["kernel"]["flows"]["ipv4"] == count).then_some(()));
}

/// Steered, and handed over; the agent that tells of the end is another one than that which told of the start.
#[test]
fn a_connection_that_starts_is_told_of_once_if_that_is_asked_for() {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, Family::V4));
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("access");
    let path = log.to_str().expect("a path");
    let flags =
        ["--interface", "c0", "--tier", "handoff", "--access-log", path, "--access-log-connection-starts"];
    let mut gateway = start_telling(&lab, server.address, &flags);
    let hello = TlsClient::new(Authority::new("nobody's").roots(), NAME).hello();
    let mut open = Vec::new();
    for (port, first, service, name) in
        [(PORT, &b"hello"[..], "echo", "-"), (TLS_PORT, &hello[..], "chat", NAME)]
    {
        let (before, address) = (now(), SocketAddr::new(lab.gateway_address(Family::V4), port));
        let mut stream = lab.client.enter(move || client::connect(address));
        stream.write_all(first).expect("sending");
        stream.read_exact(&mut vec![0; first.len()]).expect("hearing");
        open.push((stream, first.len() as u64));
        let lines = told(&log, open.len());
        let line = lines.last().expect("a line");
        assert_eq!((&*line.kind, line.carried), ("TcpConnectionStart", [0; 3]), "{line:?}");
        let client = open.last().map(|(stream, _)| stream.local_addr().expect("an address"));
        assert_eq!(Some(line.client), client, "{line:?}");
        assert_eq!((&line.backend, &*line.name), (&server.address.to_string(), name), "{line:?}");
        assert!(line.cluster.contains(&format!("||{service}.")), "{line:?}");
        assert!(line.started > before - 0.1 && line.started < now(), "{before}: {line:?}");
    }
    wait::until("a hand-over", || (gateway.handed_over() == 1).then_some(()));

    gateway.replace().expect_end();
    expect_flows(&gateway, 2);
    for (number, (stream, length)) in open.iter_mut().enumerate() {
        stream.shutdown(Shutdown::Write).expect("half-closing");
        assert_eq!(read_to_end(stream), (Vec::new(), None));
        let lines = told(&log, 3 + number);
        let (start, end) = (&lines[number], &lines[2 + number]);
        assert_eq!((&*end.kind, end.client), ("TcpConnectionEnd", start.client), "{end:?}");
        assert_eq!(end.carried[..2], [*length; 2], "{end:?}");
        assert!((start.started - end.started).abs() < 0.5, "{start:?} {end:?}");
    }
}

#[test]
fn what_started_while_nobody_listened_is_told_of_with_its_own_time() {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, Family::V4));
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("access");
    let flags = ["--interface", "c0", "--access-log", log.to_str().expect("a path")];
    let mut gateway = start_telling(&lab, server.address, &flags);
    let address = SocketAddr::new(lab.gateway_address(Family::V4), PORT);
    let connect = || {
        let mut stream = lab.client.enter(move || client::connect(address));
        assert_eq!(line(&mut stream, "x\n"), "x\n");
        stream
    };
    // Heard by an agent that is not asked to tell, and by none.
    let first = connect();
    expect_flows(&gateway, 1);
    gateway.kill();
    let second = connect();
    let before = now();
    let flags = [&flags[..], &["--access-log-connection-starts"]].concat();
    gateway.restart_with(&flags);
    let lines = told(&log, 2);
    for stream in [&first, &second] {
        let client = stream.local_addr().expect("an address");
        let line = lines.iter().find(|line| line.client == client).expect("a line");
        assert_eq!((&*line.kind, line.carried), ("TcpConnectionStart", [0; 3]), "{line:?}");
        assert!(line.started < before && line.started > before - 60.0, "{before} {line:?}");
    }

    let (third, _) = talk(lab.client.enter(move || client::connect(address)));
    let lines = told(&log, 4);
    for (line, kind) in lines[2..].iter().zip(["TcpConnectionStart", "TcpConnectionEnd"]) {
        assert_eq!((&*line.kind, line.client), (kind, third), "{line:?}");
    }
    // A refusal is no start.
    drop(server);
    assert!(lab.client.enter(move || TcpStream::connect(address).is_err()));
    assert_eq!(told(&log, 5)[4].kind, "TcpConnectionEnd");
}

/// The ring has room for 10,922 events, and each of these flows tells of its start and of its end.
#[test]
fn events_that_found_no_room_are_counted_and_no_end_is_lost() {
    const FLOWS: usize = 6000;
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, Family::V4));
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("access");
    let path = log.to_str().expect("a path");
    let flags = ["--interface", "c0", "--access-log", path, "--access-log-connection-starts"];
    let gateway = start_telling(&lab, server.address, &flags);
    let lost = || gateway.scrape().sum("sluice_kernel_events_lost_total", &[]) as usize;
    assert_eq!(lost(), 0);
    let agent = i32::try_from(gateway.pid()).map(Pid::from_raw).expect("a process id");
    let address = SocketAddr::new(lab.gateway_address(Family::V4), PORT);
    kill(agent, Signal::SIGSTOP).expect("a process of ours");
    lab.client.enter(move || {
        for _ in 0..FLOWS {
            let mut stream = client::connect(address);
            // Else it would queue more than the backend takes.
            assert_eq!(line(&mut stream, "x\n"), "x\n");
            // So that its port is free for another one at once.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
        }
    });
    kill(agent, Signal::SIGCONT).expect("a process of ours");
    let count = |kind: &str| {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().filter(|line| line.starts_with(kind)).count()
    };
    wait::until("every end", || (count("TcpConnectionEnd ") == FLOWS).then_some(()));
    let (lost, starts) = (lost(), count("TcpConnectionStart "));
    assert!(lost > 0 && lost <= 2 * FLOWS - 10_000, "{lost}");
    // A start that is not told was told by an event that was lost, and the flow was over by then.
    assert!(starts < FLOWS && starts + lost >= FLOWS, "{starts} starts, {lost} lost");
    assert_eq!(gateway.status()["accessLogDropped"], 0);
}

#[test]
fn status_counts_flows_by_listener_and_backend() {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, Family::V4));
    let rig = Rig::new(lab, Kernel::Require, &[server.address], &[]);
    let mut open = rig.connect(Family::V4);
    assert_eq!(line(&mut open, "x\n"), "x\n");
    // Reset, so that its record is given up soon.
    let reset = rig.connect(Family::V4);
    SockRef::from(&reset).set_linger(Some(Duration::ZERO)).expect("a socket option");
    drop(reset);
    let kernel = wait::until("both flows in the counters", || {
        let kernel = rig.status()["kernel"].clone();
        let listener = &kernel["listenerTraffic"][0];
        (listener["active"] == 1 && listener["flows"] == 2).then_some(kernel)
    });
    let (listener, backend) = (&kernel["listenerTraffic"][0], &kernel["backendTraffic"][0]);
    assert_eq!(listener["listener"], format!("0.0.0.0:{PORT}"), "{kernel}");
    assert_eq!((&backend["active"], &backend["flows"]), (&1.into(), &2.into()), "{kernel}");
    assert_eq!(listener["bytesToBackend"], "x\n".len(), "{kernel}");
    assert_eq!(listener["bytesToBackend"], backend["bytesToBackend"], "{kernel}");
    assert_eq!(kernel["verdicts"]["established"], 2, "{kernel}");

    let said = rig.gateway.sluice(&["status"]).expect_success().out;
    for words in [
        "flows:         1 IPv4, 0 IPv6, of 262144 each",
        "sent:          forwarded ",
        "MiB of flow tables",
        "UNANSWERED",
    ] {
        assert!(said.contains(words), "no `{words}` in\n{said}");
    }
}

#[test]
fn flows_are_shown_with_their_rates_and_filtered() {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, Family::V4));
    let rig = Rig::new(lab, Kernel::Require, &[server.address], &[]);
    let mut busy = rig.connect(Family::V4);
    let mut quiet = rig.connect(Family::V4);
    for stream in [&mut busy, &mut quiet] {
        assert_eq!(line(stream, "x\n"), "x\n");
    }
    let address = busy.local_addr().expect("an address");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let talking = std::thread::spawn({
        let stop = stop.clone();
        move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(line(&mut busy, "again\n"), "again\n");
            }
        }
    });
    let flows = |more: &[&str]| -> Vec<Value> {
        let said = rig.gateway.sluice(&[&["flows", "-o", "json"], more].concat()).expect_success();
        serde_json::from_str(&said.out).expect("JSON")
    };
    let all = flows(&[]);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    talking.join().expect("the busy client");
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(
        (&all[0]["client"], &all[1]["bytesPerSecond"]),
        (&address.to_string().into(), &0.into()),
        "{all:?}"
    );
    assert!(all[0]["bytesPerSecond"].as_u64() > Some(0) && all[0]["plane"] == "kernel", "{all:?}");
    let backend = server.address.to_string();
    for (filter, count) in [
        (["--backend", &backend], 2),
        (["--listener", ":31400"], 2),
        (["--listener", ":31401"], 0),
        (["--client", "192.0.2.1"], 0),
    ] {
        assert_eq!(flows(&filter).len(), count, "{filter:?}");
    }
    assert!(all.iter().all(|flow| flow["tier"] == "kernel" && flow["reason"].is_null()), "{all:?}");
    let table = rig.gateway.sluice(&["flows", "--sort", "age"]).expect_success().out;
    assert!(
        table.starts_with("CLIENT") && table.contains(&backend) && table.contains("established"),
        "{table}"
    );
    // Without an agent to ask, what the kernel knows is shown all the same.
    let pins = rig.gateway.pin_directory().display().to_string();
    let alone = ["flows", "--pin-dir", &pins, "--admin-socket", "/nonexistent/admin.sock"];
    let said = run(std::process::Command::new(program()).args(alone)).expect_success();
    let own = quiet.local_addr().expect("an address").to_string();
    assert!(said.out.contains(&own), "{own} is not in {}", said.out);
    assert!(said.err.contains("connections in user space are not shown"), "{}", said.err);
}

/// Whether the programs have a client to trace.
fn traced(rig: &Rig) -> bool {
    let said = rig.gateway.sluice(&["maps", "dump", "CONFIG", "-o", "json"]).expect_success();
    let settings: Vec<Value> = serde_json::from_str(&said.out).expect("JSON");
    settings.iter().any(|row| row["setting"] == "traced client" && row["value"] != "none")
}

#[test]
fn a_trace_shows_every_packet_of_a_client_and_ends_with_the_command() {
    for family in [Family::V4, Family::V6] {
        let lab = Lab::new(1).expect("namespaces");
        let server = echo::start_silent(place(&lab, family));
        let rig = Rig::new(lab, Kernel::Require, &[server.address], &[]);
        let address = rig.with_client(family, |gateway| {
            let socket = std::net::UdpSocket::bind((if gateway.is_ipv4() { "0.0.0.0" } else { "::" }, 0));
            let socket = socket.expect("a socket");
            socket.connect(gateway).expect("a route");
            socket.local_addr().expect("an address").ip().to_string()
        });
        let trace = |more: &[&str]| {
            let mut command = std::process::Command::new(harness::gateway::program());
            command
                .args(["trace", "--client", &address, "--admin-socket"])
                .arg(rig.gateway.socket())
                .args(more);
            command.stdout(std::process::Stdio::piped()).spawn().expect("starting the trace")
        };
        let child = trace(&["--count", "7", "-o", "json"]);
        wait::until("the trace to be on", || traced(&rig).then_some(()));
        let (client, _) = talk(rig.connect(family));
        let output = child.wait_with_output().expect("the trace");
        let text = String::from_utf8(output.stdout).expect("text");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 8, "{text}");
        let (syn, answer, ack) = (&lines[0], &lines[1], &lines[2]);
        assert_eq!(
            (&syn["flags"], &syn["verdict"], &syn["course"]),
            (&"S".into(), &"steered".into(), &"from-client".into())
        );
        assert_eq!((&syn["source"], &syn["interface"]), (&client.to_string().into(), &"c0".into()), "{syn}");
        assert_eq!((&answer["flags"], &answer["course"]), (&"S.".into(), &"to-client".into()), "{answer}");
        assert_eq!(answer["source"], server.address.to_string(), "{answer}");
        assert_eq!(
            (&ack["verdict"], &ack["backend"]),
            (&"established".into(), &server.address.to_string().into())
        );
        assert_eq!(lines[7]["leftOut"], 0, "{text}");
        wait::until("the trace to be off", || (!traced(&rig)).then_some(()));

        // Killed, it cannot say that it is gone.
        let mut child = trace(&[]);
        wait::until("the trace to be on", || traced(&rig).then_some(()));
        let second = rig.gateway.sluice(&["trace", "--client", "192.0.2.1"]);
        assert!(second.err.contains("is being traced already"), "{}", second.err);
        child.kill().expect("killing the trace");
        child.wait().expect("the end of the trace");
        wait::until("the trace to be off", || (!traced(&rig)).then_some(()));
    }
}

#[test]
fn what_no_flow_has_and_what_is_too_much_is_traced_too() {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, Family::V4));
    let rig = Rig::new(lab, Kernel::Require, &[server.address], &[]);
    let mut stream = rig.connect(Family::V4);
    let address = stream.local_addr().expect("an address").ip().to_string();
    let mut command = std::process::Command::new(harness::gateway::program());
    command
        .args(["trace", "--client", &address, "--duration", "4", "--admin-socket"])
        .arg(rig.gateway.socket());
    let child = command.stdout(std::process::Stdio::piped()).spawn().expect("starting the trace");
    wait::until("the trace to be on", || traced(&rig).then_some(()));
    rig.with_client(Family::V4, |gateway| TcpStream::connect((gateway.ip(), 9)).expect_err("nobody listens"));
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        assert_eq!(line(&mut stream, "again\n"), "again\n");
    }
    let output = child.wait_with_output().expect("the trace");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.lines().any(|line| line.contains(":9 [S]") && line.ends_with(" not_steered")), "{text}");
    assert!(text.lines().any(|line| line.contains(" to client ") && line.contains(" forwarded (")), "{text}");
    assert!(text.lines().count() < 6000);
    assert!(text.ends_with(" packets were left out\n"), "{}", text.lines().last().unwrap_or_default());
}
