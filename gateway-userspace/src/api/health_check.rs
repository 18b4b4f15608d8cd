//! Our own annotations on a DestinationRule: active health checks, which Istio's documents have no field for. They hold for
//! the service's ports, subsets included.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};

use super::annotation::{self, AnnotationError, KNOWN};
use crate::notation::duration;

/// What endpoints are asked: `http://[HOST]/PATH`, `tcp`, `grpc` or `grpc:SERVICE`. The others say more of it.
pub const HEALTH_CHECK: &str = "sluice.dev/health-check";
/// Statuses of HTTP that are healthy, such as `200,300-399`.
pub const STATUSES: &str = "sluice.dev/health-check-statuses";
/// Time between checks.
pub const INTERVAL: &str = "sluice.dev/health-check-interval";
/// Time that a check may take.
pub const TIMEOUT: &str = "sluice.dev/health-check-timeout";
/// Checks in a row that make an unhealthy endpoint healthy.
pub const HEALTHY_THRESHOLD: &str = "sluice.dev/health-check-healthy-threshold";
/// Checks in a row without an answer that make a healthy endpoint unhealthy.
pub const UNHEALTHY_THRESHOLD: &str = "sluice.dev/health-check-unhealthy-threshold";
/// The service's ports whose endpoints are checked, such as `80,8080`; without it, all.
pub const PORTS: &str = "sluice.dev/health-check-ports";

/// Statuses, ports: a longer list is surely a mistake.
const MOST_ITEMS: usize = 64;
/// Bytes of a path, host or service's name.
const LONGEST: usize = 1024;
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST_INTERVAL: Duration = Duration::from_hours(24);
/// A check that takes its time takes the place of others.
const LONGEST_TIMEOUT: Duration = Duration::from_mins(1);
const MOST_CHECKS: u32 = 1000;

/// The annotations, read; what is not said is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthCheckAnnotations {
    /// [`HEALTH_CHECK`].
    pub probe: Option<Probe>,
    /// [`STATUSES`]; never empty, each 100 to 599.
    pub statuses: Option<Vec<RangeInclusive<u16>>>,
    /// [`INTERVAL`], 10 ms to 24 h.
    pub interval: Option<Duration>,
    /// [`TIMEOUT`], 10 ms to 1 min.
    pub timeout: Option<Duration>,
    /// [`HEALTHY_THRESHOLD`], 1 to 1000.
    pub healthy_threshold: Option<u32>,
    /// [`UNHEALTHY_THRESHOLD`], 1 to 1000.
    pub unhealthy_threshold: Option<u32>,
    /// [`PORTS`]; never empty.
    pub ports: Option<Vec<u16>>,
}

/// Value of [`HEALTH_CHECK`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// `http://[HOST]/PATH`.
    Http {
        /// What the request has in its Host.
        host: Option<String>,
        /// Path and query.
        path: String,
    },
    /// `tcp`.
    Tcp,
    /// `grpc` or `grpc:SERVICE`.
    Grpc {
        /// Empty: the server as a whole.
        service: String,
    },
}

impl HealthCheckAnnotations {
    /// Reads `metadata.annotations`; those of others are none of our business.
    pub fn read(annotations: &BTreeMap<String, String>) -> (Self, Vec<AnnotationError>) {
        let mut read = Self::default();
        let errors = annotation::read_each(annotations, |key, value| read.set(key, value));
        (read, errors)
    }

