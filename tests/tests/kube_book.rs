//! Commands of the book that ask a cluster's API server, typed against a real one: a page's blocks `yaml applied` are given to it, its
//! blocks `sh api` typed in order, and what they show held against what they say. No nodes run.

use std::process::Command;

use harness::docs::page::{Page, all, root};
use harness::docs::shown::is_as_shown;
use harness::docs::stage::path;
use harness::kube::ControlPlane;
use harness::program::run;

/// Namespaces that the pages speak of.
const NAMESPACES: &[&str] = &["istio-system", "shop"];

#[test]
fn what_the_book_asks_of_an_api_server_is_answered_as_it_says() {
    let pages: Vec<Page> =
        all().into_iter().filter(|page| page.blocks_of("sh").any(|block| block.is("api"))).collect();
    assert!(!pages.is_empty(), "no page has a block `sh api`");
    pages.iter().for_each(play);
}

#[track_caller]
fn play(page: &Page) {
    let plane = ControlPlane::start();
    plane.create_namespaces(NAMESPACES);
    let directory = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::symlink(root().join("deploy"), directory.path().join("deploy")).expect("a link");
    let path = path();
    let mut blocks = page.blocks.iter().peekable();
    while let Some(block) = blocks.next() {
        if block.language == "yaml" && block.is("applied") {
            plane.apply(&block.text);
        }
        if block.language != "sh" || !block.is("api") {
            continue;
        }
        // What waits for controllers would wait for ever.
        let mut shell = Command::new("timeout");
        shell.args(["60", "bash", "-c", &format!("exec 2>&1\n{}", block.text)]).current_dir(directory.path());
        let said = run(shell.env("KUBECONFIG", plane.kubeconfig()).env("PATH", &path).env("NO_COLOR", "1"));
        let shown = blocks.peek().filter(|next| next.language == "text" && next.is("output"));
        println!("── {}\n{}{}", page.at(block.line), block.text, said.out);
        assert!(
            said.code == Some(0) && shown.is_none_or(|shown| is_as_shown(&shown.text, &said.out)),
            "{}:\n{}\nended with {:?} and said:\n{}\nshown is:\n{}",
            page.at(block.line),
            block.text,
            said.code,
            said.out,
            shown.map_or("nothing", |shown| &shown.text)
        );
    }
}
