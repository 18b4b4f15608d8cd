//! Each how-to of the book is done as it says, on a stage of its own: its documents written, its commands typed as they stand, what
//! it shows held against what they say. All chapters are played that have a command for the stage.

use harness::docs::page::{Page, all};
use harness::docs::stage::{is_played, play};

/// The pages with commands to be played.
fn played() -> Vec<Page> {
    let all = all().into_iter().filter(|page| page.name.starts_with("docs/"));
    all.filter(|page| page.blocks.iter().any(is_played)).collect()
}

/// `PAGE=words` plays those whose name has the words.
#[test]
fn what_the_book_says_is_what_happens() {
    let wanted = std::env::var("PAGE").unwrap_or_default();
    let pages: Vec<_> = played().into_iter().filter(|page| page.name.contains(&wanted)).collect();
    assert!(!pages.is_empty(), "no page has `{wanted}` in its name");
    let mut failures = Vec::new();
    for page in &pages {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(page)));
        if outcome.is_err() {
            failures.push(page.name.as_str());
        }
    }
    assert!(failures.is_empty(), "not as they say: {failures:?}; `PAGE={}` plays one alone", failures[0]);
}
