//! ClientHellos whole, in pieces, and broken.

use super::*;

/// What a reader says that is fed everything at once.
fn parse(bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    HelloReader::default().feed(bytes)
}

/// A ClientHello message with the given extensions.
fn message(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, content) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend((content.len() as u16).to_be_bytes());
        list.extend(content);
    }
    let mut tail = (list.len() as u16).to_be_bytes().to_vec();
    tail.extend(list);
    // A GREASE cipher suite (RFC 8701) before one that all know.
    framed(&[0xda, 0xda, 0x13, 0x01], &[0], &tail)
}

/// A ClientHello message of these parts; `tail` is what stands behind the compression methods.
fn framed(ciphers: &[u8], compressions: &[u8], tail: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend((ciphers.len() as u16).to_be_bytes());
    body.extend(ciphers);
    body.push(compressions.len() as u8);
    body.extend(compressions);
    body.extend(tail);
    let mut message = vec![1];
    message.extend(&(body.len() as u32).to_be_bytes()[1..]);
    message.extend(body);
    message
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in message.chunks(size) {
        out.extend([22, 3, 1]);
        out.extend((piece.len() as u16).to_be_bytes());
        out.extend(piece);
    }
    out
}

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 3, 3];
    out.extend((payload.len() as u16).to_be_bytes());
    out.extend(payload);
    out
}

fn vector(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u16).to_be_bytes(), content].concat()
}

fn sni(names: &[&str]) -> (u16, Vec<u8>) {
    let entries: Vec<u8> = names.iter().flat_map(|name| entry(0, name)).collect();
    (SERVER_NAME, vector(&entries))
}

fn entry(kind: u8, name: &str) -> Vec<u8> {
    [&[kind], &*vector(name.as_bytes())].concat()
}

fn alpn() -> (u16, Vec<u8>) {
    (ALPN, b"\x00\x0c\x02h2\x08http/1.1".to_vec())
}

/// An extension that nobody knows (RFC 8701), of any size.
fn grease(size: usize) -> (u16, Vec<u8>) {
    (0x3a3a, vec![9; size])
}

/// What a reader says that is fed pieces of the given lengths, over and over.
fn parse_cut(bytes: &[u8], mut length: impl FnMut() -> usize) -> Result<Option<ClientHello>, HelloError> {
    let mut reader = HelloReader::default();
    let mut at = 0;
    while at < bytes.len() {
        let end = bytes.len().min(at + length());
        match reader.feed(&bytes[at..end]) {
            Ok(None) => {}
            done => return done,
        }
        let held = reader.message.capacity();
        assert!(held <= MAX_HELLO && held <= (2 * end).max(8), "holds {held} bytes of {end}");
        at = end;
    }
    Ok(None)
}

#[test]
fn every_prefix_asks_for_more_and_the_whole_is_read() {
    for record_size in [1, 3, 100, MAX_RECORD] {
        let extensions = [grease(0), sni(&["Simple-SNI-1.example.com"]), alpn(), grease(200)];
        let bytes = records(&message(&extensions), record_size);
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Ok(None), "{end} of {} by {record_size}", bytes.len());
        }
        for cut in 1..=bytes.len() {
            let hello = parse_cut(&bytes, || cut).unwrap().unwrap();
            assert_eq!(hello.sni.as_deref(), Some("simple-sni-1.example.com"));
            assert_eq!(hello.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        }
    }
}

#[test]
fn a_hello_of_nearly_64_kib_is_read_and_a_longer_one_is_refused() {
    let large = message(&[sni(&["a.test"]), grease(60_000)]);
    for cut in [1, 1460, MAX_HELLO] {
        let hello = parse_cut(&records(&large, MAX_RECORD), || cut);
        assert_eq!(hello.unwrap().unwrap().sni.as_deref(), Some("a.test"));
    }
    // Told by the fourth byte of the message, without waiting for the rest.
    assert_eq!(parse(b"\x16\x03\x01\x02\x00\x01\x01\x00\x00"), Err(HelloError::TooLong));
    // Tiny records cannot carry the framing past the bound either.
    assert_eq!(parse(&records(&large[..12_000], 1)), Err(HelloError::TooLong));
}

#[test]
fn the_bound_is_exact() {
    let around = message(&[grease(0)]).len() + RECORD_HEADER * 4;
    for (beyond, want) in [(0, true), (1, false)] {
        let bytes = records(&message(&[grease(MAX_HELLO - around + beyond)]), MAX_RECORD);
        assert_eq!(bytes.len(), MAX_HELLO + beyond);
        assert_eq!(parse(&bytes).is_ok(), want, "{beyond}");
        assert_eq!(parse_cut(&bytes, || 1), parse(&bytes));
    }
}

