//! A model of the hand-over without I/O, explored: two ends, the gateway's two sockets, a network that loses, doubles and
//! reorders, the programs and the agent, step by step, with a crash possible after each. The programs decide by the same
//! functions as in the kernel.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod handover_model {
    pub(crate) mod agent;
    pub(crate) mod explore;
    pub(crate) mod programs;
    pub(crate) mod rules;
    pub(crate) mod tcp;
    pub(crate) mod world;
}

use handover_model::explore::{self, Found};
use handover_model::rules::Broken;

/// Seeds in which a broken rule must show.
const SEEDS_FOR_ONE: u64 = 20_000;

/// Seeds of a run.
const SEEDS: u64 = 3000;

fn show(found: &Found) -> String {
    format!("seed {}: {}\n{}", found.seed, found.what, found.trace.join("\n"))
}

#[test]
fn no_byte_is_lost_whatever_happens() {
    if let Some(found) = explore::random(0..SEEDS, None) {
        panic!("{}", show(&found));
    }
}

#[test]
fn a_broken_rule_is_found() {
    let is_found = |broken: Broken| {
        let mut seeds = std::iter::once(broken.known_seed()).chain(0..SEEDS_FOR_ONE);
        seeds.any(|seed| explore::shows(seed, broken))
    };
    let unfound: Vec<Broken> = std::thread::scope(|scope| {
        let parts: Vec<_> = Broken::ALL
            .chunks(Broken::ALL.len().div_ceil(2))
            .map(|part| {
                scope.spawn(move || {
                    part.iter().copied().filter(|broken| !is_found(*broken)).collect::<Vec<_>>()
                })
            })
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    assert!(unfound.is_empty(), "{unfound:?}");
}

#[test]
fn no_order_of_a_few_segments_loses_a_byte() {
    let (visited, found) = explore::every(None);
    if let Some(found) = found {
        panic!("{}", show(&found));
    }
    println!("{visited} states");
}
