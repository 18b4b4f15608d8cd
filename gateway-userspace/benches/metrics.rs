//! What metrics cost: counting a request, and a scrape, by the number of its lines.
//! `cargo bench --package gateway-userspace --bench metrics`.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made ends")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_userspace::telemetry::metrics::{
    Destination, Encoder, Flags, Form, HttpSample, Outcome, Peer, Protocol, Registry, Rules, Series, Shard,
    Source,
};
use mimalloc::MiMalloc;

/// The agent's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const ROUNDS: usize = 9;
const REQUESTS: u32 = 2_000_000;
/// Lines of a combination of labels of requests: a count, and three histograms of 20 buckets, a sum and a count.
const LINES: usize = 1 + 3 * 22;

fn main() {
    let (registry, shard) = made(1);
    let series = series_of(&shard, 0);
    let sample = HttpSample { duration: Duration::from_micros(730), sent: 1024, ..HttpSample::default() };
    let each = median(|| {
        let began = Instant::now();
        for _ in 0..REQUESTS {
            shard.request(black_box(Some(&*series)), black_box(&sample));
        }
        began.elapsed() / REQUESTS
    });
    println!("counting a request, once its series is known: {} ns", each.as_nanos());
    drop(registry);
    for combinations in [10_000 / LINES, 4096] {
        let (registry, shard) = made(combinations);
        for number in 0..combinations {
            shard.request(Some(&series_of(&shard, number)), &sample);
        }
        let mut bytes = 0;
        let took = median(|| {
            bytes = 0;
            let began = Instant::now();
            let mut give = |piece: Vec<u8>| {
                bytes += black_box(piece).len();
                true
            };
            let mut encoder = Encoder::new(Form::Text, &mut give);
            encoder.traffic(&registry, &Rules::default());
            encoder.end();
            began.elapsed()
        });
        let (lines, mebibytes) = (combinations * LINES, bytes as f64 / f64::from(1 << 20));
        println!("a scrape of {lines} series ({combinations} combinations, {mebibytes:.1} MiB): {took:.1?}");
    }
}

fn made(combinations: usize) -> (Registry, Shard) {
    let [workload, namespace, cluster] =
        ["istio-ingressgateway", "istio-system", "Kubernetes"].map(str::to_owned);
    let source = Source { workload, namespace, peer: Peer::of(&BTreeMap::new()), cluster };
    let registry = Registry::new(source, combinations);
    // As of a machine with four processors.
    let _others: Vec<_> = (0..3).map(|_| registry.shard()).collect();
    let shard = registry.shard();
    (registry, shard)
}

fn series_of(shard: &Shard, number: usize) -> Arc<Series> {
    let host = format!("service-{number}.shop.svc.cluster.local");
    let outcome = Outcome { protocol: Protocol::Http, status: 200, grpc: None, flags: Flags::default() };
    shard.series(&Destination::of(&host, None), outcome).unwrap()
}

fn median(mut measure: impl FnMut() -> Duration) -> Duration {
    let mut all: Vec<_> = (0..ROUNDS).map(|_| measure()).collect();
    all.sort_unstable();
    all[ROUNDS / 2]
}
