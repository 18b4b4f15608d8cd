//! Headers of the PROXY protocol: those that proxies write, and those that nobody should.

use super::*;
use crate::net::proxy_protocol::{version_1, version_2};

/// What a header says that begins a connection on which more follows, whatever of it has come.
#[track_caller]
fn whole(header: &[u8]) -> Option<Told> {
    for length in 0..header.len() {
        assert_eq!(read(&header[..length]), Ok(None), "{length} of {} bytes", header.len());
    }
    let more = [header, b"GET / HTTP/1.1\r\n"].concat();
    let (told, length) = read(&more).expect("a header").expect("a whole one");
    assert_eq!(length, header.len());
    told
}

fn told(source: &str, destination: &str) -> Told {
    Told { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

#[test]
fn what_is_written_is_read() {
    for (source, destination, want) in [
        ("192.0.2.1:56324", "198.51.100.2:443", None),
        ("[2001:db8::1]:1", "[2001:db8::2]:65535", None),
        ("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:80", Some(("192.0.2.1:1", "192.0.2.2:80"))),
        ("192.0.2.1:1", "[2001:db8::2]:80", None),
    ] {
        let want = want.unwrap_or((source, destination));
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        for header in [version_1(source, destination), version_2(source, destination)] {
            assert_eq!(whole(&header), Some(told(want.0, want.1)));
        }
    }
}

/// A header of version 2.
fn binary(version: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[version, family], &length, rest].concat()
}

#[test]
fn some_proxies_speak_for_nobody() {
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".to_vec(),
        binary(0x20, 0x00, b""),
        binary(0x20, 0x11, &[0; 12]),
        binary(0x21, 0x00, b"whatever"),
        binary(0x21, 0x31, &[0; 216]),
    ] {
        assert_eq!(whole(&header), None, "{header:?}");
    }
}

#[test]
fn what_proxies_add_is_passed_over() {
    let mut rest = vec![192, 0, 2, 1, 192, 0, 2, 2, 0, 1, 0, 80];
    rest.extend([0x04, 0, 3, 0, 0, 0]);
    assert_eq!(whole(&binary(0x21, 0x11, &rest)), Some(told("192.0.2.1:1", "192.0.2.2:80")));
    rest.resize(MAX_HEADER - FIXED, 0);
    assert_eq!(whole(&binary(0x21, 0x11, &rest)), Some(told("192.0.2.1:1", "192.0.2.2:80")));
    rest.push(0);
    assert_eq!(read(&binary(0x21, 0x11, &rest)[..FIXED]), Err(HeaderError::Long), "before it has come");
}

#[test]
fn what_is_no_header_is_refused_as_soon_as_it_shows() {
    for (bytes, error) in [
        (&b"G"[..], HeaderError::Absent),
        (b"PROXX", HeaderError::Absent),
        (b"\r\n\r\n\0\r\nQUIX", HeaderError::Absent),
        (b"\x16\x03\x01", HeaderError::Absent),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 80\n", HeaderError::Line),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 80 \r\n", HeaderError::Line),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", HeaderError::Line),
        (b"PROXY TCP4  192.0.2.1 192.0.2.2 1 80\r\n", HeaderError::Line),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 80\r\n", HeaderError::Line),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 01 80\r\n", HeaderError::Line),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 80\r\n", HeaderError::Line),
        (b"PROXY TCP4 2001:db8::1 2001:db8::2 1 80\r\n", HeaderError::Line),
        (b"PROXY TCP6 192.0.2.1 192.0.2.2 1 80\r\n", HeaderError::Line),
        (b"PROXY UDP4 192.0.2.1 192.0.2.2 1 80\r\n", HeaderError::Line),
        (b"PROXY \r\n", HeaderError::Line),
        (b"PROXY \xff\r\n", HeaderError::Line),
    ] {
        assert_eq!(read(bytes), Err(error), "{:?}", String::from_utf8_lossy(bytes));
    }
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; MAX_LINE]].concat();
    assert_eq!(read(&endless[..MAX_LINE - 1]), Ok(None));
    assert_eq!(read(&endless), Err(HeaderError::Line));
    for (version, family, rest, error) in [
        (0x11, 0x11, &[0; 12][..], HeaderError::Unknown),
        (0x22, 0x11, &[0; 12], HeaderError::Unknown),
        (0x21, 0x12, &[0; 12], HeaderError::Unknown),
        (0x21, 0x41, &[0; 12], HeaderError::Unknown),
        (0x21, 0x11, &[0; 11], HeaderError::Short),
        (0x21, 0x21, &[0; 35], HeaderError::Short),
    ] {
        assert_eq!(read(&binary(version, family, rest)), Err(error), "{version:x} {family:x}");
    }
}

#[test]
fn mutated_headers_are_read_alike_however_they_are_cut() {
    let mut random = fastrand::Rng::with_seed(7);
    let (source, destination) = ("192.0.2.1:1".parse().unwrap(), "[2001:db8::2]:80".parse().unwrap());
    for header in [version_1(source, destination), version_2(source, destination)] {
        for _ in 0..5000 {
            let mut bytes = header.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            let at_once = read(&bytes);
            if let Ok(Some((_, length))) = at_once {
                assert!(length <= bytes.len());
            }
            let mut starts = (0..bytes.len()).map(|length| read(&bytes[..length]));
            assert_eq!(starts.find(|start| *start != Ok(None)).unwrap_or(at_once), at_once, "{bytes:?}");
        }
    }
}
