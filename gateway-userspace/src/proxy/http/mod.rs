//! HTTP: one connection's requests, each through its phases: head → virtual host → route → action → response.

mod body;
mod cors;
mod fault;
mod forward;
mod headers;
mod path;
mod redirect;
mod reply;
mod request;
mod serve;
mod upgrade;

pub use path::normalize;
pub(super) use serve::{Connection, serve};
