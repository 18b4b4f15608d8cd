//! Which tickets are taken, and by which keys they are sealed.

use std::collections::BTreeSet;

use serde_json::{from_value, json, to_value};

use super::*;
use crate::model::{
    ClientAuthority, ClientPolicy, Credential, CredentialSource, HostPattern, KeyGroup, ProtocolPolicy,
    ServerCertificate, ServerTls, TlsMode, TlsVersion,
};

const HOUR: i64 = 60 * 60;
const SESSION: &[u8] = b"what a session was agreed on";

/// What a context is made of.
struct Chain {
    names: Vec<HostPattern>,
    tls: ServerTls,
    credential: Credential,
}

impl Chain {
    fn new() -> Self {
        let source = CredentialSource::Secret("istio-system/web".into());
        let certificate = ServerCertificate {
            source: source.clone(),
            chain: (*b"certificate").into(),
            private_key: (*b"key").into(),
            ocsp_staple: None,
        };
        let authority =
            ClientAuthority { source, bundle: (*b"authority").into(), revoked: Some((*b"lists").into()) };
        let credential = Credential { certificates: vec![certificate], client_authority: Some(authority) };
        let tls = ServerTls {
            mode: TlsMode::Mutual,
            asked: vec!["web".into()],
            credential: Ok(Arc::new(credential.clone())),
            clients: ClientPolicy::default(),
            protocol: ProtocolPolicy::default(),
        };
        Self { names: vec![HostPattern::new("a.test"), HostPattern::new("*.b.test")], tls, credential }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Context {
        let mut chain = Self::new();
        change(&mut chain);
        Context::of(&chain.names, &chain.tls, &chain.credential).unwrap()
    }

    /// Asks no client for a certificate.
    fn ticketer(keys: &Arc<TicketKeys>) -> Ticketer {
        Ticketer::new(keys.clone(), Self::with(|_| ()), None)
    }
}

fn opens(ticketer: &Ticketer, ticket: &[u8], now: i64) -> bool {
    match ticketer.open(ticket, now) {
        Some(session) => {
            assert_eq!(session, SESSION);
            true
        }
        None => false,
    }
}

fn authority(chain: &mut Chain) -> &mut ClientAuthority {
    chain.credential.client_authority.as_mut().unwrap()
}

#[test]
fn a_key_seals_for_six_hours_and_opens_for_twelve() {
    let ticketer = Chain::ticketer(&Arc::default());
    let start = 1000 * HOUR;
    let first = ticketer.seal(SESSION, start).unwrap();
    let before_the_change = ticketer.seal(SESSION, start + 6 * HOUR - 1).unwrap();
    let second = ticketer.seal(SESSION, start + 6 * HOUR).unwrap();
    assert_eq!(first[..16], before_the_change[..16], "the same key");
    assert_ne!(first[..16], second[..16], "the next one");
    assert_ne!(first[16..], before_the_change[16..], "no nonce twice");
    for (ticket, after, wanted) in [
        (&first, 0, true),
        (&second, 6 * HOUR, true),
        (&first, 12 * HOUR - 1, true),
        (&first, 12 * HOUR, false),
        (&before_the_change, 12 * HOUR - 1, true),
        (&before_the_change, 12 * HOUR, false),
        (&second, 18 * HOUR - 1, true),
        (&second, 18 * HOUR, false),
        (&second, 1000 * HOUR, false),
    ] {
        assert_eq!(opens(&ticketer, ticket, start + after), wanted, "after {after} s");
    }
    assert_eq!(ticketer.lifetime(), 12 * 60 * 60);
}

#[test]
fn a_clock_that_goes_back_ends_tickets_instead_of_keeping_their_keys() {
    let start = 1000 * HOUR;
    for (back, wanted) in [(1, true), (59, true), (61, false), (10 * HOUR, false), (start, false)] {
        let keys = Arc::new(TicketKeys::default());
        let ticketer = Chain::ticketer(&keys);
        let ticket = ticketer.seal(SESSION, start).unwrap();
        assert_eq!(opens(&ticketer, &ticket, start - back), wanted, "{back} s back");
        let next = ticketer.seal(SESSION, start - back).unwrap();
        assert_eq!(next[..16] == ticket[..16], wanted, "{back} s back");
        assert!(opens(&ticketer, &next, start - back), "{back} s back");
        assert_eq!(keys.hand_over_at(start - back).len(), 1, "{back} s back: nothing of the future is kept");
    }
}

#[test]
fn a_ticket_is_taken_to_the_last_bit_or_not_at_all() {
    let ticketer = Chain::ticketer(&Arc::default());
    let ticket = ticketer.seal(SESSION, 0).unwrap();
    assert!(opens(&ticketer, &ticket, 0));
    for bit in 0..ticket.len() * 8 {
        let mut changed = ticket.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!opens(&ticketer, &changed, 0), "bit {bit}");
    }
    for length in 0..ticket.len() {
        assert!(!opens(&ticketer, &ticket[..length], 0), "{length} octets");
        assert!(!opens(&ticketer, &ticket[ticket.len() - length..], 0), "the last {length} octets");
    }
    assert!(!opens(&ticketer, &[&*ticket, &[0]].concat(), 0), "one more");
    assert!(!opens(&ticketer, &[&ticket[..16], &*vec![0; 60_000]].concat(), 0), "60,000 zeros by its key");
}

