//! A ClientHello is read alike however it is cut, and nothing makes the reader panic. The first byte of an input says
//! how long the pieces are, the rest is what the client sends.

#![no_main]

use libfuzzer_sys::fuzz_target;

/// The file itself and not the agent: instrumenting its hundred other crates would find nothing and take minutes.
#[path = "../../gateway-userspace/src/tls/client_hello.rs"]
mod client_hello;

use client_hello::{ClientHello, HelloError, HelloReader};

fuzz_target!(|input: &[u8]| {
    let Some((length, bytes)) = input.split_first() else { return };
    let at_once = HelloReader::default().feed(bytes);
    assert_eq!(read_cut(bytes, usize::from(*length).max(1)), at_once);
});

fn read_cut(bytes: &[u8], length: usize) -> Result<Option<ClientHello>, HelloError> {
    let mut reader = HelloReader::default();
    for piece in bytes.chunks(length) {
        match reader.feed(piece) {
            Ok(None) => {}
            done => return done,
        }
    }
    Ok(None)
}
