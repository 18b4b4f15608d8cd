//! Functions that the verifier looks at once, for all arguments, and not again with what it knows at each call
//! (global functions, Linux 5.6; pointers to structures, 5.13): without them it follows every path through every path.
//! Numbers and pointers go in, a number comes out.
#![expect(unsafe_code, reason = "exported functions, and pointers that the verifier has checked")]

use gateway_common::{Addr4, Addr6, Be16, Hash, Reference, Sum, Table, Verdict, handover::Course};

use crate::{
    flow::{self, Found},
    handshake,
    maps::{Kind, Maps, Scratch},
    options::{self, Places},
    parse::{Options, Segment},
    record::Record,
    translate,
};

/// A flow's record and a verdict in one number: the reference in the low half, then the table, the verdict, and the
/// low bits of the record's generation.
const KIND_SHIFT: u32 = 32;
const VERDICT_SHIFT: u32 = 40;
const GENERATION_SHIFT: u32 = 48;

/// What a step made of a segment.
#[derive(Clone, Copy)]
pub(crate) struct Outcome(u64);

impl Outcome {
    #[inline(always)]
    fn of<A: Maps>(outcome: Result<(Found<A>, Verdict), Verdict>) -> Self {
        match outcome {
            Ok((found, verdict)) => Self::naming(&found, verdict),
            Err(verdict) => Self(u64::from(verdict.index()) << VERDICT_SHIFT),
        }
    }

    /// Of a flow.
    #[inline(always)]
    pub(crate) fn naming<A: Maps>(found: &Found<A>, verdict: Verdict) -> Self {
        let reference = found.record.reference(found.direction).bits();
        let kind = (found.record.kind == Kind::Half) as u64;
        Self(
            u64::from(reference)
                | kind << KIND_SHIFT
                | u64::from(verdict.index()) << VERDICT_SHIFT
                | u64::from(found.state.generation()) << GENERATION_SHIFT,
        )
    }

    /// The flow, if the segment is to be sent on, and the verdict.
    #[inline(always)]
    pub(crate) fn found<A: Maps>(self) -> Result<(Found<A>, Verdict), Verdict> {
        let verdict = Verdict::at((self.0 >> VERDICT_SHIFT & 0xff) as u32).ok_or(Verdict::Malformed)?;
        let reference = Reference::of_bits(self.0 as u32).ok_or(verdict)?;
        let kind = if self.0 >> KIND_SHIFT & 1 == 0 { Kind::Flows } else { Kind::Half };
        let record = Record::at(kind, reference.record()).ok_or(Verdict::Miss)?;
        let state = record.state();
        if state.generation() as u16 != (self.0 >> GENERATION_SHIFT) as u16 {
            // Given to another flow just now.
            return Err(Verdict::Miss);
        }
        Ok((Found { record, direction: reference.direction(), state }, verdict))
    }
}

/// The steps of an address family.
pub(crate) trait Steps: Maps {
    /// The flow that a segment belongs to.
    fn find(segment: &Segment<Self>, hash: Hash) -> Outcome;
    /// Opens a flow.
    fn open(segment: &Segment<Self>, hash: Hash, table: &Table, interface: u32) -> Outcome;
    /// What a segment does to the handshake that [`Steps::find`] found.
    fn follow(segment: &Segment<Self>, hash: Hash, found: Outcome) -> Outcome;
    /// The course of a segment of a flow in transit.
    fn course(segment: &Segment<Self>, found: Outcome) -> Course;
}

/// Numbers of courses, in the upper half; in the lower one the sequence number to go on with.
const ONWARD: u64 = 0;
const SETTLES: u64 = 1;
const TO_SOCKET: u64 = 2;
const TO_SOCKET_WITH: u64 = 3;
const WITHHELD: u64 = 4;
const COURSE_SHIFT: u32 = 32;

#[inline(always)]
fn number_of(course: Course) -> u64 {
    let (number, sequence) = match course {
        Course::Onward { settles: false } => (ONWARD, 0),
        Course::Onward { settles: true } => (SETTLES, 0),
        Course::ToSocket { sequence: None } => (TO_SOCKET, 0),
        Course::ToSocket { sequence: Some(sequence) } => (TO_SOCKET_WITH, sequence),
        Course::Withheld => (WITHHELD, 0),
        Course::Broken => (WITHHELD + 1, 0),
    };
    number << COURSE_SHIFT | u64::from(sequence)
}

#[inline(always)]
fn course_of(number: u64) -> Course {
    match number >> COURSE_SHIFT {
        ONWARD => Course::Onward { settles: false },
        SETTLES => Course::Onward { settles: true },
        TO_SOCKET => Course::ToSocket { sequence: None },
        TO_SOCKET_WITH => Course::ToSocket { sequence: Some(number as u32) },
        WITHHELD => Course::Withheld,
        _ => Course::Broken,
    }
}

