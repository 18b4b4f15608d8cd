//! The harness of the end-to-end tests: network namespaces, the gateway as a process, certificates, documents,
//! a cluster's control plane, backends and clients. Everything is a guard: what a test makes is gone when the test ends, however it ends.
//!
//! A test that cannot run here panics with the remedy; none is skipped in silence.

pub mod arena;
pub mod authority;
pub mod backend;
pub mod browser;
pub mod bulk;
pub mod canned;
pub mod chatter;
pub mod client;
pub mod cpu;
pub mod deploy;
pub mod dns;
pub mod docs;
pub mod documents;
pub mod echo;
pub mod exchange;
pub mod faults;
pub mod foreign;
pub mod frames;
pub mod gateway;
pub mod hostile;
pub mod istio;
pub mod kube;
pub mod lab;
pub mod limits;
pub mod load;
pub mod mesh;
pub mod metrics;
pub mod namespace;
pub mod peers;
pub mod port;
pub mod program;
pub mod relay;
pub mod serve;
pub mod site;
pub mod steered;
pub mod terminal;
pub mod tls;
pub mod wait;
pub mod websocket;
pub mod workshop;
