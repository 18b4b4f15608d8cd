//! What comparisons of contenders have in common: rounds in turns, and one way to show them all, as a table, as JSON
//! and as a picture. What is compared, and how it is measured, is the business of `l4` and `sni`.

mod column;
mod options;
mod plot;
mod report;
mod sheet;
mod steer;
mod table;
mod turns;

pub(crate) use column::{Column, column};
pub(crate) use options::{Chosen, Kind, word};
pub(crate) use sheet::{Figures, Row, Section, Sheet};
pub(crate) use steer::Steer;
pub(crate) use turns::{Stand, add_over, in_turns, others, uninterrupted, watch_for_interruption};
