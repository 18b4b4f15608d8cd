//! Prometheus' own parsers as a program that tests call (`tests/src/metrics.rs`): of what the gateway exports, and of the rules
//! and queries that are held against it.

use anyhow::Result;

use crate::go::Recipe;

/// Makes the program unless it is there.
pub(crate) fn ensure() -> Result<()> {
    let recipe = Recipe { program: "sluice-prometheus", directory: "prometheus", package: ".", flags: &[] };
    recipe.ensure().map(drop)
}
