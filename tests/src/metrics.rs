//! What the gateway exports to Prometheus: samples by name and labels, and what Prometheus itself makes of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use crate::deploy;
use crate::program::{Said, run, run_with_input, tool};

/// An exposition in Prometheus' text.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    /// As it came.
    pub text: String,
    samples: Vec<Sample>,
}

/// A line of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric, with `_bucket` and its like.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// What an expression of PromQL asks of a metric.
#[derive(Debug, Clone, Deserialize)]
pub struct Asked {
    /// The whole expression.
    pub expression: String,
    /// The metric.
    pub metric: String,
    /// Labels that it is to have.
    pub labels: Vec<String>,
}

impl Scrape {
    /// Out of the text.
    #[track_caller]
    pub fn of(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(sample).collect();
        Self { text: text.to_owned(), samples }
    }

    /// Samples of a metric with all these labels.
    pub fn samples(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        let has = |sample: &Sample, (label, value): &(&str, &str)| {
            sample.labels.get(*label).is_some_and(|found| found == value)
        };
        let fits = |sample: &&Sample| sample.name == name && labels.iter().all(|pair| has(sample, pair));
        self.samples.iter().filter(fits).collect()
    }

    /// Their sum; without any it is 0.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples(name, labels).iter().map(|sample| sample.value).sum()
    }

    /// The one that there is.
    #[track_caller]
    pub fn one(&self, name: &str, labels: &[(&str, &str)]) -> &Sample {
        let found = self.samples(name, labels);
        match found[..] {
            [one] => one,
            _ => panic!("{} samples of {name} {labels:?} in\n{}", found.len(), self.text),
        }
    }

    /// Metrics by name, with samples or without.
    pub fn families(&self) -> impl Iterator<Item = &str> {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        lines.filter_map(|line| line.split_whitespace().next())
    }

    /// Whether Prometheus can read it, and has nothing to say against its names (`promtool check metrics`).
    #[track_caller]
    pub fn expect_sound(&self) {
        let said = prometheus("metrics", &self.text).expect_success();
        // Istio's names are Istio's.
        let ours: Vec<_> = said.out.lines().filter(|line| !line.starts_with("istio_")).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
}

/// Puts a text to Prometheus' own parser.
pub fn prometheus(what: &str, text: &str) -> Said {
    run_with_input(Command::new(tool("sluice-prometheus")).arg(what), text.as_bytes())
}

/// What the alerts and the dashboard of `deploy/monitoring` ask for; panics if Prometheus cannot read them (`promtool check
/// rules`).
#[track_caller]
pub fn asked_by_what_is_deployed() -> Vec<Asked> {
    let rules = deploy::path("deploy/monitoring/rules.yaml");
    let by_rules = asked(run(Command::new(tool("sluice-prometheus")).arg("rules").arg(rules)));
    [by_rules, asked_by_dashboard(&deploy::path("deploy/monitoring/dashboard.json"))].concat()
}

/// What a dashboard of Grafana's asks for, with its own variables in their places.
#[track_caller]
fn asked_by_dashboard(file: &Path) -> Vec<Asked> {
    let text = std::fs::read_to_string(file).expect("a dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let expressions = targets.map(|target| target["expr"].as_str().expect("an expression"));
    let plain = |text: &str| text.replace("$__rate_interval", "1m").replace("$namespace", ".*") + "\n";
    asked(prometheus("queries", &expressions.map(plain).collect::<String>()))
}

/// Panics unless all that is asked for is there: the metric, and where it has samples, the labels.
#[track_caller]
pub fn expect_answered(scrape: &Scrape, asked: &[Asked]) {
    // What Prometheus adds by itself.
    const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];
    let families: Vec<_> = scrape.families().collect();
    for Asked { expression, metric, labels } in asked {
        let part = ["_bucket", "_sum", "_count"].iter().find_map(|part| metric.strip_suffix(part));
        let is_there =
            families.contains(&metric.as_str()) || part.is_some_and(|whole| families.contains(&whole));
        assert!(is_there, "there is no {metric}: {expression}");
        let samples = scrape.samples(metric, &[]);
        for label in labels.iter().filter(|label| !OF_PROMETHEUS.contains(&label.as_str())) {
            let has = samples.is_empty() || samples.iter().any(|sample| sample.labels.contains_key(label));
            assert!(has, "{metric} has no label {label}: {expression}");
        }
    }
}

#[track_caller]
fn asked(said: Said) -> Vec<Asked> {
    let said = said.expect_success();
    said.out.lines().map(|line| serde_json::from_str(line).expect("a line of ours")).collect()
}

#[track_caller]
fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').expect("a brace")),
        None => (series, ""),
    };
    Sample { name: name.to_owned(), labels: pairs(labels), value: value.parse().expect("a number") }
}

/// `a="b",c="d"` with what stands behind backslashes.
fn pairs(mut text: &str) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let (mut value, mut is_escaped, mut end) = (String::new(), false, rest.len());
        for (at, character) in rest.char_indices() {
            match (is_escaped, character) {
                (false, '\\') => is_escaped = true,
                (false, '"') => {
                    end = at;
                    break;
                }
                (escaped, character) => {
                    value.push(if escaped && character == 'n' { '\n' } else { character });
                    is_escaped = false;
                }
            }
        }
        pairs.insert(name.trim_start_matches(',').to_owned(), value);
        text = rest.get(end + 1..).unwrap_or_default();
    }
    pairs
}

/// A body out of its chunks (RFC 9112, 7.1).
#[track_caller]
pub fn dechunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        whole.push_str(&rest[..size]);
        body = rest.get(size + 2..).unwrap_or_default();
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_what_is_escaped_in_labels() {
        let scrape = Scrape::of("# HELP a b\na{b=\"c\\\"d\\\\,\",e=\"f=\\n\"} 1.5\nplain 2\n");
        let sample = scrape.one("a", &[("b", "c\"d\\,")]);
        assert_eq!((sample.labels["e"].as_str(), sample.value), ("f=\n", 1.5));
        assert!((scrape.sum("plain", &[]) - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn chunks_become_a_body() {
        assert_eq!(dechunked("3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n"), "abc0123456789");
    }
}