    /// The annotations that say more of a check than there is to say: all of them without [`HEALTH_CHECK`], and statuses of
    /// what has none; with what they lack.
    pub fn idle(&self) -> Vec<(&'static str, &'static str)> {
        let said = [
            (STATUSES, self.statuses.is_some()),
            (INTERVAL, self.interval.is_some()),
            (TIMEOUT, self.timeout.is_some()),
            (HEALTHY_THRESHOLD, self.healthy_threshold.is_some()),
            (UNHEALTHY_THRESHOLD, self.unhealthy_threshold.is_some()),
            (PORTS, self.ports.is_some()),
        ];
        let said = said.into_iter().filter(|(_, is_said)| *is_said).map(|(key, _)| key);
        match &self.probe {
            None => said.map(|key| (key, "without sluice.dev/health-check nothing is checked")).collect(),
            Some(Probe::Http { .. }) => Vec::new(),
            Some(Probe::Tcp | Probe::Grpc { .. }) => said
                .filter(|key| *key == STATUSES)
                .map(|key| (key, "only checks of HTTP have statuses"))
                .collect(),
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match key {
            HEALTH_CHECK => self.probe = Some(probe(value)?),
            STATUSES => self.statuses = Some(statuses(value)?),
            INTERVAL => self.interval = Some(interval(value)?),
            TIMEOUT => self.timeout = Some(timeout(value)?),
            HEALTHY_THRESHOLD => self.healthy_threshold = Some(threshold(value)?),
            UNHEALTHY_THRESHOLD => self.unhealthy_threshold = Some(threshold(value)?),
            PORTS => self.ports = Some(ports(value)?),
            _ => return Err(KNOWN),
        }
        Ok(())
    }
}

fn probe(value: &str) -> Result<Probe, &'static str> {
    const EXPECTED: &str = "expected `http:///PATH`, `http://HOST/PATH`, `tcp`, `grpc` or `grpc:SERVICE`";
    if value.starts_with("https:") {
        return Err(
            "expected `http:`: checks are made by TLS where `trafficPolicy.tls` has requests sent so",
        );
    }
    if value.len() > LONGEST {
        return Err("expected at most 1024 bytes");
    }
    match value {
        "tcp" => return Ok(Probe::Tcp),
        "grpc" => return Ok(Probe::Grpc { service: String::new() }),
        _ => {}
    }
    if let Some(service) = value.strip_prefix("grpc:") {
        let is_name = !service.is_empty() && service.bytes().all(|byte| byte.is_ascii_graphic());
        return if is_name { Ok(Probe::Grpc { service: service.to_owned() }) } else { Err(EXPECTED) };
    }
    let rest = value.strip_prefix("http://").ok_or(EXPECTED)?;
    let (host, path) = rest.find('/').map(|at| rest.split_at(at)).ok_or(EXPECTED)?;
    let is_host = |host: &str| !host.contains('@') && host.parse::<Authority>().is_ok();
    let is_path = !path.contains('#') && path.parse::<PathAndQuery>().is_ok();
    if !is_path || !(host.is_empty() || is_host(host)) {
        return Err(EXPECTED);
    }
    Ok(Probe::Http { host: (!host.is_empty()).then(|| host.to_owned()), path: path.to_owned() })
}

fn statuses(value: &str) -> Result<Vec<RangeInclusive<u16>>, &'static str> {
    let number = |text: &str| text.trim().parse().ok().filter(|status| (100..=599).contains(status));
    let range = |item: &str| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let range = number(first)?..=number(last)?;
        (!range.is_empty()).then_some(range)
    };
    list(value, range)
        .ok_or("expected statuses from 100 to 599, such as `200`, `200-299` or `200,404`, in quotes")
}

fn ports(value: &str) -> Result<Vec<u16>, &'static str> {
    let port = |item: &str| item.trim().parse().ok().filter(|port| *port > 0);
    list(value, port).ok_or("expected ports of the Service, such as `80` or `80,8080`, in quotes")
}

/// Items between commas, at least one.
fn list<T>(value: &str, item: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    if value.split(',').count() > MOST_ITEMS {
        return None;
    }
    value.split(',').map(item).collect()
}

fn interval(value: &str) -> Result<Duration, &'static str> {
    time(value, LONGEST_INTERVAL).ok_or("expected a time from 10ms to 24h, such as `5s` or `500ms`")
}

fn timeout(value: &str) -> Result<Duration, &'static str> {
    time(value, LONGEST_TIMEOUT).ok_or("expected a time from 10ms to 1m, such as `1s` or `500ms`")
}

fn time(value: &str, longest: Duration) -> Option<Duration> {
    duration::parse(value).filter(|time| (SHORTEST..=longest).contains(time))
}

