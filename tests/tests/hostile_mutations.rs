//! Hostile requests that nobody has thought of: the rows of `tests/data/hostile` changed at random. Whatever they are, the
//! backend reads whole requests in the strictest form, and each of them has the one answer that its client gets in its
//! place. `SLUICE_SEED` asks for other changes than those of every run, `SLUICE_MUTATIONS` for more of them.

use std::path::Path;

use fastrand::Rng;
use harness::documents::{Server, gateway, http_route, http_service};
use harness::gateway::Gateway;
use harness::hostile::{Ask, End, Got, Recorder, Said, Seen, ask, ask_in_pieces, mutated, rows};
use harness::port;

/// Some seconds' worth.
const MUTATIONS: u64 = 1000;

/// How often a request that is answered is there for one that is refused.
const SOUND: usize = 6;

fn told(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Requests of the tables. How long the answer to a HEAD is depends on the request, which nobody knows any more when it
/// is changed; and long ones say nothing that short ones do not.
fn corpus() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/hostile");
    let entries = std::fs::read_dir(directory).expect("the directory of rows");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let mut texts = Vec::new();
    for row in files.iter().flat_map(|file| rows(file)) {
        // Most rows are refused: those that are not weigh more.
        let weight = if row.statuses.iter().all(|status| *status == 200) { SOUND } else { 1 };
        if let Said::Request(bytes) = row.said
            && bytes.len() < 1024
            && !bytes.windows(4).any(|four| four == b"HEAD")
        {
            texts.extend(vec![bytes; weight]);
        }
    }
    texts
}

#[test]
fn each_request_that_a_backend_reads_has_one_answer() {
    let (backend, port) = (Recorder::start(), port::free());
    let documents = gateway("edge", &[Server::http(port, &["*"])])
        + &http_route("a", "*", "edge", "a")
        + &http_service("a", &[backend.address]);
    let gateway = Gateway::arrange().flags(&["--workers", "1"]).document("site", &documents).start();
    let (seed, count, corpus) = (told("SLUICE_SEED", 1), told("SLUICE_MUTATIONS", MUTATIONS), corpus());
    assert!(corpus.len() > 300, "{} texts", corpus.len());
    let mut answered = 0;
    for number in 0..count {
        let mut rng = Rng::with_seed(seed.wrapping_mul(1 << 32) + number);
        let bytes = mutated(&mut rng, &corpus);
        let asked = Ask { bytes: &bytes, responses: 0, end: End::Shut };
        let way = if rng.bool() { ask } else { ask_in_pieces };
        let seen = way(gateway.at(port), asked);
        // Behind it, the pool must be good for another request.
        let probed = ask(gateway.at(port), Ask { bytes: b"", responses: 0, end: End::Open });
        let got = backend.take(0);
        answered += got.len();
        let faults = faults(&seen, &probed, &got);
        assert!(faults.is_empty(), "seed {seed}, {number}: {}\n{faults:#?}", bytes.escape_ascii());
    }
    // Else this has been about refusals alone.
    assert!(answered as u64 > count / 8, "{answered} of {count}");
}

fn faults(seen: &Seen, probed: &Seen, got: &[Got]) -> Vec<String> {
    let mut faults: Vec<_> = seen.fault.iter().chain(&probed.fault).cloned().collect();
    faults.extend(got.iter().filter_map(|got| got.fault.clone()));
    let whole: Vec<_> = got.iter().filter(|got| got.body.is_some()).map(|got| got.target.clone()).collect();
    // An answer may come before its request's end, and then be all that its client gets of a refusal.
    if seen.from_backend != whole {
        faults.push(format!("answers to {:?}, requests for {whole:?}", seen.from_backend));
    }
    faults
}
