//! A header of the PROXY protocol is read alike however it is cut, nothing makes the reader panic, and what it tells is
//! understood again when the agent says it to a backend.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_fuzz::net::proxy_header::{MAX_HEADER, Told, read};
use sluice_fuzz::net::proxy_protocol::{version_1, version_2};

fuzz_target!(|input: &[u8]| {
    let at_once = read(input);
    if let Ok(Some((told, length))) = at_once {
        assert!(length <= input.len().min(MAX_HEADER));
        told.into_iter().for_each(say_again);
    }
    // What shows at the start stays so.
    let mut starts = (0..input.len()).map(|length| read(&input[..length]));
    assert_eq!(starts.find(|start| *start != Ok(None)).unwrap_or(at_once), at_once);
});

fn say_again(told: Told) {
    for header in [version_1(told.source, told.destination), version_2(told.source, told.destination)] {
        assert_eq!(read(&header), Ok(Some((Some(told), header.len()))), "{}", header.escape_ascii());
    }
}
