//! Answers of our own: failures and direct responses.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};

use super::body::ResponseBody;
use crate::model::{AbortStatus, DirectResponse};
use crate::proxy::error::{RequestError, Reset};

const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain");

/// A failure as its client knows failures: a status and a text, or gRPC's trailers-only response.
pub(super) fn failure(error: RequestError, is_grpc: bool) -> Response<ResponseBody> {
    let mut response = if is_grpc {
        grpc_failure(error)
    } else {
        plain(error.status(), Bytes::from_static(error.body().as_bytes()))
    };
    if matches!(error, RequestError::Reset(Reset::Overflow, _)) {
        response.headers_mut().insert(OVERLOADED, HeaderValue::from_static("true"));
    }
    if matches!(error, RequestError::OldVersion | RequestError::UnknownMethod | RequestError::HeadersTooLarge)
    {
        // An HTTP/1.0 client may have asked for keep-alive; there is nothing more that it could ask. And who knows what comes
        // behind a request that is not understood.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// `directResponse` of a route.
pub(super) fn direct(direct: &DirectResponse) -> Response<ResponseBody> {
    plain(direct.status, direct.body.clone())
}

fn plain(status: StatusCode, body: Bytes) -> Response<ResponseBody> {
    let has_text = !body.is_empty();
    let mut response = Response::new(ResponseBody::text(body));
    *response.status_mut() = status;
    if has_text {
        response.headers_mut().insert(CONTENT_TYPE, TEXT);
    }
    response
}

/// gRPC over HTTP/2: clients look at `grpc-status` and take any other HTTP status for a broken proxy.
fn grpc_failure(error: RequestError) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(
        HeaderName::from_static("grpc-status"),
        match error {
            RequestError::FaultAbort { status: AbortStatus::Grpc(status), .. } => u16::from(status).into(),
            _ => HeaderValue::from_static(grpc_status(error.status())),
        },
    );
    if !error.body().is_empty() {
        headers.insert(HeaderName::from_static("grpc-message"), HeaderValue::from_static(error.body()));
    }
    response
}

/// Envoy's mapping of HTTP statuses to gRPC codes.
fn grpc_status(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "13",
        StatusCode::UNAUTHORIZED => "16",
        StatusCode::FORBIDDEN => "7",
        StatusCode::NOT_FOUND => "12",
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => "14",
        _ => "2",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::error::Tries;

    #[test]
    fn grpc_clients_get_200_and_a_grpc_status() {
        let response = failure(RequestError::NoHealthyUpstream, true);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "no healthy upstream");
        assert_eq!(failure(RequestError::NoRoute, true).headers()["grpc-status"], "12");
        assert!(!failure(RequestError::NoRoute, true).headers().contains_key("grpc-message"));
    }

    #[test]
    fn aborts_of_grpc_are_ok_with_a_status_of_their_own_to_those_who_speak_it() {
        let abort = |status| RequestError::FaultAbort { status, delayed: false };
        let unavailable = abort(AbortStatus::Grpc(14));
        let response = failure(unavailable, true);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "fault filter abort");
        let response = failure(unavailable, false);
        assert_eq!(response.status(), StatusCode::OK);
        assert!(matches!(response.body(), ResponseBody::Own(Some(text)) if text == "fault filter abort"));
        let response = failure(abort(AbortStatus::Http(StatusCode::NOT_FOUND)), true);
        assert_eq!(response.headers()["grpc-status"], "12");
    }

    #[test]
    fn an_overflow_is_told_from_other_failures() {
        let overflow = RequestError::Reset(Reset::Overflow, Tries::One);
        for is_grpc in [false, true] {
            assert_eq!(failure(overflow, is_grpc).headers()["x-envoy-overloaded"], "true");
        }
        assert_eq!(failure(overflow, false).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(
            !failure(RequestError::NoHealthyUpstream, false).headers().contains_key("x-envoy-overloaded")
        );
    }

    #[test]
    fn a_missing_cluster_is_503_without_a_body_and_no_endpoint_is_503_with_one() {
        let missing = failure(RequestError::NoCluster, false);
        assert_eq!(missing.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(matches!(missing.body(), ResponseBody::Own(None)));
        let unhealthy = failure(RequestError::NoHealthyUpstream, false);
        assert!(matches!(unhealthy.body(), ResponseBody::Own(Some(text)) if text == "no healthy upstream"));
    }
}
