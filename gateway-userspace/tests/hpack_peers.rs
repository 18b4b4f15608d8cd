//! HPACK against another implementation: a client of the h2 crate, whose requests are decoded here, and which decodes what is
//! encoded here. Frames are no more than it takes for that.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use bytes::{Buf as _, BufMut as _, BytesMut};
use fastrand::Rng;
use gateway_userspace::http2::hpack::{Decoder, Encoder, Field};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EXCHANGES: u64 = 400;

// RFC 9113, 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const HEADER_TABLE_SIZE: u16 = 1;

const NAMES: [&str; 14] = [
    "accept",
    "user-agent",
    "cookie",
    "authorization",
    "content-type",
    "grpc-timeout",
    "server",
    "date",
    "set-cookie",
    "x-request-id",
    "etag",
    "vary",
    "x-one",
    "x",
];

/// Hundreds of messages on a connection: what either side says is what the other one reads, of any octets that values have.
#[tokio::test]
async fn h2_reads_what_is_written_and_writes_what_is_read() {
    for (seed, table) in [(1, None), (2, Some(0)), (3, Some(200)), (4, Some(4096)), (5, Some(65_536))] {
        let (client, server) = tokio::io::duplex(64 << 10);
        let server = tokio::spawn(serve(server, seed));
        ask(client, seed, table).await;
        server.await.expect("the server held what it read to what was sent");
    }
}

/// What the client says in each exchange; both sides know it.
fn request(seed: u64, nth: u64) -> Request<()> {
    let random = &mut Rng::with_seed(seed << 32 | nth << 1);
    let path = ["/", "/index.html", "/a?b=c", &format!("/{}", random.u16(..))][random.usize(..4)].to_owned();
    let scheme = ["http", "https"][random.usize(..2)];
    let mut request = Request::new(());
    *request.method_mut() =
        [Method::GET, Method::POST, Method::PUT, Method::from_bytes(b"PROPFIND").unwrap()][random.usize(..4)]
            .clone();
    *request.uri_mut() = format!("{scheme}://a{}.test{path}", random.u8(..3)).parse().unwrap();
    *request.headers_mut() = headers(random);
    request
}

/// Likewise the server: status, headers, trailers.
fn response(seed: u64, nth: u64) -> (StatusCode, HeaderMap, Option<HeaderMap>) {
    let random = &mut Rng::with_seed(seed << 32 | nth << 1 | 1);
    let status =
        StatusCode::from_u16([200, 201, 204, 302, 404, 503, random.u16(200..600)][random.usize(..7)]);
    let trailers = (random.u8(..3) == 0).then(|| headers(random));
    (status.unwrap(), headers(random), trailers)
}

fn headers(random: &mut Rng) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for _ in 0..random.usize(..12) {
        let name = match random.u8(..8) {
            0 => HeaderName::try_from(format!("x-{}", random.u16(..))).unwrap(),
            _ => HeaderName::from_static(NAMES[random.usize(..NAMES.len())]),
        };
        let longest = if random.u8(..) < 10 { 1000 } else { 40 };
        let length = random.usize(..longest);
        let value: Vec<u8> = match random.u8(..4) {
            0 => (0..length).map(|_| random.u8(0x80..)).collect(),
            1 => (0..length).map(|_| random.u8(b' '..=b'~')).collect(),
            2 => vec![b'\t'; length % 3],
            _ => format!("steady-{}", random.u8(..2)).into_bytes(),
        };
        let mut value = HeaderValue::from_bytes(&value).unwrap();
        // None of them is said otherwise too: h2 refers to an entry for it then.
        if random.u8(..) < 10 {
            value = HeaderValue::try_from(format!("secret-{}", random.u8(..2))).unwrap();
            value.set_sensitive(true);
        }
        headers.append(name, value);
    }
    headers
}

async fn ask(io: DuplexStream, seed: u64, table: Option<u32>) {
    let mut builder = h2::client::Builder::new();
    if let Some(table) = table {
        builder.header_table_size(table);
    }
    let (mut client, connection) = builder.handshake::<_, &[u8]>(io).await.unwrap();
    let connection = tokio::spawn(connection);
    for nth in 0..EXCHANGES {
        client = client.ready().await.unwrap();
        let (answer, _) = client.send_request(request(seed, nth), true).unwrap();
        let (head, mut body) = answer.await.unwrap().into_parts();
        let (status, headers, trailers) = response(seed, nth);
        assert_eq!((head.status, &head.headers), (status, &headers), "seed {seed}, {nth}");
        while let Some(data) = body.data().await {
            assert!(data.unwrap().is_empty());
        }
        assert_eq!(body.trailers().await.unwrap(), trailers.filter(|trailers| !trailers.is_empty()));
    }
    drop(client);
    connection.abort();
}

