//! A ClientHello is read alike however it is cut, nothing makes the reader panic, and where a whole reader of TLS finds
//! server names too, it finds the same one. The first byte of an input says how long the pieces are, the rest is what the
//! client sends.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_fuzz::client_hello::{ClientHello, HelloError, HelloReader};
use tls_parser::{
    TlsExtension, TlsMessage, TlsMessageHandshake, parse_tls_client_hello_extensions, parse_tls_plaintext,
};

fuzz_target!(|input: &[u8]| {
    let Some((length, octets)) = input.split_first() else { return };
    let at_once = HelloReader::default().feed(octets);
    assert_eq!(read_cut(octets, usize::from(*length).max(1)), at_once);
    if let Ok(Some(hello)) = at_once
        && let Some(names) = names(octets)
    {
        let routed: Vec<_> = hello.sni.iter().map(|name| name.to_string()).collect();
        assert_eq!(routed, names);
    }
});

fn read_cut(octets: &[u8], length: usize) -> Result<Option<ClientHello>, HelloError> {
    let mut reader = HelloReader::default();
    for piece in octets.chunks(length) {
        match reader.feed(piece) {
            Ok(None) => {}
            done => return done,
        }
    }
    Ok(None)
}

/// The server names of a hello in one record, in lower case, if its extensions are understood to their end.
fn names(octets: &[u8]) -> Option<Vec<String>> {
    let (_, record) = parse_tls_plaintext(octets).ok()?;
    let Some(TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello))) = record.msg.first() else {
        return None;
    };
    let ([], extensions) = parse_tls_client_hello_extensions(hello.ext.unwrap_or_default()).ok()? else {
        return None;
    };
    let lists = extensions.iter().filter_map(|extension| match extension {
        TlsExtension::SNI(names) => Some(names),
        _ => None,
    });
    Some(lists.flatten().map(|(_, name)| String::from_utf8_lossy(name).to_ascii_lowercase()).collect())
}
