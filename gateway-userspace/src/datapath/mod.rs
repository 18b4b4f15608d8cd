//! The kernel plane's agent side: what the maps should hold (`plan`, `maglev`), what they do hold (`maps`, the
//! only writer), and the programs' life in the kernel (`load`, `attach`, `pin`). aya is used nowhere else.

pub mod load;
pub mod maps;
mod sys;
