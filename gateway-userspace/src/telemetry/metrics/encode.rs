//! The text that Prometheus reads: its own format (0.0.4) or OpenMetrics 1.0. Given away in pieces while it is made, as a
//! mesh may have a hundred megabytes of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Write as _;
use std::sync::Arc;

use super::bounds::ISTIO;
use super::durations::{self, Durations};
use super::exemplar::Exemplar;
use super::in_flight::Underway;
use super::labels::escaped;
use super::registry::{Registry, Series};
use super::rows::{Distribution, HttpSum, Merge, Progress};
use super::rules::{Change, Metric, Rules};

/// Bytes of a piece, about.
const PIECE: usize = 64 * 1024;

/// Which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Prometheus' own.
    Text,
    /// OpenMetrics, which alone has exemplars.
    OpenMetrics,
}

impl Form {
    /// What an `Accept` header wants most; Prometheus' own text without a word of OpenMetrics.
    pub fn accepted(accept: Option<&str>) -> Self {
        let weight = |wanted: &str| {
            let kinds = accept.unwrap_or_default().split(',').filter_map(|kind| {
                let mut parts = kind.split(';').map(str::trim);
                let is_it = parts.next()? == wanted;
                let weight =
                    parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
                weight.filter(|_| is_it)
            });
            kinds.fold(0.0, f64::max)
        };
        let open = weight("application/openmetrics-text");
        if open > 0.0 && open >= weight("text/plain") { Self::OpenMetrics } else { Self::Text }
    }

    /// The answer's `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Comes and goes.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
}

/// Writes metrics; each piece goes to `give` as soon as it is there, until that says that nobody wants more.
pub struct Encoder<'g> {
    form: Form,
    text: Vec<u8>,
    give: &'g mut dyn FnMut(Vec<u8>) -> bool,
    is_wanted: bool,
    name: &'static str,
}

impl<'g> Encoder<'g> {
    /// In one form.
    pub fn new(form: Form, give: &'g mut dyn FnMut(Vec<u8>) -> bool) -> Self {
        Self { form, text: Vec::with_capacity(PIECE * 2), give, is_wanted: true, name: "" }
    }

