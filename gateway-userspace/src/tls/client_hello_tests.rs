//! ClientHellos whole, in pieces, and broken.

use super::*;

/// A ClientHello message with the given extensions, padded by an unknown (GREASE) one.
fn message(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    let mut list = Vec::new();
    for (kind, content) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend((content.len() as u16).to_be_bytes());
        list.extend(content);
    }
    body.extend((list.len() as u16).to_be_bytes());
    body.extend(list);
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

fn sni(names: &[&str]) -> (u16, Vec<u8>) {
    let mut list = Vec::new();
    for name in names {
        list.push(0);
        list.extend((name.len() as u16).to_be_bytes());
        list.extend(name.as_bytes());
    }
    let mut content = (list.len() as u16).to_be_bytes().to_vec();
    content.extend(list);
    (0, content)
}

fn alpn() -> (u16, Vec<u8>) {
    (16, b"\x00\x0c\x02h2\x08http/1.1".to_vec())
}

fn grease(size: usize) -> (u16, Vec<u8>) {
    (0x3a3a, vec![9; size])
}

#[test]
fn every_prefix_asks_for_more_and_the_whole_is_read() {
    for record_size in [1, 3, 100, MAX_RECORD] {
        let bytes = records(
            &message(&[grease(0), sni(&["Simple-SNI-1.example.com"]), alpn(), grease(1500)]),
            record_size,
        );
        for end in 0..bytes.len() {
            assert_eq!(
                parse(&bytes[..end]),
                Ok(None),
                "{end} of {} in records of {record_size}",
                bytes.len()
            );
        }
        let hello = parse(&bytes).unwrap().unwrap();
        assert_eq!(hello.sni.as_deref(), Some("simple-sni-1.example.com"));
        assert_eq!(hello.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }
}

#[test]
fn a_hello_of_nearly_64_kib_is_read_and_a_longer_one_is_refused() {
    let large = records(&message(&[sni(&["a.test"]), grease(60_000)]), MAX_RECORD);
    assert_eq!(parse(&large).unwrap().unwrap().sni.as_deref(), Some("a.test"));
    let mut claims_too_much = records(&message(&[sni(&["a.test"])]), MAX_RECORD);
    claims_too_much[6..9].copy_from_slice(&[1, 0, 0]);
    assert_eq!(parse(&claims_too_much), Err(HelloError::TooLong));
    // Tiny records cannot carry the framing past the bound either.
    let endless = records(&message(&[grease(60_000)])[..12_000], 1);
    assert_eq!(parse(&endless), Err(HelloError::TooLong));
}

#[test]
fn what_is_no_hello_is_named() {
    let hello = message(&[sni(&["a.test"])]);
    let mut second_kind = hello.clone();
    second_kind[0] = 2;
    let mut cut_list = hello.clone();
    let last = cut_list.len() - 1;
    cut_list[last - 10] = 0xff;
    for (bytes, want) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), HelloError::NotTls),
        (b"\x16\x02".to_vec(), HelloError::NotTls),
        (b"\x16\x03\x01\x00\x00".to_vec(), HelloError::Malformed),
        (b"\x16\x03\x01\xff\xff".to_vec(), HelloError::Malformed),
        (records(&second_kind, 100), HelloError::Malformed),
        (records(&message(&[sni(&["a.test", "b.test"])]), 100), HelloError::SeveralNames),
        (records(&message(&[sni(&["a.test"]), sni(&["b.test"])]), 100), HelloError::SeveralNames),
        (records(&message(&[sni(&["a b"])]), 100), HelloError::InvalidName),
        (records(&message(&[sni(&[""])]), 100), HelloError::InvalidName),
    ] {
        assert_eq!(parse(&bytes), Err(want), "{bytes:?}");
    }
    assert_eq!(parse(&records(&message(&[alpn()]), 100)).unwrap().unwrap().sni, None);
}

#[test]
fn no_bytes_make_it_panic() {
    let bytes = records(&message(&[sni(&["a.test"]), alpn(), grease(40)]), 64);
    fastrand::seed(7);
    for _ in 0..200_000 {
        let mut mutated = bytes.clone();
        for _ in 0..fastrand::usize(1..4) {
            let at = fastrand::usize(..mutated.len());
            mutated[at] = fastrand::u8(..);
        }
        mutated.truncate(fastrand::usize(..=mutated.len()));
        let _ = parse(&mutated);
    }
}
