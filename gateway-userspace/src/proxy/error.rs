//! Every way a request can fail, mapped once to a status, a body, response flags and details. Texts and statuses are Envoy's,
//! as users know them.

use http::StatusCode;

use crate::model::AbortStatus;
use crate::telemetry::ResponseFlag;

/// Why a request gets an answer of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestError {
    /// HTTP/1.0 or older, which Istio's gateway does not speak.
    OldVersion,
    /// A body in a transfer coding other than `chunked`.
    UnknownTransferCoding,
    /// A method of HTTP/1.1 that nobody has registered.
    UnknownMethod,
    /// A request line that asks for https where there is no TLS.
    SchemeMismatch,
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
    /// The route's `fault.abort`.
    FaultAbort { status: AbortStatus, delayed: bool },
}

impl RequestError {
    /// The status of the answer.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::OldVersion => StatusCode::UPGRADE_REQUIRED,
            Self::UnknownTransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::MissingHost | Self::InvalidPath | Self::UnknownMethod => StatusCode::BAD_REQUEST,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::NoCluster
            | Self::NoHealthyUpstream
            | Self::ConnectFailure { .. }
            | Self::ConnectTimeout { .. }
            | Self::UpstreamClosed => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamProtocol => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::UpgradeRefused | Self::SchemeMismatch => StatusCode::FORBIDDEN,
            Self::FaultAbort { status: AbortStatus::Http(status), .. } => status,
            Self::FaultAbort { status: AbortStatus::Grpc(_), .. } => StatusCode::OK,
        }
    }

    /// The body of the answer.
    pub(super) fn body(self) -> &'static str {
        match self {
            Self::OldVersion => "Upgrade Required",
            Self::UnknownTransferCoding => "Not Implemented",
            Self::MissingHost
            | Self::NoRoute
            | Self::NoCluster
            | Self::UpgradeRefused
            | Self::SchemeMismatch => "",
            Self::InvalidPath | Self::UnknownMethod => "Bad Request",
            Self::FaultAbort { .. } => "fault filter abort",
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

    /// The flags of the access log, in the order in which Envoy raises them.
    pub(super) fn flags(self) -> &'static [ResponseFlag] {
        match self {
            Self::MissingHost | Self::UpgradeRefused | Self::SchemeMismatch => &[],
            Self::OldVersion | Self::UnknownTransferCoding | Self::InvalidPath | Self::UnknownMethod => {
                &[ResponseFlag::DownstreamProtocolError]
            }
            Self::FaultAbort { delayed: false, .. } => &[ResponseFlag::FaultInjected],
            Self::FaultAbort { delayed: true, .. } => {
                &[ResponseFlag::DelayInjected, ResponseFlag::FaultInjected]
            }
            Self::NoRoute => &[ResponseFlag::NoRoute],
            Self::NoCluster => &[ResponseFlag::NoCluster],
            Self::NoHealthyUpstream => &[ResponseFlag::NoHealthyUpstream],
            Self::ConnectFailure { retried: false } | Self::ConnectTimeout { retried: false } => {
                &[ResponseFlag::UpstreamConnectionFailure]
            }
            Self::ConnectFailure { retried: true } | Self::ConnectTimeout { retried: true } => {
                &[ResponseFlag::UpstreamRetryLimitExceeded, ResponseFlag::UpstreamConnectionFailure]
            }
            Self::UpstreamClosed => &[ResponseFlag::UpstreamConnectionTermination],
            Self::UpstreamProtocol => &[ResponseFlag::UpstreamProtocolError],
            Self::Timeout => &[ResponseFlag::UpstreamRequestTimeout],
        }
    }

    /// Envoy's word for the reason (`%RESPONSE_CODE_DETAILS%`).
    pub(super) fn details(self) -> &'static str {
        match self {
            Self::OldVersion => "low_version",
            Self::UnknownTransferCoding => "http1.invalid_transfer_encoding",
            Self::MissingHost => "missing_host_header",
            Self::InvalidPath => "path_normalization_failed",
            Self::NoRoute => "route_not_found",
            Self::NoCluster => "cluster_not_found",
            Self::NoHealthyUpstream => "no_healthy_upstream",
            Self::ConnectFailure { .. } => {
                "upstream_reset_before_response_started{remote_connection_failure}"
            }
            Self::ConnectTimeout { .. } => "upstream_reset_before_response_started{connection_timeout}",
            Self::UpstreamClosed => "upstream_reset_before_response_started{connection_termination}",
            Self::UpstreamProtocol => "upstream_reset_before_response_started{protocol_error}",
            Self::Timeout => "response_timeout",
            Self::UpgradeRefused => "upgrade_failed",
            Self::UnknownMethod => "http1.codec_error",
            Self::SchemeMismatch => "scheme_mismatch",
            Self::FaultAbort { .. } => "fault_filter_abort",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_details_are_envoys() {
        for (error, flags, details) in [
            (RequestError::NoRoute, "NR", "route_not_found"),
            (RequestError::NoCluster, "NC", "cluster_not_found"),
            (RequestError::NoHealthyUpstream, "UH", "no_healthy_upstream"),
            (
                RequestError::ConnectFailure { retried: false },
                "UF",
                "upstream_reset_before_response_started{remote_connection_failure}",
            ),
            (
                RequestError::ConnectTimeout { retried: true },
                "URX,UF",
                "upstream_reset_before_response_started{connection_timeout}",
            ),
            (RequestError::Timeout, "UT", "response_timeout"),
            (RequestError::MissingHost, "", "missing_host_header"),
            (RequestError::OldVersion, "DPE", "low_version"),
            (
                RequestError::FaultAbort { status: AbortStatus::Grpc(14), delayed: false },
                "FI",
                "fault_filter_abort",
            ),
            (
                RequestError::FaultAbort {
                    status: AbortStatus::Http(StatusCode::IM_A_TEAPOT),
                    delayed: true,
                },
                "DI,FI",
                "fault_filter_abort",
            ),
        ] {
            let found: Vec<String> = error.flags().iter().map(ToString::to_string).collect();
            assert_eq!((found.join(",").as_str(), error.details()), (flags, details), "{error:?}");
        }
    }
}
