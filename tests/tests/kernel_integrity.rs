//! Every byte of opaque connections arrives, whichever way a gateway carries them: thousands of connections with both
//! directions at work, of all sizes and ways of closing, by several TLS stacks, over sound and harmed links.
//!
//! `SLUICE_SEED` repeats a run; without it each run has a seed of its own, which a failure names. Needs root.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use fastrand::Rng;
use harness::exchange::Plan;
use harness::exchange::backends::Backends;
use harness::exchange::calls::{Calls, Job, Pair, Way};
use harness::foreign::Language;
use harness::gateway::{Gateway, Kernel};
use harness::lab::{self, Family, Lab};
use harness::namespace::Namespace;
use harness::program::run;
use harness::relay::{Harm, Relay};
use harness::steered::{switch_offloads_off, verify_checksums};
use harness::wait;

const PORT: u16 = 443;
const KIBIBYTE: u64 = 1 << 10;
const MEBIBYTE: u64 = 1 << 20;
/// Bytes after which a gateway that decides by itself takes a connection for a lasting one.
const LASTING: u64 = 256 * KIBIBYTE;
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// When no connection has ended for so long, those that are left hang. A lost segment that is lost again a few times
/// takes seconds, and the largest transfers some tens of them.
const PATIENCE: Duration = Duration::from_mins(1);
/// Ends that are told of; the others are counted.
const TOLD: usize = 12;
/// A network behind the backend's, with a link that carries less than its ends are told.
const BEHIND_BACKEND: usize = 101;
const NARROW: u32 = 1380;

/// A way to start the gateway, and what is to become of connections then.
#[derive(Debug, Clone, Copy)]
struct Tier {
    name: &'static str,
    flags: &'static [&'static str],
    expected: Expected,
}

/// How many connections leave user space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    None,
    /// Those that last, at any moment: there are more of them among the connections then.
    Lasting,
    Most,
}

/// What lies between client, gateway and backends.
#[derive(Debug, Clone, Copy)]
enum Link {
    /// Nothing; packets of up to 64 KiB, as between pods.
    Sound,
    /// A relay between client and gateway.
    Harmed(Harm),
    /// The client's own link carries less than the backends'.
    NarrowClient,
    /// A router next to the backends passes less on, and says so by ICMP.
    NarrowPath,
}

#[derive(Debug, Clone, Copy)]
struct Condition {
    name: &'static str,
    link: Link,
    /// Bytes that the largest connections carry; on bad links what would otherwise take minutes is left out.
    largest: u64,
}

const fn harmed(name: &'static str, harm: Harm, largest: u64) -> Condition {
    Condition { name, link: Link::Harmed(harm), largest }
}

const UNHARMED: Harm = Harm { lost: 0, doubled: 0, swapped: 0 };
const SOUND: Condition = Condition { name: "sound", link: Link::Sound, largest: 64 * MEBIBYTE };
const LOSS_1: Condition = harmed("1 % lost", Harm { lost: 101, ..UNHARMED }, 32 * MEBIBYTE);
const LOSS_5: Condition = harmed("5 % lost", Harm { lost: 19, ..UNHARMED }, 4 * MEBIBYTE);
const SWAPPED: Condition = harmed("swapped", Harm { swapped: 13, ..UNHARMED }, 32 * MEBIBYTE);
const DOUBLED: Condition = harmed("doubled", Harm { doubled: 7, ..UNHARMED }, 32 * MEBIBYTE);
const NARROW_CLIENT: Condition =
    Condition { name: "narrow client", link: Link::NarrowClient, largest: 32 * MEBIBYTE };
const NARROW_PATH: Condition =
    Condition { name: "narrow path", link: Link::NarrowPath, largest: 32 * MEBIBYTE };

/// A client, a gateway that passes TLS through and upgrades requests, and backends. Ends before what it stands on.
struct Site {
    gateway: Gateway,
    backends: Backends,
    far: Option<Namespace>,
    relay: Option<Relay>,
    lab: Lab,
}