#[test]
fn what_is_no_hello_is_named() {
    let hello = message(&[sni(&["a.test"]), alpn()]);
    let mut other_kind = hello.clone();
    other_kind[0] = 2;
    let split = |between: &[u8]| [&record(22, &hello[..20]), between, &record(22, &hello[20..])].concat();
    for (bytes, want) in [
        (b"G".to_vec(), HelloError::NotTls),
        (b"\x16\x02".to_vec(), HelloError::NotTls),
        (b"\x90\x00\x05".to_vec(), HelloError::NotTls),
        (record(21, &[2, 40]), HelloError::NotTls),
        (b"\x80\x2e\x01\x00\x02\x00\x15".to_vec(), HelloError::OldHello),
        (b"\x80\x2e\x01\x03\x01\x00\x15".to_vec(), HelloError::OldHello),
        (b"\x16\x03\x01\x00\x00".to_vec(), HelloError::Malformed),
        (b"\x16\x03\x01\x40\x01".to_vec(), HelloError::Malformed),
        (split(&record(22, &[])), HelloError::Malformed),
        (split(&record(21, &[1, 0])), HelloError::Malformed),
        (split(&record(20, &[1])), HelloError::Malformed),
        (split(&record(23, &[0; 9])), HelloError::Malformed),
        (split(b"GET /"), HelloError::Malformed),
        (records(&other_kind, 100), HelloError::Malformed),
        (records(&[1, 0, 0, 0], 100), HelloError::Malformed),
        (records(&framed(&[], &[0], &[]), 100), HelloError::Malformed),
        (records(&framed(&[0x13], &[0], &[]), 100), HelloError::Malformed),
        (records(&framed(&[0x13, 1], &[], &[]), 100), HelloError::Malformed),
        (records(&framed(&[0x13, 1], &[0], &[0]), 100), HelloError::Malformed),
        (records(&framed(&[0x13, 1], &[0], &[0, 0, 0]), 100), HelloError::Malformed),
        (records(&framed(&[0x13, 1], &[0], &[0, 3, 0x3a, 0x3a, 0]), 100), HelloError::Malformed),
    ] {
        assert_eq!(parse(&bytes), Err(want), "{bytes:?}");
        assert_eq!(parse_cut(&bytes, || 1), Err(want), "byte by byte: {bytes:?}");
    }
    assert!(parse(&split(&[])).is_ok_and(|hello| hello.is_some()), "the pieces themselves are sound");
}

#[test]
fn one_server_name_at_most_and_one_list_of_protocols() {
    let name = |name: &str| vec![sni(&[name])];
    let raw = |kind: u16, content: &[u8]| vec![(kind, content.to_vec())];
    for (extensions, want) in [
        (vec![sni(&["a.test", "b.test"])], HelloError::SeveralNames),
        (vec![sni(&["a.test"]), sni(&["a.test"])], HelloError::SeveralNames),
        (vec![sni(&["a.test"]), grease(3), sni(&["b.test"])], HelloError::SeveralNames),
        (raw(0, &vector(&[entry(0, "a.test"), entry(7, "?")].concat())), HelloError::SeveralNames),
        (raw(0, &vector(&[entry(0, "a.test"), vec![9]].concat())), HelloError::SeveralNames),
        (raw(0, &vector(&entry(1, "a.test"))), HelloError::InvalidName),
        (name("a b"), HelloError::InvalidName),
        (name("b\u{fc}cher.test"), HelloError::InvalidName),
        (name("a\0.test"), HelloError::InvalidName),
        (name("*.test"), HelloError::InvalidName),
        (name("a.test:443"), HelloError::InvalidName),
        (name(&"a".repeat(256)), HelloError::InvalidName),
        (name(""), HelloError::InvalidName),
        (raw(0, &[]), HelloError::Malformed),
        (raw(0, &[0, 0]), HelloError::Malformed),
        (raw(0, &[0, 1, 0]), HelloError::Malformed),
        (raw(0, &[&*vector(&entry(0, "a.test")), &[0]].concat()), HelloError::Malformed),
        (vec![alpn(), alpn()], HelloError::Malformed),
        (raw(16, &[]), HelloError::Malformed),
        (raw(16, &[0, 0]), HelloError::Malformed),
        (raw(16, &[0, 1, 0]), HelloError::Malformed),
        (raw(16, &[0, 3, 3, b'h', b'2']), HelloError::Malformed),
        (raw(16, &[0, 3, 2, b'h', b'2', 0]), HelloError::Malformed),
    ] {
        assert_eq!(parse(&records(&message(&extensions), 100)), Err(want), "{extensions:?}");
    }
}

