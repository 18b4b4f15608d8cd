//! What the kernel tests share: network namespaces, snapshots, pin directories.
#![allow(dead_code, reason = "each test target uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

pub(crate) mod frame;
pub(crate) mod lab;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gateway_userspace::datapath::Pins;
use gateway_userspace::model::{
    Cluster, ClusterName, Endpoint, Health, Limits, Listener, ListenerKey, ListenerKind, Snapshot,
    SourceAddress, Steering, TcpRoute, UpstreamProtocol, WeightedCluster,
};
use nix::sched::{CloneFlags, setns, unshare};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A network namespace that lives as long as this and the sockets in it. It has no name and leaves none.
pub(crate) struct Namespace {
    file: File,
}

impl Namespace {
    /// A new one, with loopback up.
    pub(crate) fn new() -> Self {
        let open = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("kernel tests need root and network namespaces");
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let file = std::thread::spawn(open).join().unwrap();
        let namespace = Self { file };
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs something in the namespace, on the calling thread.
    pub(crate) fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        /// Comes back also when the work panics.
        struct Back(File);
        impl Drop for Back {
            fn drop(&mut self) {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
            }
        }
        let _back = Back(File::open("/proc/thread-self/ns/net").unwrap());
        setns(&self.file, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    }

    /// Runs `ip` in the namespace.
    pub(crate) fn ip(&self, arguments: &str) {
        let output =
            self.enter(|| Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2"));
        assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Lays a cable to another namespace: a veth pair with an address at each end.
    pub(crate) fn connect(
        &self,
        name: &str,
        addresses: &[&str],
        other: &Self,
        other_name: &str,
        others: &[&str],
    ) {
        let path = format!("/proc/{}/fd/{}", std::process::id(), other.file.as_raw_fd());
        self.ip(&format!("link add {name} type veth peer name {other_name} netns {path}"));
        for (namespace, name, addresses) in [(self, name, addresses), (other, other_name, others)] {
            for address in addresses {
                let nodad = if address.contains(':') { "nodad" } else { "" };
                namespace.ip(&format!("addr add {address} dev {name} {nodad}"));
            }
            namespace.ip(&format!("link set {name} up"));
        }
    }
}

/// A pin directory of the test's own, removed with everything in it.
pub(crate) struct PinDirectory(pub(crate) PathBuf);

impl PinDirectory {
    /// A name that no other test has.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("sluice-pins-{}-{number}", std::process::id())))
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PinDirectory {
    fn drop(&mut self) {
        let removed = Pins::below(&self.0).remove();
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

/// Starts a backend: it sends its name and a line feed, then echoes until the client closes. Returns its address.
pub(crate) fn backend(namespace: &Namespace, ip: &str, name: &'static str) -> SocketAddr {
    let ip: IpAddr = ip.parse().unwrap();
    let listener = namespace.enter(|| TcpListener::bind((ip, 0)).unwrap());
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(stream, name));
        }
    });
    address
}

fn serve(mut stream: TcpStream, name: &str) {
    let mut buffer = vec![0; 65_536];
    let mut written = stream.write_all(format!("{name}\n").as_bytes());
    while written.is_ok() {
        match stream.read(&mut buffer) {
            Ok(read @ 1..) => written = stream.write_all(&buffer[..read]),
            _ => return,
        }
    }
}

/// A connection of a client and the name of the backend that took it.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) name: String,
}

impl Connection {
    /// Connects from a namespace.
    pub(crate) fn open(namespace: &Namespace, address: SocketAddr) -> std::io::Result<Self> {
        let mut stream = namespace.enter(|| TcpStream::connect_timeout(&address, PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut name = String::new();
        let mut byte = [0];
        loop {
            stream.read_exact(&mut byte)?;
            if byte == *b"\n" {
                return Ok(Self { stream, name });
            }
            name.push(char::from(byte[0]));
        }
    }

    /// Sends bytes and reads them back.
    pub(crate) fn echo(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        let mut back = vec![0; bytes.len()];
        self.stream.read_exact(&mut back).unwrap();
        assert!(back == bytes, "{} bytes came back changed", bytes.len());
    }
}

/// Sends bytes and reads them back at the same time, however many.
pub(crate) fn bulk(connection: &mut Connection, bytes: usize) {
    let data: Vec<u8> = (0..bytes).map(|index| (index / 7) as u8).collect();
    let mut writer = connection.stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| writer.write_all(&data).unwrap());
        let mut back = vec![0; bytes];
        connection.stream.read_exact(&mut back).unwrap();
        assert!(back == data, "{bytes} bytes came back changed");
    });
}

/// A snapshot with one listener on every address, and a route to endpoints of equal weight.
pub(crate) fn snapshot(generation: u64, port: u16, endpoints: &[SocketAddr]) -> Arc<Snapshot> {
    let mut endpoints: Vec<Endpoint> =
        endpoints.iter().map(|address| Endpoint::new(*address, Health::Healthy)).collect();
    endpoints.sort_by_key(|endpoint| endpoint.address);
    let name = ClusterName { host: "tcp.test".into(), port: 80, subset: None };
    let cluster = Cluster::new(name.clone(), UpstreamProtocol::Tcp, endpoints);
    let destination = WeightedCluster { name, cluster: Some(Arc::new(cluster)), weight: 1 };
    let route = TcpRoute {
        virtual_service: "tcp.default".into(),
        destinations: vec![destination],
        idle_timeout: Duration::from_hours(1),
        max_duration: None,
        origin: None,
    };
    let listener = Listener {
        name: format!("0.0.0.0_{port}").into(),
        key: ListenerKey { bind: None, port },
        kind: ListenerKind::Tcp(Arc::new(route)),
        steering: Steering::Kernel,
        source_address: SourceAddress::Snat,
        proxy_protocol: None,
        behind_proxy: false,
        limits: Limits::default(),
        servers: Vec::new(),
    };
    Arc::new(Snapshot { generation, listeners: vec![Arc::new(listener)], ..Snapshot::default() })
}

/// Waits until a condition holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