impl Site {
    fn start(link: Link, flags: &[&str]) -> Self {
        let (lab, relay, far) = arrange(link);
        let place = far.as_ref().unwrap_or(&lab.backends[0]);
        let addresses = FAMILIES.map(|family| (family, backend_address(&lab, far.is_some(), family)));
        let backends = Backends::start(place, &addresses);
        let gateway = Gateway::arrange()
            .within(&lab.gateway)
            .kernel(Kernel::Require)
            .flags(&["--interface", "c0"])
            .flags(flags)
            .document("site", &backends.documents(PORT))
            .start();
        Self { gateway, backends, far, relay, lab }
    }

    fn way(&self) -> Way<'_> {
        let to = FAMILIES.map(|family| (family, SocketAddr::new(self.lab.gateway_address(family), PORT)));
        Way { from: &self.lab.client, to, backends: &self.backends }
    }

    /// What became of the connections that were to be handed over.
    fn handoff(&self) -> Handoff {
        let told = &self.gateway.status()["kernel"]["handoff"];
        let number = |name: &str| told[name].as_u64().unwrap_or_else(|| panic!("no {name} in {told}"));
        let refused = told["refused"].to_string();
        Handoff { attempted: number("attempted"), handed_over: number("handedOver"), refused }
    }

    /// What the gateway and all kernels know of the connections that there are.
    fn report(&self) -> String {
        let mut text = String::new();
        for word in ["status", "flows"] {
            let _ = write!(text, "sluice {word}\n{}\n", self.gateway.sluice(&[word]).all());
        }
        let places = [("client", Some(&self.lab.client)), ("gateway", Some(&self.lab.gateway))];
        let backends = [("backends", self.lab.backends.first()), ("far backends", self.far.as_ref())];
        for (name, place) in places.into_iter().chain(backends) {
            let Some(place) = place else { continue };
            let said = run(place.command("ss").args(["-tmin", "state", "connected", "exclude", "time-wait"]));
            let _ = write!(text, "ss in the namespace of the {name}\n{}\n", said.all());
        }
        text
    }
}

/// What the agent says of it.
struct Handoff {
    attempted: u64,
    handed_over: u64,
    refused: String,
}

impl std::fmt::Display for Handoff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { attempted, handed_over, refused } = self;
        write!(f, "{handed_over} of {attempted}, not: {refused}")
    }
}

fn arrange(link: Link) -> (Lab, Option<Relay>, Option<Namespace>) {
    match link {
        Link::Sound => (Lab::new(1).expect("namespaces"), None, None),
        Link::Harmed(harm) => {
            let (lab, mut relay) = Lab::relayed(1).expect("namespaces");
            verify_checksums(&lab);
            switch_offloads_off(&lab.gateway, "c0");
            relay.run_with(harm);
            (lab, Some(relay), None)
        }
        Link::NarrowClient => {
            let lab = Lab::new(1).expect("namespaces");
            for (end, device) in [(&lab.client, "e0"), (&lab.gateway, "c0")] {
                end.ip(&["link", "set", device, "mtu", &NARROW.to_string()]).expect("a narrow link");
            }
            (lab, None, None)
        }
        Link::NarrowPath => {
            let lab = Lab::new(1).expect("namespaces");
            let far = lab.behind(1, BEHIND_BACKEND, NARROW).expect("a network");
            switch_offloads_off(&far, "e0");
            (lab, None, Some(far))
        }
    }
}

fn backend_address(lab: &Lab, is_far: bool, family: Family) -> IpAddr {
    if is_far { lab::address(family, BEHIND_BACKEND, 2) } else { lab.backend_address(family, 0) }
}

