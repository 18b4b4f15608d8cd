//! Header blocks, read.

use super::OVERHEAD;
use super::error::Error;
use super::field::{Field, Malformed, Name};
use super::table::{Entry, Flaw, Table};
use super::{TABLE, huffman, integer};

/// Decodes the blocks of a connection, in their order. An empty one has nothing on the heap.
#[derive(Debug)]
pub struct Decoder {
    pub(super) table: Table,
}

/// How large a block is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes of names and values, and 32 for each field (RFC 9113, 6.5.2: `SETTINGS_MAX_HEADER_LIST_SIZE`).
    pub bytes: usize,
    /// These are more than the limit, and what is beyond it was not handed out.
    pub is_over: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// With a table of 4,096 bytes, which is what a peer may count on where nothing is announced.
    pub const fn new() -> Self {
        Self { table: Table::new() }
    }

    /// Decodes a whole block: HEADERS with its CONTINUATIONs joined. `take` gets each field in its order, those that are
    /// malformed too, until they come to more than `limit` bytes in the sense of [`Size`]. From there on they are read for the
    /// table's sake alone.
    ///
    /// After an error nothing may be decoded any more, and nothing be made of what `take` got.
    pub fn decode(
        &mut self,
        block: &[u8],
        limit: usize,
        take: impl FnMut(Result<Field, Malformed>),
    ) -> Result<Size, Error> {
        let mut reading = Reading {
            rest: block,
            table: &mut self.table,
            limit,
            size: Size::default(),
            take,
            name: Vec::new(),
            value: Vec::new(),
        };
        reading.table_sizes()?;
        while let Some(first) = reading.rest.first() {
            reading.field(*first)?;
        }
        Ok(reading.size)
    }
}

/// A block that is being read.
struct Reading<'a, F> {
    rest: &'a [u8],
    table: &'a mut Table,
    limit: usize,
    size: Size,
    take: F,
    /// Where Huffman codes become names, and values: the block's, as the connection would hold them for nothing.
    name: Vec<u8>,
    value: Vec<u8>,
}

/// What becomes of a literal field (RFC 7541, 6.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Indexed,
    NotIndexed,
    NeverIndexed,
}

impl<F: FnMut(Result<Field, Malformed>)> Reading<'_, F> {
    /// Changes of the table's size, which stand at a block's start (RFC 7541, 4.2).
    fn table_sizes(&mut self) -> Result<(), Error> {
        while self.rest.first().is_some_and(|first| first & 0xe0 == 0x20) {
            let size = integer::read(&mut self.rest, 5)?;
            if size > TABLE {
                return Err(Error::TableSize);
            }
            self.table.set_limit(size as u32);
        }
        Ok(())
    }

    /// A field, which its first octet tells the kind of (RFC 7541, 6).
    fn field(&mut self, first: u8) -> Result<(), Error> {
        match first {
            0x80.. => self.indexed(),
            0x40.. => self.literal(6, Kind::Indexed),
            0x20.. => Err(Error::TableSize),
            0x10.. => self.literal(4, Kind::NeverIndexed),
            _ => self.literal(4, Kind::NotIndexed),
        }
    }

    fn indexed(&mut self) -> Result<(), Error> {
        let index = integer::read(&mut self.rest, 7)?;
        let entry = self.table.entry(index).ok_or(Error::Index)?;
        if self.size.add(entry.size as usize, self.limit) {
            (self.take)(entry.said());
        }
        Ok(())
    }

    fn literal(&mut self, prefix: u32, kind: Kind) -> Result<(), Error> {
        let name = Named::read(&mut self.rest, prefix, self.table)?;
        let value = Text::read(&mut self.rest)?;
        if self.size.is_over {
            let size = name.length()? + value.length()? + OVERHEAD;
            if kind != Kind::Indexed || !self.table.admits(size) {
                self.pass_over(size, kind);
                return Ok(());
            }
        }
        let (name, value) = (name.decoded(&mut self.name)?, value.decoded(&mut self.value)?);
        let size = name.length() + value.len() + OVERHEAD;
        let is_taken = self.size.add(size, self.limit);
        let is_kept = kind == Kind::Indexed && self.table.make_room(size);
        if !is_taken && !is_kept {
            return Ok(());
        }
        let name = name.name();
        let mut said = name.with(value);
        if kind == Kind::NeverIndexed
            && let Ok(Field::Header(_, value)) = &mut said
        {
            value.set_sensitive(true);
        }
        if !is_kept {
            (self.take)(said);
            return Ok(());
        }
        let said = said.map_err(|why| Flaw { name, why });
        let entry = Entry { size: size as u32, said };
        if is_taken {
            (self.take)(entry.said());
        }
        self.table.push(entry);
        Ok(())
    }

    /// Counts a field that is neither handed out nor kept.
    fn pass_over(&mut self, size: usize, kind: Kind) {
        self.size.add(size, self.limit);
        if kind == Kind::Indexed {
            self.table.make_room(size);
        }
    }
}

