//! Every way a request can fail, mapped once to a status, a body and a response flag. Texts and statuses are Envoy's,
//! as users know them.

use http::StatusCode;

use crate::telemetry::ResponseFlag;

/// Why a request gets an answer of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestError {
    /// HTTP/1.0 or older, which Istio's gateway does not speak.
    OldVersion,
    /// A body in a transfer coding other than `chunked`.
    UnknownTransferCoding,
    /// No Host header, or a broken one.
    MissingHost,
    /// A path that cannot be normalised safely.
    InvalidPath,
    /// No virtual host, or no route in it.
    NoRoute,
    /// The route's cluster does not exist.
    NoCluster,
    /// The cluster has no healthy endpoint.
    NoHealthyUpstream,
    /// No endpoint could be connected to.
    ConnectFailure { retried: bool },
    /// Connecting took too long.
    ConnectTimeout { retried: bool },
    /// The backend closed before it answered.
    UpstreamClosed,
    /// The backend's answer is not HTTP.
    UpstreamProtocol,
    /// The route's timeout.
    Timeout,
    /// `Upgrade` to something else than a WebSocket.
    UpgradeRefused,
}

impl RequestError {
    /// The status of the answer.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::OldVersion => StatusCode::UPGRADE_REQUIRED,
            Self::UnknownTransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::MissingHost | Self::InvalidPath => StatusCode::BAD_REQUEST,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::NoCluster
            | Self::NoHealthyUpstream
            | Self::ConnectFailure { .. }
            | Self::ConnectTimeout { .. }
            | Self::UpstreamClosed => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamProtocol => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::UpgradeRefused => StatusCode::FORBIDDEN,
        }
    }

    /// The body of the answer.
    pub(super) fn body(self) -> &'static str {
        match self {
            Self::OldVersion => "Upgrade Required",
            Self::UnknownTransferCoding => "Not Implemented",
            Self::MissingHost | Self::NoRoute | Self::NoCluster | Self::UpgradeRefused => "",
            Self::InvalidPath => "Bad Request",
            Self::NoHealthyUpstream => "no healthy upstream",
            Self::ConnectFailure { retried: false } => {
                "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
            }
            Self::ConnectFailure { retried: true } => {
                "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure"
            }
            Self::ConnectTimeout { retried: false } => {
                "upstream connect error or disconnect/reset before headers. reset reason: connection timeout"
            }
            Self::ConnectTimeout { retried: true } => {
                "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: connection timeout"
            }
            Self::UpstreamClosed => {
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
            }
            Self::UpstreamProtocol => {
                "upstream connect error or disconnect/reset before headers. reset reason: protocol error"
            }
            Self::Timeout => "upstream request timeout",
        }
    }

    /// The flag of the access log.
    pub(super) fn flag(self) -> Option<ResponseFlag> {
        match self {
            Self::MissingHost | Self::UpgradeRefused => None,
            Self::OldVersion | Self::UnknownTransferCoding | Self::InvalidPath => {
                Some(ResponseFlag::DownstreamProtocolError)
            }
            Self::NoRoute => Some(ResponseFlag::NoRoute),
            Self::NoCluster => Some(ResponseFlag::NoCluster),
            Self::NoHealthyUpstream => Some(ResponseFlag::NoHealthyUpstream),
            Self::ConnectFailure { .. } | Self::ConnectTimeout { .. } => {
                Some(ResponseFlag::UpstreamConnectionFailure)
            }
            Self::UpstreamClosed => Some(ResponseFlag::UpstreamConnectionTermination),
            Self::UpstreamProtocol => Some(ResponseFlag::UpstreamProtocolError),
            Self::Timeout => Some(ResponseFlag::UpstreamRequestTimeout),
        }
    }
}
