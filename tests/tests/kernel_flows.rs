//! What flows in the kernel must stand: ends of every kind, many at once, changes under way, and a full table. Needs
//! root; fails where the kernel plane cannot be had.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::bulk::{self, Plan};
use harness::client::{self, line, read_to_end};
use harness::documents::{self, Server, tcp_route, tcp_service};
use harness::gateway::{Gateway, Kernel};
use harness::lab::{Family, Lab};
use harness::serve::{self, Place};
use harness::{echo, wait};

const PORT: u16 = 31400;

fn documents(backends: &[SocketAddr]) -> String {
    documents::gateway("edge", &[Server::tcp(PORT)])
        + &tcp_route("echo", PORT, "edge", "echo")
        + &tcp_service("echo", backends)
}

fn start(lab: &Lab, backends: &[SocketAddr], flags: &[&str]) -> Gateway {
    Gateway::arrange()
        .within(&lab.gateway)
        .kernel(Kernel::Require)
        .flags(&["--interface", "c0"])
        .flags(flags)
        .document("site", &documents(backends))
        .start()
}

fn place(lab: &Lab, index: usize) -> Place {
    Place::within(&lab.backends[index], SocketAddr::new(lab.backend_address(Family::V4, index), 0))
}

fn gateway_address(lab: &Lab) -> SocketAddr {
    SocketAddr::new(lab.gateway_address(Family::V4), PORT)
}

/// Runs clients in the client's namespace.
fn with_client<T: Send + 'static>(lab: &Lab, run: impl FnOnce(SocketAddr) -> T + Send + 'static) -> T {
    let address = gateway_address(lab);
    lab.client.enter(move || run(address))
}

/// Sockets of the gateway's namespace that have to do with the listener's flows, the listener itself not counted.
fn sockets(lab: &Lab) -> usize {
    let said = harness::program::run(lab.gateway.command("ss").args(["-Htan", "state", "connected"]));
    said.expect_success().out.lines().count()
}

#[test]
fn a_half_closed_flow_still_carries_the_answer() {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, 0));
    let _gateway = start(&lab, &[server.address], &[]);
    let answer = with_client(&lab, |address| {
        let mut stream = client::connect(address);
        stream.write_all(b"last words").expect("sending");
        stream.shutdown(Shutdown::Write).expect("half-closing");
        read_to_end(&mut stream)
    });
    assert_eq!(answer, (b"last words".to_vec(), None));
    assert_eq!(sockets(&lab), 0, "the kernel carried it");
}

#[test]
fn a_reset_of_either_end_reaches_the_other() {
    let lab = Lab::new(1).expect("namespaces");
    let (ended, ends) = std::sync::mpsc::channel();
    let server = serve::Server::start(place(&lab, 0), move |mut stream| {
        let ended = ended.clone();
        async move {
            use tokio::io::AsyncReadExt as _;
            match stream.read_u8().await {
                Ok(b'r') => stream.set_zero_linger().expect("a socket option"),
                Ok(_) => drop(ended.send(stream.read_u8().await.map_err(|error| error.kind()))),
                Err(_) => {}
            }
        }
    });
    let _gateway = start(&lab, &[server.address], &[]);
    let error = with_client(&lab, |address| {
        let mut stream = client::connect(address);
        stream.write_all(b"r").expect("sending");
        stream.read(&mut [0]).map_err(|error| error.kind())
    });
    assert_eq!(error, Err(std::io::ErrorKind::ConnectionReset), "the backend's");
    with_client(&lab, |address| {
        let mut stream = client::connect(address);
        stream.write_all(b"x").expect("sending");
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).expect("a socket option");
    });
    let heard = ends.recv_timeout(wait::PATIENCE).expect("the end of the flow");
    assert_eq!(heard, Err(std::io::ErrorKind::ConnectionReset), "the client's");
}

#[test]
fn many_flows_at_once_do_not_mix() {
    let lab = Lab::new(2).expect("namespaces");
    let servers = [0, 1].map(|index| bulk::start(place(&lab, index)));
    let _gateway = start(&lab, &servers.each_ref().map(|server| server.address), &[]);
    with_client(&lab, |address| {
        // Threads begin in the namespace of the one that starts them.
        let clients: Vec<_> = (0..64)
            .map(|seed| {
                std::thread::spawn(move || {
                    let plan = Plan { up: (1 << 20) + seed, down: (1 << 20) - seed, seed };
                    bulk::transfer(client::connect(address), plan, |_| {}).expect("equal digests");
                })
            })
            .collect();
        for client in clients {
            client.join().expect("a client");
        }
    });
    assert!(servers.iter().all(|server| server.accepted() > 0), "both backends were used");
    assert_eq!(servers.iter().map(serve::Server::accepted).sum::<usize>(), 64);
}

