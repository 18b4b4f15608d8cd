//! No octets make the decoder of HPACK panic, what it hands out is no more than the limit, and headers that it hands out are the same
//! once they were encoded and decoded again, with tables of any size.
//!
//! The first byte of an input says how long the first of two blocks is, the second one the limit, the third one the table's size; the rest is the blocks.

#![no_main]

use bytes::BytesMut;
use http::header::{CONNECTION, HeaderMap, TRANSFER_ENCODING, UPGRADE};
use libfuzzer_sys::fuzz_target;
use sluice_fuzz::http2::hpack::{Decoder, Encoder, Field};

fuzz_target!(|input: &[u8]| {
    let [first, limit, table, blocks @ ..] = input else { return };
    let limit = usize::from(*limit) << 6;
    let (mut reader, mut encoder, mut again) = (Decoder::new(), Encoder::new(), Decoder::new());
    let (block, next) = blocks.split_at(usize::from(*first).min(blocks.len()));
    for block in [block, next] {
        let Some(headers) = headers(&mut reader, block, limit) else { return };
        encoder.set_limit(u32::from(*table) << 5);
        // Twice: what comes again is referred to.
        for _ in 0..2 {
            let mut out = BytesMut::new();
            encoder.trailers(&headers, &mut out);
            assert_eq!(self::headers(&mut again, &out, usize::MAX).as_ref(), Some(&headers));
        }
    }
});

/// The headers of a block that exist in HTTP/2; `None`: it is none.
fn headers(decoder: &mut Decoder, block: &[u8], limit: usize) -> Option<HeaderMap> {
    let (mut headers, mut bytes) = (HeaderMap::new(), 0);
    let size = decoder.decode(block, limit, |field| {
        let Ok(Field::Header(name, value)) = field else { return };
        bytes += name.as_str().len() + value.len() + 32;
        let is_left_out = [CONNECTION, TRANSFER_ENCODING, UPGRADE].contains(&name)
            || ["keep-alive", "proxy-connection"].contains(&name.as_str());
        if !is_left_out {
            headers.append(name, value);
        }
    });
    let size = size.ok()?;
    assert!(bytes <= limit && bytes <= size.bytes && size.is_over == (size.bytes > limit));
    Some(headers)
}
