//! Numbers (RFC 7541, 5.1): the low bits of an octet, and of as many more as it takes.

use bytes::{BufMut as _, BytesMut};

use super::error::Error;

/// Bits of the longest number, 32, less those of the octet that has the last of them.
const LAST_SHIFT: u32 = 28;

/// Reads a number that begins in the low `prefix` bits, 1 to 8, of the first octet, and takes it from the input: `u32::MAX` at
/// most, in no more octets than that takes, zeros among them.
pub(super) fn read(input: &mut &[u8], prefix: u32) -> Result<usize, Error> {
    let (first, mut rest) = input.split_first().ok_or(Error::Truncated)?;
    let most = u64::from(u8::MAX >> (8 - prefix));
    let mut value = u64::from(*first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (octet, behind) = rest.split_first().ok_or(Error::Truncated)?;
            rest = behind;
            value += u64::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > LAST_SHIFT {
                return Err(Error::Integer);
            }
        }
    }
    *input = rest;
    u32::try_from(value).map(|value| value as usize).map_err(|_| Error::Integer)
}

/// Writes a number into the low `prefix` bits of an octet, whose other bits are those of `flags`, and behind it.
pub(super) fn write(out: &mut BytesMut, flags: u8, prefix: u32, value: usize) {
    let most = usize::from(u8::MAX >> (8 - prefix));
    if value < most {
        return out.put_u8(flags | value as u8);
    }
    out.put_u8(flags | most as u8);
    let mut left = value - most;
    while left >= 0x80 {
        out.put_u8(0x80 | (left & 0x7f) as u8);
        left >>= 7;
    }
    out.put_u8(left as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_appendix_c1() {
        for (value, prefix, octets) in
            [(10, 5, &[0b01010][..]), (1337, 5, &[0b11111, 0b1001_1010, 0b1010]), (42, 8, &[0b10_1010])]
        {
            let mut out = BytesMut::new();
            write(&mut out, 0, prefix, value);
            assert_eq!(&out[..], octets);
            assert_eq!(read(&mut &octets[..], prefix), Ok(value));
        }
    }

    #[test]
    fn numbers_come_back_and_leave_what_is_behind() {
        for prefix in 1..=8 {
            for value in (0..600).chain([16_383, 16_384, u32::MAX as usize - 1, u32::MAX as usize]) {
                let mut out = BytesMut::new();
                write(&mut out, 0, prefix, value);
                out.put_u8(7);
                let mut input = &out[..];
                assert_eq!((read(&mut input, prefix), input), (Ok(value), &[7][..]), "{value} in {prefix}");
            }
        }
    }

    #[test]
    fn what_is_too_large_or_too_long_is_refused() {
        for (octets, want) in [
            (&[][..], Error::Truncated),
            (&[0x1f], Error::Truncated),
            (&[0x1f, 0x80, 0xff], Error::Truncated),
            (&[0x1f, 0xe1, 0xff, 0xff, 0xff, 0x0f], Error::Integer),
            (&[0x1f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], Error::Integer),
        ] {
            assert_eq!(read(&mut &octets[..], 5), Err(want), "{octets:x?}");
        }
        assert_eq!(read(&mut &[0x1f, 0xe0, 0xff, 0xff, 0xff, 0x0f][..], 5), Ok(u32::MAX as usize));
        assert_eq!(read(&mut &[0x1f, 0x80, 0x80, 0x80, 0x00][..], 5), Ok(31), "zeros in front");
    }
}
