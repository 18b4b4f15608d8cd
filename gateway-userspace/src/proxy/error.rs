//! Every way a request can fail, mapped once to a status, a body, response flags and details. Texts and statuses are Envoy's,
//! as users know them.

use http::StatusCode;

use crate::model::{AbortStatus, Refusal};
use crate::telemetry::ResponseFlag;
use crate::upstream::{ConnectError, Flaw};

/// Why a request gets an answer of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestError {
    /// HTTP/1.0 or older, which Istio's gateway does not speak.
    OldVersion,
    /// A request line that asks for nothing: `GET *`, a CONNECT without a port, a scheme that is not HTTP's.
    InvalidTarget,
    /// A body that is not in the form that its head says.
    BrokenBody,
    /// A client that went amid its body. It gets an answer in case that it has closed one direction alone.
    ClientGone,
    /// A body of gRPC-Web that is no base64, though its head says so.
    NotBase64,
    /// A body longer than any that is taken.
    BodyTooLong,
    /// A head that cannot be read.
    Malformed,
    /// A body in a transfer coding other than `chunked`.
    UnknownTransferCoding,
    /// A head that says twice how long the body is, be it the same.
    AmbiguousLength,
    /// A target longer than any that is taken.
    TargetTooLong,
    /// A count of hops that is none.
    InvalidHops,
    /// A CONNECT: nobody is connected anywhere.
    NoTunnel,
    /// A method of HTTP/1.1 that nobody has registered.
    UnknownMethod,
    /// More bytes of headers than [`super::http`] takes.
    HeadersTooLarge,
    /// A request line that asks for https where there is no TLS.
    SchemeMismatch,
    /// No Host header.
    MissingHost,
    /// A Host that no host can have.
    InvalidHost,
    /// A path that cannot be normalised safely.
    InvalidPath,
    /// No virtual host, or no route in it.
    NoRoute,
    /// The route's cluster does not exist.
    NoCluster,
    /// The cluster has no healthy endpoint.
    NoHealthyUpstream,
    /// The last try ended without a response.
    Reset(Reset, Tries),
    /// The last try took longer than `perTryTimeout`.
    TryTimeout(Tries),
    /// Nothing has moved for as long as a request may be idle; whether the whole request has come.
    Idle { whole: bool },
    /// A body that comes too slowly.
    SlowBody,
    /// Memory is short.
    Overloaded,
    /// The route's timeout, or the time that a gRPC client gave.
    Timeout,
    /// `Upgrade` to something else than a WebSocket.
    UpgradeRefused,
    /// The route's `fault.abort`.
    FaultAbort { status: AbortStatus, delayed: bool },
}

/// How a try ends without a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reset {
    /// The endpoint could not be connected to.
    ConnectFailure,
    /// Connecting took too long.
    ConnectTimeout,
    /// TLS with the endpoint did not come about.
    TlsFailure,
    /// The backend closed before it answered.
    Terminated,
    /// The backend reset the stream.
    Remote,
    /// Likewise, without having looked at it.
    Refused,
    /// The backend's answer is not HTTP.
    Protocol,
    /// As much is under way as the DestinationRule allows.
    Overflow,
}

/// What came before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tries {
    /// A single try.
    One,
    /// Several, and the last ended in a way that is not tried again.
    Several,
    /// As many as the policy allows.
    Exhausted,
}

