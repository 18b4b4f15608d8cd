//! `sluice ready` and `sluice drain --own`: an agent is this container's if it has a process id here. Other containers are
//! other namespaces of process ids, as in pods that take over from one another.

use std::process::Command;

use harness::documents::{self, Server};
use harness::gateway::{Gateway, program};
use harness::port;
use harness::program::{Said, run};
use harness::wait;

fn gateway() -> Gateway {
    Gateway::arrange()
        .document("edge", &documents::gateway("edge", &[Server::http(port::free(), &["*"])]))
        .start()
}

/// A command in the container of the agent.
fn at_home(gateway: &Gateway, words: &[&str]) -> Said {
    run(Command::new(program()).args(words).arg("--admin-socket").arg(gateway.socket()))
}

/// A command in another one.
fn elsewhere(gateway: &Gateway, words: &[&str]) -> Said {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--pid", "--fork"]).arg(program()).args(words);
    run(unshare.arg("--admin-socket").arg(gateway.socket()))
}

#[test]
fn an_agent_is_ready_in_its_own_container_alone() {
    let gateway = gateway();
    at_home(&gateway, &["ready"]).expect_success();
    let said = elsewhere(&gateway, &["ready"]);
    assert!(said.code != Some(0) && said.all().contains("is another container's"), "{}", said.all());
}

#[test]
fn only_its_own_container_drains_an_agent() {
    let gateway = gateway();
    elsewhere(&gateway, &["drain", "--own", "--for=3600"]).expect_success();
    at_home(&gateway, &["ready"]).expect_success();
    at_home(&gateway, &["drain", "--own"]).expect_success();
    let refused = wait::until("the agent to be ready no more", || {
        Some(at_home(&gateway, &["ready"])).filter(|said| said.code != Some(0))
    });
    assert!(refused.all().contains("not ready"), "{}", refused.all());
}

#[test]
fn where_nobody_answers_nothing_is_ready() {
    let said = run(Command::new(program()).args(["ready", "--admin-socket", "/nonexistent/admin.sock"]));
    assert!(said.code != Some(0) && said.all().contains("no agent answers"), "{}", said.all());
}
