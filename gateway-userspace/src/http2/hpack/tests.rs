//! Blocks as they come and go: the examples of RFC 7541, what is hostile, and both sides against each other.

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::*;

const PLENTY: usize = 1 << 20;

type Line = (String, Vec<u8>);

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// A field as it was written.
fn line(field: &Field) -> Line {
    let (name, value) = match field {
        Field::Method(method) => (":method", method.as_str().as_bytes()),
        Field::Scheme(text) => (":scheme", &text[..]),
        Field::Authority(text) => (":authority", &text[..]),
        Field::Path(text) => (":path", &text[..]),
        Field::Protocol(text) => (":protocol", &text[..]),
        Field::Status(status) => (":status", status.as_str().as_bytes()),
        Field::Header(name, value) => (name.as_str(), value.as_bytes()),
    };
    (name.to_owned(), value.to_vec())
}

fn lines(said: &str) -> Vec<Line> {
    let parts = said.lines().map(|line| line.trim().split_at(line.trim()[1..].find(": ").unwrap() + 1));
    parts.map(|(name, value)| (name.to_owned(), value.as_bytes()[2..].to_vec())).collect()
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Result<Field, Malformed>>, Error> {
    let mut fields = Vec::new();
    let size = decoder.decode(block, PLENTY, |field| fields.push(field))?;
    assert!(!size.is_over);
    Ok(fields)
}

fn decoded_lines(decoder: &mut Decoder, block: &[u8]) -> Vec<Line> {
    decoded(decoder, block).unwrap().iter().map(|field| line(field.as_ref().unwrap())).collect()
}

/// Blocks of appendix C: what each says, its octets, and the bytes of the table behind it.
struct Example {
    blocks: [(&'static str, &'static str, u32); 3],
    /// Set at the start of the first block.
    table: u32,
}

const REQUESTS: [&str; 3] = [
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com",
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache",
    ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value",
];
const RESPONSES: [&str; 3] = [
    ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
    ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
    ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com
     content-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
];

const C3: Example = Example {
    blocks: [
        (REQUESTS[0], "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", 57),
        (REQUESTS[1], "8286 84be 5808 6e6f 2d63 6163 6865", 110),
        (REQUESTS[2], "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", 164),
    ],
    table: 4096,
};
const C4: Example = Example {
    blocks: [
        (REQUESTS[0], "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", 57),
        (REQUESTS[1], "8286 84be 5886 a8eb 1064 9cbf", 110),
        (REQUESTS[2], "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", 164),
    ],
    table: 4096,
};
const C5: Example = Example {
    blocks: [
        (
            RESPONSES[0],
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32
             3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            222,
        ),
        (RESPONSES[1], "4803 3330 37c1 c0bf", 222),
        (
            RESPONSES[2],
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970
             7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61
             6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
            215,
        ),
    ],
    table: 256,
};
const C6: Example = Example {
    blocks: [
        (
            RESPONSES[0],
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad
             1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            222,
        ),
        (RESPONSES[1], "4883 640e ffc1 c0bf", 222),
        (
            RESPONSES[2],
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2
             e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            215,
        ),
    ],
    table: 256,
};

/// The block of an example, with the table's size before the first one if it is not the default.
fn block(example: &Example, nth: usize) -> Vec<u8> {
    let mut block = BytesMut::new();
    if nth == 0 && example.table != 4096 {
        integer::write(&mut block, 0x20, 5, example.table as usize);
    }
    block.extend_from_slice(&octets(example.blocks[nth].1));
    block.to_vec()
}

#[test]
fn examples_of_appendix_c2_are_read() {
    for (said, block, used) in [
        ("custom-key: custom-header", "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", 55),
        (":path: /sample/path", "040c 2f73 616d 706c 652f 7061 7468", 0),
        ("password: secret", "1008 7061 7373 776f 7264 0673 6563 7265 74", 0),
        (":method: GET", "82", 0),
    ] {
        let mut decoder = Decoder::new();
        let fields = decoded(&mut decoder, &octets(block)).unwrap();
        let [Ok(field)] = &fields[..] else { panic!("{fields:?}") };
        assert_eq!((vec![line(field)], decoder.table.used()), (lines(said), used));
        if let Field::Header(_, value) = field {
            assert_eq!(value.is_sensitive(), said.starts_with("password"), "{said}");
        }
    }
}

#[test]
fn examples_of_appendix_c3_to_c6_are_read() {
    for example in [C3, C4, C5, C6] {
        let mut decoder = Decoder::new();
        for (nth, (said, _, used)) in example.blocks.iter().enumerate() {
            assert_eq!(decoded_lines(&mut decoder, &block(&example, nth)), lines(said));
            assert_eq!(decoder.table.used(), *used);
        }
    }
}

/// Octet for octet those in Huffman code, as the encoder writes no others; of the others the same fields, and the same table.
#[test]
fn examples_of_appendix_c3_to_c6_are_written() {
    for (example, is_exact) in [(C3, false), (C4, true), (C5, false), (C6, true)] {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        encoder.set_limit(example.table);
        for (nth, (said, _, used)) in example.blocks.iter().enumerate() {
            let mut out = BytesMut::new();
            encoder.table_sizes(&mut out);
            for (name, value) in lines(said) {
                encoder.index_at_once(&name, &value, &mut out);
            }
            if is_exact {
                assert_eq!(out, block(&example, nth), "{said}");
            }
            assert_eq!(decoded_lines(&mut decoder, &out), lines(said));
            assert_eq!((decoder.table.used(), encoder.table.used()), (*used, *used as usize));
        }
    }
}

impl Encoder {
    /// As the examples have it, where everything is indexed at once.
    fn index_at_once(&mut self, name: &str, value: &[u8], out: &mut BytesMut) {
        let entries = || (1..=statics::STATIC).map(|index| (index, statics::entry(index).unwrap()));
        let line_of = |entry: &table::Entry| line(entry.said.as_ref().unwrap());
        if let Some((index, _)) =
            entries().find(|(_, entry)| line_of(entry) == (name.to_owned(), value.to_vec()))
        {
            return integer::write(out, 0x80, 7, index);
        }
        let named = entries().find(|(_, entry)| line_of(entry).0 == name).map(|(index, _)| index);
        self.seen.note(ring::Tags::of(name.as_bytes(), value).field());
        let name = encode::Name { text: name.as_bytes(), index: named };
        self.field(name, value, encode::Indexing::Wanted, out);
    }
}

#[test]
fn what_is_no_hpack_is_refused() {
    for (block, want) in [
        // Indices: none, behind the static table, far behind, of a name.
        ("80", Error::Index),
        ("be", Error::Index),
        ("ffffffff0f", Error::Index),
        ("7e 01 61", Error::Index),
        ("0f 30 01 61", Error::Index),
        // Numbers.
        ("ff ffffffff1f", Error::Integer),
        ("ff 808080808001", Error::Integer),
        ("40 ff808080808000", Error::Integer),
        // Codes: eight ones, a zero in the padding, EOS; in names and in values.
        ("40 81 ff 01 61", Error::Huffman),
        ("40 01 61 81 1e", Error::Huffman),
        ("40 01 61 84 ffffffff", Error::Huffman),
        ("00 82 1fff 01 61", Error::Huffman),
        // Sizes: too large, behind a field.
        ("3f e2 1f", Error::TableSize),
        ("3f ff ff ff 7f", Error::TableSize),
        ("82 20", Error::TableSize),
        ("82 3f e1 1f", Error::TableSize),
        // Ends.
        ("ff", Error::Truncated),
        ("40", Error::Truncated),
        ("40 01", Error::Truncated),
        ("40 01 61", Error::Truncated),
        ("40 01 61 02 61", Error::Truncated),
        ("41", Error::Truncated),
        ("3f", Error::Truncated),
        ("00 ffffffff07 61", Error::Truncated),
    ] {
        let block = octets(block);
        assert_eq!(decoded(&mut Decoder::new(), &block), Err(want), "{block:x?}");
        // Nor is it let pass where fields are only counted.
        let over = [&octets("82")[..], &block].concat();
        let want = if block[0] & 0xe0 == 0x20 { Error::TableSize } else { want };
        assert_eq!(Decoder::new().decode(&over, 0, |_| panic!("over the limit")), Err(want), "{block:x?}");
    }
}

#[test]
fn sizes_of_the_table_come_first_and_empty_it() {
    let mut decoder = Decoder::new();
    decoded(&mut decoder, &octets("40 01 61 01 62")).unwrap();
    assert_eq!((decoder.table.used(), decoded_lines(&mut decoder, &[0xbe])), (34, lines("a: b")));
    // To 34, which it just has; to 33, to 4,096 again.
    decoded(&mut decoder, &octets("3f 03")).unwrap();
    assert_eq!(decoded_lines(&mut decoder, &[0xbe]), lines("a: b"));
    assert_eq!(decoded(&mut decoder, &octets("3f 02 3f e1 1f be")), Err(Error::Index));
    // An entry that is larger than the table empties it, and is handed out.
    let mut decoder = Decoder::new();
    decoded(&mut decoder, &octets("3f 03 40 01 61 01 62")).unwrap();
    assert_eq!(decoded_lines(&mut decoder, &octets("40 01 61 02 62 63")), lines("a: bc"));
    assert_eq!((decoder.table.used(), decoded(&mut decoder, &[0xbe])), (0, Err(Error::Index)));
}

#[test]
fn a_name_outlives_the_entry_that_it_is_taken_from() {
    let mut decoder = Decoder::new();
    let long = [&[0x40, 1, b'a', 0x7f, 0xa1, 0x1e][..], &[b'x'; 4000]].concat();
    decoded(&mut decoder, &long).unwrap();
    let next = [&[0x7e, 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat();
    assert_eq!(decoded_lines(&mut decoder, &next), [("a".to_owned(), vec![b'y'; 4000])]);
    assert_eq!(decoder.table.used(), 4033);
}

/// Each is told once wherever it is said, and the fields about it, and the table, are what they are without it.
#[test]
fn what_is_malformed_is_told_each_time_and_the_table_stays_in_step() {
    for (name, value, want) in [
        ("A", "b", Malformed::Name),
        ("x-aB", "b", Malformed::Name),
        ("", "b", Malformed::Name),
        ("a b", "b", Malformed::Name),
        ("a:", "b", Malformed::Name),
        ("a\"", "b", Malformed::Name),
        (":", "b", Malformed::PseudoHeader),
        (":host", "b", Malformed::PseudoHeader),
        (":Path", "/", Malformed::PseudoHeader),
        ("a", "b\r", Malformed::Value),
        ("a", "b\nc", Malformed::Value),
        ("a", "\0", Malformed::Value),
        ("a", "\x7f", Malformed::Value),
        (":path", "/\n", Malformed::Value),
        (":authority", "a\0", Malformed::Value),
        (":method", "", Malformed::Value),
        (":method", "G\tT", Malformed::Value),
        (":status", "2", Malformed::Value),
    ] {
        for first in [0x40, 0x00, 0x10] {
            let said = [&[first, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()];
            let block = [&[0x40, 1, b'x', 1, b'1'][..], &said.concat(), &[0x40, 1, b'y', 1, b'2']].concat();
            let mut decoder = Decoder::new();
            let [x, y] = ["x: 1", "y: 2"].map(lines);
            let told = |decoder: &mut Decoder, block: &[u8]| -> Vec<Result<Line, Malformed>> {
                let fields = decoded(decoder, block).unwrap();
                fields.iter().map(|field| field.as_ref().map(line).map_err(|why| *why)).collect()
            };
            let wanted = [Ok(x[0].clone()), Err(want), Ok(y[0].clone())];
            assert_eq!(told(&mut decoder, &block), wanted, "{name:?}: {value:?}");
            if first != 0x40 {
                assert_eq!(told(&mut decoder, &[0xbf, 0xbe]), [wanted[0].clone(), wanted[2].clone()]);
                continue;
            }
            assert_eq!(decoder.table.used() as usize, 34 + 34 + 32 + name.len() + value.len());
            assert_eq!(told(&mut decoder, &[0xc0, 0xbf, 0xbe, 0xbf]), [&wanted[..], &[Err(want)]].concat());
            // Its name may be referred to; with a value that is one, it says something if it is a name.
            let good: &[u8] = if name == ":method" { b"GET" } else { b"200" };
            let again = [&[0x0f, 0x30, good.len() as u8], good].concat();
            let again = told(&mut decoder, &again);
            match want {
                Malformed::Value => assert_eq!(again, [Ok((name.to_owned(), good.to_vec()))]),
                _ => assert_eq!(again, [Err(want)]),
            }
        }
    }
}

#[test]
fn fields_are_what_they_say() {
    let block =
        octets("83 87 44 03 2f6162 41 01 61 08 03 323031 00 09 3a70726f746f636f6c 01 77 10 01 61 02 2062");
    let fields: Vec<_> =
        decoded(&mut Decoder::new(), &block).unwrap().into_iter().map(Result::unwrap).collect();
    let text = Bytes::from_static;
    let value = HeaderValue::from_static(" b");
    assert_eq!(
        fields,
        [
            Field::Method(Method::POST),
            Field::Scheme(text(b"https")),
            Field::Path(text(b"/ab")),
            Field::Authority(text(b"a")),
            Field::Status(StatusCode::CREATED),
            Field::Protocol(text(b"w")),
            Field::Header(HeaderName::from_static("a"), value),
        ]
    );
}

/// A block that puts an entry of all the table there, and refers to it as often as 64 KiB allow.
fn bomb() -> Vec<u8> {
    let value = [b'x'; 4096 - 32 - 1];
    let mut block = BytesMut::from(&[0x40, 1, b'a'][..]);
    integer::write(&mut block, 0, 7, value.len());
    block.extend_from_slice(&value);
    block.resize(64 << 10, 0xbe);
    block.to_vec()
}

#[test]
fn a_bomb_is_counted_and_not_copied() {
    let (mut decoder, block) = (Decoder::new(), bomb());
    let (mut values, mut limit) = (Vec::new(), 16 * 4096);
    let mut take = |field: Result<Field, Malformed>| {
        let Ok(Field::Header(_, value)) = field else { panic!("{field:?}") };
        values.push(value);
    };
    let references = block.len() - 4096 + 32 - 5;
    let size = decoder.decode(&block, limit, &mut take).unwrap();
    assert_eq!(size, Size { bytes: (1 + references) * 4096, is_over: true });
    // Those of the table's memory, each of them.
    assert_eq!(values.len(), 16);
    assert!(values.iter().all(|value| value.as_bytes().as_ptr() == values[0].as_bytes().as_ptr()));
    // The limit is what is not exceeded.
    for less in [0, 1] {
        let mut count = 0;
        let size = Decoder::new().decode(&block[..=4096 - 32 + 5], 2 * 4096 - less, |_| count += 1).unwrap();
        assert_eq!((size.is_over, count), (less == 1, 2 - less));
    }
    limit = 0;
    let size = Decoder::new().decode(&block, limit, |_| panic!("over the limit")).unwrap();
    assert_eq!(size.bytes, (1 + references) * 4096);
}

/// What is beyond the limit is the same to the table, in Huffman code too, and malformed or not.
#[test]
fn the_table_stays_in_step_over_the_limit() {
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..300 {
        let (mut over, mut within) = (Decoder::new(), Decoder::new());
        for _ in 0..20 {
            let block = random_block(&mut random);
            let size = within.decode(&block, PLENTY, |_| ());
            let limit = random.usize(..300);
            let (mut left, mut is_first_over) = (limit, false);
            let counted = over.decode(&block, limit, |field| {
                let size = field.map_or(0, |field| line(&field).0.len() + line(&field).1.len() + OVERHEAD);
                is_first_over |= size > left;
                left = left.saturating_sub(size);
            });
            assert!(!is_first_over, "more than the limit was handed out");
            assert_eq!(counted.map(|size| size.bytes), size.map(|size| size.bytes));
            if size.is_err() {
                break;
            }
            assert_eq!(counted.unwrap().is_over, size.unwrap().bytes > limit);
            assert_eq!(format!("{:?}", over.table), format!("{:?}", within.table));
        }
    }
}

/// Fields of all kinds, mostly sound.
fn random_block(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut block = BytesMut::new();
    let string = |random: &mut fastrand::Rng, block: &mut BytesMut| {
        let most = if random.u8(..) < 4 { 5000 } else { 20 };
        let mut text: Vec<u8> = (0..random.usize(..most)).map(|_| random.u8(b'a'..=b'z')).collect();
        if random.u8(..) < 8 {
            text.push(random.u8(..));
        }
        if random.bool() {
            integer::write(block, 0x80, 7, huffman::encoded_len(&text));
            huffman::encode(&text, block);
        } else {
            integer::write(block, 0, 7, text.len());
            block.extend_from_slice(&text);
        }
    };
    if random.u8(..) < 20 {
        integer::write(&mut block, 0x20, 5, random.usize(..=4096));
    }
    for _ in 0..random.usize(..12) {
        let index = random.usize(1..65);
        match random.u8(..4) {
            0 => integer::write(&mut block, 0x80, 7, index),
            kind => {
                let (flags, prefix) = [(0x40, 6), (0x00, 4), (0x10, 4)][usize::from(kind) - 1];
                let is_named = random.bool();
                integer::write(&mut block, flags, prefix, if is_named { 0 } else { index });
                if is_named {
                    string(random, &mut block);
                }
                string(random, &mut block);
            }
        }
    }
    block.to_vec()
}

/// Neither random octets nor what is left of a block that is cut, or has some changed, ends in anything but fields or an error; and
/// what a cut one says is the beginning of what the whole one says.
#[test]
fn no_octets_panic() {
    let mut random = fastrand::Rng::with_seed(6);
    let mut errors = 0;
    for _ in 0..20_000 {
        let mut decoder = Decoder::new();
        for _ in 0..3 {
            let block: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..)).collect();
            errors += u32::from(decoder.decode(&block, random.usize(..500), |_| ()).is_err());
        }
    }
    assert!(errors > 10_000, "{errors}");
    let mut blocks: Vec<_> = (0..200).map(|_| random_block(&mut random)).collect();
    blocks.extend([C3, C4, C5, C6].iter().map(|example| block(example, 0)));
    for block in blocks {
        let mut whole = Vec::new();
        let _ = Decoder::new().decode(&block, PLENTY, |field| whole.push(field));
        for cut in (0..block.len()).take(400) {
            let mut fields = Vec::new();
            let read = Decoder::new().decode(&block[..cut], PLENTY, |field| fields.push(field));
            assert!(whole.starts_with(&fields), "{cut} of {block:x?}");
            assert!(read.is_ok() || read.is_err_and(|error| error != Error::Integer));
            let mut changed = block.clone();
            changed[cut] = random.u8(..);
            let _ = Decoder::new().decode(&changed, PLENTY, |_| ());
        }
    }
}

/// Headers that a backend may answer with: steady ones, ones that change, sensitive and long ones, repeated names.
fn random_headers(random: &mut fastrand::Rng) -> HeaderMap {
    const NAMES: [&str; 16] = [
        "server",
        "content-type",
        "vary",
        "date",
        "content-length",
        "set-cookie",
        "x-request-id",
        "etag",
        "x-powered-by",
        "cache-control",
        "grpc-status",
        "x-envoy-upstream-service-time",
        "location",
        "cookie",
        "x-one",
        "a",
    ];
    let mut headers = HeaderMap::new();
    for _ in 0..random.usize(..14) {
        let name = if random.u8(..) < 20 {
            HeaderName::try_from(format!("x-{}", random.u16(..))).unwrap()
        } else {
            HeaderName::from_static(NAMES[random.usize(..NAMES.len())])
        };
        let longest = if random.u8(..) < 10 { 5000 } else { 40 };
        let value = match random.u8(..4) {
            0 => (0..random.usize(..longest)).map(|_| random.u8(0x80..)).collect(),
            1 => (0..random.usize(..longest)).map(|_| random.u8(b' '..=b'~')).collect(),
            _ => format!("steady-{}", random.u8(..3)).into_bytes(),
        };
        let mut value = HeaderValue::from_bytes(&value).unwrap();
        value.set_sensitive(random.u8(..) < 10);
        headers.append(name, value);
    }
    headers
}

/// Thousands of blocks on one connection, whose peer changes its mind about its table.
#[test]
fn what_is_encoded_decodes_to_the_same() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let (mut took, mut alone) = (0, 0);
        for _ in 0..300 {
            if random.u8(..) < 20 {
                (0..random.usize(..3)).for_each(|_| encoder.set_limit(random.u32(..6000)));
            }
            let (status, headers) = (random.u16(100..600), random_headers(&mut random));
            let (mut out, status) = (BytesMut::new(), StatusCode::from_u16(status).unwrap());
            let is_head = random.bool();
            if is_head {
                encoder.response(status, &headers, &mut out);
            } else {
                encoder.trailers(&headers, &mut out);
            }
            let mut want: Vec<_> = is_head.then_some(Field::Status(status)).into_iter().collect();
            want.extend(headers.iter().map(|(name, value)| Field::Header(name.clone(), value.clone())));
            let got: Vec<_> = decoded(&mut decoder, &out).unwrap().into_iter().map(Result::unwrap).collect();
            assert_eq!(got, want, "seed {seed}");
            let is_sensitive =
                |field: &Field| matches!(field, Field::Header(_, value) if value.is_sensitive());
            for (got, want) in got.iter().zip(&want).filter(|(_, want)| is_sensitive(want)) {
                assert!(is_sensitive(got), "{want:?}");
            }
            assert_eq!(encoder.table.used(), decoder.table.used() as usize);
            assert!(encoder.table.heap() <= 4096);
            took += out.len();
            out.clear();
            Encoder::new().trailers(&headers, &mut out);
            alone += out.len();
        }
        assert!(took < alone, "little is referred to: {took} octets for {alone}");
    }
}

