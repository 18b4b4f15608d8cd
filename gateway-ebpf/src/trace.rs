//! Telling of one client's packets, each with what became of it, for whoever watches (`sluice trace`). While nobody
//! does it costs a comparison.
#![expect(unsafe_code, reason = "exported functions, and pointers that the verifier has checked")]

use gateway_common::{
    Addr4, Addr6, Be16, Config, Direction, Event, EventKind, Hash, Verdict, Word as _, config::TRACE, rate,
};

use crate::{
    boundary::Steps,
    maps::{self, Maps},
    packet::{self, Packet},
    parse::Segment,
};

/// Packets told of in each second; of more only the number is kept.
const MOST: u32 = 1000;

/// Nanoseconds of about a second, as a shift.
const SECOND: u32 = 30;

/// Tells of a packet if it is the traced client's, or a backend's to it. `segment` and `length` are as they came, an
/// answer may stand in the packet's place by now.
#[inline(always)]
pub(crate) fn packet<A: Trace>(packet: &impl Packet, segment: &Segment<A>, length: u32, verdict: Verdict) {
    if maps::config().is_some_and(is_on::<A>) {
        A::trace(segment, verdict, length, packet.interface());
    }
}

#[inline(always)]
fn is_on<A: Maps>(config: &Config) -> bool {
    let [a, b, c, d] = config.trace6;
    if A::FAMILY == 6 { a | b | c | d != 0 } else { config.trace4 != 0 }
}

/// Whose the packet is, and whether there is room for it in this second.
#[inline(always)]
fn consider<A: Trace>(segment: &Segment<A>, verdict: u32, length: u32, interface: u32) -> u32 {
    let Some(config) = maps::config() else { return 0 };
    let found = A::find(segment, Hash::new(config.index_key, &segment.key)).found::<A>();
    let (client, flow, backend) = match &found {
        Ok((found, _)) => {
            let flow = u64::from(found.record.number) | u64::from(found.state.generation()) << 32;
            (found.record.arriving(Direction::ToBackend).source, flow, found.record.backend_id())
        }
        Err(_) => (segment.key.source, 0, 0),
    };
    if !client.is_traced(config) {
        return 0;
    }
    let Some((left_out, told)) = maps::load(TRACE) else { return 0 };
    if rate::admit(told, (packet::now_coarse() >> SECOND) as u32, MOST) {
        let became = u64::from(backend) | u64::from(verdict) << 32;
        A::tell(segment, flow, became, u64::from(length) | u64::from(interface) << 32);
    } else {
        left_out.add(1);
    }
    0
}

/// The event, in a function of its own that calls no other: it takes a large part of the stack.
#[inline(always)]
fn tell<A: Maps>(segment: &Segment<A>, flow: u64, became: u64, came: u64) -> u32 {
    let port = |port: Be16| u32::from(port.wire());
    maps::tell(&Event {
        time: packet::now(),
        kind: EventKind::Packet as u32,
        family: A::FAMILY,
        record: flow as u32,
        generation: (flow >> 32) as u32,
        backend: became as u32,
        verdict: (became >> 32) as u32,
        length: came as u32,
        flags: segment.flags,
        sequence: segment.sequence,
        acknowledgement: segment.acknowledgement,
        source: segment.key.source.words(),
        destination: segment.key.destination.words(),
        ports: port(segment.key.source_port) | port(segment.key.destination_port) << 16,
        interface: (came >> 32) as u32,
    });
    0
}

/// The two steps of an address family, which the verifier looks at once (see `boundary`).
pub(crate) trait Trace: Steps {
    fn trace(segment: &Segment<Self>, verdict: Verdict, length: u32, interface: u32);
    fn tell(segment: &Segment<Self>, flow: u64, became: u64, came: u64);
}

macro_rules! trace {
    ($family:ty: $consider:ident, $tell:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $consider(
            segment: *const Segment<$family>,
            verdict: u32,
            length: u32,
            interface: u32,
        ) -> u32 {
            // SAFETY: the verifier checks that every caller passes a segment or nothing.
            let Some(segment) = (unsafe { segment.as_ref() }) else { return 0 };
            consider(segment, verdict, length, interface)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $tell(segment: *const Segment<$family>, flow: u64, became: u64, came: u64) -> u32 {
            // SAFETY: as above.
            let Some(segment) = (unsafe { segment.as_ref() }) else { return 0 };
            tell(segment, flow, became, came)
        }

        impl Trace for $family {
            #[inline(always)]
            fn trace(segment: &Segment<Self>, verdict: Verdict, length: u32, interface: u32) {
                $consider(segment, verdict.index(), length, interface);
            }

            #[inline(always)]
            fn tell(segment: &Segment<Self>, flow: u64, became: u64, came: u64) {
                $tell(segment, flow, became, came);
            }
        }
    };
}

trace!(Addr4: trace_packet4, trace_tell4);
trace!(Addr6: trace_packet6, trace_tell6);