impl RequestError {
    /// What is wrong with a client's body.
    pub(super) fn of(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Framing => Self::BrokenBody,
            Flaw::Gone => Self::ClientGone,
            Flaw::Base64 => Self::NotBase64,
            Flaw::TooLong => Self::BodyTooLong,
        }
    }

    /// The status of the answer.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::OldVersion => StatusCode::UPGRADE_REQUIRED,
            Self::UnknownTransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::MissingHost
            | Self::InvalidHost
            | Self::InvalidPath
            | Self::InvalidTarget
            | Self::InvalidHops
            | Self::AmbiguousLength
            | Self::BrokenBody
            | Self::ClientGone
            | Self::NotBase64
            | Self::Malformed
            | Self::UnknownMethod => StatusCode::BAD_REQUEST,
            Self::BodyTooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::NoRoute | Self::NoTunnel => StatusCode::NOT_FOUND,
            Self::NoCluster | Self::NoHealthyUpstream | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::Reset(Reset::Protocol, _) => StatusCode::BAD_GATEWAY,
            Self::Reset(..) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout | Self::TryTimeout(_) | Self::Idle { whole: true } => StatusCode::GATEWAY_TIMEOUT,
            Self::Idle { whole: false } | Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::UpgradeRefused | Self::SchemeMismatch => StatusCode::FORBIDDEN,
            Self::FaultAbort { status: AbortStatus::Http(status), .. } => status,
            Self::FaultAbort { status: AbortStatus::Grpc(_), .. } => StatusCode::OK,
        }
    }

    /// What it is counted as, if it is the client's fault, or the backend's, and no rule's.
    pub(super) fn refusal(self) -> Option<Refusal> {
        Some(match self {
            Self::OldVersion => Refusal::Version,
            Self::InvalidTarget | Self::InvalidPath | Self::SchemeMismatch => Refusal::Target,
            Self::TargetTooLong | Self::HeadersTooLarge => Refusal::TooLong,
            Self::BrokenBody | Self::ClientGone | Self::NotBase64 => Refusal::Body,
            Self::BodyTooLong => Refusal::BodyTooLong,
            Self::Malformed | Self::InvalidHops => Refusal::Malformed,
            Self::UnknownTransferCoding => Refusal::TransferCoding,
            Self::AmbiguousLength => Refusal::AmbiguousLength,
            Self::NoTunnel | Self::UnknownMethod => Refusal::Method,
            Self::MissingHost | Self::InvalidHost => Refusal::Host,
            Self::UpgradeRefused => Refusal::Upgrade,
            Self::Overloaded => Refusal::RequestForMemory,
            Self::Reset(Reset::Protocol, _) => Refusal::Answer,
            // Whoever gives them up counts them.
            Self::Idle { .. } | Self::SlowBody => return None,
            Self::NoRoute
            | Self::NoCluster
            | Self::NoHealthyUpstream
            | Self::Reset(..)
            | Self::TryTimeout(_)
            | Self::Timeout
            | Self::FaultAbort { .. } => return None,
        })
    }

    /// Whether the connection ends with the answer: who knows what comes behind a request that is not understood, and an
    /// HTTP/1.0 client, which may have asked for keep-alive, has nothing more to ask.
    pub(super) fn ends_connection(self) -> bool {
        matches!(
            self,
            Self::OldVersion
                | Self::UnknownMethod
                | Self::UnknownTransferCoding
                | Self::AmbiguousLength
                | Self::InvalidTarget
                | Self::InvalidHops
                | Self::MissingHost
                | Self::InvalidHost
                | Self::BrokenBody
                | Self::ClientGone
                | Self::NotBase64
                | Self::BodyTooLong
                | Self::TargetTooLong
                | Self::HeadersTooLarge
                | Self::Idle { .. }
                | Self::SlowBody
                | Self::Overloaded
                | Self::NoTunnel
        )
    }

    /// The body of the answer.
    pub(super) fn body(self) -> &'static str {
        match self {
            Self::OldVersion => "Upgrade Required",
            Self::UnknownTransferCoding => "Not Implemented",
            Self::MissingHost
            | Self::InvalidPath
            | Self::NoRoute
            | Self::NoTunnel
            | Self::NoCluster
            | Self::UpgradeRefused => "",
            Self::SchemeMismatch => "Forbidden",
            Self::InvalidHost
            | Self::InvalidTarget
            | Self::InvalidHops
            | Self::AmbiguousLength
            | Self::BrokenBody
            | Self::ClientGone
            | Self::Malformed
            | Self::UnknownMethod => "Bad Request",
            Self::NotBase64 => "Bad gRPC-web request, invalid base64 data.",
            Self::BodyTooLong => "Payload Too Large",
            Self::TargetTooLong => "URI Too Long",
            Self::HeadersTooLarge => "Request Header Fields Too Large",
            Self::Idle { .. } => "stream timeout",
            Self::SlowBody => "request timeout",
            Self::Overloaded => "envoy overloaded",
            Self::FaultAbort { .. } => "fault filter abort",
            Self::NoHealthyUpstream => "no healthy upstream",
            Self::Reset(reset, Tries::One) => reset.words()[0],
            Self::Reset(reset, Tries::Several | Tries::Exhausted) => reset.words()[1],
            Self::Timeout | Self::TryTimeout(_) => "upstream request timeout",
        }
    }

    /// The flags of the access log, in the order in which Envoy raises them.
    pub(super) fn flags(self) -> &'static [ResponseFlag] {
        match self {
            Self::MissingHost
            | Self::InvalidPath
            | Self::NotBase64
            | Self::BodyTooLong
            | Self::UpgradeRefused
            | Self::SchemeMismatch => &[],
            Self::OldVersion
            | Self::UnknownTransferCoding
            | Self::InvalidHost
            | Self::InvalidTarget
            | Self::InvalidHops
            | Self::AmbiguousLength
            | Self::BrokenBody
            | Self::Malformed
            | Self::UnknownMethod
            | Self::TargetTooLong
            | Self::HeadersTooLarge => &[ResponseFlag::DownstreamProtocolError],
            Self::ClientGone => &[ResponseFlag::DownstreamConnectionTermination],
            Self::FaultAbort { delayed: false, .. } => &[ResponseFlag::FaultInjected],
            Self::FaultAbort { delayed: true, .. } => {
                &[ResponseFlag::DelayInjected, ResponseFlag::FaultInjected]
            }
            Self::Idle { .. } => &[ResponseFlag::StreamIdleTimeout],
            // Envoy has no flag for a request that takes too long to come.
            Self::SlowBody => &[],
            Self::Overloaded => &[ResponseFlag::OverloadManager],
            Self::NoRoute | Self::NoTunnel => &[ResponseFlag::NoRoute],
            Self::NoCluster => &[ResponseFlag::NoCluster],
            Self::NoHealthyUpstream => &[ResponseFlag::NoHealthyUpstream],
            Self::Reset(reset, tries) => reset.flags(tries == Tries::Exhausted),
            Self::TryTimeout(Tries::Exhausted) => {
                &[ResponseFlag::UpstreamRetryLimitExceeded, ResponseFlag::UpstreamRequestTimeout]
            }
            Self::Timeout | Self::TryTimeout(_) => &[ResponseFlag::UpstreamRequestTimeout],
        }
    }

    /// Envoy's word for the reason (`%RESPONSE_CODE_DETAILS%`).
    pub(super) fn details(self) -> &'static str {
        match self {
            Self::OldVersion => "low_version",
            Self::ClientGone => "downstream_remote_disconnect",
            Self::UnknownTransferCoding => "http1.invalid_transfer_encoding",
            Self::MissingHost => "missing_host_header",
            Self::InvalidPath => "path_normalization_failed",
            Self::NoRoute | Self::NoTunnel => "route_not_found",
            Self::NoCluster => "cluster_not_found",
            Self::NoHealthyUpstream => "no_healthy_upstream",
            Self::Reset(reset, _) => reset.details(),
            Self::TryTimeout(_) => "upstream_per_try_timeout",
            Self::Idle { .. } => "stream_idle_timeout",
            Self::SlowBody => "request_overall_timeout",
            Self::Overloaded => "overload",
            Self::Timeout => "response_timeout",
            Self::UpgradeRefused => "upgrade_failed",
            Self::NotBase64 => "grpc_base_64_decode_failed",
            Self::InvalidTarget => "http1.invalid_url",
            Self::InvalidHost
            | Self::InvalidHops
            | Self::BrokenBody
            | Self::Malformed
            | Self::UnknownMethod => "http1.codec_error",
            Self::AmbiguousLength => "http1.content_length_and_chunked_not_allowed",
            Self::BodyTooLong => "request_payload_too_large",
            Self::TargetTooLong => "http1.url_too_long",
            Self::HeadersTooLarge => "http1.headers_too_large",
            Self::SchemeMismatch => "scheme_mismatch",
            Self::FaultAbort { .. } => "fault_filter_abort",
        }
    }
}

