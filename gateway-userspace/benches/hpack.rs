//! What heads cost: typical requests decoded, a typical response encoded, on a connection that has seen some before, and a block that is
//! small and means much. `cargo bench --package gateway-userspace --bench hpack`.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made ends")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use gateway_userspace::http2::hpack::{Decoder, Encoder};
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use mimalloc::MiMalloc;

/// The agent's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const ROUNDS: usize = 9;
const TIMES: u32 = 200_000;
const LIMIT: usize = 64 << 10;

fn main() {
    // GET https://example.com/ as h2load says it again: :authority and user-agent are in the table.
    let first = [&[0x82, 0x87, 0x84, 0x41, 11][..], b"example.com", &[0x7a, 6], b"h2load"].concat();
    decoding("h2load's request", &first, &[0x82, 0x87, 0x84, 0xbf, 0xbe]);
    // A browser's: a path in Huffman code that changes, and thirteen headers that do not.
    let mut first = vec![0x82, 0x87, 0x84, 0x41, 11];
    first.extend_from_slice(b"example.com");
    for nth in 0..13 {
        let (name, value) = (format!("sec-header-{nth:02}"), format!("a value of some thirty letters {nth}"));
        for (flags, text) in [(Some(0x40), name), (None, value)] {
            first.extend(flags);
            first.push(text.len() as u8);
            first.extend_from_slice(text.as_bytes());
        }
    }
    let path = [0x60, 0xd5, 0x48, 0x5f, 0x2b, 0xce, 0x9a, 0x68].repeat(3);
    let again = [&[0x82, 0x87, 0x04, 0x80 | path.len() as u8][..], &path, &(0xbe..=0xcb).collect::<Vec<_>>()]
        .concat();
    decoding("a browser's request", &first, &again);
    encoding();
    bomb();
}

fn decoding(what: &str, first: &[u8], again: &[u8]) {
    let mut decoder = Decoder::new();
    decoder.decode(first, LIMIT, |field| drop(field.unwrap())).unwrap();
    let each = median(|| {
        let began = Instant::now();
        for _ in 0..TIMES {
            decoder.decode(black_box(again), LIMIT, |field| drop(black_box(field.unwrap()))).unwrap();
        }
        began.elapsed() / TIMES
    });
    println!("decoding {what}, {} octets: {} ns", again.len(), each.as_nanos());
}

fn encoding() {
    let headers: HeaderMap = [
        ("server", "istio-envoy"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("content-type", "application/json; charset=utf-8"),
        ("content-length", "1024"),
        ("vary", "accept-encoding"),
        ("cache-control", "no-store"),
        ("x-request-id", "0242ac12-55f0-4ac7-9d14-9bb22b3ab4c1"),
        ("x-envoy-upstream-service-time", "3"),
    ]
    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
    .into_iter()
    .collect();
    let (mut encoder, mut out) = (Encoder::new(), BytesMut::with_capacity(4096));
    let each = median(|| {
        let began = Instant::now();
        for _ in 0..TIMES {
            out.clear();
            encoder.response(black_box(StatusCode::OK), black_box(&headers), &mut out);
        }
        began.elapsed() / TIMES
    });
    println!(
        "encoding a response of {} headers, {} octets: {} ns",
        headers.len(),
        out.len(),
        each.as_nanos()
    );
}

fn bomb() {
    let value = vec![b'x'; 4063];
    let mut block = [&[0x40, 1, b'a', 0x7f, 0xe0, 0x1e][..], &value].concat();
    block.resize(64 << 10, 0xbe);
    let thousands = (block.len() - value.len()) as f64 / 1000.0;
    let each = median(|| {
        let began = Instant::now();
        black_box(Decoder::new().decode(black_box(&block), 0, |_| ()).unwrap());
        began.elapsed()
    });
    println!("a thousand references over the limit: {:.1} µs", each.as_secs_f64() * 1e6 / thousands);
}

fn median(mut measure: impl FnMut() -> Duration) -> Duration {
    let mut all: Vec<_> = (0..ROUNDS).map(|_| measure()).collect();
    all.sort_unstable();
    all[ROUNDS / 2]
}
