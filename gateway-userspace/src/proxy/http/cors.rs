//! What CORS writes (Fetch, 3.2): answers to preflights, and whose scripts may read a response.

use std::ops::ControlFlow::{self, Break, Continue};

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue,
};
use http::{Request, Response};

use super::body::ResponseBody;
use crate::model::{Cors, CorsVerdict};

/// A response that scripts of an origin may read. The backend's own word on it is overwritten.
#[derive(Debug)]
pub(super) struct Permission<'a> {
    policy: &'a Cors,
    origin: HeaderValue,
}

/// Judges a request: breaks with an answer to it, or goes on with what is to be said in the response.
pub(super) fn judge<'a, B>(
    policy: &'a Cors,
    request: &Request<B>,
) -> ControlFlow<Response<ResponseBody>, Option<Permission<'a>>> {
    match policy.judge(request.method(), request.headers()) {
        CorsVerdict::Pass => Continue(None),
        CorsVerdict::Allow(origin) => Continue(Some(Permission { policy, origin })),
        CorsVerdict::Refuse => Break(preflight(policy, request.headers())),
        CorsVerdict::Preflight(origin) => {
            let mut response = preflight(policy, request.headers());
            Permission { policy, origin }.grant(response.headers_mut());
            Break(response)
        }
    }
}

impl Permission<'_> {
    /// Writes it into a response, one of ours too.
    pub(super) fn grant(&self, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.origin.clone());
        if self.policy.allow_credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(exposed) = &self.policy.expose_headers {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }
}

/// 200 without a body, whatever method is asked for: the browser compares. Without an origin it permits nothing, and Envoy
/// says the rest to other origins too.
fn preflight(policy: &Cors, asked: &HeaderMap) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    let headers = response.headers_mut();
    let Cors { allow_methods, allow_headers, max_age, allow_credentials, .. } = policy;
    if *allow_credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    for (name, said, asked_by) in [
        (ACCESS_CONTROL_ALLOW_METHODS, allow_methods, ACCESS_CONTROL_REQUEST_METHOD),
        (ACCESS_CONTROL_ALLOW_HEADERS, allow_headers, ACCESS_CONTROL_REQUEST_HEADERS),
    ] {
        if let Some(value) = said.as_ref().and_then(|said| list(said, asked, &asked_by)) {
            headers.insert(name, value);
        }
    }
    if let Some(age) = max_age {
        headers.insert(ACCESS_CONTROL_MAX_AGE, age.clone());
    }
    response
}

/// A policy's list; `*` allows what is asked for, which works with credentials too.
fn list(said: &HeaderValue, asked: &HeaderMap, asked_by: &HeaderName) -> Option<HeaderValue> {
    if said == "*" { asked.get(asked_by).cloned() } else { Some(said.clone()) }
}
