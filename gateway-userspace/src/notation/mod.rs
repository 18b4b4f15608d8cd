//! Ways of writing things down that documents, filters and formats have in common: expressions, durations, command operators.

pub mod command;
pub mod duration;
pub mod percent;
pub mod re2;
