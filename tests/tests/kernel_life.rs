//! What befalls a gateway in its life, while flows in the kernel go on: its agent is killed or replaced, on whichever
//! hook, and it is flooded. Needs root; fails where the kernel plane cannot be had.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};

use harness::chatter::Chatter;
use harness::lab::{Family, Lab};
use harness::load::flood;
use harness::program::run;
use harness::serve::Server;
use harness::steered::{Steered, Wishes, greet, place, verify_checksums};
use harness::{echo, wait};

fn flows(steered: &Steered) -> u64 {
    let flows = &steered.kernel()["flows"];
    flows["ipv4"].as_u64().unwrap_or(0) + flows["ipv6"].as_u64().unwrap_or(0)
}

#[test]
fn five_hundred_flows_outlive_a_killed_agent_and_the_next_one_adopts_them() {
    let lab = Lab::new(2).expect("namespaces");
    verify_checksums(&lab);
    let servers = [(Family::V4, 0), (Family::V4, 1), (Family::V6, 0), (Family::V6, 1)]
        .map(|(family, index)| echo::start_silent(place(&lab, family, index)));
    let backends = servers.each_ref().map(|server| server.address);
    let mut steered = Steered::start(lab, &Wishes::default(), &backends, &[]);
    let chats = [(Family::V4, 400), (Family::V6, 100)]
        .map(|(family, count)| Chatter::start(&steered.lab.client, steered.address(family), count));
    assert_eq!(steered.sockets(), 0, "the kernel carries them");

    steered.gateway.kill();
    assert!(steered.gateway.ask("/healthz/ready").is_none(), "nobody is home");
    let top = steered.gateway.sluice(&["top", "--batch", "1", "--pane", "flows"]).expect_success().out;
    assert!(top.starts_with("sluice: no agent") && top.matches("  kernel  ").count() >= 500, "{top}");
    for chat in &chats {
        chat.expect_unharmed();
    }
    for family in [Family::V4, Family::V6] {
        let address = steered.address(family);
        steered.lab.client.enter(move || (0..50).for_each(|_| drop(greet(address))));
    }
    steered.gateway.restart();
    wait::until("all flows in the next agent's count", || (flows(&steered) >= 500).then_some(()));
    let exchanges: usize = chats.iter().map(Chatter::expect_unharmed).sum();
    println!("500 flows, {exchanges} exchanges of 512 bytes each way, 0 lost");
    assert_eq!(servers.iter().map(Server::accepted).sum::<usize>(), 600, "none was opened twice");
    assert_eq!(steered.sockets(), 0, "the next agent leaves them to the kernel");
}

/// SYNs of a flood: they outnumber all else.
const FLOOD: u32 = 40_000;

#[test]
fn a_flood_of_syns_harms_no_flow_and_new_connections_get_through() {
    let lab = Lab::new(1).expect("namespaces");
    // Answers to nobody must be sent somewhere.
    let client = lab.client_address(Family::V4).to_string();
    lab.gateway.ip(&["route", "add", "198.19.0.0/16", "via", &client]).expect("a route");
    let server = echo::start_silent(place(&lab, Family::V4, 0));
    let steered = Steered::start(lab, &Wishes::default(), &[server.address], &["--max-flows", "4096"]);
    let chat = Chatter::start(&steered.lab.client, steered.address(Family::V4), 20);
    assert_eq!(steered.sockets(), 0, "the kernel carries them");
    let (before, packets) = (chat.exchanges(), seen(&steered));

    let SocketAddr::V4(address) = steered.address(Family::V4) else { panic!("IPv4 is flooded") };
    let namespace = steered.lab.client.open();
    let flooding = std::thread::spawn(move || {
        harness::namespace::join(&namespace);
        flood::burst(address, FLOOD).expect("a raw socket");
    });
    let mut opened = Vec::new();
    while !flooding.is_finished() || opened.len() < 20 {
        opened.push(steered.greet(Family::V4));
    }
    flooding.join().expect("a flood");
    let full = steered.verdict("handshakes_full") + steered.verdict("cookie_sent");
    let packets = seen(&steered) - packets;
    let exchanges = chat.expect_unharmed() - before;
    let beside = steered.sockets();
    println!(
        "{FLOOD} SYNs of {packets} packets, {full} found no room; {exchanges} exchanges meanwhile; {} new \
         connections, {beside} sockets",
        opened.len()
    );
    assert!(u64::from(FLOOD) * 10 >= packets * 9, "the flood is less than nine in ten of {packets} packets");
    assert!(full > u64::from(FLOOD) / 2, "the flood was too small: {full}");
    assert!(beside > 0, "what finds no room is user space's");
    assert_eq!(server.accepted(), 20 + opened.len(), "no SYN of the flood became a connection");

    // A second later what the flood left may be overwritten.
    wait::until("a new connection in the kernel", || {
        let opened = steered.greet(Family::V4);
        steered.steers(opened.local_addr().expect("an address")).then_some(())
    });
    chat.expect_unharmed();
}

