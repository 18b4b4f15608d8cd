//! A snapshot that cannot be put in force for the moment. A target of its own: the test takes descriptors away from the
//! whole process.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod kernel;

use kernel::lab::{GATEWAY, Lab, PORT};
use kernel::{PinDirectory, snapshot};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn a_snapshot_that_could_not_be_applied_is_applied_by_a_later_tick() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let (first, second) = (lab.backend(0, "first"), lab.backend(1, "second"));
    let mut plane = lab.start(pins.path());
    let before = getrlimit(Resource::Nofile);
    for (generation, backend, name) in [(1, &first, "first"), (2, &second, "second")] {
        let applied = lab.gateway.enter(|| {
            setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..before }).unwrap();
            let applied = plane.apply(snapshot(generation, PORT, backend));
            setrlimit(Resource::Nofile, before).unwrap();
            applied
        });
        assert!(applied.is_err(), "the limit did not bite");
        let changed = lab.gateway.enter(|| plane.tick()).unwrap().changed.unwrap();
        assert_eq!(changed.generation, generation);
        for address in GATEWAY {
            assert_eq!(lab.connect(address).unwrap().name, name);
        }
    }
}
