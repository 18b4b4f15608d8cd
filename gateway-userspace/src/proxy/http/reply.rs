//! Answers of our own: failures and direct responses.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as _;

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
    // Which version would do is to be said (RFC 9110, 15.5.22).
    if error == RequestError::OldVersion {
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("HTTP/1.1"));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade, close"));
    } else if error.ends_connection() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Has the client's connection end behind it, unless it goes on as something else.
pub(super) fn last<B>(response: &mut Response<B>) {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// `directResponse` of a route.
pub(super) fn direct(direct: &DirectResponse, is_grpc: bool) -> Response<ResponseBody> {
    own(direct.status, direct.body.clone(), is_grpc)
}

/// An answer that the documents ask for. To a gRPC client it is a failure, be it a redirect: there is no message in it.
pub(super) fn own(status: StatusCode, body: Bytes, is_grpc: bool) -> Response<ResponseBody> {
    if is_grpc {
        trailers_only(HeaderValue::from_static(grpc_status(status)), &body)
    } else {
        plain(status, body)
    }
}

fn plain(status: StatusCode, body: Bytes) -> Response<ResponseBody> {
    // Neither has a body (RFC 9110, 15.3.5 and 15.4.5), whatever a document says.
    let has_none = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let mut response = Response::new(if has_none { ResponseBody::empty() } else { ResponseBody::text(body) });
    *response.status_mut() = status;
    response
}

/// Says that a text of ours is text, where the documents have not said what it is.
pub(super) fn name_text(response: &mut Response<ResponseBody>) {
    if matches!(response.body(), ResponseBody::Own(Some(_))) {
        response.headers_mut().entry(CONTENT_TYPE).or_insert(TEXT);
    }
}

/// HEAD is answered with a head (RFC 9110, 9.3.2). Over HTTP/2 a body would follow otherwise, be
/// it ours or one of a backend that sends what it must not, and the client would take the stream for broken.
pub(super) fn leave_body_out(response: &mut Response<ResponseBody>) {
    let length = response.body().size_hint().exact().filter(|length| *length > 0);
    *response.body_mut() = ResponseBody::empty();
    if let Some(length) = length {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(length.into());
    }
}

/// gRPC over HTTP/2: clients look at `grpc-status` and take any other HTTP status for a broken proxy.
fn grpc_failure(error: RequestError) -> Response<ResponseBody> {
    let status = match error {
        RequestError::FaultAbort { status: AbortStatus::Grpc(status), .. } => u16::from(status).into(),
        _ => HeaderValue::from_static(grpc_status(error.status())),
    };
    trailers_only(status, error.body().as_bytes())
}

fn trailers_only(status: HeaderValue, message: &[u8]) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    insert_status(headers, status, message);
    response
}

/// Says in gRPC's words what a response of HTTP says.
pub(super) fn tell_grpc(headers: &mut HeaderMap, status: StatusCode, message: &[u8]) {
    insert_status(headers, HeaderValue::from_static(grpc_status(status)), message);
}

fn insert_status(headers: &mut HeaderMap, status: HeaderValue, message: &[u8]) {
    headers.insert(HeaderName::from_static("grpc-status"), status);
    if let Ok(message) = HeaderValue::from_str(&grpc_message(message))
        && !message.is_empty()
    {
        headers.insert(HeaderName::from_static("grpc-message"), message);
    }
}

/// A text as gRPC writes it: what is not printable ASCII, and the per cent sign, is percent-encoded.
fn grpc_message(text: &[u8]) -> String {
    text.iter().fold(String::new(), |mut out, byte| {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => {
                let _ = write!(out, "%{byte:02X}");
            }
            plain => out.push(char::from(*plain)),
        }
        out
    })
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
    fn what_documents_answer_is_a_failure_to_grpc_clients() {
        let answer = |status: u16, body: &'static str, is_grpc| {
            let status = StatusCode::from_u16(status).unwrap();
            own(status, Bytes::from_static(body.as_bytes()), is_grpc)
        };
        for (status, body, grpc, message) in [
            (404, "gone", "12", Some("gone")),
            (200, "", "2", None),
            (301, "", "2", None),
            (503, "100%\nü", "14", Some("100%25%0A%C3%BC")),
        ] {
            let response = answer(status, body, true);
            assert_eq!(
                (response.status(), &response.headers()["grpc-status"]),
                (StatusCode::OK, &grpc.parse().unwrap())
            );
            let said = response.headers().get("grpc-message").map(|value| value.to_str().unwrap());
            assert_eq!(said, message, "{status}");
            assert_eq!(answer(status, body, false).status().as_u16(), status);
        }
    }

    #[test]
    fn statuses_without_a_body_have_none() {
        for status in [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED] {
            let response = own(status, Bytes::from_static(b"text"), false);
            assert!(matches!(response.body(), ResponseBody::Own(None)), "{status}");
        }
    }

    #[test]
    fn a_text_of_ours_is_text_unless_a_document_says_what_it_is() {
        let mut response = own(StatusCode::OK, Bytes::from_static(b"{}"), false);
        name_text(&mut response);
        assert_eq!(response.headers()["content-type"], "text/plain");
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        name_text(&mut response);
        assert_eq!(response.headers()["content-type"], "application/json");
        let mut none = own(StatusCode::OK, Bytes::new(), false);
        name_text(&mut none);
        assert!(none.headers().is_empty());
    }

    #[test]
    fn head_is_told_how_long_the_body_would_be() {
        let mut response = own(StatusCode::OK, Bytes::from_static(b"text"), false);
        leave_body_out(&mut response);
        assert!(matches!(response.body(), ResponseBody::Own(None)));
        assert_eq!(response.headers()["content-length"], "4");
        let mut response = own(StatusCode::OK, Bytes::new(), false);
        leave_body_out(&mut response);
        assert!(!response.headers().contains_key("content-length"));
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
