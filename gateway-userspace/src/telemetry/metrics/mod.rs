//! Istio's metrics of requests and TCP connections, and the text that Prometheus reads. Whoever serves writes numbers of
//! its own (a `Shard`), which are added up when somebody asks; labels are looked at once for each combination of them.
//! Which request counts where is for those who serve to say.

mod bounds;
mod durations;
mod encode;
mod exemplar;
mod flags;
mod in_flight;
mod labels;
mod registry;
mod rows;
mod rules;
mod traffic;

pub use bounds::Bounds;
pub use durations::Durations;
pub use encode::{Encoder, Form, Kind};
pub use exemplar::TraceId;
pub use flags::Flags;
pub use in_flight::InFlight;
pub use labels::{Destination, Outcome, Peer, Protocol, Source, UNKNOWN};
pub use registry::{Registry, Series, Shard};
pub use rows::{HttpSample, Progress};
pub use rules::{Change, Metric, Rules, Tag};
pub use traffic::{AtListener, Traffic};