/// The text of an answer for a reset, after a single try and after several.
macro_rules! words {
    ($reason:literal) => {
        [
            concat!("upstream connect error or disconnect/reset before headers. reset reason: ", $reason),
            concat!(
                "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: ",
                $reason
            ),
        ]
    };
}

/// The flags of a reset, while tries are left and when they are used up.
macro_rules! flags {
    ($flag:ident, $is_last:expr) => {
        if $is_last {
            &[ResponseFlag::UpstreamRetryLimitExceeded, ResponseFlag::$flag]
        } else {
            &[ResponseFlag::$flag]
        }
    };
}

impl Reset {
    /// How a try ends whose connection failed.
    pub(super) fn of(error: &ConnectError) -> Self {
        match error {
            ConnectError::Failed { .. } => Self::ConnectFailure,
            ConnectError::Timeout { .. } => Self::ConnectTimeout,
            ConnectError::Handshake { .. } | ConnectError::Name { .. } | ConnectError::Policy(_) => {
                Self::TlsFailure
            }
        }
    }

    fn words(self) -> [&'static str; 2] {
        match self {
            Self::ConnectFailure => words!("remote connection failure"),
            Self::ConnectTimeout => words!("connection timeout"),
            Self::TlsFailure => words!("remote connection failure, transport failure reason: TLS_error"),
            Self::Terminated => words!("connection termination"),
            Self::Remote => words!("remote reset"),
            Self::Refused => words!("remote refused stream reset"),
            Self::Protocol => words!("protocol error"),
            Self::Overflow => words!("overflow"),
        }
    }

