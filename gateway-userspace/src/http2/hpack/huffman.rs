//! Strings in Huffman code (RFC 7541, 5.2 and appendix B).
//!
//! The code is canonical: symbols of one length have consecutive codes, in their order, and the next length begins behind them. So
//! lengths are all that it takes, and the tables are made of them at compile time. A step decodes a symbol: one of 8 bits or less, which is nearly
//! all that headers have, by a look at a table of 512 bytes; a longer one by its length's first code. Tables of a state machine that
//! goes by half octets take 16 KiB, which a gateway that has other things to do finds out of its caches.

use bytes::{BufMut as _, BytesMut};

use super::error::Error;

/// Bits of each symbol's code; the last is EOS, which no string has.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];

const SYMBOLS: usize = 257;
const EOS: u16 = 256;
/// Bits of the longest code.
const LONGEST: usize = 30;
/// Bits that one look at [`SHORT`] decides on.
const LOOK: usize = 8;

/// Codes of one length.
#[derive(Clone, Copy)]
struct OfLength {
    /// The first of them.
    first: u32,
    /// How many there are.
    count: u32,
    /// Where their symbols begin in [`SORTED`].
    at: u32,
}

/// Codes by their length.
const BY_LENGTH: [OfLength; LONGEST + 1] = {
    let mut made = [OfLength { first: 0, count: 0, at: 0 }; LONGEST + 1];
    let mut symbol = 0;
    while symbol < SYMBOLS {
        made[LENGTHS[symbol] as usize].count += 1;
        symbol += 1;
    }
    let mut length = 1;
    while length <= LONGEST {
        let shorter = made[length - 1];
        made[length].first = (shorter.first + shorter.count) << 1;
        made[length].at = shorter.at + shorter.count;
        length += 1;
    }
    made
};

/// Symbols by the length of their code, and their own order: as their codes lie.
const SORTED: [u16; SYMBOLS] = {
    let mut made = [0; SYMBOLS];
    let (mut at, mut length) = (0, 1);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                made[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    made
};

/// Each symbol's code, in its low bits.
static CODES: [u32; SYMBOLS] = {
    let mut made = [0; SYMBOLS];
    let mut length = 1;
    while length <= LONGEST {
        let OfLength { first, count, at } = BY_LENGTH[length];
        let mut each = 0;
        while each < count {
            made[SORTED[(at + each) as usize] as usize] = first + each;
            each += 1;
        }
        length += 1;
    }
    made
};

/// What eight bits begin with: a symbol in the low octet and the length of its code above; zero where that is longer.
static SHORT: [u16; 1 << LOOK] = {
    let mut made = [0; 1 << LOOK];
    let mut symbol = 0;
    while symbol < SYMBOLS {
        let length = LENGTHS[symbol] as usize;
        if length <= LOOK {
            let begin = (CODES[symbol] as usize) << (LOOK - length);
            let mut each = 0;
            while each < 1 << (LOOK - length) {
                made[begin + each] = (length << 8 | symbol) as u16;
                each += 1;
            }
        }
        symbol += 1;
    }
    made
};

/// Gives each octet of what was encoded. Nothing is to be made of them if it ends in an error.
pub(super) fn decode(encoded: &[u8], mut give: impl FnMut(u8)) -> Result<(), Error> {
    let mut bits = Bits { window: 0, held: 0, rest: encoded };
    loop {
        bits.refill();
        // A long code takes all that is certain to be held, short ones leave some for the next.
        while bits.held >= LOOK as u32 {
            let short = SHORT[(bits.window >> (64 - LOOK)) as usize];
            if short == 0 {
                break;
            }
            give(short as u8);
            bits.take(u32::from(short >> 8));
        }
        if bits.held >= LONGEST as u32 || !bits.rest.is_empty() {
            if bits.held >= LONGEST as u32 {
                give(bits.take_long()?);
            }
            continue;
        }
        return bits.end(give);
    }
}

/// Bits that are yet to be decoded.
struct Bits<'a> {
    /// The next ones, from the highest on; zeros behind them.
    window: u64,
    /// How many they are.
    held: u32,
    /// Behind the window.
    rest: &'a [u8],
}

impl Bits<'_> {
    /// Fills the window with no less than the longest code takes, as far as there is something.
    fn refill(&mut self) {
        if self.held <= 32
            && let Some((next, rest)) = self.rest.split_first_chunk()
        {
            self.window |= u64::from(u32::from_be_bytes(*next)) << (32 - self.held);
            self.held += 32;
            self.rest = rest;
        }
        while self.held <= 56
            && let Some((next, rest)) = self.rest.split_first()
        {
            self.window |= u64::from(*next) << (56 - self.held);
            self.held += 8;
            self.rest = rest;
        }
    }

    fn take(&mut self, length: u32) {
        self.window <<= length;
        self.held -= length;
    }

    /// Takes a symbol whose code is longer than a look.
    fn take_long(&mut self) -> Result<u8, Error> {
        let next = (self.window >> 32) as u32;
        for (length, of_length) in BY_LENGTH.iter().enumerate().skip(LOOK + 1) {
            let nth = (next >> (32 - length)).wrapping_sub(of_length.first);
            if nth < of_length.count {
                let symbol = SORTED[(of_length.at + nth) as usize];
                if symbol == EOS || length as u32 > self.held {
                    return Err(Error::Huffman);
                }
                self.take(length as u32);
                return Ok(symbol as u8);
            }
        }
        Err(Error::Huffman)
    }

    /// The last symbols, of which less is left than the longest code takes, and the padding: fewer than eight ones.
    fn end(&mut self, mut give: impl FnMut(u8)) -> Result<(), Error> {
        loop {
            let short = SHORT[(self.window >> (64 - LOOK)) as usize];
            let length = u32::from(short >> 8);
            if short != 0 && length <= self.held {
                give(short as u8);
                self.take(length);
            } else if self.held >= 8 {
                give(self.take_long()?);
            } else {
                let ones = !(u64::MAX >> self.held);
                return if self.window == ones { Ok(()) } else { Err(Error::Huffman) };
            }
        }
    }
}

