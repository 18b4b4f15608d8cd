//! HTTP: one connection's requests, each through its phases: head → virtual host → route → action → response.

mod affinity;
mod body;
mod conversation;
mod cors;
mod deadline;
mod exchange;
mod facts;
mod fault;
mod forward;
mod grpc_web;
mod headers;
mod hops;
mod host;
mod measured;
mod mirror;
mod outgoing;
mod record;
mod redirect;
mod reply;
mod request;
mod rescue;
mod retry;
mod serve;
mod streams;
mod tries;
mod tunnel;
mod upgrade;

pub(super) use exchange::{Exchanges, Patience};
pub use headers::as_rules_see;
pub(super) use serve::{Connection, InForce, serve};