    fn flags(self, is_last: bool) -> &'static [ResponseFlag] {
        match self {
            Self::ConnectFailure | Self::ConnectTimeout | Self::TlsFailure => {
                flags!(UpstreamConnectionFailure, is_last)
            }
            Self::Terminated => flags!(UpstreamConnectionTermination, is_last),
            Self::Remote | Self::Refused => flags!(UpstreamRemoteReset, is_last),
            Self::Protocol => flags!(UpstreamProtocolError, is_last),
            Self::Overflow => flags!(UpstreamOverflow, is_last),
        }
    }

    fn details(self) -> &'static str {
        match self {
            Self::ConnectFailure => "upstream_reset_before_response_started{remote_connection_failure}",
            Self::ConnectTimeout => "upstream_reset_before_response_started{connection_timeout}",
            Self::TlsFailure => "upstream_reset_before_response_started{remote_connection_failure|TLS_error}",
            Self::Terminated => "upstream_reset_before_response_started{connection_termination}",
            Self::Remote => "upstream_reset_before_response_started{remote_reset}",
            Self::Refused => "upstream_reset_before_response_started{remote_refused_stream_reset}",
            Self::Protocol => "upstream_reset_before_response_started{protocol_error}",
            Self::Overflow => "upstream_reset_before_response_started{overflow}",
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
                RequestError::Reset(Reset::ConnectFailure, Tries::One),
                "UF",
                "upstream_reset_before_response_started{remote_connection_failure}",
            ),
            (
                RequestError::Reset(Reset::ConnectTimeout, Tries::Exhausted),
                "URX,UF",
                "upstream_reset_before_response_started{connection_timeout}",
            ),
            (
                RequestError::Reset(Reset::Terminated, Tries::Several),
                "UC",
                "upstream_reset_before_response_started{connection_termination}",
            ),
            (
                RequestError::Reset(Reset::Overflow, Tries::One),
                "UO",
                "upstream_reset_before_response_started{overflow}",
            ),
            (RequestError::Timeout, "UT", "response_timeout"),
            (RequestError::Idle { whole: false }, "SI", "stream_idle_timeout"),
            (RequestError::SlowBody, "", "request_overall_timeout"),
            (RequestError::Overloaded, "OM", "overload"),
            (RequestError::TryTimeout(Tries::One), "UT", "upstream_per_try_timeout"),
            (RequestError::TryTimeout(Tries::Exhausted), "URX,UT", "upstream_per_try_timeout"),
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