fn threshold(value: &str) -> Result<u32, &'static str> {
    let count = value.parse().ok().filter(|count| (1..=MOST_CHECKS).contains(count));
    count.ok_or("expected a whole number from 1 to 1000, in quotes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (HealthCheckAnnotations, Vec<AnnotationError>) {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        HealthCheckAnnotations::read(&pairs.collect())
    }

    #[test]
    fn annotations_say_what_is_asked_and_when() {
        let http = |host: Option<&str>, path: &str| {
            Some(Probe::Http { host: host.map(str::to_owned), path: path.to_owned() })
        };
        let grpc = |service: &str| Some(Probe::Grpc { service: service.to_owned() });
        for (value, want) in [
            ("http:///healthz", http(None, "/healthz")),
            ("http:///", http(None, "/")),
            ("http:///healthz?full=1", http(None, "/healthz?full=1")),
            ("http://web.example.com/healthz", http(Some("web.example.com"), "/healthz")),
            ("http://web.example.com:8080/", http(Some("web.example.com:8080"), "/")),
            ("http://[fd00::1]/", http(Some("[fd00::1]"), "/")),
            ("tcp", Some(Probe::Tcp)),
            ("grpc", grpc("")),
            ("grpc:shop.Cart", grpc("shop.Cart")),
        ] {
            let (found, errors) = read(&[(HEALTH_CHECK, value)]);
            assert_eq!((found.probe, errors), (want, vec![]), "{value}");
        }
        let (found, errors) = read(&[
            (STATUSES, "200-299, 404"),
            (INTERVAL, "1m30s"),
            (TIMEOUT, "10ms"),
            (HEALTHY_THRESHOLD, "2"),
            (UNHEALTHY_THRESHOLD, "1000"),
            (PORTS, "80, 8080"),
            ("example.com/health-check", "anything"),
        ]);
        let want = HealthCheckAnnotations {
            probe: None,
            statuses: Some(vec![200..=299, 404..=404]),
            interval: Some(Duration::from_secs(90)),
            timeout: Some(Duration::from_millis(10)),
            healthy_threshold: Some(2),
            unhealthy_threshold: Some(1000),
            ports: Some(vec![80, 8080]),
        };
        assert_eq!((found, errors), (want, vec![]));
    }

    #[test]
    fn values_that_nothing_can_be_done_with_are_named() {
        let long = format!("http:///{}", "a".repeat(LONGEST));
        let many = vec!["80"; MOST_ITEMS + 1].join(",");
        for (key, value) in [
            (HEALTH_CHECK, ""),
            (HEALTH_CHECK, "/healthz"),
            (HEALTH_CHECK, "http://"),
            (HEALTH_CHECK, "http://web.example.com"),
            (HEALTH_CHECK, "http:///a b"),
            (HEALTH_CHECK, "http:///a#b"),
            (HEALTH_CHECK, "http:///a\r\nx: y"),
            (HEALTH_CHECK, "http://user@web/"),
            (HEALTH_CHECK, "http://a b/"),
            (HEALTH_CHECK, "https:///healthz"),
            (HEALTH_CHECK, "HTTP:///healthz"),
            (HEALTH_CHECK, "grpc:"),
            (HEALTH_CHECK, "grpc:a b"),
            (HEALTH_CHECK, &long),
            (STATUSES, ""),
            (STATUSES, "200,"),
            (STATUSES, "299-200"),
            (STATUSES, "99"),
            (STATUSES, "600"),
            (STATUSES, "2xx"),
            (STATUSES, &many),
            (INTERVAL, "0s"),
            (INTERVAL, "5"),
            (INTERVAL, "9ms"),
            (INTERVAL, "25h"),
            (TIMEOUT, "-1s"),
            (TIMEOUT, "61s"),
            (HEALTHY_THRESHOLD, "0"),
            (UNHEALTHY_THRESHOLD, "1001"),
            (UNHEALTHY_THRESHOLD, "three"),
            (PORTS, "0"),
            (PORTS, "65536"),
            (PORTS, "http"),
        ] {
            let (found, errors) = read(&[(key, value)]);
            let message = format!("unknown value \"{value}\" of the annotation {key}");
            assert_eq!(errors.first().map(|error| &error.message), Some(&message));
            assert_eq!(found, HealthCheckAnnotations::default(), "{value}");
        }
        let (_, errors) = read(&[("sluice.dev/healthcheck", "tcp"), ("sluice.dev/grpc-web", "true")]);
        let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
        let unknown = ["sluice.dev/grpc-web", "sluice.dev/healthcheck"];
        assert_eq!(messages, unknown.map(|key| format!("unknown annotation \"{key}\"")));
        assert!(errors.iter().all(|error| error.help.contains("a DestinationRule sluice.dev/health-check")));
    }

    #[test]
    fn what_says_more_of_no_check_is_named() {
        for (pairs, want) in [
            (&[(HEALTH_CHECK, "http:///"), (STATUSES, "204"), (INTERVAL, "1s")][..], &[][..]),
            (&[(HEALTH_CHECK, "tcp"), (STATUSES, "204"), (PORTS, "80")], &[STATUSES]),
            (&[(HEALTH_CHECK, "grpc"), (TIMEOUT, "2s"), (STATUSES, "204")], &[STATUSES]),
            (&[(TIMEOUT, "2s"), (HEALTHY_THRESHOLD, "2")], &[TIMEOUT, HEALTHY_THRESHOLD]),
            (&[], &[]),
        ] {
            let found: Vec<&str> = read(pairs).0.idle().into_iter().map(|(key, _)| key).collect();
            assert_eq!(found, want, "{pairs:?}");
        }
    }
}