/// For each family: who talks, how many of them, and the most bytes each way.
fn kinds(largest: u64) -> [(Pair, usize, u64); 14] {
    [
        (Pair::Raw, 150, 64 * KIBIBYTE),
        (Pair::Raw, 12, largest / 16),
        (Pair::Raw, 2, largest),
        (Pair::Upgraded, 25, 256 * KIBIBYTE),
        (Pair::Upgraded, 2, largest / 8),
        (Pair::Rustls12, 15, 256 * KIBIBYTE),
        (Pair::Rustls13, 25, 256 * KIBIBYTE),
        (Pair::Rustls13, 2, largest / 8),
        (Pair::From(Language::Go), 8, MEBIBYTE),
        (Pair::To(Language::Go), 8, MEBIBYTE),
        (Pair::From(Language::Java), 4, MEBIBYTE),
        (Pair::To(Language::Java), 4, MEBIBYTE),
        (Pair::FromOpenssl, 3, MEBIBYTE),
        (Pair::ToOpenssl, 3, MEBIBYTE),
    ]
}

/// What is to be carried, in no order.
fn jobs(condition: &Condition, expected: Expected, backends: &Backends, seed: u64) -> Vec<Job> {
    let mut random = Rng::with_seed(seed);
    let mut jobs = Vec::new();
    for family in FAMILIES {
        for (pair, count, most) in kinds(condition.largest) {
            if !backends.has(&pair.server().name(family)) || !can_call(pair) {
                continue;
            }
            let plan = |random: &mut Rng| Plan::of(random.u64(1..), most, pair.closings());
            jobs.extend((0..count).map(|_| Job { pair, family, plan: plan(&mut random) }));
        }
        if expected == Expected::Lasting {
            jobs.extend(lasting(family, &mut random));
        }
        // By their logarithm, sizes near the most are few: this one is as large as any.
        let mut plan = Plan::of(random.u64(1..), MEBIBYTE, Pair::Raw.closings());
        *if random.bool() { &mut plan.up } else { &mut plan.down } = condition.largest;
        jobs.push(Job { pair: Pair::Raw, family, plan });
    }
    random.shuffle(&mut jobs);
    jobs
}

/// Connections that carry enough for the gateway to hand them over while both ends still send.
fn lasting(family: Family, random: &mut Rng) -> Vec<Job> {
    let job = |(pair, random): (Pair, &mut Rng)| {
        let mut plan = Plan::of(random.u64(1..), MEBIBYTE, pair.closings());
        (plan.up, plan.down) = (plan.up + LASTING, plan.down + LASTING);
        Job { pair, family, plan }
    };
    let pairs = std::iter::repeat_n(Pair::Raw, 50).chain(std::iter::repeat_n(Pair::Rustls13, 10));
    pairs.map(|pair| job((pair, &mut *random))).collect()
}

/// Whether the client's program can be had; it is the server's program too.
fn can_call(pair: Pair) -> bool {
    match pair {
        Pair::From(language) => language.program().is_some(),
        _ => true,
    }
}

