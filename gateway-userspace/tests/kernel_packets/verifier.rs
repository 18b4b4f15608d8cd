//! What the programs cost the kernel's verifier.

use std::time::Instant;

use crate::bench::Bench;

/// A kernel looks at a million instructions at most; a fifth of that takes it less than half of a second.
const MOST: u32 = 200_000;

#[test]
fn the_verifier_has_little_to_look_at() {
    let begun = Instant::now();
    let mut bench = Bench::new(64);
    let took = begun.elapsed();
    let tc = bench.loaded.classifier().unwrap().info().unwrap();
    let guard = bench.loaded.other("sluice_guard").unwrap().info().unwrap();
    let xdp = bench.loaded.xdp().unwrap().info().unwrap();
    for (name, info) in [("tc", tc), ("guard", guard), ("XDP", xdp)] {
        let count = info.verified_instruction_count().unwrap();
        println!("{name}: {count} instructions looked at, loaded with maps in {took:?}");
        assert!(count < MOST, "{name}: {count}");
        assert!(info.btf_id().is_some(), "{name}: without BTF no function is looked at by itself");
    }
}