fn response(headers: &[(&'static str, &str)]) -> (StatusCode, HeaderMap) {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    (StatusCode::OK, headers.iter().map(pair).collect())
}

fn encoded(encoder: &mut Encoder, (status, headers): &(StatusCode, HeaderMap)) -> BytesMut {
    let mut out = BytesMut::new();
    encoder.response(*status, headers, &mut out);
    out
}

#[test]
fn what_comes_again_is_indexed_and_what_changes_is_not() {
    let mut encoder = Encoder::new();
    let nth = |nth: usize| {
        let (date, id) = (format!("Mon, 21 Oct 2013 20:13:{nth:02} GMT"), format!("id-{nth}"));
        response(&[
            ("server", "istio-envoy"),
            ("content-type", "text/html"),
            ("date", &date),
            ("x-request-id", &id),
            ("x-powered-by", "steam"),
            ("set-cookie", "a=b"),
        ])
    };
    let first = encoded(&mut encoder, &nth(0));
    assert_eq!(encoder.table.heap(), 0, "nothing was said twice");
    let second = encoded(&mut encoder, &nth(1));
    let used = encoder.table.used();
    assert_eq!(used, 17 + 21 + 16 + 17 + 4 * 32, "server, content-type, one request id, x-powered-by");
    let third = encoded(&mut encoder, &nth(2));
    // Three references; date and cookie in code with their names' indices; the id's name by its entry's.
    assert_eq!(third.len(), 1 + 3 + (2 + 1 + 22) + (2 + 1 + 3) + (2 + 1 + 3), "{third:x?}");
    assert!(first.len() > third.len() && second.len() > third.len());
    for later in 3..60 {
        assert_eq!(encoded(&mut encoder, &nth(later)).len(), third.len() + usize::from(later > 9));
    }
    assert_eq!(encoder.table.used(), used, "nothing that changes was added");
}

#[test]
fn secrets_are_never_indexed() {
    let mut secret = HeaderValue::from_static("s3cret");
    secret.set_sensitive(true);
    let headers: HeaderMap = [
        (http::header::SET_COOKIE, HeaderValue::from_static("a=b")),
        (http::header::AUTHORIZATION, HeaderValue::from_static("c")),
        (http::header::COOKIE, HeaderValue::from_static("d=e")),
        (HeaderName::from_static("x-key"), secret),
    ]
    .into_iter()
    .collect();
    let mut encoder = Encoder::new();
    for _ in 0..3 {
        let block = encoded(&mut encoder, &(StatusCode::OK, headers.clone()));
        let fields = decoded(&mut Decoder::new(), &block).unwrap();
        for field in &fields[1..] {
            assert!(matches!(field, Ok(Field::Header(_, value)) if value.is_sensitive()), "{field:?}");
        }
        assert_eq!((fields.len(), encoder.table.used()), (5, 0));
    }
}

#[test]
fn what_is_the_connections_is_left_out() {
    let head = response(&[
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "trailers"),
    ]);
    let block = encoded(&mut Encoder::new(), &head);
    assert_eq!(decoded_lines(&mut Decoder::new(), &block), lines(":status: 200\nte: trailers"));
}

/// RFC 7541, 4.2: the smallest size since the last block, then the last one.
#[test]
fn limits_are_told_at_the_next_blocks_start() {
    for (limits, want) in [
        (&[][..], "88"),
        (&[4096], "88"),
        (&[65_536], "88"),
        (&[0], "20 88"),
        (&[256], "3fe101 88"),
        (&[100, 200], "3f45 3fa901 88"),
        (&[200, 100], "3f45 88"),
        (&[0, 65_536], "20 3fe11f 88"),
    ] {
        let mut encoder = Encoder::new();
        for limit in limits {
            encoder.set_limit(*limit);
        }
        assert_eq!(encoded(&mut encoder, &response(&[])), octets(want), "{limits:?}");
        assert_eq!(encoded(&mut encoder, &response(&[])), octets("88"));
    }
    // What does not fit into the peer's table is not put there, nor does it evict what does.
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    encoder.set_limit(50);
    for _ in 0..3 {
        let block = encoded(&mut encoder, &response(&[("x-a", "b"), ("x-b", "0123456789abcdef")]));
        decoded(&mut decoder, &block).unwrap();
        assert!(encoder.table.used() <= 36 && decoder.table.used() == encoder.table.used() as u32);
    }
    assert_eq!(encoder.table.used(), 36);
}

#[test]
fn an_idle_connection_takes_little() {
    assert!(size_of::<Decoder>() <= 48, "{}", size_of::<Decoder>());
    assert!(size_of::<Encoder>() <= 128, "{}", size_of::<Encoder>());
    assert!(size_of::<table::Entry>() <= 80, "{}", size_of::<table::Entry>());
    let mut decoder = Decoder::new();
    decoded(&mut decoder, &octets("82 87 84 00 81 1f 81 1f")).unwrap();
    assert_eq!(decoder.table.capacity(), 0, "nothing was to be kept");
    decoded(&mut decoder, &octets(C4.blocks[0].1)).unwrap();
    assert_eq!(decoder.table.capacity(), 8);
    decoded(&mut decoder, &[0x20]).unwrap();
    assert_eq!(decoder.table.capacity(), 0, "the peer gave it up");
}
