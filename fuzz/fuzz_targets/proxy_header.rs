//! A header of the PROXY protocol is read alike however it is cut, and nothing makes the reader panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

/// The file itself and not the agent, as for the ClientHello.
#[path = "../../gateway-userspace/src/net/proxy_header.rs"]
mod proxy_header;

use proxy_header::read;

fuzz_target!(|input: &[u8]| {
    let at_once = read(input);
    if let Ok(Some((_, length))) = at_once {
        assert!(length <= input.len());
    }
    // What shows at the start stays so.
    let mut starts = (0..input.len()).map(|length| read(&input[..length]));
    assert_eq!(starts.find(|start| *start != Ok(None)).unwrap_or(at_once), at_once);
});