#[test]
fn names_are_read_as_envoy_reads_them() {
    for (sent, want) in [
        ("A.Example.TEST", "a.example.test"),
        ("a.test.", "a.test."),
        ("_dmarc.x-1.test", "_dmarc.x-1.test"),
        ("xn--bcher-kva.test", "xn--bcher-kva.test"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        (&*"a".repeat(255), &*"a".repeat(255)),
    ] {
        let hello = parse(&records(&message(&[sni(&[sent])]), 100)).unwrap().unwrap();
        assert_eq!(hello.sni.as_deref(), Some(want));
    }
    for nameless in [message(&[alpn()]), message(&[]), framed(&[0x13, 1], &[0], &[])] {
        assert_eq!(parse(&records(&nameless, 100)).unwrap().unwrap().sni, None);
    }
}

#[test]
fn extensions_that_routing_does_not_need_are_not_judged() {
    // Key shares, versions, status request, session ticket, padding, pre-shared key: contents that are nonsense.
    let strange = [51, 43, 5, 35, 21, 41, 13172, 0xff01].map(|kind| (kind, vec![0xee; 3]));
    // RFC 9849, 5: the real name is in the extension; the hello's own is the public one.
    let encrypted = (0xfe0d, vec![0; 200]);
    let greased = [(0x0a0a, vec![]), (0xfafa, vec![0])];
    let extensions = [&strange[..], &[encrypted], &greased, &[sni(&["public.test"]), alpn()]].concat();
    let hello = parse(&records(&message(&extensions), 100)).unwrap().unwrap();
    assert_eq!((hello.sni.as_deref(), hello.alpn.len()), (Some("public.test"), 2));
}

#[test]
fn what_follows_the_hello_is_not_looked_at() {
    let hello = record(22, &message(&[sni(&["a.test"])]));
    for behind in [&record(23, &[0; 50])[..], &record(20, &[1]), b"\x16\x03\x03\x00\x00", b"junk"] {
        let bytes = [&hello, behind].concat();
        for cut in [1, 7, bytes.len()] {
            let read = parse_cut(&bytes, || cut).unwrap().unwrap();
            assert_eq!(read.sni.as_deref(), Some("a.test"));
        }
    }
}

/// Lengths and kinds are where parsers go wrong, so values at their edges come more often than by chance.
fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..5) {
        if bytes.is_empty() {
            return;
        }
        let at = random.usize(..bytes.len());
        match random.u8(..8) {
            0 => bytes[at] = random.u8(..),
            1 => bytes[at] = [0, 1, 3, 16, 20, 21, 22, 0x7f, 0x80, 0xff][random.usize(..10)],
            2 => bytes[at] = bytes[at].wrapping_add(1),
            3 => bytes[at] = bytes[at].wrapping_sub(1),
            4 => drop(bytes.remove(at)),
            5 => bytes.insert(at, random.u8(..)),
            6 => bytes.truncate(at),
            _ => {
                let piece = bytes[at..bytes.len().min(at + random.usize(..40))].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// Hellos that mutations start from.
fn seeds() -> Vec<Vec<u8>> {
    let whole = message(&[grease(2), sni(&["a.test"]), alpn(), grease(40)]);
    let large = message(&[sni(&["a.test"]), grease(2_000), alpn()]);
    let mut seeds: Vec<_> = [1, 5, 64, MAX_RECORD].map(|size| records(&whole, size)).into();
    seeds.push(records(&large, 600));
    seeds.push([records(&whole, 200), record(23, &[0; 30])].concat());
    seeds.push(records(&message(&[sni(&["a.test", "b.test"])]), 100));
    seeds
}

#[test]
fn mutated_hellos_are_read_alike_however_they_are_cut() {
    let mut random = fastrand::Rng::with_seed(7);
    let seeds = seeds();
    let (mut read, mut refused) = (0, 0);
    for round in 0..150_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        mutate(&mut bytes, &mut random);
        let at_once = parse(&bytes);
        let longest = [1, 2, 16, 600][random.usize(..4)];
        let cut = parse_cut(&bytes, || random.usize(1..=longest));
        assert_eq!(cut, at_once, "round {round}: {bytes:?}");
        read += usize::from(matches!(at_once, Ok(Some(_))));
        refused += usize::from(at_once.is_err());
    }
    // Mutations that are all refused, or all harmless, would test one path.
    assert!(read > 10_000 && refused > 10_000, "{read} read, {refused} refused");
}
