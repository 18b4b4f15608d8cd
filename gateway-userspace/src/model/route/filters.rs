//! What happens to a request of a route before it goes anywhere: faults, then CORS.

use std::fmt;
use std::time::Duration;

use http::header::HeaderValue;
use http::{HeaderMap, Method, StatusCode};
use serde::{Serialize, Serializer};

use super::matching::{StringMatch, line_text};

/// The filters of a route, in the order in which they act. Few routes have any.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filters {
    /// `fault`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Box<Fault>>,
    /// `corsPolicy`. On redirects and direct responses it does nothing, as in Envoy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Box<Cors>>,
}

impl Filters {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.fault.is_none() && self.cors.is_none()
    }
}

/// A share of requests, in parts of a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fraction(u32);

impl Fraction {
    /// All requests.
    pub const WHOLE: u32 = 1_000_000;

    /// From percent, 0–100; what is finer than a ten-thousandth percent is cut off, as in Istio.
    pub fn of_percent(percent: f64) -> Self {
        Self((percent.clamp(0.0, 100.0) * 10_000.0) as u32)
    }

    /// Whether no request is meant.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether every request is meant.
    pub fn is_whole(self) -> bool {
        self.0 >= Self::WHOLE
    }

    /// Whether a request with this ticket, drawn from `0..WHOLE`, is among them.
    pub fn takes(self, ticket: u32) -> bool {
        ticket < self.0
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 10_000.0)
    }
}

/// `HTTPFaultInjection`. Never without both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// How long requests wait, outside of the route's timeout, and which of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<(Duration, Fraction)>,
    /// With what they are answered after that, and which of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<(AbortStatus, Fraction)>,
}

/// `fault.abort`'s status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AbortStatus {
    /// 200–599.
    #[serde(serialize_with = "code")]
    Http(StatusCode),
    /// gRPC's number; clients that speak no gRPC see 200.
    Grpc(u8),
}

/// `CorsPolicy`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// Any of them allows an origin. One that would match `*` allows every origin, as in Envoy.
    pub allow_origins: Vec<StringMatch>,
    /// `access-control-allow-methods`; `*` stands for the method that is asked for.
    #[serde(serialize_with = "line", skip_serializing_if = "Option::is_none")]
    pub allow_methods: Option<HeaderValue>,
    /// `access-control-allow-headers`; `*` stands for the headers that are asked for.
    #[serde(serialize_with = "line", skip_serializing_if = "Option::is_none")]
    pub allow_headers: Option<HeaderValue>,
    /// `access-control-expose-headers`.
    #[serde(serialize_with = "line", skip_serializing_if = "Option::is_none")]
    pub expose_headers: Option<HeaderValue>,
    /// `access-control-max-age`, in seconds.
    #[serde(serialize_with = "line", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<HeaderValue>,
    /// `access-control-allow-credentials`.
    pub allow_credentials: bool,
    /// Whether preflights of other origins go to the backend; else they are answered here, with 200 and no allowed origin.
    pub forward_unmatched: bool,
}

/// What CORS makes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsVerdict {
    /// Nothing: no origin, or one that is not allowed.
    Pass,
    /// The response is for scripts of this origin too.
    Allow(HeaderValue),
    /// A preflight (Fetch, 4.8) of an allowed origin: answered here.
    Preflight(HeaderValue),
    /// A preflight of another origin, answered here without permission.
    Refuse,
}

