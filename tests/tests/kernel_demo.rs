//! The demo, as a newcomer runs it: every line that it prints is typed and its answer compared. As root, so that the
//! kernel's path is part of it.

use std::path::Path;
use std::process::Command;

use harness::gateway;
use harness::program::run;

#[test]
fn every_line_that_the_demo_prints_does_what_it_says() {
    // The same build that these tests are part of; whoever builds the agent for them builds xtask too.
    let xtask = gateway::program().with_file_name("xtask");
    assert!(xtask.exists(), "no {}; run these tests with `cargo xtask test`", xtask.display());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let said = run(Command::new(xtask).args(["demo", "--profile", "dev", "--check"]).current_dir(root));
    assert_eq!(said.code, Some(0), "{}", said.all());
    for line in ["telnet localhost", "--resolve", "openssl s_client", "maps dump FLOWS", "gave the answers"] {
        assert!(said.out.contains(line), "no `{line}` in:\n{}", said.all());
    }
}
