//! What the gateway's own sockets still send while, and after, their connections are handed over. The stack knows nothing
//! of it: its acknowledgements, its FIN, and the resets of what comes late would all be believed by the ends.

use gateway_common::{
    Action, Addr4, Addr6, Be16, Be32, Hash, Seen, State, Sum, Translation, Verdict, Word as _,
    handover::{self, Departure},
    offer,
};

use crate::{
    boundary::{self, Steps},
    flow::Found,
    maps::{self, Scratch},
    packet::Packet,
    parse::{self, Family, Segment, TCP_CHECKSUM, TCP_HEADER, Version},
    rewrite::Change,
    skb::Skb,
};

/// Where the sequence number lies in a TCP header, and how many bytes there are from it to the flags and with them.
const SEQUENCE: u32 = 4;
const BYTES: u32 = 10;
/// The acknowledgement and the flags among these bytes.
const ACKNOWLEDGEMENT: u32 = 4;
const FLAGS: u32 = 9;

/// A packet that leaves.
#[inline(always)]
pub(crate) fn run(packet: &mut Skb<'_>) -> i32 {
    if packet.is_forwarded() {
        return packet.pass();
    }
    match parse::version(packet) {
        Ok(Version::V4) => watch::<Addr4>(packet),
        Ok(Version::V6) => watch::<Addr6>(packet),
        Err(_) => packet.pass(),
    }
}

/// Each family has a function of its own, and so a stack of its own. Packets that no handed-over flow is concerned by are
/// not counted: they are most of what a node sends.
#[inline(never)]
fn watch<A: Family + Steps>(packet: &mut Skb<'_>) -> i32 {
    match judge::<A>(packet) {
        Ok(()) => packet.pass(),
        Err(verdict) => {
            maps::bump(verdict);
            if verdict.action() == Action::Drop { packet.drop() } else { packet.pass() }
        }
    }
}

#[inline(always)]
fn judge<A: Family + Steps>(packet: &mut Skb<'_>) -> Result<(), Verdict> {
    let Ok(segment) = parse::leaving::<A>(packet) else { return Ok(()) };
    let Some(config) = maps::config() else { return Ok(()) };
    if segment.opens() {
        withdraw(packet, segment);
        return Ok(());
    }
    // The flow is found as the answer to the packet would find it.
    let Ok((found, _)) = A::find(segment, Hash::new(config.index_key, &segment.key)).found() else {
        return Ok(());
    };
    let Some(translation) = found.translation() else { return Ok(()) };
    listen(segment, &found, translation);
    match handover::departure(found.state, found.direction, segment.flags, segment.payload) {
        Departure::Leaves => Ok(()),
        Departure::Withheld => Err(Verdict::Guarded),
        Departure::Broken => {
            found.record.mark(State::CONDEMNED);
            let other = found.record.expected(found.direction.reversed());
            let sequence =
                handover::farewell(found.state, found.direction, translation, segment.sequence, other);
            // No end must take that for the other's last byte.
            amend(packet, segment, sequence, segment.acknowledgement, Seen::RST);
            Err(Verdict::Amended)
        }
        Departure::Amended => {
            let acknowledgement = found.record.expected(found.direction);
            amend(packet, segment, segment.sequence, acknowledgement, 0);
            Err(Verdict::Amended)
        }
    }
}

/// Takes out of a SYN what its connection is to do without, see [`gateway_common::offer`]. A function of its own for the
/// sake of the stack.
#[inline(never)]
fn withdraw<A: Family>(packet: &mut Skb<'_>, segment: &Segment<A>) {
    let port = segment.key.destination_port.get();
    let Some(word) = maps::OFFERS.get(offer::index(port)) else { return };
    let without = offer::without(word, port);
    if without == 0 || segment.header == TCP_HEADER {
        return;
    }
    let place = segment.offset + TCP_HEADER;
    let Some(options) = packet.copy(place, segment.header - TCP_HEADER) else { return };
    let before = boundary::options_sum(options);
    boundary::withdraw(options, without);
    let segment_sum = boundary::options_sum(options).minus(before);
    if packet.put_back(place, options) {
        let change = Change { segment: segment_sum, addresses: Sum::default(), rest: Sum::default() };
        packet.fix_checksums::<A>(segment.offset + TCP_CHECKSUM, &change);
    }
}

/// Keeps what the segment tells of its socket.
#[inline(always)]
fn listen<A: Family>(segment: &Segment<A>, found: &Found<A>, translation: &'static Translation) {
    let direction = found.direction;
    let tells = handover::heard(found.state, direction, translation, segment.flags, segment.acknowledgement);
    if let Some(heard) = tells {
        let word = maps::heard(translation, direction);
        // What another CPU has just put there is as good: the next segment tells again.
        word.replace(word.load(), heard.0);
    }
}

/// Takes FIN away, adds flags, and gives the segment these numbers. For bytes that are owed, the acknowledgement is what the
/// other end has acknowledged so far. An older one would make the receiver leave out what the segment's timestamp tells, and
/// answer with an old echo: the socket would then believe that each of its retransmissions was needless, and send one a
/// timeout, ever more slowly. A function of its own for the sake of the stack.
///
/// By copies: a program that writes packets directly has the kernel copy each one's headers beforehand.
#[inline(never)]
fn amend<A: Family>(
    packet: &mut Skb<'_>,
    segment: &Segment<A>,
    sequence: u32,
    acknowledgement: u32,
    added: u32,
) {
    let place = segment.offset + SEQUENCE;
    let Some(bytes) = packet.copy(place, BYTES) else { return };
    let (sequence, acknowledgement) = (Be32::new(sequence), Be32::new(acknowledgement));
    let flags = bytes.at(FLAGS);
    let kept = flags & !Seen::FIN | added;
    set(bytes, 0, sequence);
    set(bytes, ACKNOWLEDGEMENT, acknowledgement);
    bytes.set(FLAGS, kept);
    if !packet.put_back(place, bytes) {
        return;
    }
    let word = |flags: u32| Sum::default().add16(Be16::new(flags as u16));
    let old = word(flags).add(Be32::new(segment.sequence)).add(Be32::new(segment.acknowledgement));
    let change = Change {
        segment: word(kept).add(sequence).add(acknowledgement).minus(old),
        addresses: Sum::default(),
        rest: Sum::default(),
    };
    packet.fix_checksums::<A>(segment.offset + TCP_CHECKSUM, &change);
}

#[inline(always)]
fn set(bytes: &mut Scratch, place: u32, number: Be32) {
    let [high, low] = number.halves().map(|half| u32::from(Be16::from_wire(half).get()));
    bytes.set(place, high >> 8);
    bytes.set(place + 1, high);
    bytes.set(place + 2, low >> 8);
    bytes.set(place + 3, low);
}