impl Cors {
    /// Judges a request by its method and headers.
    pub fn judge(&self, method: &Method, headers: &HeaderMap) -> CorsVerdict {
        let Some(origin) = only(headers, &http::header::ORIGIN) else { return CorsVerdict::Pass };
        let asked = headers.get(http::header::ACCESS_CONTROL_REQUEST_METHOD);
        let is_preflight = *method == Method::OPTIONS && asked.is_some_and(|asked| !asked.is_empty());
        match (self.allows(origin), is_preflight) {
            (true, true) => CorsVerdict::Preflight(origin.clone()),
            (true, false) => CorsVerdict::Allow(origin.clone()),
            (false, true) if !self.forward_unmatched => CorsVerdict::Refuse,
            (false, _) => CorsVerdict::Pass,
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let origin = line_text(origin);
        self.allow_origins.iter().any(|allowed| allowed.matches("*") || allowed.matches(&origin))
    }
}

/// The value of a header of one line; several origins are nobody's.
fn only<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|value| !value.is_empty() && lines.next().is_none())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn code<S: Serializer>(code: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(code.as_u16())
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn line<S: Serializer>(value: &Option<HeaderValue>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(line_text).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::route::FullRegex;

    #[test]
    fn shares_are_in_ten_thousandths_of_a_percent() {
        for (percent, parts) in [(0.0, 0), (0.0001, 1), (0.00005, 0), (50.0, 500_000), (100.0, 1_000_000)] {
            let share = Fraction::of_percent(percent);
            assert_eq!(share, Fraction(parts), "{percent}");
            assert_eq!(share.is_none(), parts == 0);
        }
        let half = Fraction::of_percent(50.0);
        assert!(half.takes(0) && half.takes(499_999) && !half.takes(500_000));
        assert!(
            Fraction::of_percent(100.0).takes(Fraction::WHOLE - 1) && !Fraction::of_percent(0.0).takes(0)
        );
    }

    fn cors(allow: StringMatch, forward_unmatched: bool) -> Cors {
        Cors {
            allow_origins: vec![allow],
            allow_methods: None,
            allow_headers: None,
            expose_headers: None,
            max_age: None,
            allow_credentials: false,
            forward_unmatched,
        }
    }

    #[test]
    fn origins_are_judged_and_preflights_told_from_other_requests() {
        let exact = || StringMatch::Exact("https://a.test".into());
        let any = |pattern: &str| StringMatch::Regex(FullRegex::new(pattern).unwrap());
        let allow = |origin| CorsVerdict::Allow(HeaderValue::from_static(origin));
        let preflight = |origin| CorsVerdict::Preflight(HeaderValue::from_static(origin));
        for (allowed, forward, method, origins, asked, want) in [
            (exact(), true, Method::GET, &["https://a.test"][..], false, allow("https://a.test")),
            (exact(), true, Method::GET, &["https://b.test"], false, CorsVerdict::Pass),
            (exact(), true, Method::GET, &["https://a.test", "https://b.test"], false, CorsVerdict::Pass),
            (exact(), true, Method::GET, &[], true, CorsVerdict::Pass),
            (exact(), true, Method::GET, &["https://a.test"], true, allow("https://a.test")),
            (exact(), true, Method::OPTIONS, &["https://a.test"], false, allow("https://a.test")),
            (exact(), true, Method::OPTIONS, &["https://a.test"], true, preflight("https://a.test")),
            (exact(), true, Method::OPTIONS, &["https://b.test"], true, CorsVerdict::Pass),
            (exact(), false, Method::OPTIONS, &["https://b.test"], true, CorsVerdict::Refuse),
            (exact(), false, Method::GET, &["https://b.test"], true, CorsVerdict::Pass),
            (StringMatch::Exact("*".into()), true, Method::GET, &["null"], false, allow("null")),
            (any(".*"), true, Method::GET, &["https://x.test"], false, allow("https://x.test")),
            (any("https://[a-z]+\\.test"), true, Method::GET, &["http://x.test"], false, CorsVerdict::Pass),
        ] {
            let mut headers = HeaderMap::new();
            for origin in origins {
                headers.append("origin", HeaderValue::from_static(origin));
            }
            if asked {
                headers.insert("access-control-request-method", HeaderValue::from_static("PUT"));
            }
            let found = cors(allowed.clone(), forward).judge(&method, &headers);
            assert_eq!(found, want, "{allowed:?} {method} {origins:?} asked: {asked}");
        }
    }
}