    /// Begins a metric; samples follow. `help` is one line without backslashes.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.name = name;
        let family = match self.form {
            Form::Text => name,
            Form::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
        };
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing into a Vec does not fail, here and below.
        let _ = writeln!(self.text, "# HELP {family} {help}\n# TYPE {family} {kind}");
    }

    /// A sample of the metric.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<f64>) {
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        self.line("", &labels.join(","), |text| number(text, value.into()));
    }

    /// A metric with one sample, without labels.
    pub fn single(&mut self, (name, kind): (&'static str, Kind), help: &str, value: impl Into<f64>) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }

    /// The samples of a histogram without labels: of each bucket alone, by their bounds, and the sum of all values.
    pub fn histogram(&mut self, bounds: super::Bounds, buckets: &[u64], sum: f64) {
        let mut count = 0;
        for (at, bucket) in buckets.iter().enumerate() {
            count += bucket;
            let bound = bounds.0.get(at).map_or_else(|| "+Inf".to_owned(), ToString::to_string);
            self.line("_bucket", &format!("le=\"{bound}\""), |text| whole(text, count));
        }
        self.line("_sum", "", |text| number(text, sum));
        self.line("_count", "", |text| whole(text, count));
    }

    /// A metric of durations in seconds.
    pub fn durations(&mut self, name: &'static str, help: &str, of: &Durations) {
        let (buckets, sum) = of.read();
        self.family(name, Kind::Histogram, help);
        self.histogram(durations::BOUNDS, &buckets, sum);
    }

    /// Istio's metrics, as documents change them.
    pub fn traffic(&mut self, registry: &Registry, rules: &Rules) {
        let http = registry.http();
        let (count, help) =
            (("istio_requests_total", Metric::RequestCount), "Requests, by what became of them");
        self.counts(count, help, &http, rules, |sum| sum.requests);
        let duration = ("istio_request_duration_milliseconds", Metric::RequestDuration);
        let help = "From a request's head to the end of its response";
        self.distributions(duration, help, &http, rules, |sum| (&sum.duration, sum.exemplar));
        let (size, help) = (("istio_request_bytes", Metric::RequestSize), "Bytes of requests' bodies");
        self.distributions(size, help, &http, rules, |sum| (&sum.received, None));
        let (size, help) = (("istio_response_bytes", Metric::ResponseSize), "Bytes of responses' bodies");
        self.distributions(size, help, &http, rules, |sum| (&sum.sent, None));
        let is_grpc = |series: &Series| series.labels.contains("request_protocol=\"grpc\"");
        let grpc: Vec<_> = http.into_iter().filter(|(series, _)| is_grpc(series)).collect();
        let messages = ("istio_request_messages_total", Metric::GrpcRequestMessages);
        self.counts(messages, "gRPC messages of clients", &grpc, rules, |sum| sum.request_messages);
        let messages = ("istio_response_messages_total", Metric::GrpcResponseMessages);
        self.counts(messages, "gRPC messages of backends", &grpc, rules, |sum| sum.response_messages);
        drop(grpc);
        let tcp = registry.tcp();
        let counts: [(_, _, Count<Progress>); 4] = [
            (("istio_tcp_sent_bytes_total", Metric::TcpSentBytes), "Bytes that went to TCP clients", |sum| {
                sum.sent
            }),
            (
                ("istio_tcp_received_bytes_total", Metric::TcpReceivedBytes),
                "Bytes that came from TCP clients",
                |sum| sum.received,
            ),
            (
                ("istio_tcp_connections_opened_total", Metric::TcpOpenedConnections),
                "TCP connections that began",
                |sum| sum.opened,
            ),
            (
                ("istio_tcp_connections_closed_total", Metric::TcpClosedConnections),
                "TCP connections that ended",
                |sum| sum.closed,
            ),
        ];
        for (metric, help, count) in counts {
            self.counts(metric, help, &tcp, rules, count);
        }
    }

    /// What is under way at each listener.
    pub fn listeners(&mut self, registry: &Registry) {
        let underway = registry.underway();
        let counts: [(_, _, _, Count<Underway>); 3] = [
            (
                "sluice_downstream_connections_total",
                Kind::Counter,
                "Connections that a listener's user space has accepted",
                |of| of.accepted,
            ),
            (
                "sluice_downstream_connections_active",
                Kind::Gauge,
                "Connections that user space has at the moment",
                |of| of.connections,
            ),
            ("sluice_downstream_requests_active", Kind::Gauge, "Requests under way", |of| of.requests),
        ];
        for (name, kind, help, count) in counts {
            self.family(name, kind, help);
            for (listener, of) in &underway {
                self.sample(&[("listener", listener)], count(of) as f64);
            }
        }
    }

    fn counts<S: Merge + Copy>(
        &mut self,
        (name, metric): (&'static str, Metric),
        help: &str,
        all: &[Counted<S>],
        rules: &Rules,
        count: impl Fn(&S) -> u64,
    ) {
        let Some(told) = Told::of(all, rules.of(metric)) else { return };
        self.family(name, Kind::Counter, help);
        told.each(|labels, sum| self.line("", labels, |text| whole(text, count(sum))));
    }

    fn distributions(
        &mut self,
        (name, metric): (&'static str, Metric),
        help: &str,
        all: &[Counted<HttpSum>],
        rules: &Rules,
        of: impl Fn(&HttpSum) -> (&Distribution, Option<Exemplar>),
    ) {
        let Some(told) = Told::of(all, rules.of(metric)) else { return };
        self.family(name, Kind::Histogram, help);
        // Twenty lines of each series differ in their bound alone.
        let bounds: Vec<_> = ISTIO.0.iter().map(ToString::to_string).chain(["+Inf".to_owned()]).collect();
        told.each(|labels, sum| {
            let (distribution, exemplar) = of(sum);
            let exemplar = exemplar.filter(|_| self.form == Form::OpenMetrics);
            let exemplar = exemplar.map(|exemplar| (ISTIO.bucket(exemplar.value), exemplar));
            let mut count = 0;
            for (at, (bound, bucket)) in bounds.iter().zip(&distribution.buckets).enumerate() {
                count += bucket;
                self.text.extend_from_slice(name.as_bytes());
                self.text.extend_from_slice(b"_bucket{");
                self.text.extend_from_slice(labels.as_bytes());
                self.text.extend_from_slice(b",le=\"");
                self.text.extend_from_slice(bound.as_bytes());
                self.text.extend_from_slice(b"\"} ");
                whole(&mut self.text, count);
                if let Some((_, exemplar)) = exemplar.filter(|(bucket, _)| *bucket == at) {
                    let (seconds, milliseconds) = (exemplar.at / 1000, exemplar.at % 1000);
                    let Exemplar { trace, value, .. } = exemplar;
                    let _ =
                        write!(self.text, " # {{trace_id=\"{trace}\"}} {value} {seconds}.{milliseconds:03}");
                }
                self.text.push(b'\n');
            }
            self.line("_sum", labels, |text| number(text, distribution.sum as f64 / 1e3));
            self.line("_count", labels, |text| whole(text, count));
        });
    }

    fn line(&mut self, suffix: &str, labels: &str, value: impl FnOnce(&mut Vec<u8>)) {
        if !self.is_wanted {
            return;
        }
        self.text.extend_from_slice(self.name.as_bytes());
        self.text.extend_from_slice(suffix.as_bytes());
        if !labels.is_empty() {
            self.text.push(b'{');
            self.text.extend_from_slice(labels.as_bytes());
            self.text.push(b'}');
        }
        self.text.push(b' ');
        value(&mut self.text);
        self.text.push(b'\n');
        if self.text.len() >= PIECE {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let text = std::mem::replace(&mut self.text, Vec::with_capacity(PIECE * 2));
        self.is_wanted = self.is_wanted && (self.give)(text);
    }

    /// The end.
    pub fn end(mut self) {
        if self.form == Form::OpenMetrics {
            self.text.extend_from_slice(b"# EOF\n");
        }
        self.flush();
    }
}

/// A number of several.
type Count<S> = fn(&S) -> u64;
/// A series and what was counted.
type Counted<S> = (Arc<Series>, S);

/// The series of a metric as they are told.
enum Told<'a, S> {
    AsCounted(&'a [Counted<S>]),
    /// By other labels.
    Changed(BTreeMap<String, S>),
}

impl<'a, S: Merge + Copy> Told<'a, S> {
    /// `None`: the metric is left out.
    fn of(all: &'a [Counted<S>], change: Option<&Change>) -> Option<Self> {
        let Some(change) = change else { return Some(Self::AsCounted(all)) };
        if change.disabled {
            return None;
        }
        let mut changed = BTreeMap::new();
        for (series, sum) in all {
            match changed.entry(change.apply(&series.labels)) {
                Entry::Vacant(vacant) => drop(vacant.insert(*sum)),
                Entry::Occupied(mut known) => known.get_mut().merge(sum),
            }
        }
        Some(Self::Changed(changed))
    }

    fn each(&self, mut tell: impl FnMut(&str, &S)) {
        match self {
            Self::AsCounted(all) => all.iter().for_each(|(series, sum)| tell(&series.labels, sum)),
            Self::Changed(all) => all.iter().for_each(|(labels, sum)| tell(labels, sum)),
        }
    }
}

fn whole(text: &mut Vec<u8>, value: u64) {
    let _ = write!(text, "{value}");
}

fn number(text: &mut Vec<u8>, value: f64) {
    let _ = match value {
        infinite if infinite == f64::INFINITY => write!(text, "+Inf"),
        infinite if infinite == f64::NEG_INFINITY => write!(text, "-Inf"),
        value => write!(text, "{value}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(form: Form, write: impl FnOnce(&mut Encoder<'_>)) -> String {
        let mut all = Vec::new();
        let mut give = |piece: Vec<u8>| {
            all.extend(piece);
            true
        };
        let mut encoder = Encoder::new(form, &mut give);
        write(&mut encoder);
        encoder.end();
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn openmetrics_is_given_to_those_who_ask_for_it() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, form) in [
            (None, Form::Text),
            (Some("*/*"), Form::Text),
            (Some("text/plain"), Form::Text),
            (Some(prometheus), Form::OpenMetrics),
            (Some("application/openmetrics-text"), Form::OpenMetrics),
            (Some("application/openmetrics-text;q=0.1, text/plain;q=0.9"), Form::Text),
            (Some("application/openmetrics-text;q=none"), Form::Text),
        ] {
            assert_eq!(Form::accepted(accept), form, "{accept:?}");
        }
    }

    #[test]
    fn a_counter_is_named_as_each_form_wants_it() {
        let write = |encoder: &mut Encoder<'_>| {
            encoder.family("x_total", Kind::Counter, "Help.");
            encoder.sample(&[("a", "b\"\\\n")], 3u32);
        };
        let sample = "x_total{a=\"b\\\"\\\\\\n\"} 3\n";
        assert_eq!(
            written(Form::Text, write),
            format!("# HELP x_total Help.\n# TYPE x_total counter\n{sample}")
        );
        assert_eq!(
            written(Form::OpenMetrics, write),
            format!("# HELP x Help.\n# TYPE x counter\n{sample}# EOF\n")
        );
    }

    #[test]
    fn buckets_are_cumulative() {
        let text = written(Form::Text, |encoder| {
            encoder.family("x_seconds", Kind::Histogram, "Help.");
            encoder.histogram(super::super::Bounds(&[0.1, 1.0]), &[2, 1, 4], 12.5);
        });
        let samples: Vec<_> = text.lines().skip(2).collect();
        let bucket = |bound: &str, count| format!("x_seconds_bucket{{le=\"{bound}\"}} {count}");
        let want = [bucket("0.1", 2), bucket("1", 3), bucket("+Inf", 7)];
        assert_eq!(samples[..3], want);
        assert_eq!(samples[3..], ["x_seconds_sum 12.5", "x_seconds_count 7"]);
    }

    #[test]
    fn nothing_more_is_made_once_nobody_reads() {
        let mut pieces = 0;
        let mut give = |_| {
            pieces += 1;
            false
        };
        let mut encoder = Encoder::new(Form::Text, &mut give);
        encoder.family("x", Kind::Gauge, "Help.");
        (0..100_000u32).for_each(|number| encoder.sample(&[("a", "b")], number));
        encoder.end();
        assert_eq!(pieces, 1);
    }
}
