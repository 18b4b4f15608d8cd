//! What is said to a name server and what it says (RFC 1035): bytes in, values out. IPv4 addresses alone are asked for, as
//! Envoy does for Istio (`dnsLookupFamily: V4_ONLY`).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

use super::Answer;

/// Longest chain of aliases that is followed.
const MAX_ALIASES: usize = 16;

/// What to make of bytes that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// No answer to what was asked: anybody can send to the socket.
    Foreign,
    /// Did not fit into a datagram; over TCP it does.
    Truncated,
    /// The addresses; none where the name has none.
    Answer(Answer),
    /// The server does not want to, or cannot.
    Refused(String),
}

/// A question for the IPv4 addresses of a name; `None` for what is no name.
pub(super) fn query(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).ok()?;
    packet.questions.push(Question::new(name, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().ok()
}

/// Reads what answers a question.
pub(super) fn read(bytes: &[u8], id: u16, name: &str) -> Reply {
    let Ok(packet) = Packet::parse(bytes) else { return Reply::Foreign };
    let asked = packet.questions.first().map(|question| folded(&question.qname));
    if !packet.has_flags(PacketFlag::RESPONSE)
        || packet.id() != id
        || asked != Some(name.to_ascii_lowercase())
    {
        return Reply::Foreign;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Reply::Truncated;
    }
    match packet.rcode() {
        RCODE::NoError => Reply::Answer(answer(&packet, name)),
        // The name does not exist, which is an answer.
        RCODE::NameError => Reply::Answer(Answer::default()),
        other => Reply::Refused(format!("{other:?}")),
    }
}

/// The addresses at the end of the aliases that begin with the name.
fn answer(packet: &Packet<'_>, name: &str) -> Answer {
    let mut owner = name.to_ascii_lowercase();
    let mut ttl = u32::MAX;
    for _ in 0..MAX_ALIASES {
        let own = || packet.answers.iter().filter(|record| folded(&record.name) == owner);
        let addresses: Vec<IpAddr> = own().filter_map(|record| address(&record.rdata)).collect();
        ttl = own().map(|record| record.ttl).fold(ttl, u32::min);
        if !addresses.is_empty() {
            let ttl = Some(Duration::from_secs(ttl.into())).filter(|ttl| !ttl.is_zero());
            return Answer { addresses, ttl };
        }
        let next = own().find_map(|record| match &record.rdata {
            RData::CNAME(target) => Some(folded(&target.0)),
            _ => None,
        });
        let Some(next) = next else { break };
        owner = next;
    }
    Answer::default()
}

fn address(data: &RData<'_>) -> Option<IpAddr> {
    match data {
        RData::A(A { address }) => Some(Ipv4Addr::from_bits(*address).into()),
        _ => None,
    }
}

fn folded(name: &Name<'_>) -> String {
    name.to_string().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::CNAME;

    use super::*;

    fn record<'a>(name: &'a str, ttl: u32, data: RData<'a>) -> ResourceRecord<'a> {
        ResourceRecord::new(Name::new(name).unwrap(), CLASS::IN, ttl, data)
    }

    fn a(last: u8) -> RData<'static> {
        RData::A(A { address: Ipv4Addr::new(192, 0, 2, last).to_bits() })
    }

    fn alias(name: &str) -> RData<'_> {
        RData::CNAME(CNAME(Name::new(name).unwrap()))
    }

    fn response(name: &str, code: RCODE, flags: PacketFlag, answers: Vec<ResourceRecord<'_>>) -> Vec<u8> {
        let mut packet = Packet::new_reply(7);
        packet.set_flags(PacketFlag::RESPONSE | flags);
        *packet.rcode_mut() = code;
        let question = (QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN));
        packet.questions.push(Question::new(Name::new(name).unwrap(), question.0, question.1, false));
        packet.answers = answers;
        packet.build_bytes_vec_compressed().unwrap()
    }

    fn found(last: &[u8], ttl: Option<u64>) -> Reply {
        let addresses = last.iter().map(|last| Ipv4Addr::new(192, 0, 2, *last).into()).collect();
        Reply::Answer(Answer { addresses, ttl: ttl.map(Duration::from_secs) })
    }

    #[test]
    fn addresses_are_those_at_the_end_of_the_aliases() {
        let none = PacketFlag::empty();
        for (bytes, want) in [
            (
                response(
                    "a.test",
                    RCODE::NoError,
                    none,
                    vec![record("a.test", 30, a(1)), record("A.test", 20, a(2))],
                ),
                found(&[1, 2], Some(20)),
            ),
            (
                response(
                    "A.TEST",
                    RCODE::NoError,
                    none,
                    vec![
                        record("a.test", 9, alias("b.test")),
                        record("b.test", 60, a(3)),
                        record("c.test", 1, a(4)),
                    ],
                ),
                found(&[3], Some(9)),
            ),
            (response("a.test", RCODE::NoError, none, vec![record("a.test", 0, a(1))]), found(&[1], None)),
            (response("a.test", RCODE::NoError, none, vec![]), found(&[], None)),
            (response("a.test", RCODE::NameError, none, vec![]), found(&[], None)),
            (
                response("a.test", RCODE::ServerFailure, none, vec![]),
                Reply::Refused("ServerFailure".to_owned()),
            ),
            (response("a.test", RCODE::NoError, PacketFlag::TRUNCATION, vec![]), Reply::Truncated),
            (response("b.test", RCODE::NoError, none, vec![record("b.test", 9, a(1))]), Reply::Foreign),
            (
                response(
                    "a.test",
                    RCODE::NoError,
                    none,
                    vec![record("a.test", 9, alias("b.test")), record("b.test", 9, alias("a.test"))],
                ),
                found(&[], None),
            ),
        ] {
            assert_eq!(read(&bytes, 7, "a.test"), want);
            assert_eq!(read(&bytes, 8, "a.test"), Reply::Foreign);
        }
    }

    #[test]
    fn a_question_is_no_answer_and_no_prefix_of_an_answer_is_one() {
        assert_eq!(read(&query(7, "a.test").unwrap(), 7, "a.test"), Reply::Foreign);
        let answers = vec![record("a.test", 9, alias("b.test")), record("b.test", 9, a(1))];
        let bytes = response("a.test", RCODE::NoError, PacketFlag::empty(), answers);
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length], 7, "a.test"), Reply::Foreign, "{length}");
        }
        // Whatever a byte is changed to, reading ends, and without a panic.
        for at in 0..bytes.len() {
            for value in [0, 0x3f, 0xc0, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                read(&changed, 7, "a.test");
            }
        }
        assert_eq!(query(7, &"a".repeat(64)), None);
    }
}
