//! The programs of a control plane.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::client;
use crate::kube::access;
use crate::kube::api::{Api, ask};
use crate::kube::audit;
use crate::kube::seat::Seat;
use crate::program::{Running, tool};
use crate::{port, wait};

/// An API server compiles much at its start, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where documents are kept.
#[derive(Debug)]
pub(super) struct Etcd {
    _process: Running,
    seat: Seat,
    port: u16,
}

impl Etcd {
    /// Starts one that keeps its files below a directory; whoever asks it waits until it listens.
    pub(super) fn start(directory: &Path, seat: &Seat) -> Self {
        let (clients, peers) = (port::free(), port::free());
        let url = |port| format!("http://127.0.0.1:{port}");
        let mut etcd = seat.command(tool("kube/etcd"));
        etcd.arg("--data-dir").arg(directory.join("etcd"));
        // What it keeps ends with it.
        etcd.args(["--unsafe-no-fsync", "--log-level", "warn"]);
        etcd.args(["--listen-client-urls", &url(clients), "--advertise-client-urls", &url(clients)]);
        etcd.args(["--listen-peer-urls", &url(peers), "--initial-advertise-peer-urls", &url(peers)]);
        etcd.args(["--name", "only", "--initial-cluster", &format!("only={}", url(peers))]);
        let process = Running::start(&mut etcd, &directory.join("etcd.log"));
        Self { _process: process, seat: seat.clone(), port: clients }
    }

    /// Forgets all states but the last one.
    #[track_caller]
    pub(super) fn compact(&self) {
        let status = self.ask("/v3/maintenance/status", &json!({}));
        let revision = status["header"]["revision"].as_str().expect("the last state's number").to_owned();
        self.ask("/v3/kv/compaction", &json!({"revision": revision, "physical": true}));
    }

    /// By its gateway from JSON to gRPC.
    fn ask(&self, path: &str, question: &Value) -> Value {
        let address = ([127, 0, 0, 1], self.port).into();
        let asked = ask("POST", path, "application/json", question.to_string());
        let answer = self.seat.enter(move || client::send(address, asked));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }
}

/// An API server. Killed when dropped.
#[derive(Debug)]
pub struct ApiServer {
    process: Running,
    seat: Seat,
    port: u16,
}

impl ApiServer {
    /// Starts one where etcd is. The files that it reads are those that `access` has written.
    pub(super) fn start(directory: &Path, etcd: &Etcd, port: u16) -> Self {
        let seat = etcd.seat.clone();
        let mut server = seat.command(tool("kube/kube-apiserver"));
        server.args([&format!("--etcd-servers=http://127.0.0.1:{}", etcd.port), "--allow-privileged=true"]);
        server.args([&format!("--secure-port={port}"), "--shutdown-delay-duration=0s"]);
        server.args(seat.flags(directory)).args(access::flags(directory));
        server.args(audit::flags(directory, port));
        let log = directory.join(format!("kube-apiserver-{port}.log"));
        Self { process: Running::start(&mut server, &log), seat, port }
    }

    #[track_caller]
    pub(super) fn wait_until_ready(mut self, api: &Api) -> Self {
        let ready = wait::within(PATIENCE, || {
            if self.process.ended().is_some() {
                return Some(false);
            }
            api.get("/readyz").is_ok_and(|answer| answer.status == 200).then_some(true)
        });
        match ready {
            Some(true) => self,
            Some(false) => panic!("kube-apiserver ended:\n{}", self.process.log()),
            None => panic!("kube-apiserver is not ready after {PATIENCE:?}:\n{}", self.process.log()),
        }
    }

    /// Stops it where it is, or has it go on.
    pub(super) fn hold(&self, is_held: bool) {
        let process = Pid::from_raw(self.process.id().cast_signed());
        kill(process, if is_held { Signal::SIGSTOP } else { Signal::SIGCONT }).expect("a process of ours");
    }

    /// What kubectl is told to reach it: `--server`.
    pub fn url(&self) -> String {
        access::url(&self.seat, self.port)
    }
}