impl Size {
    /// Counts a field; whether it is within the limit.
    fn add(&mut self, bytes: usize, limit: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        self.is_over = self.bytes > limit;
        !self.is_over
    }
}

/// A literal field's name: an entry's, or a text; `T`: the text as it stands in the block, or decoded.
enum Named<T> {
    Known(Name),
    Said(T),
}

impl<'a> Named<Text<'a>> {
    fn read(rest: &mut &'a [u8], prefix: u32, table: &Table) -> Result<Self, Error> {
        match integer::read(rest, prefix)? {
            0 => Text::read(rest).map(Self::Said),
            index => table.entry(index).map(|entry| Self::Known(entry.name())).ok_or(Error::Index),
        }
    }

    fn length(&self) -> Result<usize, Error> {
        match self {
            Self::Known(name) => Ok(name.length()),
            Self::Said(text) => text.length(),
        }
    }

    fn decoded<'s>(self, scratch: &'s mut Vec<u8>) -> Result<Named<&'s [u8]>, Error>
    where
        'a: 's,
    {
        match self {
            Self::Known(name) => Ok(Named::Known(name)),
            Self::Said(text) => text.decoded(scratch).map(Named::Said),
        }
    }
}

impl Named<&[u8]> {
    fn length(&self) -> usize {
        match self {
            Self::Known(name) => name.length(),
            Self::Said(text) => text.len(),
        }
    }

    fn name(self) -> Name {
        match self {
            Self::Known(name) => name,
            Self::Said(text) => Name::read(text),
        }
    }
}

/// A string as it stands in a block (RFC 7541, 5.2).
#[derive(Clone, Copy)]
struct Text<'a> {
    octets: &'a [u8],
    is_huffman: bool,
}

impl<'a> Text<'a> {
    fn read(rest: &mut &'a [u8]) -> Result<Self, Error> {
        let is_huffman = rest.first().is_some_and(|first| first & 0x80 != 0);
        let length = integer::read(rest, 7)?;
        let (octets, behind) = rest.split_at_checked(length).ok_or(Error::Truncated)?;
        *rest = behind;
        Ok(Self { octets, is_huffman })
    }

    /// Octets of what it means, which are counted and not written.
    fn length(&self) -> Result<usize, Error> {
        if !self.is_huffman {
            return Ok(self.octets.len());
        }
        let mut length = 0;
        huffman::decode(self.octets, |_| length += 1)?;
        Ok(length)
    }

    fn decoded<'s>(self, scratch: &'s mut Vec<u8>) -> Result<&'s [u8], Error>
    where
        'a: 's,
    {
        if !self.is_huffman {
            return Ok(self.octets);
        }
        scratch.clear();
        // A symbol takes five bits or more.
        scratch.reserve(self.octets.len() * 8 / 5);
        huffman::decode(self.octets, |octet| scratch.push(octet))?;
        Ok(scratch)
    }
}
