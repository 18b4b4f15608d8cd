//! What a configuration of a large mesh costs: reading and translating 10,000 VirtualServices of 5 routes, 5,000 Services
//! and 50,000 endpoints, putting one changed VirtualService or EndpointSlice in force, and finding a route at 10,000 hosts.
//! `cargo bench --package gateway-userspace --bench translate [VIRTUALSERVICES]`.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made ends")]

#[path = "../../tests/src/mesh.rs"]
#[allow(unreachable_pub, reason = "a module of a library too")]
mod mesh;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use gateway_userspace::analysis::Analyst;
use gateway_userspace::api::Severity;
use gateway_userspace::api::diagnostic::render;
use gateway_userspace::datapath::plan::{self, plan};
use gateway_userspace::model::{Counts, ListenerKind, RequestHead, RouteTable, Snapshot};
use gateway_userspace::proxy::Runtime;
use gateway_userspace::source::{FileSource, Loaded};
use gateway_userspace::translate::{Surroundings, translate};
use http::HeaderMap;
use mesh::{ENDPOINTS, Mesh, ROUTES};
use mimalloc::MiMalloc;
use nix::time::{ClockId, clock_gettime};

/// The agent's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const ROUNDS: usize = 5;
const LOOKUPS: usize = 200_000;

fn main() {
    let numbers = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let virtual_services: usize = numbers.unwrap_or(10_000);
    let mesh = Mesh::of(virtual_services);
    let directory = tempfile::tempdir().unwrap();
    let write = |(name, text): mesh::File| {
        std::fs::write(directory.path().join(format!("{name}.yaml")), text).unwrap();
    };
    mesh.files().for_each(write);
    println!(
        "{virtual_services} VirtualServices of {ROUTES} routes, {} Services of {ENDPOINTS} endpoints; medians of {ROUNDS} \
         rounds",
        mesh.services
    );
    let source = || FileSource::new(vec![directory.path().to_owned()], "default");
    row("read all files", median(|| time(|| source().load())));
    let mut source = source();
    let loaded = source.load();
    let errors = loaded.diagnostics.iter().filter(|found| found.is_error()).count();
    assert_eq!(errors, 0, "{:?}", loaded.diagnostics.first());
    let surroundings = Surroundings::default();
    row("translate all", median(|| time(|| translate(&loaded.objects, &surroundings, 1))));
    let mut agent = Agent::default();
    row("analyse all and put it in force", time(|| agent.put_in_force(source.load())));
    for (what, changed) in [
        ("VirtualService", Mesh::changed_virtual_service as fn(Mesh, usize) -> mesh::File),
        ("EndpointSlice", Mesh::changed_endpoint_slice),
    ] {
        let mut round = 0;
        let mut change = || {
            round += 1;
            write(changed(mesh, round));
            let begun = processor_time();
            let loaded = source.load();
            let read = processor_time().saturating_sub(begun);
            (read, time(|| agent.put_in_force(loaded)))
        };
        let times: Vec<_> = (0..ROUNDS).map(|_| change()).collect();
        let of = |which: fn(&(Duration, Duration)) -> Duration| middle(times.iter().map(which).collect());
        row(&format!("read the files again after one {what} changed"), of(|times| times.0));
        row("  and put it in force", of(|times| times.1));
    }
    let snapshot = &agent.runtime.snapshot;
    let table = table(snapshot);
    assert_eq!(table.virtual_hosts.len(), virtual_services);
    println!(
        "{:>10.0} ns  find the last of {ROUTES} routes at {virtual_services} hosts",
        find(table, virtual_services)
    );
}

/// What an agent does with what it has read until its proxy serves it, and its kernel plane has a plan.
#[derive(Default)]
struct Agent {
    analyst: Analyst,
    runtime: Arc<Runtime>,
    counts: Counts,
    generation: u64,
}

impl Agent {
    fn put_in_force(&mut self, loaded: Loaded) {
        self.generation += 1;
        let (surroundings, now) = (Surroundings::default(), SystemTime::now());
        let previous = (&*self.runtime.tls, &self.runtime.upstream_tls);
        let analysis = self.analyst.analyse(loaded, &surroundings, self.generation, previous, now);
        let loud = analysis.diagnostics.iter().filter(|found| found.severity != Severity::Info);
        for found in loud {
            black_box((render(found, false), found.to_string()));
        }
        self.counts.retain(&analysis.snapshot, Instant::now());
        self.runtime = Arc::new(Runtime {
            snapshot: analysis.snapshot,
            tls: Arc::new(analysis.tls),
            upstream_tls: analysis.upstream_tls,
        });
        black_box(plan(&self.runtime.snapshot, &plan::Surroundings::default()));
    }
}

fn row(what: &str, took: Duration) {
    println!("{:>10.1} ms  {what}", took.as_secs_f64() * 1e3);
}

fn median(mut measure: impl FnMut() -> Duration) -> Duration {
    middle((0..ROUNDS).map(|_| measure()).collect())
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Without the time that it takes to free the result.
fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let start = processor_time();
    let result = work();
    let took = processor_time().saturating_sub(start);
    drop(black_box(result));
    took
}

/// What this thread has used of a processor: all that is measured here is one thread's, and other work on the machine does
/// not count.
fn processor_time() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap())
}

fn table(snapshot: &Snapshot) -> &RouteTable {
    match &snapshot.listeners[0].kind {
        ListenerKind::Http(table) => table,
        other => panic!("{other:?}"),
    }
}

/// Nanoseconds for a virtual host and its last route, hosts in an order that no cache foresees.
fn find(table: &RouteTable, hosts: usize) -> f64 {
    let authorities: Vec<String> = (0..hosts).map(|at| format!("h{at}.example.com")).collect();
    let headers = HeaderMap::new();
    let look = |at: usize| {
        let authority = &authorities[at * 7919 % hosts];
        let head = RequestHead {
            path: "/p4/x",
            query: None,
            method: "GET",
            scheme: "http",
            authority,
            headers: &headers,
        };
        table.virtual_host(authority).and_then(|host| host.route(&head)).is_some()
    };
    let all = || (0..LOOKUPS).filter(|at| look(*at)).count();
    assert_eq!(all(), LOOKUPS);
    median(|| time(all)).as_secs_f64() * 1e9 / LOOKUPS as f64
}
