//! Requests of HTTP/1 that are served can be read in one way only: the agent, which reads them, agrees with a reading of RFC 9112 to
//! the letter, however the octets are cut. Nor is there anything in a head that is served which some other reader could take for
//! the length of a body.
//!
//! The first byte of an input says how long the pieces are; the rest is what the client sends.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_fuzz::reading::{Body, Framing, Written, requests};
use sluice_fuzz::served::{Served, serve};

fuzz_target!(|input: &[u8]| {
    let Some((first, octets)) = input.split_first() else { return };
    let piece = usize::from(first & 0x7f) + 1;
    let (served, written) = (serve(octets, piece), requests(octets));
    for (at, served) in served.iter().enumerate() {
        match written.get(at) {
            Some(written) => compare(octets, served, written),
            None => assert!(!served.is_plain, "request {at} begins nowhere: {served:?}"),
        }
    }
    assert_eq!(serve(octets, octets.len().max(1)), served, "in pieces of {piece}");
});

/// The agent may refuse what can be read, and then does not say so here: there is no such request, or its body breaks off.
fn compare(octets: &[u8], served: &Served, written: &Written) {
    let head = &octets[written.head.clone()];
    let is_plain = !matches!(written.framing, Framing::Ambiguous | Framing::Unreadable);
    assert_eq!(served.is_plain, is_plain, "{served:?} of {written:?}");
    if !is_plain {
        return;
    }
    assert_eq!(served.method, written.method);
    if let path @ [b'/', ..] = written.target.as_bytes() {
        let path = path.split(|octet| *octet == b'#').next();
        assert_eq!(Some(served.target.as_bytes()), path);
    }
    assert_eq!(lengths(head), written.lengths, "{}", head.escape_ascii());
    match (&served.body, &written.body) {
        (Some(served), Body::Whole(written)) => assert_eq!(served, written),
        (Some(served), Body::Broken) => panic!("{} of a body that breaks off", served.escape_ascii()),
        (Some(_), Body::Unreadable) | (None, _) => {}
    }
}

/// How many lines behind the first say a length to the most forgiving reader: one to whom lines end at every control
/// character, and blanks are nothing.
fn lengths(head: &[u8]) -> usize {
    let is_end = |octet: &u8| octet.is_ascii_control() && *octet != b'\t';
    let lines = head.split(is_end).filter(|line| !line.is_empty()).skip(1);
    let names = lines.filter_map(|line| line.split(|octet| *octet == b':').next());
    let plain =
        |name: &[u8]| name.iter().filter(|octet| octet.is_ascii_graphic()).copied().collect::<Vec<_>>();
    let is_length = |name: &Vec<u8>| {
        name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding")
    };
    names.map(plain).filter(is_length).count()
}
