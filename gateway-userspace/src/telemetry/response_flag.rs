//! Envoy's response flags, as far as this gateway raises them.

use std::fmt;

/// Why a response is not simply the backend's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResponseFlag {
    /// NR: no route.
    NoRoute,
    /// NC: the route names a cluster that is not there.
    NoCluster,
    /// UH: no healthy endpoint.
    NoHealthyUpstream,
    /// UF: the connection to the endpoint failed.
    UpstreamConnectionFailure,
    /// UC: the endpoint closed before it answered.
    UpstreamConnectionTermination,
    /// UPE: the endpoint's answer could not be read.
    UpstreamProtocolError,
    /// UT: the route's timeout.
    UpstreamRequestTimeout,
    /// UO: as many connections as the DestinationRule allows.
    UpstreamOverflow,
    /// DC: the client reset the connection.
    DownstreamConnectionTermination,
    /// DPE: the request could not be read.
    DownstreamProtocolError,
    /// URX: all retries are used up.
    UpstreamRetryLimitExceeded,
    /// UR: the endpoint reset the request's stream.
    UpstreamRemoteReset,
    /// DT: the connection has lasted as long as the DestinationRule allows.
    DurationTimeout,
    /// DI: a fault delayed the request.
    DelayInjected,
    /// FI: a fault answered the request.
    FaultInjected,
    /// SI: nothing has moved in the request for too long.
    StreamIdleTimeout,
    /// OM: memory is short.
    OverloadManager,
}

impl fmt::Display for ResponseFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRoute => "NR",
            Self::NoCluster => "NC",
            Self::NoHealthyUpstream => "UH",
            Self::UpstreamConnectionFailure => "UF",
            Self::UpstreamConnectionTermination => "UC",
            Self::UpstreamProtocolError => "UPE",
            Self::UpstreamRequestTimeout => "UT",
            Self::UpstreamOverflow => "UO",
            Self::DownstreamConnectionTermination => "DC",
            Self::DownstreamProtocolError => "DPE",
            Self::UpstreamRetryLimitExceeded => "URX",
            Self::UpstreamRemoteReset => "UR",
            Self::DurationTimeout => "DT",
            Self::DelayInjected => "DI",
            Self::FaultInjected => "FI",
            Self::StreamIdleTimeout => "SI",
            Self::OverloadManager => "OM",
        })
    }
}

impl ResponseFlag {
    /// All of them, in the order of their numbers.
    pub const ALL: &[Self] = &[
        Self::NoRoute,
        Self::NoCluster,
        Self::NoHealthyUpstream,
        Self::UpstreamConnectionFailure,
        Self::UpstreamConnectionTermination,
        Self::UpstreamProtocolError,
        Self::UpstreamRequestTimeout,
        Self::UpstreamOverflow,
        Self::DownstreamConnectionTermination,
        Self::DownstreamProtocolError,
        Self::UpstreamRetryLimitExceeded,
        Self::UpstreamRemoteReset,
        Self::DurationTimeout,
        Self::DelayInjected,
        Self::FaultInjected,
        Self::StreamIdleTimeout,
        Self::OverloadManager,
    ];

    /// The flag in words, as `%RESPONSE_FLAGS_LONG%` shows it.
    pub fn long(self) -> &'static str {
        match self {
            Self::NoRoute => "NoRouteFound",
            Self::NoCluster => "NoClusterFound",
            Self::NoHealthyUpstream => "NoHealthyUpstream",
            Self::UpstreamConnectionFailure => "UpstreamConnectionFailure",
            Self::UpstreamConnectionTermination => "UpstreamConnectionTermination",
            Self::UpstreamProtocolError => "UpstreamProtocolError",
            Self::UpstreamRequestTimeout => "UpstreamRequestTimeout",
            Self::UpstreamOverflow => "UpstreamOverflow",
            Self::DownstreamConnectionTermination => "DownstreamConnectionTermination",
            Self::DownstreamProtocolError => "DownstreamProtocolError",
            Self::UpstreamRetryLimitExceeded => "UpstreamRetryLimitExceeded",
            Self::UpstreamRemoteReset => "UpstreamRemoteReset",
            Self::DurationTimeout => "DurationTimeout",
            Self::DelayInjected => "DelayInjected",
            Self::FaultInjected => "FaultInjected",
            Self::StreamIdleTimeout => "StreamIdleTimeout",
            Self::OverloadManager => "OverloadManagerTerminated",
        }
    }
}
