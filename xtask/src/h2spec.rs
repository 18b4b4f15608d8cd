//! The conformance suite of HTTP/2 that a test runs (`tests/tests/h2spec.rs`).

use anyhow::Result;

use crate::go::Recipe;

/// Makes the program unless it is there.
pub(crate) fn ensure() -> Result<()> {
    let recipe = Recipe {
        program: "h2spec",
        directory: "h2spec",
        package: "github.com/summerwind/h2spec/cmd/h2spec",
        flags: &[],
    };
    recipe.ensure().map(drop)
}
