//! The load that gateways are measured with, against its own backends: every kind of it is answered rightly, as fast as
//! goes and at a rate, and what is not the right answer ends the run.

use std::time::Duration;

use harness::arena::Arena;
use harness::load::connections::Ports;
use harness::load::http::drive::{self, Plan};
use harness::load::http::{CLEAR, LARGE_PORT, SEALED, Work, backend, sealed};

const LENGTH: Duration = Duration::from_millis(100);

/// Requests a second: what a busy machine can do too.
const RATE: f64 = 200.0;

fn plan(arena: &Arena, work: Work, port: u16, rate: Option<f64>) -> Plan {
    Plan { work, targets: arena.backends(port), length: LENGTH, rate, processes: Vec::new() }
}

#[test]
fn every_kind_of_load_is_answered_as_fast_as_goes_and_at_a_rate() {
    let arena = Arena::new().expect("an arena");
    let _backend = backend::start(&arena, &sealed::identity()).expect("a backend");
    let mut ports = Ports::default();
    for work in Work::ALL {
        for rate in [None, Some(RATE)] {
            let (plan, own) = (plan(&arena, work, work.backend_port(), rate), ports);
            let run = arena.lab.client.enter(move || drive::run(&plan, own));
            let (done, next) = run.unwrap_or_else(|error| panic!("{work:?}, {rate:?}: {error:#}"));
            ports = next;
            assert!(done.answers > 0 && done.all >= done.answers, "{work:?}: {done:?}");
            assert_eq!(done.times.is_some(), rate.is_some());
            if rate.is_some() {
                // Those that were due in the time.
                let expected = (RATE * LENGTH.as_secs_f64()) as u64;
                assert!(done.answers.abs_diff(expected) <= 1, "{work:?}: {done:?}");
            }
        }
    }
}

#[test]
fn who_answers_otherwise_does_not_count() {
    let arena = Arena::new().expect("an arena");
    let _backend = backend::start(&arena, &sealed::identity()).expect("a backend");
    for (work, port) in
        [(Work::Large, CLEAR), (Work::Small, LARGE_PORT), (Work::Socket, LARGE_PORT), (Work::Small, SEALED)]
    {
        let plan = plan(&arena, work, port, None);
        let run = arena.lab.client.enter(move || drive::run(&plan, Ports::default()));
        assert!(run.is_err(), "{work:?} at {port}: {run:?}");
    }
}
