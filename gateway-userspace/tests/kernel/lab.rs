//! A client, a gateway and two backends in network namespaces of their own, and the kernel plane between them. There is
//! no listening socket on the gateway, so whatever gets through was steered.

use std::net::SocketAddr;
use std::path::Path;

use gateway_userspace::cli::maps;
use gateway_userspace::datapath::{KernelPlane, Unavailable};
use gateway_userspace::model::{Fitness, Published};
use gateway_userspace::settings::{Datapath, KernelArgs, KernelMode, Mark};

use super::{Connection, Namespace, backend};

/// Port of the listener.
pub(crate) const PORT: u16 = 7000;

/// Addresses of the gateway, towards the client.
pub(crate) const GATEWAY: [&str; 2] = ["198.18.0.1", "fd18::1"];

/// See the module. The gateway's interfaces are `clients`, `backend.0` and `backend.1`.
pub(crate) struct Lab {
    pub(crate) client: Namespace,
    pub(crate) gateway: Namespace,
    pub(crate) backends: [Namespace; 2],
}

impl Lab {
    /// All of it.
    pub(crate) fn new() -> Self {
        let lab = Self {
            client: Namespace::new(),
            gateway: Namespace::new(),
            backends: [Namespace::new(), Namespace::new()],
        };
        lab.gateway.connect(
            "clients",
            &["198.18.0.1/24", "fd18::1/64"],
            &lab.client,
            "eth0",
            &["198.18.0.2/24", "fd18::2/64"],
        );
        for (index, backend) in lab.backends.iter().enumerate() {
            lab.gateway.connect(
                &format!("backend.{index}"),
                &[&format!("10.66.{index}.1/24"), &format!("fd66:{index}::1/64")],
                backend,
                "eth0",
                &[&format!("10.66.{index}.2/24"), &format!("fd66:{index}::2/64")],
            );
        }
        lab
    }

    /// A backend on both families.
    pub(crate) fn backend(&self, index: usize, name: &'static str) -> [SocketAddr; 2] {
        let namespace = &self.backends[index];
        [
            backend(namespace, &format!("10.66.{index}.2"), name),
            backend(namespace, &format!("fd66:{index}::2"), name),
        ]
    }

    /// An agent that has to start.
    pub(crate) fn start(&self, pins: &Path) -> KernelPlane {
        self.start_by(&arguments(pins, "clients")).unwrap_or_else(|error| panic!("{error}"))
    }

    /// An agent by flags of its own.
    pub(crate) fn start_by(&self, arguments: &KernelArgs) -> Result<KernelPlane, Unavailable> {
        self.gateway.enter(|| {
            KernelPlane::start(
                arguments,
                &Fitness::default(),
                Published::default(),
                // A child that another test is just starting may still have a copy of the lock's descriptor.
                std::time::Duration::from_secs(1),
            )
        })
    }

    /// A client's connection to an address of the gateway.
    pub(crate) fn connect(&self, address: &str) -> std::io::Result<Connection> {
        Connection::open(&self.client, SocketAddr::new(address.parse().unwrap(), PORT))
    }
}

/// Flags of an agent.
pub(crate) fn arguments(pins: &Path, interface: &str) -> KernelArgs {
    KernelArgs {
        kernel: KernelMode::Require,
        interfaces: vec![interface.to_owned()],
        pin_dir: pins.to_owned(),
        max_flows: 1024,
        datapath: Datapath::Auto,
        denied: Vec::new(),
        max_new_flows_per_source: 0,
        backend_drain_time: 30,
        mark: Mark::default(),
    }
}

/// A command line as the `sluice` binary parses it.
pub(crate) fn parse<A: clap::Args>(pins: &Path, arguments: &str) -> A {
    let command = A::augment_args(clap::Command::new("sluice"));
    let pins = format!("--pin-dir={}", pins.display());
    let words = ["sluice"].into_iter().chain([pins.as_str()]).chain(arguments.split_whitespace());
    A::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
}

/// What `sluice maps` prints.
pub(crate) fn report(pins: &Path, arguments: &str) -> String {
    maps::report(&parse(pins, arguments)).unwrap()
}