macro_rules! steps {
    ($family:ty: $find:ident, $open:ident, $follow:ident, $course:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $find(segment: *const Segment<$family>, hash: u64) -> u64 {
            // SAFETY: the verifier checks that every caller passes a segment or nothing.
            let Some(segment) = (unsafe { segment.as_ref() }) else { return 0 };
            let found = flow::find(&segment.key, Hash::of_bits(hash));
            Outcome::of(found.map(|found| (found, Verdict::Forwarded)).ok_or(Verdict::Miss)).0
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $open(
            segment: *const Segment<$family>,
            hash: u64,
            table: *const Table,
            interface: u32,
        ) -> u64 {
            // SAFETY: as above.
            let (Some(segment), Some(table)) = (unsafe { (segment.as_ref(), table.as_ref()) }) else {
                return 0;
            };
            let opened = handshake::open(segment, Hash::of_bits(hash), table, interface);
            Outcome::of(opened.map(|found| (found, Verdict::Steered))).0
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $follow(segment: *const Segment<$family>, hash: u64, found: u64) -> u64 {
            // SAFETY: as above.
            let Some(segment) = (unsafe { segment.as_ref() }) else { return 0 };
            let Ok((found, _)) = Outcome(found).found() else { return found };
            Outcome::of(handshake::follow(segment, Hash::of_bits(hash), found)).0
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $course(segment: *const Segment<$family>, found: u64) -> u64 {
            // SAFETY: as above.
            let Some(segment) = (unsafe { segment.as_ref() }) else { return 0 };
            let Ok((found, _)) = Outcome(found).found() else { return 0 };
            number_of(translate::course(segment, &found))
        }

        impl Steps for $family {
            #[inline(always)]
            fn find(segment: &Segment<Self>, hash: Hash) -> Outcome {
                Outcome($find(segment, hash.bits()))
            }

            #[inline(always)]
            fn open(segment: &Segment<Self>, hash: Hash, table: &Table, interface: u32) -> Outcome {
                Outcome($open(segment, hash.bits(), table, interface))
            }

            #[inline(always)]
            fn follow(segment: &Segment<Self>, hash: Hash, found: Outcome) -> Outcome {
                Outcome($follow(segment, hash.bits(), found.0))
            }

            #[inline(always)]
            fn course(segment: &Segment<Self>, found: Outcome) -> Course {
                course_of($course(segment, found.0))
            }
        }
    };
}

steps!(Addr4: flow_find4, flow_open4, flow_follow4, flow_course4);
steps!(Addr6: flow_find6, flow_open6, flow_follow6, flow_course6);

/// What IPv4 options ask for.
#[inline(always)]
pub(crate) fn ip_options(options: &mut Scratch) -> Options {
    match options_check(options) {
        CARRIED => Options::Carried,
        FOR_ROUTERS => Options::ForRouters,
        _ => Options::Broken,
    }
}

const BROKEN: u32 = 0;
const CARRIED: u32 = 1;
const FOR_ROUTERS: u32 = 2;

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn options_check(options: *mut Scratch) -> u32 {
    // SAFETY: the verifier checks that every caller passes copied bytes or nothing.
    let Some(options) = (unsafe { options.as_mut() }) else { return BROKEN };
    match options::are_for_routers(options) {
        Some(false) => CARRIED,
        Some(true) => FOR_ROUTERS,
        None => BROKEN,
    }
}

/// Where the value of the option "maximum segment size" is among a TCP header's options.
#[inline(always)]
pub(crate) fn segment_size(options: &mut Scratch) -> Option<u32> {
    options_mss(options).checked_sub(1)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn options_mss(options: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(options) = (unsafe { options.as_mut() }) else { return 0 };
    options::segment_size(options).map_or(0, |place| place + 1)
}

/// Where timestamps and SACK blocks are among a TCP header's options.
#[inline(always)]
pub(crate) fn places(options: &mut Scratch) -> Places {
    let found = options_places(options);
    Places { stamps: found & 0xff, edges: found >> 8 & 0xff, count: found >> 16 }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn options_places(options: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(options) = (unsafe { options.as_mut() }) else { return 0 };
    let found = options::places(options);
    found.stamps | found.edges << 8 | found.count << 16
}

/// Sum over TCP options.
#[inline(always)]
pub(crate) fn options_sum(options: &mut Scratch) -> Sum {
    Sum::default().add16(Be16::from_wire(options_add_up(options) as u16))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn options_add_up(options: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(options) = (unsafe { options.as_mut() }) else { return 0 };
    options::sum(options)
}

/// Adds to a number among the options.
#[inline(always)]
pub(crate) fn add_to_number(options: &mut Scratch, place: u32, addend: u32) {
    options_add(options, place, addend);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn options_add(options: *mut Scratch, place: u32, addend: u32) -> u32 {
    // SAFETY: as above.
    let Some(options) = (unsafe { options.as_mut() }) else { return 0 };
    let sum = options::number(options, place).wrapping_add(addend);
    options::set_number(options, place, sum);
    sum
}

/// Takes what is not to be offered out of a SYN's options.
#[inline(always)]
pub(crate) fn withdraw(options: &mut Scratch, without: u8) {
    options_withdraw(options, without.into());
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn options_withdraw(options: *mut Scratch, without: u32) -> u32 {
    // SAFETY: as above.
    let Some(options) = (unsafe { options.as_mut() }) else { return 0 };
    options::withdraw(options, without);
    0
}

/// Which header comes behind extension headers, the first of which is of the kind `first`, and their length.
#[inline(always)]
pub(crate) fn extension_headers(headers: &mut Scratch, first: u8) -> (u8, u32) {
    let end = headers_end(headers, first.into());
    (end as u8, end >> 8)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn headers_end(headers: *mut Scratch, first: u32) -> u32 {
    // SAFETY: as above.
    let Some(headers) = (unsafe { headers.as_mut() }) else { return first & 0xff };
    let (next, length) = options::skip_extensions(headers, first & 0xff);
    next & 0xff | length << 8
}
