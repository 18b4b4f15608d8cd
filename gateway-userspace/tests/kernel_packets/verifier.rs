//! What the programs cost the kernel's verifier.

use std::time::Instant;

use crate::bench::Bench;

/// A kernel looks at a million instructions at most; half of a second is what a start may take.
const MOST: u32 = 150_000;

#[test]
fn the_verifier_has_little_to_look_at() {
    let begun = Instant::now();
    let mut bench = Bench::new(64);
    let took = begun.elapsed();
    let tc = bench.loaded.classifier().unwrap().info().unwrap();
    let xdp = bench.loaded.xdp().unwrap().info().unwrap();
    for (name, info) in [("tc", tc), ("XDP", xdp)] {
        let count = info.verified_instruction_count().unwrap();
        println!("{name}: {count} instructions looked at, loaded with maps in {took:?}");
        assert!(count < MOST, "{name}: {count}");
        assert!(info.btf_id().is_some(), "{name}: without BTF no function is looked at by itself");
    }
}