/// Octets that a text takes in this code.
pub(super) fn encoded_len(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|octet| usize::from(LENGTHS[usize::from(*octet)])).sum();
    bits.div_ceil(8)
}

/// Writes a text in this code, with its padding.
pub(super) fn encode(text: &[u8], out: &mut BytesMut) {
    let (mut window, mut held) = (0u64, 0);
    for octet in text {
        let symbol = usize::from(*octet);
        let length = u32::from(LENGTHS[symbol]);
        window = window << length | u64::from(CODES[symbol]);
        held += length;
        if held >= 32 {
            held -= 32;
            out.put_u32((window >> held) as u32);
        }
    }
    let padding = held.wrapping_neg() % 8;
    window = window << padding | ((1 << padding) - 1);
    held += padding;
    while held > 0 {
        held -= 8;
        out.put_u8((window >> held) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(encoded: &[u8]) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        decode(encoded, |octet| text.push(octet)).map(|()| text)
    }

    fn encoded(text: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        encode(text, &mut out);
        assert_eq!(out.len(), encoded_len(text));
        out
    }

    /// Rows of appendix B, from its ends, its middle, and wherever a length begins.
    #[test]
    fn codes_are_those_of_appendix_b() {
        for (symbol, code, length) in [
            (usize::from(b'0'), 0x0, 5),
            (usize::from(b't'), 0x9, 5),
            (usize::from(b' '), 0x14, 6),
            (usize::from(b'u'), 0x2d, 6),
            (usize::from(b':'), 0x5c, 7),
            (usize::from(b'z'), 0x7b, 7),
            (usize::from(b'&'), 0xf8, 8),
            (usize::from(b'Z'), 0xfd, 8),
            (usize::from(b'!'), 0x3f8, 10),
            (usize::from(b'|'), 0x7fc, 11),
            (usize::from(b'#'), 0xffa, 12),
            (0, 0x1ff8, 13),
            (usize::from(b'^'), 0x3ffc, 14),
            (usize::from(b'{'), 0x7ffe, 15),
            (195, 0x7fff1, 19),
            (128, 0xfffe6, 20),
            (153, 0x001f_ffdc, 21),
            (129, 0x003f_ffd2, 22),
            (1, 0x007f_ffd8, 23),
            (9, 0x00ff_ffea, 24),
            (199, 0x01ff_ffec, 25),
            (192, 0x03ff_ffe0, 26),
            (203, 0x07ff_ffde, 27),
            (254, 0x07ff_fff0, 27),
            (249, 0x0fff_fffe, 28),
            (2, 0x0fff_ffe2, 28),
            (10, 0x3fff_fffc, 30),
            (22, 0x3fff_fffe, 30),
            (256, 0x3fff_ffff, 30),
        ] {
            assert_eq!((CODES[symbol], LENGTHS[symbol]), (code, length), "{symbol}");
        }
        let taken: u64 = LENGTHS.iter().map(|length| 1 << (LONGEST - usize::from(*length))).sum();
        assert_eq!(taken, 1 << LONGEST, "each sequence of bits begins with one code");
    }

    #[test]
    fn every_octet_comes_back_wherever_it_stands() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        assert_eq!(decoded(&encoded(&all)), Ok(all.clone()));
        for octet in all {
            for before in 0..9 {
                for behind in 0..9 {
                    let text = [&vec![b'a'; before][..], &[octet], &vec![b':'; behind]].concat();
                    assert_eq!(decoded(&encoded(&text)).as_ref(), Ok(&text));
                }
            }
        }
        assert_eq!(decoded(b""), Ok(Vec::new()));
    }

    #[test]
    fn random_texts_come_back() {
        let mut random = fastrand::Rng::with_seed(7541);
        for _ in 0..5_000 {
            let text: Vec<u8> = (0..random.usize(..100)).map(|_| random.u8(..)).collect();
            assert_eq!(decoded(&encoded(&text)).as_ref(), Ok(&text));
        }
    }

    #[test]
    fn bad_ends_and_eos_are_refused() {
        for (encoded, want) in [
            // 'a' and three ones; a zero among them; 'a' and eleven ones; nothing but eight, or thirty-two ones.
            (&[0x1f][..], Ok(b"a".to_vec())),
            (&[0x1e], Err(Error::Huffman)),
            (&[0x1b], Err(Error::Huffman)),
            (&[0x1f, 0xff], Err(Error::Huffman)),
            (&[0xff], Err(Error::Huffman)),
            (&[0xff, 0xff, 0xff, 0xff], Err(Error::Huffman)),
            (&[0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Err(Error::Huffman)),
            // Half a code of 30 bits, and all of EOS but its last bit.
            (&[0xff, 0xff, 0xff, 0xf0], Err(Error::Huffman)),
            (&[0xff, 0xff, 0xff, 0xf8], Err(Error::Huffman)),
        ] {
            assert_eq!(decoded(encoded), want, "{encoded:x?}");
        }
    }

    /// A string is the code of one text at most, so that no two strings mean the same.
    #[test]
    fn what_decodes_encodes_to_the_same_octets() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut count = 0;
        for _ in 0..200_000 {
            let octets: Vec<u8> = (0..random.usize(..6)).map(|_| random.u8(..)).collect();
            if let Ok(text) = decoded(&octets) {
                assert_eq!(encoded(&text), octets);
                count += 1;
            }
        }
        assert!(count > 10_000, "{count}");
    }
}
