//! HTTP: one connection's requests, each through its phases: head → virtual host → route → action → response.

mod affinity;
mod body;
mod cors;
mod deadline;
mod facts;
mod fault;
mod forward;
mod headers;
mod idle;
mod mirror;
mod outgoing;
mod record;
mod redirect;
mod reply;
mod request;
mod retry;
mod serve;
mod tries;
mod upgrade;

pub use headers::as_rules_see;
pub(super) use serve::{Connection, serve};