async fn serve(mut io: DuplexStream, seed: u64) {
    let (mut decoder, mut encoder) = (Decoder::new(), Encoder::new());
    let mut preface = [0; PREFACE.len()];
    io.read_exact(&mut preface).await.unwrap();
    assert_eq!(preface, PREFACE);
    write(&mut io, SETTINGS, 0, 0, &[]).await;
    let (mut nth, mut block) = (0, BytesMut::new());
    while nth < EXCHANGES {
        let (kind, flags, stream, payload) = read(&mut io).await;
        match kind {
            SETTINGS if flags & ACK == 0 => {
                take_settings(&mut encoder, &payload);
                write(&mut io, SETTINGS, ACK, 0, &[]).await;
            }
            HEADERS | CONTINUATION => {
                block.extend_from_slice(&payload);
                if flags & END_HEADERS != 0 {
                    check(&mut decoder, &block.split(), &request(seed, nth));
                    answer(&mut io, &mut encoder, stream, response(seed, nth)).await;
                    nth += 1;
                }
            }
            _ => {}
        }
    }
    // The client ends first, so that it has read all.
    let _ = io.read_to_end(&mut Vec::new()).await;
}

fn take_settings(encoder: &mut Encoder, mut payload: &[u8]) {
    while payload.has_remaining() {
        let (name, value) = (payload.get_u16(), payload.get_u32());
        if name == HEADER_TABLE_SIZE {
            encoder.set_limit(value);
        }
    }
}

fn check(decoder: &mut Decoder, block: &[u8], want: &Request<()>) {
    let (uri, mut headers) = (want.uri(), HeaderMap::new());
    let mut pseudo = 0;
    let size = decoder.decode(block, 64 << 10, |field| match field.expect("a request that is sound") {
        Field::Header(name, value) => {
            headers.append(name, value);
        }
        told => {
            pseudo += 1;
            match told {
                Field::Method(method) => assert_eq!(method, want.method()),
                Field::Scheme(scheme) => assert_eq!(Some(&scheme[..]), uri.scheme_str().map(str::as_bytes)),
                Field::Authority(host) => assert_eq!(Some(&host[..]), uri.host().map(str::as_bytes)),
                Field::Path(path) => {
                    assert_eq!(Some(&path[..]), uri.path_and_query().map(|path| path.as_str().as_bytes()));
                }
                told => panic!("{told:?} was not said"),
            }
        }
    });
    assert!(!size.expect("a block that is sound").is_over);
    assert_eq!((pseudo, &headers), (4, want.headers()));
    let secrets = |headers: &HeaderMap| headers.values().filter(|value| value.is_sensitive()).count();
    assert!(secrets(&headers) >= secrets(want.headers()));
}

async fn answer(
    io: &mut DuplexStream,
    encoder: &mut Encoder,
    stream: u32,
    (status, headers, trailers): (StatusCode, HeaderMap, Option<HeaderMap>),
) {
    let mut block = BytesMut::new();
    encoder.response(status, &headers, &mut block);
    write(io, HEADERS, END_HEADERS, stream, &block).await;
    match trailers.filter(|trailers| !trailers.is_empty()) {
        None => write(io, DATA, END_STREAM, stream, &[]).await,
        Some(trailers) => {
            block.clear();
            encoder.trailers(&trailers, &mut block);
            write(io, HEADERS, END_HEADERS | END_STREAM, stream, &block).await;
        }
    }
}

async fn read(io: &mut DuplexStream) -> (u8, u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    io.read_exact(&mut head).await.unwrap();
    let mut head = &head[..];
    let (length, kind, flags, stream) = (head.get_uint(3), head.get_u8(), head.get_u8(), head.get_u32());
    let mut payload = vec![0; length as usize];
    io.read_exact(&mut payload).await.unwrap();
    (kind, flags, stream, payload)
}

async fn write(io: &mut DuplexStream, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let mut frame = BytesMut::new();
    frame.put_uint(payload.len() as u64, 3);
    frame.put_u8(kind);
    frame.put_u8(flags);
    frame.put_u32(stream);
    frame.put_slice(payload);
    io.write_all(&frame).await.unwrap();
}
