//! The guard against floods of SYNs. While the ring has no room for a handshake, a SYN is answered here, with a
//! cookie of the listener that user space has on the same address (RFC 4987 section 3.6): nothing is kept of it. The
//! client's ACK belongs to no flow, so it passes to the stack, which checks the cookie and makes a connection, served
//! in user space.
//!
//! Whether there is a flood is the kernel's decision: with `net.ipv4.tcp_syncookies` at 1 it makes cookies only while
//! the listener's own queue of requests is full, with 2 always, with 0 never. Where it makes none the SYN passes to
//! the stack, and so fills that queue.

use gateway_common::{ListenerKey, Seen, Verdict};

use crate::{
    answer::{self, Answer},
    handshake, index, limit, maps, mss,
    packet::Packet,
    parse::{Family, Segment, TCP_HEADER},
    socket,
};

/// What the client may send before it hears of the listener's own window: the most that it would (RFC 6928), and less
/// than a listener has room for.
const WINDOW: u32 = 14_600;

/// At tc: answers a SYN that found no room.
#[inline(always)]
pub(crate) fn answer<A: Family>(packet: &mut impl Packet, segment: &Segment<A>) -> Result<(), Verdict> {
    match ask(packet, segment) {
        socket::NO_COOKIE => Err(Verdict::HandshakesFull),
        cookie => send(packet, segment, cookie),
    }
}

/// At XDP: answers a SYN of no flow, if tc would find no room for it. An error whose action is to pass leaves it to tc,
/// as it came. The limits count a SYN only when it is certain that tc will not see it.
#[inline(always)]
pub(crate) fn guard<A: Family>(packet: &mut impl Packet, segment: &Segment<A>) -> Result<(), Verdict> {
    let config = maps::config().ok_or(Verdict::Unconfigured)?;
    if !segment.opens() || segment.hops <= 1 || segment.is_martian() || !handshake::is_full::<A>(config) {
        return Err(Verdict::Miss);
    }
    let listener = ListenerKey::new(segment.key.destination, segment.key.destination_port);
    let table = maps::table(&listener).ok_or(Verdict::NotSteered)?;
    match ask(packet, segment) {
        socket::NO_COOKIE => Err(Verdict::Miss),
        cookie => {
            limit::check_rate(config, table, segment.key.source)?;
            // As at tc, a SYN goes past the young handshake: there may be room behind it.
            index::skip_half::<A>();
            send(packet, segment, cookie)
        }
    }
}

/// The cookie of a listener of the node's own, as `socket` has it. A function of its own for the sake of the stack.
#[inline(never)]
fn ask<A: Family>(packet: &mut impl Packet, segment: &Segment<A>) -> u64 {
    match packet.copy(segment.offset, segment.header) {
        Some(tcp) => socket::cookie(packet, &segment.key, tcp),
        None => socket::NO_COOKIE,
    }
}

#[inline(always)]
fn send<A: Family>(packet: &mut impl Packet, segment: &Segment<A>, cookie: u64) -> Result<(), Verdict> {
    if turn(packet, segment, cookie) { Ok(()) } else { Err(Verdict::Unanswered) }
}

/// Likewise.
#[inline(never)]
fn turn<A: Family>(packet: &mut impl Packet, segment: &Segment<A>, cookie: u64) -> bool {
    let answer = synack(segment, cookie, packet.interface());
    answer::write(packet, segment, &answer).is_ok()
}

/// The second step of the client's handshake, with the numbers that a cookie is made of. No window scale, no selective
/// acknowledgement: nobody would remember that they were agreed upon. The kernel's own cookies keep them in a timestamp,
/// which it shifts by an offset for each pair of addresses, made with a secret that no program is told; one of ours it
/// would read as another agreement, or none.
#[inline(always)]
fn synack<A: Family>(segment: &Segment<A>, cookie: u64, interface: u32) -> Answer {
    let segment_size = mss::within::<A>((cookie >> 32) as u32, interface);
    Answer {
        sequence: cookie as u32,
        acknowledgement: segment.sequence.wrapping_add(1),
        flags: Seen::SYN | Seen::ACK,
        window: WINDOW,
        // The frame becomes no longer than it was, which not every driver allows. A SYN without options asked for the
        // size that is meant when nothing is said (RFC 9293 section 3.7.1), and the cookie holds the same.
        segment_size: if segment.header == TCP_HEADER { 0 } else { segment_size },
    }
}