#[test]
fn a_session_that_would_make_a_long_hello_gets_no_ticket() {
    let ticketer = Chain::ticketer(&Arc::default());
    let mut session = vec![7; 16 * 1024];
    let ticket = ticketer.seal(&session, 0).unwrap();
    assert_eq!(ticketer.open(&ticket, 0).as_ref(), Some(&session));
    session.push(7);
    assert_eq!(ticketer.seal(&session, 0), None);
}

#[test]
fn a_ticket_is_taken_where_all_is_the_same_and_nowhere_else() {
    let keys = Arc::default();
    let here = Chain::ticketer(&keys);
    let ticket = here.seal(SESSION, 0).unwrap();
    let elsewhere = CredentialSource::File("/tmp/web".into());
    let same = [
        ("nothing", Chain::with(|_| ())),
        ("the Secret's name", Chain::with(|it| it.tls.asked = vec!["other".into()])),
        ("where it is from", Chain::with(|it| it.credential.certificates[0].source = elsewhere.clone())),
        ("where the authority is from", Chain::with(|it| authority(it).source = elsewhere)),
        (
            "an OCSP response",
            Chain::with(|it| it.credential.certificates[0].ocsp_staple = Some((*b"o").into())),
        ),
    ];
    let second = |it: &mut Chain| {
        let certificate = it.credential.certificates[0].clone();
        it.credential.certificates.push(certificate);
    };
    let other = [
        ("a name", Chain::with(|it| it.names[0] = HostPattern::new("b.test"))),
        ("a name less", Chain::with(|it| drop(it.names.pop()))),
        ("a name for a wildcard", Chain::with(|it| it.names[1] = HostPattern::new("b.test"))),
        ("who is asked", Chain::with(|it| it.tls.mode = TlsMode::OptionalMutual)),
        ("nobody is asked", Chain::with(|it| it.tls.mode = TlsMode::Simple)),
        ("a name of clients", Chain::with(|it| it.tls.clients.names.push("alice".into()))),
        ("a key of clients", Chain::with(|it| it.tls.clients.public_keys.push([1; 32]))),
        ("a certificate of clients", Chain::with(|it| it.tls.clients.certificates.push([1; 32]))),
        ("any certificate", Chain::with(|it| it.tls.clients.accept_any = true)),
        ("the lowest version", Chain::with(|it| it.tls.protocol.min_version = TlsVersion::V1_3)),
        ("the highest version", Chain::with(|it| it.tls.protocol.max_version = TlsVersion::V1_2)),
        ("suites", Chain::with(|it| it.tls.protocol.cipher_suites = Some(Vec::new()))),
        ("groups", Chain::with(|it| it.tls.protocol.key_groups = Some(vec![KeyGroup::P384]))),
        ("the certificate", Chain::with(|it| it.credential.certificates[0].chain = (*b"renewed").into())),
        ("another certificate besides", Chain::with(second)),
        ("the client CA", Chain::with(|it| authority(it).bundle = (*b"another").into())),
        ("the revoked", Chain::with(|it| authority(it).revoked = Some((*b"more").into()))),
        ("none revoked", Chain::with(|it| authority(it).revoked = None)),
        ("no client CA", Chain::with(|it| it.credential.client_authority = None)),
        // What stands in one field stands in no other.
        (
            "lists for an authority",
            Chain::with(|it| {
                authority(it).bundle = (*b"lists").into();
                authority(it).revoked = Some((*b"authority").into());
            }),
        ),
    ];
    for (what, context) in same {
        assert!(opens(&Ticketer::new(keys.clone(), context, None), &ticket, 0), "{what}");
    }
    for (what, context) in other {
        let there = Ticketer::new(keys.clone(), context, None);
        assert!(!opens(&there, &ticket, 0), "{what}");
        let back = there.seal(SESSION, 0).unwrap();
        assert!(opens(&there, &back, 0) && !opens(&here, &back, 0), "{what}, the other way");
    }
}