/// Short connections all the time while backends come and go: none may fail, whichever table it met.
#[test]
fn no_connection_fails_while_backends_come_and_go() {
    static DONE: AtomicBool = AtomicBool::new(false);
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let lab = Lab::new(3).expect("namespaces");
    let servers = [0, 1, 2].map(|index| echo::start_silent(place(&lab, index)));
    let all = servers.each_ref().map(|server| server.address);
    let gateway = start(&lab, &all, &[]);
    let address = gateway_address(&lab);
    let namespace = lab.client.open();
    let client = std::thread::spawn(move || {
        harness::namespace::join(&namespace);
        let mut failures = Vec::new();
        while !DONE.load(Ordering::SeqCst) && failures.len() < 10 {
            COUNT.fetch_add(1, Ordering::SeqCst);
            failures.extend(converse(address).err());
        }
        failures
    });
    for change in 0..40 {
        let left: Vec<_> = (0..3).filter(|index| index != &(change % 4)).map(|index| all[index]).collect();
        gateway.apply("site", &documents(&left));
    }
    DONE.store(true, Ordering::SeqCst);
    let failures = client.join().expect("the client");
    let count = COUNT.load(Ordering::SeqCst);
    assert!(count > 100, "{count} connections");
    assert!(failures.is_empty(), "{} of {count} failed, first: {:?}", failures.len(), failures.first());
    assert!(servers.iter().all(|server| server.accepted() > 0), "all backends were used");
}

/// A connection with one line there and back. It is reset when it is dropped: thousands that wait for their end would
/// take all of the client's ports.
fn converse(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, client::LIMIT)?;
    socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO))?;
    stream.set_read_timeout(Some(client::LIMIT))?;
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"hello");
    Ok(())
}

#[test]
fn a_full_table_falls_back_to_user_space() {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, 0));
    let _gateway = start(&lab, &[server.address], &["--max-flows", "16"]);
    let streams = with_client(&lab, |address| {
        (0..60)
            .map(|number| {
                let mut stream = client::connect(address);
                let text = format!("{number}\n");
                assert_eq!(line(&mut stream, &text), text);
                stream
            })
            .collect::<Vec<_>>()
    });
    assert!(sockets(&lab) > 0, "what the table does not hold is the agent's");
    // All of them are alive, in whichever plane.
    for mut stream in streams {
        assert_eq!(line(&mut stream, "still\n"), "still\n");
    }
    assert_eq!(server.accepted(), 60);
}

#[test]
fn a_source_port_that_is_used_again_gets_a_flow_of_its_own() {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, 0));
    let _gateway = start(&lab, &[server.address], &[]);
    let reused = with_client(&lab, |address| {
        let (mut port, mut reused) = (40_000, 0);
        for _ in 0..50 {
            let socket = match connect_from(port, address) {
                Ok(socket) => {
                    reused += 1;
                    socket
                }
                // The client's own stack has not let go of the port yet; that is not the gateway's matter.
                Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
                    port += 1;
                    connect_from(port, address).expect("a connection from a port of its own")
                }
                Err(error) => panic!("a connection: {error}"),
            };
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(client::LIMIT)).expect("a socket option");
            assert_eq!(line(&mut stream, "again\n"), "again\n");
        }
        reused
    });
    assert!(reused > 25, "only {reused} rounds used a port again");
    assert_eq!(server.accepted(), 50);
}

/// Without TIME_WAIT on this side, the next round's SYN meets the old entry.
fn connect_from(port: u16, address: SocketAddr) -> std::io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(([0, 0, 0, 0], port)).into())?;
    socket.set_linger(Some(std::time::Duration::ZERO))?;
    socket.connect_timeout(&address.into(), client::LIMIT)?;
    Ok(socket)
}

#[test]
fn without_a_healthy_backend_user_space_closes_and_with_one_the_kernel_steers() {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, 0));
    let gateway = start(&lab, &[], &[]);
    let (bytes, _) = with_client(&lab, |address| read_to_end(&mut client::connect(address)));
    assert_eq!(bytes, b"");
    gateway.apply("site", &documents(&[server.address]));
    // User space has the backend first: until the kernel's tables are written, flows are its own.
    wait::until("a flow in the kernel", || {
        let mut stream = with_client(&lab, client::connect);
        stream.write_all(b"hello\n").ok()?;
        let flows = gateway.sluice(&["maps", "dump", "FLOWS"]).expect_success().out;
        flows.contains("31400").then_some(())
    });
}
