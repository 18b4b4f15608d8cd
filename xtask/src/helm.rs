//! What renders the chart below `deploy/helm` for a test (`tests/tests/deploy.rs`).

use anyhow::Result;

use crate::go::Recipe;

/// Makes the program unless it is there.
pub(crate) fn ensure() -> Result<()> {
    let recipe = Recipe {
        program: "helm",
        directory: "helm",
        package: "helm.sh/helm/v3/cmd/helm",
        flags: &["-trimpath".to_owned(), "-ldflags=-s -w".to_owned()],
    };
    recipe.ensure().map(drop)
}
