//! A TCP endpoint without I/O, as much of RFC 9293 as a hand-over can go wrong by: sequence space, windows, cumulative
//! acknowledgements, bytes out of order, FIN, RST, timestamps (RFC 7323); where the standard leaves a choice, as Linux has
//! it. When it sends, and when a timer runs out, is for the one who explores to say.

use std::collections::BTreeMap;

use gateway_common::Seen;
use gateway_common::handover::is_before;

/// What goes over the wire.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Segment {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    /// [`Seen`] bits.
    pub(crate) flags: u32,
    pub(crate) payload: Vec<u8>,
    /// In units of two to the power of the sender's scale.
    pub(crate) window: u32,
    /// Timestamp and echo.
    pub(crate) stamps: Option<[u32; 2]>,
}

impl Segment {
    pub(crate) fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The number behind it.
    pub(crate) fn end(&self) -> u32 {
        self.seq.wrapping_add(self.payload.len() as u32).wrapping_add(u32::from(self.is(Seen::FIN)))
    }

    /// What a stack answers that has no such connection.
    pub(crate) fn refused(&self) -> Option<Self> {
        let reset = Self { seq: self.ack, flags: Seen::RST, ..Self::default() };
        (!self.is(Seen::RST)).then_some(reset)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Phase {
    #[default]
    Open,
    /// Ended by a reset, its own or the peer's.
    Reset,
    /// The stack knows nothing of it any more.
    Gone,
}

/// What one end of a connection is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) first_out: u32,
    pub(crate) first_in: u32,
    /// Bytes that it keeps for its reader.
    pub(crate) buffer: u32,
    pub(crate) congestion_window: u32,
    /// Window scales, its own and the peer's.
    pub(crate) scales: [u32; 2],
    /// By how much its timestamps are ahead of the clock, if it has any.
    pub(crate) clock: Option<u32>,
    /// The peer's latest timestamp: that of its part of the handshake.
    pub(crate) recent: u32,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Tcp {
    pub(crate) phase: Phase,
    /// Where its first bytes begin, in both directions.
    pub(crate) first_out: u32,
    pub(crate) first_in: u32,
    pub(crate) una: u32,
    pub(crate) nxt: u32,
    /// From `una` on.
    pub(crate) queue: Vec<u8>,
    /// A FIN is behind the queue.
    pub(crate) closing: bool,
    pub(crate) fin_acked: bool,
    /// The peer's window ends here.
    edge: u32,
    /// The largest one that it ever told.
    widest: u32,
    congestion_window: u32,
    pub(crate) rcv: u32,
    /// `rcv` when it told it last, and where the window ended then.
    wup: u32,
    told: u32,
    pub(crate) out_of_order: BTreeMap<u32, u8>,
    fin_at: Option<u32>,
    pub(crate) unread: Vec<u8>,
    pub(crate) eof: bool,
    buffer: u32,
    pub(crate) scale: u32,
    pub(crate) peer_scale: u32,
    pub(crate) ack_due: bool,
    has_objected: bool,
    /// `TCP_REPAIR`: sends nothing, and is closed in silence.
    pub(crate) repair: bool,
    /// Nobody reads it any more.
    orphan: bool,
    clock: Option<u32>,
    recent: u32,
}

impl Tcp {
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup { first_out, first_in, buffer, congestion_window, scales, clock, recent } = setup;
        Self {
            phase: Phase::Open,
            first_out,
            first_in,
            una: first_out,
            nxt: first_out,
            queue: Vec::new(),
            closing: false,
            fin_acked: false,
            // What a handshake tells is not scaled.
            edge: first_out.wrapping_add(4),
            widest: 4,
            congestion_window,
            rcv: first_in,
            wup: first_in,
            told: first_in.wrapping_add(buffer.max(4)),
            out_of_order: BTreeMap::new(),
            fin_at: None,
            unread: Vec::new(),
            eof: false,
            buffer,
            scale: scales[0],
            peer_scale: scales[1],
            ack_due: false,
            has_objected: false,
            repair: false,
            orphan: false,
            clock,
            recent,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// As `TCP_INFO` tells: neither end has closed.
    pub(crate) fn is_established(&self) -> bool {
        self.is_open() && !self.closing && !self.eof
    }

    /// The number behind all that was written.
    pub(crate) fn written(&self) -> u32 {
        self.una.wrapping_add(self.queue.len() as u32).wrapping_sub(u32::from(self.fin_acked))
    }

    /// Bytes that were written and not acknowledged.
    pub(crate) fn unacknowledged(&self) -> u32 {
        self.queue.len() as u32
    }

    /// Closes it: with bytes that nobody will read there is no end but a reset (RFC 2525 section 2.17).
    pub(crate) fn close(&mut self) -> Option<Segment> {
        if self.repair {
            self.phase = Phase::Gone;
        } else if self.is_open() && !self.unread.is_empty() {
            return Some(self.reset());
        } else {
            (self.closing, self.orphan) = (true, true);
        }
        None
    }

    /// Ends it by a reset.
    pub(crate) fn reset(&mut self) -> Segment {
        self.phase = Phase::Reset;
        Segment { seq: self.nxt, ack: self.rcv, flags: Seen::RST | Seen::ACK, ..Segment::default() }
    }

    /// The next segment, if there is anything to say: what is new, at most `most` bytes of it, or an acknowledgement.
    pub(crate) fn transmit(&mut self, most: u32, now: u32) -> Option<Segment> {
        if !self.is_open() {
            return None;
        }
        let in_flight = self.nxt.wrapping_sub(self.una);
        let unsent = self.unacknowledged().saturating_sub(in_flight);
        let room = self.edge.wrapping_sub(self.nxt).cast_signed().max(0).cast_unsigned();
        let length = unsent.min(most).min(room).min(self.congestion_window.saturating_sub(in_flight));
        let says_end = self.closing && length == unsent && !is_before(self.written(), self.nxt);
        if length == 0 && !says_end {
            return (self.ack_due && !self.repair).then(|| self.segment(self.nxt, 0, false, now));
        }
        let from = self.nxt;
        self.nxt = from.wrapping_add(length).wrapping_add(u32::from(says_end));
        // In repair mode it only believes that it has sent.
        (!self.repair).then(|| self.segment(from, length, says_end, now))
    }

    /// What goes again when nothing came for too long: the first of what is not acknowledged, a byte to a closed window,
    /// or the FIN.
    pub(crate) fn time_out(&mut self, most: u32, now: u32) -> Option<Segment> {
        self.has_objected = false;
        if !self.is_open() || self.repair || self.nxt == self.una && self.queue.is_empty() {
            return None;
        }
        let in_flight = self.nxt.wrapping_sub(self.una).min(self.unacknowledged()).max(1);
        let length = self.unacknowledged().min(most).min(in_flight);
        let says_end = self.closing && length == self.unacknowledged() && is_before(self.written(), self.nxt);
        let end = self.una.wrapping_add(length).wrapping_add(u32::from(says_end));
        if is_before(self.nxt, end) {
            self.nxt = end;
        }
        Some(self.segment(self.una, length, says_end, now))
    }

    fn segment(&mut self, seq: u32, length: u32, says_end: bool, now: u32) -> Segment {
        let start = seq.wrapping_sub(self.una) as usize;
        let payload = self.queue.get(start..start + length as usize).unwrap_or_default().to_vec();
        let free = self.buffer.saturating_sub(self.unread.len() as u32);
        let told = self.told.wrapping_sub(self.rcv).cast_signed().max(0).cast_unsigned();
        // The right edge never moves back.
        let window = free.max(told) >> self.scale;
        let edge = self.rcv.wrapping_add(window << self.scale);
        if is_before(self.told, edge) {
            self.told = edge;
        }
        (self.wup, self.ack_due) = (self.rcv, false);
        Segment {
            seq,
            ack: self.rcv,
            flags: Seen::ACK | if says_end { Seen::FIN } else { 0 },
            payload,
            window,
            stamps: self.clock.map(|_| [self.timestamp(now), self.recent]),
        }
    }

    pub(crate) fn timestamp(&self, now: u32) -> u32 {
        self.clock.unwrap_or(0).wrapping_add(now)
    }

    /// Takes a segment in; what it says to it later is for [`Tcp::transmit`], but for a reset.
    pub(crate) fn receive(&mut self, segment: &Segment) -> Option<Segment> {
        if !self.is_open() {
            return segment.refused();
        }
        if self.is_old(segment) || !self.is_acceptable(segment) {
            // Linux says so once in a while only, that two ends do not answer each other for ever.
            let is_pure = segment.payload.is_empty() && !segment.is(Seen::FIN);
            self.ack_due |= !(segment.is(Seen::RST) || is_pure && self.has_objected);
            self.has_objected |= is_pure;
            return None;
        }
        if segment.is(Seen::RST) {
            let is_exact = segment.seq == self.rcv;
            self.phase = if is_exact { Phase::Reset } else { Phase::Open };
            self.ack_due |= !is_exact;
            return None;
        }
        if self.orphan && !segment.payload.is_empty() && is_before(self.rcv, segment.end()) {
            return Some(self.reset());
        }
        if let Some([stamp, _]) = segment.stamps
            && self.clock.is_some()
            && !is_before(self.wup, segment.seq)
        {
            self.recent = stamp;
        }
        if is_before(self.nxt, segment.ack) {
            self.ack_due = true;
            return None;
        }
        let window = segment.window << self.peer_scale;
        self.widest = self.widest.max(window);
        // RFC 5961 section 5.2.
        if is_before(segment.ack, self.una.wrapping_sub(self.widest)) {
            self.ack_due = true;
            return None;
        }
        self.acknowledge(segment);
        self.take(segment);
        None
    }

    /// Protection against wrapped sequence numbers (RFC 7323 section 5).
    fn is_old(&self, segment: &Segment) -> bool {
        let Some([stamp, _]) = segment.stamps else { return false };
        !segment.is(Seen::RST) && is_before(stamp, self.recent)
    }

    /// As `tcp_sequence` of Linux has it: nothing that ends before what was told, nothing that begins behind the window.
    fn is_acceptable(&self, segment: &Segment) -> bool {
        !is_before(segment.end(), self.wup) && !is_before(self.told, segment.seq)
    }

    fn acknowledge(&mut self, segment: &Segment) {
        if is_before(segment.ack, self.una) {
            return;
        }
        let mut count = segment.ack.wrapping_sub(self.una);
        if count > self.unacknowledged() && !self.fin_acked {
            self.fin_acked = true;
            count -= 1;
        }
        self.queue.drain(..count as usize);
        self.una = segment.ack;
        self.edge = segment.ack.wrapping_add(segment.window << self.peer_scale);
    }

    fn take(&mut self, segment: &Segment) {
        for (place, byte) in segment.payload.iter().enumerate() {
            let seq = segment.seq.wrapping_add(place as u32);
            if !is_before(seq, self.rcv) && is_before(seq, self.told) {
                self.out_of_order.insert(seq, *byte);
            }
        }
        if segment.is(Seen::FIN) {
            self.fin_at = Some(segment.end().wrapping_sub(1));
        }
        self.ack_due |= !segment.payload.is_empty() || segment.is(Seen::FIN);
        while let Some(byte) = self.out_of_order.remove(&self.rcv) {
            self.unread.push(byte);
            self.rcv = self.rcv.wrapping_add(1);
        }
        if self.fin_at == Some(self.rcv) && !self.eof {
            self.eof = true;
            self.rcv = self.rcv.wrapping_add(1);
        }
    }

    /// Reads all that came, and tells of the room if there had been little.
    pub(crate) fn read(&mut self, most: usize) -> Vec<u8> {
        let told = self.told.wrapping_sub(self.rcv);
        let count = self.unread.len().min(most);
        self.ack_due |= count > 0 && told < self.buffer / 2;
        self.unread.drain(..count).collect()
    }
}
