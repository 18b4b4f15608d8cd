//! Bytes of both streams of a flow: what was acknowledged, once however often it was sent, without headers.

use gateway_common::{Phase, Verdict};

use crate::bench::{Bench, FAMILIES, Net, Opened, ROOMY};
use crate::kernel::frame::{ACK, FIN, PSH, RST, SYN, Segment};

/// Within what is believed of one acknowledgement.
const STEP: u32 = 1 << 24;

/// A flow's segments by how far its streams have got, as its ends count them.
struct Talk {
    bench: Bench,
    flow: Opened,
    sent: [u32; 2],
}

impl Talk {
    fn new(net: Net) -> Self {
        let mut bench = Bench::serving(ROOMY);
        let flow = bench.established(net);
        Self { bench, flow, sent: [0; 2] }
    }

    /// An end's next segment, which acknowledges all that the other one has sent.
    fn next(&self, from_client: bool, flags: u8) -> Segment {
        let at = usize::from(!from_client);
        // The right numbers are those behind the handshake, also for flags that have a number of their own.
        let plain = if from_client { self.flow.by_client(ACK) } else { self.flow.by_backend(ACK) };
        let numbers = (
            plain.sequence.wrapping_add(self.sent[at]),
            plain.acknowledgement.wrapping_add(self.sent[1 - at]),
        );
        Segment { flags: flags | ACK, ..plain }.with_numbers(numbers.0, numbers.1)
    }

    fn passes(&mut self, what: &str, segment: &Segment) {
        self.flow.passes_on(&mut self.bench, what, segment);
    }

    #[track_caller]
    fn expect(&self, what: &str, bytes: [u64; 2]) {
        assert_eq!(self.flow.peek(&self.bench).bytes, bytes, "{what}");
    }
}

#[test]
fn bytes_count_when_they_are_acknowledged_and_once() {
    for net in FAMILIES {
        for from_client in [true, false] {
            let (mut talk, at) = (Talk::new(net), usize::from(!from_client));
            let of = |count| if from_client { [count, 0] } else { [0, count] };
            talk.expect("nothing yet", [0, 0]);
            let words = talk.next(from_client, PSH).with_payload(b"eight wo");
            talk.passes("words", &words);
            talk.expect("words on their way", [0, 0]);
            talk.sent[at] = 8;
            let acknowledged = talk.next(!from_client, 0);
            talk.passes("acknowledgement", &acknowledged);
            talk.expect("words that have come", of(8));
            for (what, segment) in [("words again", &words), ("acknowledgement again", &acknowledged)] {
                talk.passes(what, segment);
                talk.expect(what, of(8));
            }
        }
    }
}

#[test]
fn numbers_that_go_round_lose_no_bytes() {
    for net in FAMILIES {
        let mut talk = Talk::new(net);
        // More than two rounds.
        for step in 1..=600 {
            talk.sent = talk.sent.map(|sent| sent.wrapping_add(STEP));
            // Both at once, and an acknowledgement that was overtaken.
            for (from_client, behind) in [(true, 0), (false, 0), (false, 3000)] {
                let segment = talk.next(from_client, 0);
                let acknowledgement = segment.acknowledgement.wrapping_sub(behind);
                let sequence = segment.sequence;
                talk.passes("acknowledgement", &segment.with_numbers(sequence, acknowledgement));
            }
            let bytes = step * u64::from(STEP);
            talk.expect("overtaken", [bytes - 3000, bytes]);
        }
    }
}

#[test]
fn an_end_that_closes_has_said_all_before_it_is_acknowledged() {
    for net in FAMILIES {
        let mut talk = Talk::new(net);
        let last = talk.next(true, FIN).with_payload(b"goodbye");
        talk.passes("the client's last words", &last);
        talk.expect("the client has closed", [7, 0]);
        // Of the backend, which has not got the client's last words.
        let last = talk.next(false, FIN).with_payload(b"you too");
        talk.passes("the backend's last words", &last);
        talk.expect("both have closed", [7, 7]);
        assert_eq!(talk.flow.phase(&talk.bench), Phase::Closing);
        talk.sent = [8, 8];
        for from_client in [true, false] {
            let acknowledged = talk.next(from_client, 0);
            talk.passes("the last acknowledgement", &acknowledged);
        }
        talk.expect("all has come", [7, 7]);
    }
}

#[test]
fn what_a_reset_has_cut_off_has_not_come() {
    for net in FAMILIES {
        let mut talk = Talk::new(net);
        let last = talk.next(true, FIN).with_payload(b"goodbye");
        talk.passes("the client's last words", &last);
        let reset = talk.next(false, RST);
        talk.passes("the backend's reset", &reset);
        talk.expect("cut off", [0, 0]);
    }
}

/// The SYN says where a stream begins, not the first segment that comes.
#[test]
fn bytes_count_from_the_syn_where_the_first_segments_were_lost() {
    for net in FAMILIES {
        let mut bench = Bench::serving(ROOMY);
        let flow = bench.open(net, 41_000);
        flow.passes_on(&mut bench, "SYN-ACK", &flow.by_backend(SYN | ACK));
        let first = flow.by_client(ACK);
        let (sequence, acknowledgement) = (first.sequence, first.acknowledgement);
        let second =
            flow.by_client(ACK | PSH).with_payload(b"later").with_numbers(sequence + 4, acknowledgement);
        bench.becomes("ACK with data", &second, Verdict::Established, &flow.rewritten(&second));
        let answer = flow.by_backend(ACK);
        let (sequence, acknowledgement) = (answer.sequence, answer.acknowledgement);
        flow.passes_on(&mut bench, "the first is missing", &answer);
        flow.passes_on(&mut bench, "all has come", &answer.with_numbers(sequence, acknowledgement + 9));
        assert_eq!(flow.peek(&bench).bytes, [9, 0]);
    }
}