#[test]
fn a_successor_takes_the_tickets_of_the_one_before_for_as_long_as_that_would() {
    let (before, after) = (Arc::new(TicketKeys::default()), Arc::new(TicketKeys::default()));
    let (old, new) = (Chain::ticketer(&before), Chain::ticketer(&after));
    // The successor's clock need not begin where the other one's did.
    let (start, apart) = (1000 * HOUR, -900 * HOUR);
    let tickets = [0, 7, 14].map(|hour| old.seal(SESSION, start + hour * HOUR).unwrap());
    let now = start + 15 * HOUR;
    let handed = to_value(before.hand_over_at(now)).unwrap();
    assert_eq!(handed.as_array().unwrap().len(), 2, "the first is gone");
    after.inherit_at(from_value(handed).unwrap(), now + apart);
    for (ticket, later, wanted) in [
        (&tickets[0], 0, false),
        (&tickets[1], 0, true),
        (&tickets[2], 0, true),
        (&tickets[1], 4 * HOUR - 1, true),
        (&tickets[1], 4 * HOUR, false),
        (&tickets[2], 11 * HOUR - 1, true),
        (&tickets[2], 11 * HOUR, false),
    ] {
        assert_eq!(opens(&new, ticket, now + apart + later), wanted, "{later} s later");
        assert_eq!(opens(&old, ticket, now + later), wanted, "{later} s later, at the one before");
    }
    // Both give tickets for a while.
    let back = new.seal(SESSION, now + apart).unwrap();
    assert_eq!(back[..16], tickets[2][..16]);
    assert!(opens(&old, &back, now));
    let due = new.seal(SESSION, now + apart + 5 * HOUR).unwrap();
    assert_ne!(due[..16], back[..16], "its time is counted from when it was made");
}

#[test]
fn keys_from_elsewhere_are_few_and_young_enough() {
    let handed = |ages: &[u32]| {
        let keys = ages.iter().zip(1u8..);
        from_value(
            keys.map(|(age, at)| json!({"name": ([at; 16]), "secret": ([at; 32]), "age": age})).collect(),
        )
        .unwrap()
    };
    let ages = |keys: &TicketKeys| keys.hand_over_at(0).iter().map(|it| it.age).collect::<Vec<_>>();
    let day = 24 * 60 * 60;
    for (given, kept) in [
        (&[][..], &[][..]),
        (&[30, 10, 20], &[10, 20, 30]),
        (&[43_199, 43_200, day, u32::MAX], &[43_199]),
        (&[5, 4, 3, 2, 1, 0], &[2, 3, 4, 5]),
    ] {
        let keys = TicketKeys::default();
        keys.inherit_at(handed(given), 0);
        assert_eq!(ages(&keys), kept, "{given:?}");
    }
    assert!(TicketKeys::default().hand_over_at(0).is_empty(), "nobody has asked for one");
}

#[test]
fn keys_go_when_their_time_is_over_though_nobody_asks() {
    let keys = Arc::new(TicketKeys::default());
    Chain::ticketer(&keys).seal(SESSION, 0).unwrap();
    let key = Arc::downgrade(&keys.sealing(0).unwrap());
    keys.clear_at(12 * HOUR - 1);
    assert!(key.upgrade().is_some());
    keys.clear_at(12 * HOUR);
    assert!(key.upgrade().is_none());
}

#[test]
fn workers_that_need_a_key_at_once_get_the_same_one() {
    let keys = Arc::new(TicketKeys::default());
    for turn in 0..50 {
        let barrier = std::sync::Barrier::new(4);
        let sealed = std::thread::scope(|scope| {
            let seal = || {
                barrier.wait();
                Chain::ticketer(&keys).seal(SESSION, turn * 7 * HOUR).unwrap()
            };
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(seal)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
        });
        let names: BTreeSet<_> = sealed.iter().map(|ticket| &ticket[..16]).collect();
        assert_eq!(names.len(), 1, "turn {turn}");
        assert!(sealed.iter().all(|ticket| opens(&Chain::ticketer(&keys), ticket, turn * 7 * HOUR)));
    }
}

#[test]
fn no_key_is_in_debug_output() {
    let keys = Arc::new(TicketKeys::default());
    keys.inherit(from_value(json!([{"name": ([77; 16]), "secret": ([123; 32]), "age": 99}])).unwrap());
    let debug = format!("{keys:?} {:?} {:#?}", keys.hand_over(), Chain::ticketer(&keys));
    let debug: String = debug.split_whitespace().collect();
    assert!(debug.contains("age:99") && debug.contains("Ticketer"), "{debug}");
    assert!(!debug.contains("123,123") && !debug.contains("77,77"), "{debug}");
}