/// The seed of all, or of one matrix if none is given: each cell makes its own from it.
fn seed_of(tier: Tier, condition: &Condition) -> (u64, u64) {
    let given = std::env::var("SLUICE_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |text| text.parse().expect("SLUICE_SEED is a number"));
    let of_cell = tier.name.bytes().chain(condition.name.bytes());
    (seed, of_cell.fold(seed, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// Carries everything by a gateway of a tier, and holds both ends of each connection to account.
fn carries_every_byte(tier: Tier, condition: &Condition) {
    let (seed, of_cell) = seed_of(tier, condition);
    let site = Site::start(condition.link, tier.flags);
    let jobs = jobs(condition, tier.expected, &site.backends, of_cell);
    let bytes: u64 = jobs.iter().map(|job| job.plan.up + job.plan.down).sum();
    let begun = std::time::Instant::now();
    let calls = Calls::start(&site.way(), &jobs);
    let ends = collect(&calls, jobs.len());
    let faults = faults(&site, &jobs, &ends);
    if !faults.is_empty() {
        // While the connections still are what they are.
        let report = site.report();
        drop(calls);
        let (count, told) = (faults.len(), faults[..count_told(&faults)].join("\n"));
        panic!("{report}\n{count} of {} failed; SLUICE_SEED={seed} repeats it:\n{told}", jobs.len());
    }
    let harm = site.relay.as_ref().map_or([0; 3], Relay::damage);
    let handoff = site.handoff();
    println!(
        "{}, {}: {} connections, {} MiB in {:?}; SLUICE_SEED={seed}; lost, doubled, swapped: {harm:?}; handed over: {handoff}",
        tier.name,
        condition.name,
        jobs.len(),
        bytes / MEBIBYTE,
        begun.elapsed()
    );
    check_harm(condition.link, harm);
    check_handoff(tier, &handoff, jobs.len() as u64);
}

/// A gateway that carried connections otherwise than it was told would make the test another.
fn check_handoff(tier: Tier, handoff: &Handoff, count: u64) {
    let wanted = match tier.expected {
        Expected::None => return assert_eq!(handoff.attempted, 0, "{handoff}"),
        // Few are ever still for long enough before they end: of 648, 15 to 45.
        Expected::Lasting => count / 160,
        Expected::Most => count / 2,
    };
    assert!(handoff.handed_over >= wanted, "{wanted} of {count} were to be handed over: {handoff}");
}

fn count_told(faults: &[String]) -> usize {
    faults.len().min(TOLD)
}

/// A relay that did too little would make the test another.
fn check_harm(link: Link, done: [usize; 3]) {
    if let Link::Harmed(Harm { lost, doubled, swapped }) = link {
        for (wanted, done) in [lost, doubled, swapped].into_iter().zip(done) {
            assert!((wanted != 0) == (done > 100), "{done} frames at one in {wanted}");
        }
    }
}

/// How connections ended at their clients. Ends when all have, or none does any more.
fn collect(calls: &Calls, count: usize) -> HashMap<u64, Result<(), String>> {
    let mut ends = HashMap::new();
    while ends.len() < count {
        let Some((seed, end)) = calls.next(PATIENCE) else { break };
        ends.insert(seed, end);
    }
    ends
}

/// What went wrong, a line each.
fn faults(site: &Site, jobs: &[Job], ends: &HashMap<u64, Result<(), String>>) -> Vec<String> {
    let ledger = &site.backends.ledger;
    let mut faults = Vec::new();
    for job in jobs {
        let seed = job.plan.seed;
        let hung = || Err("hangs".to_owned());
        let at_client = ends.get(&seed).cloned().unwrap_or_else(hung);
        // A server whose client failed may never get to its end.
        let patience = if at_client.is_ok() { wait::PATIENCE } else { Duration::ZERO };
        let at_server = wait::within(patience, || ledger.end_of(seed)).unwrap_or_else(hung);
        if at_client.is_err() || at_server.is_err() {
            faults.push(format!("{job}: at the client {at_client:?}, at the server {at_server:?}"));
        }
    }
    faults.extend(ledger.nameless());
    faults
}

/// A module of tests for each tier, a test for each condition, so that each can be run by its name.
macro_rules! matrix {
    ($($tier:ident: $expected:ident $flags:expr;)*) => { $(
        mod $tier {
            fn carries(condition: &super::Condition) {
                let (name, expected) = (stringify!($tier), super::Expected::$expected);
                super::carries_every_byte(super::Tier { name, flags: $flags, expected }, condition);
            }

            #[test]
            fn over_a_sound_link() {
                carries(&super::SOUND);
            }

            #[test]
            fn with_1_percent_lost() {
                carries(&super::LOSS_1);
            }

            #[test]
            fn with_5_percent_lost() {
                carries(&super::LOSS_5);
            }

            #[test]
            fn with_packets_swapped() {
                carries(&super::SWAPPED);
            }

            #[test]
            fn with_packets_doubled() {
                carries(&super::DOUBLED);
            }

            #[test]
            fn with_a_narrow_link_to_the_client() {
                carries(&super::NARROW_CLIENT);
            }

            #[test]
            fn with_a_narrow_path_to_the_backends() {
                carries(&super::NARROW_PATH);
            }
        }
    )* };
}

matrix! {
    copied: None &["--tier", "copy"];
    spliced: None &["--tier", "splice"];
    handed_over_early: Most &["--tier", "handoff"];
    handed_over_at_random: Lasting &["--tier", "random"];
    handed_over_midway: Lasting &["--tier", "lasting"];
}
