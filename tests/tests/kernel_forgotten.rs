//! A handed-over connection that both of its ends have forgotten without a word, as machines do that lose their power: what
//! comes next on its ports is another connection, for whichever backend its client asks. Needs root; fails where the kernel
//! plane cannot be had.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use gateway_userspace::net::repair;
use harness::authority::Authority;
use harness::client::LIMIT;
use harness::documents::{self, service, sni_route};
use harness::gateway::{Gateway, Kernel};
use harness::lab::{Family, Lab};
use harness::steered::{place, verify_checksums};
use harness::tls::TlsClient;
use harness::{echo, wait};
use socket2::{Domain, Socket, Type};

const PORT: u16 = 443;
const OLD: &str = "old.test";
const NEW: &str = "new.test";

fn route(name: &str, word: &str, backend: SocketAddr) -> String {
    sni_route(word, PORT, name, "edge", word) + &service(word, "https", &[backend])
}

/// A backend that keeps what it accepts, for the test to do with as it likes.
fn keep_connections(lab: &Lab, family: Family) -> (SocketAddr, Receiver<TcpStream>) {
    let address = SocketAddr::new(lab.backend_address(family, 0), 0);
    let listener = lab.backends[0].enter(move || TcpListener::bind(address).expect("a listener"));
    let address = listener.local_addr().expect("its address");
    let (accepted, connections) = channel();
    std::thread::spawn(move || {
        // Ends with the test, which waits for nothing more then.
        listener.incoming().flatten().all(|stream| accepted.send(stream).is_ok())
    });
    (address, connections)
}

/// Connects from a port, or from one of the kernel's choice.
fn connect(lab: &Lab, from: SocketAddr, to: SocketAddr) -> TcpStream {
    lab.client.enter(move || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("an option");
        socket.bind(&from.into()).expect("the port");
        socket.connect_timeout(&to.into(), LIMIT).expect("a connection");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT)).expect("an option");
        stream
    })
}

fn hello(name: &str) -> Vec<u8> {
    TlsClient::new(Authority::new("nobody's").roots(), name).hello()
}

/// Closes a socket so that its peer hears nothing of it.
fn forget(stream: TcpStream) {
    repair::enter(&stream).expect("repair mode");
    drop(stream);
}

fn a_new_connection_reaches_its_own_backend(family: Family) {
    let lab = Lab::new(1).expect("namespaces");
    verify_checksums(&lab);
    let (old, connections) = keep_connections(&lab, family);
    let new = echo::start_silent(place(&lab, family, 0));
    let gateway = Gateway::arrange()
        .within(&lab.gateway)
        .kernel(Kernel::Require)
        .flags(&["--interface", "c0"])
        .document(
            "site",
            &(documents::gateway("edge", &[documents::Server::passthrough(PORT, &[OLD, NEW])])
                + &route(OLD, "old", old)
                + &route(NEW, "new", new.address)),
        )
        .start();
    let to = SocketAddr::new(lab.gateway_address(family), PORT);
    let mut client = connect(&lab, SocketAddr::new(lab.client_address(family), 0), to);
    let from = client.local_addr().expect("its address");
    client.write_all(&hello(OLD)).expect("sending");
    let mut backend = connections.recv_timeout(LIMIT).expect("a connection");
    wait::until("a hand-over", || (gateway.handed_over() == 1).then_some(()));
    for _ in 0..3 {
        backend.write_all(b"some words").expect("sending");
        client.read_exact(&mut [0; 10]).expect("some words");
    }
    forget(client);
    forget(backend);

    let mut client = connect(&lab, from, to);
    let greeting = hello(NEW);
    client.write_all(&greeting).expect("sending");
    let mut heard = vec![0; greeting.len()];
    client.read_exact(&mut heard).expect("an echo");
    assert!(heard == greeting, "{family:?}: another hello");
    assert_eq!(new.accepted(), 1, "{family:?}");
    assert!(connections.try_recv().is_err(), "{family:?}: the backend of before has the connection");
    assert_eq!(gateway.kernel()["verdicts"]["challenged"], 1, "{family:?}");
}

#[test]
fn over_ipv4_a_new_connection_reaches_its_own_backend() {
    a_new_connection_reaches_its_own_backend(Family::V4);
}

#[test]
fn over_ipv6_a_new_connection_reaches_its_own_backend() {
    a_new_connection_reaches_its_own_backend(Family::V6);
}
