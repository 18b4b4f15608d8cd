//! Walking through what may lie between the fixed headers: options of IPv4 and TCP, which share a format, and extension
//! headers of IPv6. On bytes copied out of the packet.

use crate::maps::Scratch;

/// End of the options, in both lists.
const END: u32 = 0;
/// A byte of padding, in both lists.
const PADDING: u32 = 1;

/// TCP: maximum segment size.
const SEGMENT_SIZE: u32 = 2;

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
