//! Why a connection stays with user space. None of it is an error: the connection goes on as it was.

use std::io;

/// See the module. The words are shown to people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no kernel plane.
    #[error("no kernel plane")]
    NoPlane,
    /// The listener has no number yet.
    #[error("listener not known to the kernel plane")]
    NoListener,
    /// Client and backend speak different versions of IP.
    #[error("client and backend are of different address families")]
    Families,
    /// The programs are not on the interface that leads to the client.
    #[error("the programs are not on the client's interface")]
    ClientInterface,
    /// The node's netfilter gives the client's packets another destination, behind the programs.
    #[error("the client's packets are translated by the node, as kube-proxy does")]
    Translated,
    /// One end's segments do not fit the other end's link.
    #[error("segments of one side are too large for the other's link")]
    SegmentSize,
    /// The ends agreed on timestamps with the gateway on one side only.
    #[error("timestamps on one side only")]
    Timestamps,
    /// Timestamps in µs.
    #[error("timestamps in microseconds")]
    FineTimestamps,
    /// Selective acknowledgements on one side only.
    #[error("selective acknowledgements on one side only")]
    Sack,
    /// Window scales on one side only.
    #[error("window scaling on one side only")]
    WindowScale,
    /// One end has closed, or reset the connection.
    #[error("half-closed")]
    Closed,
    /// Received out of order: not to be taken back.
    #[error("segments missing")]
    Missing,
    /// More in flight than is worth holding.
    #[error("too much in flight")]
    Busy,
    /// No translation is free.
    #[error("every translation is in use")]
    NoTranslation,
    /// No record is free, or the tuple has one.
    #[error("flow table full, or the tuple in use")]
    NoRecord,
    /// The kernel refused.
    #[error("{what}: {kind}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        kind: io::ErrorKind,
    },
}

impl Refusal {
    pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::System { what, kind: error.kind() }
    }

    /// Whether it may be different a moment later.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Missing | Self::Busy | Self::NoTranslation | Self::NoRecord)
    }

    /// For metrics, `snake_case`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoPlane => "no_plane",
            Self::NoListener => "no_listener",
            Self::Families => "families",
            Self::ClientInterface => "client_interface",
            Self::Translated => "translated",
            Self::SegmentSize => "segment_size",
            Self::Timestamps => "timestamps",
            Self::FineTimestamps => "fine_timestamps",
            Self::Sack => "sack",
            Self::WindowScale => "window_scale",
            Self::Closed => "closed",
            Self::Missing => "missing",
            Self::Busy => "busy",
            Self::NoTranslation => "no_translation",
            Self::NoRecord => "no_record",
            Self::System { .. } => "system",
        }
    }
}
