//! Requests of HTTP/1 are counted alike however they are cut, and nothing makes the counting panic. The first byte of an
//! input says how long the pieces are, the rest is what the client sends.

#![no_main]

use libfuzzer_sys::fuzz_target;

/// The file itself and not the agent: instrumenting its hundred other crates would find nothing and take minutes.
#[path = "../../gateway-userspace/src/net/heads/scanner.rs"]
mod scanner;

use scanner::Scanner;

fuzz_target!(|input: &[u8]| {
    let Some((length, bytes)) = input.split_first() else { return };
    assert_eq!(read_cut(bytes, usize::from(*length).max(1)), read_cut(bytes, bytes.len().max(1)));
});

fn read_cut(bytes: &[u8], length: usize) -> (u64, Option<u64>) {
    let mut scanner = Scanner::default();
    bytes.chunks(length).for_each(|piece| scanner.feed(piece));
    (scanner.heads(), scanner.ambiguous())
}
