//! Whatever a client of HTTP/2 says is understood in one way, however its octets are cut; it is told whole frames, never more than a
//! bound at a time, and what becomes of its streams adds up: none is left when it has gone.
//!
//! The first byte of an input says how long the pieces are; the rest is what the client sends behind its preface and settings.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_fuzz::talked::talk;

fuzz_target!(|input: &[u8]| {
    let Some((first, octets)) = input.split_first() else { return };
    let piece = usize::from(first & 0x7f) + 1;
    let whole = talk(octets, octets.len().max(1));
    assert_eq!(talk(octets, piece), whole, "in pieces of {piece}");
});
