//! Walking through what may lie between the fixed headers: options of IPv4 and TCP, which share a format, and extension
//! headers of IPv6. On bytes copied out of the packet.

use gateway_common::{
    Be32, Sum,
    offer::{NO_SACK, NO_SCALE, NO_TIMESTAMPS},
};

use crate::maps::Scratch;

/// End of the options, in both lists.
const END: u32 = 0;
/// A byte of padding, in both lists.
const PADDING: u32 = 1;

/// TCP: maximum segment size.
const SEGMENT_SIZE: u32 = 2;
/// TCP: scale of the window (RFC 7323 section 2).
const SCALE: u32 = 3;
/// TCP: selective acknowledgements are understood (RFC 2018).
const SACK_PERMITTED: u32 = 4;
/// TCP: blocks received out of order (RFC 2018).
const SACK: u32 = 5;
/// TCP: timestamps (RFC 7323 section 3).
const TIMESTAMPS: u32 = 8;

/// IPv4 options that every router acts on: record route, timestamp, loose and strict source route, router alert.
const FOR_ROUTERS: [u32; 5] = [7, 68, 131, 137, 148];

/// Bytes of the longest options.
const LONGEST: u32 = 40;

/// Calls `look` with kind, place and length of each option; false if an option is longer than the place left, or
/// shorter than it can be.
#[inline(always)]
fn walk(options: &mut Scratch, mut look: impl FnMut(u32, u32, u32)) -> bool {
    let mut at = 0;
    for _ in 0..LONGEST {
        at = options.forget(at);
        if at >= options.length {
            return true;
        }
        let kind = options.at(at);
        if kind == END {
            return true;
        }
        if kind == PADDING {
            at += 1;
            continue;
        }
        let length = options.at(at + 1);
        if length < 2 || at + length > options.length {
            return false;
        }
        look(kind, at, length);
        at += length;
    }
    true
}

/// Whether IPv4 options ask something of a router; `None` if they contradict themselves.
#[inline(always)]
pub(crate) fn are_for_routers(options: &mut Scratch) -> Option<bool> {
    let mut found = false;
    walk(options, |kind, _, _| found |= FOR_ROUTERS.contains(&kind)).then_some(found)
}

/// Where the value of the option "maximum segment size" begins.
#[inline(always)]
pub(crate) fn segment_size(options: &mut Scratch) -> Option<u32> {
    let mut place = 0;
    let whole = walk(options, |kind, at, length| {
        if kind == SEGMENT_SIZE && length == 4 {
            place = at + 2;
        }
    });
    (whole && place != 0).then_some(place)
}

/// Where the values of what a translation changes begin among TCP's options; 0 where there is no such option.
#[derive(Clone, Copy, Default)]
pub(crate) struct Places {
    /// The two timestamps.
    pub(crate) stamps: u32,
    /// The edges of SACK blocks.
    pub(crate) edges: u32,
    /// How many edges.
    pub(crate) count: u32,
}

/// The most edges that there is room for.
pub(crate) const MOST_EDGES: u32 = 8;

/// Finds timestamps and SACK blocks; none if the options contradict themselves.
#[inline(always)]
pub(crate) fn places(options: &mut Scratch) -> Places {
    let mut found = Places::default();
    let whole = walk(options, |kind, at, length| {
        if kind == TIMESTAMPS && length == 10 {
            found.stamps = at + 2;
        }
        if kind == SACK {
            found.edges = at + 2;
            found.count = (length - 2) / 4;
        }
    });
    if whole { found } else { Places::default() }
}

/// Puts padding in place of what a SYN is not to offer, bits of [`gateway_common::offer`].
#[inline(always)]
pub(crate) fn withdraw(options: &mut Scratch, without: u32) {
    // One more than the place; 0 where there is no such option.
    let (mut stamps, mut sack, mut scale) = (0, 0, 0);
    walk(options, |kind, at, length| {
        if kind == TIMESTAMPS && length == 10 && without & NO_TIMESTAMPS as u32 != 0 {
            stamps = at + 1;
        }
        if kind == SACK_PERMITTED && length == 2 && without & NO_SACK as u32 != 0 {
            sack = at + 1;
        }
        if kind == SCALE && length == 3 && without & NO_SCALE as u32 != 0 {
            scale = at + 1;
        }
    });
    blank::<10>(options, stamps);
    blank::<2>(options, sack);
    blank::<3>(options, scale);
}

#[inline(always)]
fn blank<const LENGTH: u32>(options: &mut Scratch, place: u32) {
    if place != 0 {
        for offset in 0..LENGTH {
            options.set(place - 1 + offset, PADDING);
        }
    }
}

/// The number at a place.
#[inline(always)]
pub(crate) fn number(options: &Scratch, place: u32) -> u32 {
    options.at(place) << 24 | options.at(place + 1) << 16 | options.at(place + 2) << 8 | options.at(place + 3)
}

/// Writes a number at a place.
#[inline(always)]
pub(crate) fn set_number(options: &mut Scratch, place: u32, number: u32) {
    options.set(place, number >> 24);
    options.set(place + 1, number >> 16);
    options.set(place + 2, number >> 8);
    options.set(place + 3, number);
}

/// Sum over the words of the options, of which there are whole ones only.
#[inline(always)]
pub(crate) fn sum(options: &mut Scratch) -> u32 {
    let mut sum = Sum::default();
    let mut at = 0;
    for _ in 0..LONGEST / 4 {
        at = options.forget(at);
        if at >= options.length {
            break;
        }
        sum = sum.add(Be32::new(number(options, at)));
        at += 4;
    }
    sum.fold16().into()
}

const HOP_BY_HOP: u32 = 0;
const ROUTING: u32 = 43;
const DESTINATION: u32 = 60;

/// Extension headers that are gone over at most.
const MOST: u32 = 4;

/// Goes over the extension headers that nobody on the way has to act on any more, and returns what comes behind them
/// and where: another kind of header, one that is for a router, or one that is not within the bytes.
#[inline(always)]
pub(crate) fn skip_extensions(headers: &mut Scratch, first: u32) -> (u32, u32) {
    let (mut next, mut at) = (first, 0);
    for _ in 0..MOST {
        at = headers.forget(at);
        // A header has eight bytes at least.
        if at + 8 > headers.length || !matches!(next, HOP_BY_HOP | ROUTING | DESTINATION) {
            break;
        }
        if next == ROUTING && headers.at(at + 3) != 0 {
            break;
        }
        let end = at + (headers.at(at + 1) + 1) * 8;
        if end > headers.length {
            break;
        }
        next = headers.at(at);
        at = end;
    }
    (next, at)
}