/// Packets that the programs have seen.
fn seen(steered: &Steered) -> u64 {
    let kernel = steered.kernel();
    let verdicts = kernel["verdicts"].as_object().expect("the verdicts");
    verdicts.values().filter_map(serde_json::Value::as_u64).sum()
}

/// What is attached to the gateway's interfaces, as others see it. Links of tcx go with their pins.
fn attachments(lab: &Lab) -> String {
    let filters = ["c0", "b0"].map(|device| {
        let mut tc = lab.gateway.command("tc");
        run(tc.args(["filter", "show", "dev", device, "ingress"])).out
    });
    let links = lab.gateway.ip(&["-details", "link", "show"]).expect("links");
    let links: String = links.lines().filter(|line| line.contains("prog/xdp")).collect();
    filters.concat() + &links
}

/// Runs on a hook, has the agent replaced by a kill and by a stop, and cleans up.
fn lives_on(datapath: &str, hook: &str) {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, Family::V4, 0));
    let mut steered = Steered::start(lab, &Wishes::default(), &[server.address], &["--datapath", datapath]);
    let hooks = steered.kernel()["interfaces"].to_string();
    assert!(hooks.contains(hook), "{hooks}");
    let before = attachments(&steered.lab);
    assert_eq!(before.is_empty(), datapath == "tc", "what must be empty in the end is not now: {before}");
    let chat = Chatter::start(&steered.lab.client, steered.address(Family::V4), 50);
    assert_eq!(steered.sockets(), 0, "the kernel carries them");
    steered.gateway.kill();
    chat.expect_unharmed();
    steered.gateway.restart();
    chat.expect_unharmed();
    assert!(steered.gateway.stop().success());
    chat.expect_unharmed();
    steered.gateway.restart();
    let exchanges = chat.expect_unharmed();
    println!("{datapath}: {exchanges} exchanges over four agents' lives");
    drop(chat);

    steered.gateway.kill();
    steered.gateway.sluice(&["cleanup"]).expect_success();
    assert!(!steered.gateway.pin_directory().exists(), "pins are left");
    // The kernel frees a pin, and with it detaches the link, some moments after its name is gone.
    wait::until("nothing attached", || attachments(&steered.lab).is_empty().then_some(()));
    let is_refused = |address| {
        let refused =
            TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        refused.then_some(())
    };
    wait::until("nobody who steers any more", || steered.with_client(is_refused));
}

#[test]
fn by_tcx_flows_outlive_agents_and_cleaning_up_leaves_nothing() {
    lives_on("tc", "tcx");
}

#[test]
fn by_clsact_flows_outlive_agents_and_cleaning_up_leaves_nothing() {
    lives_on("clsact", "clsact");
}

#[test]
fn by_xdp_flows_outlive_agents_and_cleaning_up_leaves_nothing() {
    lives_on("xdp", "xdp");
}
