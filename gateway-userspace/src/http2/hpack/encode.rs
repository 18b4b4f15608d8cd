//! Header blocks, written.

use bytes::{BufMut as _, BytesMut};
use http::StatusCode;
use http::header::{
    AGE, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, COOKIE, DATE, ETAG, EXPIRES, HeaderMap,
    HeaderName, HeaderValue, LAST_MODIFIED, LOCATION, PROXY_AUTHORIZATION, SET_COOKIE, TRANSFER_ENCODING,
    UPGRADE,
};

use super::ring::{Found, Ring, Tags};
use super::seen::Seen;
use super::statics::{self, STATUS};
use super::{TABLE, huffman, integer};

/// Bytes of a value that is indexed: a few longer ones would be all of the table.
const LONGEST: usize = 128;
/// Bytes of a field, more or less.
const FIELD: usize = 32;

/// Encodes the blocks of a connection, in their order. A new one has nothing on the heap, nor has one that never says anything twice:
/// what is to be referred to is put into the table when it comes again.
#[derive(Debug)]
pub struct Encoder {
    pub(super) table: Ring,
    pub(super) seen: Seen,
    /// The smallest limit since the last block, if the peer has said anything that concerns us.
    least: Option<u32>,
}

/// What is to become of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Indexing {
    /// It is likely to come again.
    Wanted,
    /// It is not.
    Unwanted,
    /// Nobody on the way may index it (RFC 7541, 7.1.3).
    Never,
}

/// How a literal begins, and how many bits of its first octet are its name's (RFC 7541, 6.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Indexed,
    NotIndexed,
    NeverIndexed,
}

/// A name, and its index in the static table.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) text: &'a [u8],
    pub(super) index: Option<usize>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// For a peer whose table has 4,096 bytes, as it has where its SETTINGS say nothing.
    pub const fn new() -> Self {
        Self { table: Ring::new(), seen: Seen::new(), least: None }
    }

    /// Takes what the peer's SETTINGS say (RFC 9113, 6.5.2: `SETTINGS_HEADER_TABLE_SIZE`), and no more than 4,096 bytes of it. The next block says so.
    pub fn set_limit(&mut self, size: u32) {
        let size = size.min(TABLE as u32);
        if size != self.table.limit() {
            self.least = Some(self.least.unwrap_or(u32::MAX).min(size));
            self.table.set_limit(size);
        }
    }

    /// Appends the block of a response's head. Fields that are the connection's do not exist in HTTP/2 (RFC 9113, 8.2.2) and are left out.
    pub fn response(&mut self, status: StatusCode, headers: &HeaderMap, out: &mut BytesMut) {
        out.reserve(FIELD * (1 + headers.len()));
        self.table_sizes(out);
        if let Some(index) = statics::status(status) {
            integer::write(out, 0x80, 7, index);
        } else {
            let name = Name { text: b":status", index: Some(STATUS) };
            self.field(name, status.as_str().as_bytes(), Indexing::Wanted, out);
        }
        self.fields(headers, out);
    }

    /// Appends the block of trailers.
    pub fn trailers(&mut self, headers: &HeaderMap, out: &mut BytesMut) {
        out.reserve(FIELD * headers.len());
        self.table_sizes(out);
        self.fields(headers, out);
    }

    /// Changes of the table's size: the smallest since the last block, as what it evicted is gone, and the last (RFC 7541, 4.2).
    pub(super) fn table_sizes(&mut self, out: &mut BytesMut) {
        if let Some(least) = self.least.take() {
            integer::write(out, 0x20, 5, least as usize);
            if self.table.limit() != least {
                integer::write(out, 0x20, 5, self.table.limit() as usize);
            }
        }
    }

    fn fields(&mut self, headers: &HeaderMap, out: &mut BytesMut) {
        for (name, value) in headers {
            let index = statics::name(name);
            if let Some(indexing) = indexing(name, value) {
                let name = Name { text: name.as_str().as_bytes(), index };
                self.field(name, value.as_bytes(), indexing, out);
            }
        }
    }

    pub(super) fn field(&mut self, name: Name<'_>, value: &[u8], indexing: Indexing, out: &mut BytesMut) {
        if name.index.is_some() && indexing != Indexing::Wanted {
            return literal(out, indexing.form(), name, value);
        }
        let tags = Tags::of(name.text, value);
        let found = self.table.find(tags, name.text, value);
        let name = match found {
            Found::Field(index) if indexing != Indexing::Never => return integer::write(out, 0x80, 7, index),
            Found::Field(index) | Found::Name(index) => Name { index: name.index.or(Some(index)), ..name },
            Found::Nothing => name,
        };
        if self.is_to_be_indexed(tags, name, value, indexing) {
            literal(out, Form::Indexed, name, value);
            self.table.push(tags, name.text, value);
        } else {
            literal(out, indexing.form(), name, value);
        }
    }

    /// What comes the second time; and of what is never the same, the first value that comes with a name which came before, for the
    /// name's sake.
    fn is_to_be_indexed(&mut self, tags: Tags, name: Name<'_>, value: &[u8], indexing: Indexing) -> bool {
        let is_known = match indexing {
            Indexing::Wanted => self.seen.note(tags.field()),
            Indexing::Unwanted => name.index.is_none() && value.len() <= LONGEST && self.seen.note(tags.name),
            Indexing::Never => false,
        };
        is_known && self.table.admits(name.text, value)
    }
}

impl Indexing {
    /// Of a field that the table does not get.
    fn form(self) -> Form {
        match self {
            Self::Never => Form::NeverIndexed,
            Self::Wanted | Self::Unwanted => Form::NotIndexed,
        }
    }
}

/// What is to become of a header; `None`: it does not exist in HTTP/2.
fn indexing(name: &HeaderName, value: &HeaderValue) -> Option<Indexing> {
    Some(match *name {
        CONNECTION | TRANSFER_ENCODING | UPGRADE => return None,
        SET_COOKIE | AUTHORIZATION | COOKIE | PROXY_AUTHORIZATION => Indexing::Never,
        _ if value.is_sensitive() => Indexing::Never,
        DATE | CONTENT_LENGTH | ETAG | LAST_MODIFIED | AGE | LOCATION | EXPIRES | CONTENT_RANGE => {
            Indexing::Unwanted
        }
        _ => match name.as_str() {
            "keep-alive" | "proxy-connection" => return None,
            "x-request-id" | "x-envoy-upstream-service-time" | "traceparent" => Indexing::Unwanted,
            _ if value.len() > LONGEST => Indexing::Unwanted,
            _ => Indexing::Wanted,
        },
    })
}

fn literal(out: &mut BytesMut, form: Form, name: Name<'_>, value: &[u8]) {
    let (flags, prefix) = match form {
        Form::Indexed => (0x40, 6),
        Form::NotIndexed => (0, 4),
        Form::NeverIndexed => (0x10, 4),
    };
    integer::write(out, flags, prefix, name.index.unwrap_or(0));
    if name.index.is_none() {
        string(out, name.text);
    }
    string(out, value);
}

/// A string (RFC 7541, 5.2), in Huffman code where that takes no more.
fn string(out: &mut BytesMut, text: &[u8]) {
    let encoded = huffman::encoded_len(text);
    if encoded <= text.len() && !text.is_empty() {
        integer::write(out, 0x80, 7, encoded);
        huffman::encode(text, out);
    } else {
        integer::write(out, 0, 7, text.len());
        out.put_slice(text);
    }
}
