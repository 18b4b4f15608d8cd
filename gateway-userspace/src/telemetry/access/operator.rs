//! Envoy's command operators, as far as this gateway knows what they stand for: what is between the per cent signs of a
//! format, and its value for a record.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::HeaderName;

use super::path::PathPart;
use super::peer::PeerPart;
use super::record::{Connection, KEPT, Request};
use super::rule::Wanted;
use super::time::TimeFormat;
use crate::notation::command::HeaderArguments;
use crate::telemetry::metrics::TraceId;
use crate::telemetry::{ResponseFlag, clock, digits};

/// Where requests say which trace they belong to (W3C Trace Context, 3.2).
const TRACEPARENT: &str = "traceparent";

/// What stands for something else in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operator {
    StartTime(Option<TimeFormat>),
    Plain(Plain),
    Address(End, AddressPart),
    Header(HeaderLine),
    /// When the line is written.
    EmitTime(Option<TimeFormat>),
    Path(PathPart),
    Peer(PeerPart),
    /// The name of the machine, or a variable of the gateway's environment.
    Fixed(String),
}

/// Operators without arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    Protocol,
    ResponseCode,
    ResponseCodeDetails,
    ResponseFlags,
    ResponseFlagsLong,
    BytesReceived,
    BytesSent,
    Duration,
    UpstreamCluster,
    RequestedServerName,
    RouteName,
    AttemptCount,
    TlsVersion,
    TlsCipher,
    GrpcStatus,
    GrpcStatusNumber,
    TransportFailure,
    /// This gateway has no such words.
    Nothing,
    Type,
    RequestId,
    TraceId,
    RequestDuration,
    ResponseDuration,
    ResponseTransmission,
}

const PLAIN: &[(&str, Plain)] = &[
    ("PROTOCOL", Plain::Protocol),
    ("RESPONSE_CODE", Plain::ResponseCode),
    ("RESPONSE_CODE_DETAILS", Plain::ResponseCodeDetails),
    ("RESPONSE_FLAGS", Plain::ResponseFlags),
    ("RESPONSE_FLAGS_LONG", Plain::ResponseFlagsLong),
    ("BYTES_RECEIVED", Plain::BytesReceived),
    ("BYTES_SENT", Plain::BytesSent),
    ("DURATION", Plain::Duration),
    ("UPSTREAM_CLUSTER", Plain::UpstreamCluster),
    ("UPSTREAM_CLUSTER_RAW", Plain::UpstreamCluster),
    ("REQUESTED_SERVER_NAME", Plain::RequestedServerName),
    ("ROUTE_NAME", Plain::RouteName),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Plain::AttemptCount),
    ("DOWNSTREAM_TLS_VERSION", Plain::TlsVersion),
    ("DOWNSTREAM_TLS_CIPHER", Plain::TlsCipher),
    ("GRPC_STATUS", Plain::GrpcStatus),
    ("GRPC_STATUS_NUMBER", Plain::GrpcStatusNumber),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", Plain::TransportFailure),
    ("CONNECTION_TERMINATION_DETAILS", Plain::Nothing),
    ("DOWNSTREAM_TRANSPORT_FAILURE_REASON", Plain::Nothing),
    ("VIRTUAL_CLUSTER_NAME", Plain::Nothing),
    ("ACCESS_LOG_TYPE", Plain::Type),
    ("STREAM_ID", Plain::RequestId),
    ("TRACE_ID", Plain::TraceId),
    ("REQUEST_DURATION", Plain::RequestDuration),
    ("RESPONSE_DURATION", Plain::ResponseDuration),
    ("RESPONSE_TX_DURATION", Plain::ResponseTransmission),
];

/// Whose address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    UpstreamRemote,
    UpstreamLocal,
    DownstreamRemote,
    DownstreamDirect,
    DownstreamLocal,
}

/// What of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressPart {
    Whole,
    Address,
    Port,
}

const ENDS: &[(&str, End)] = &[
    ("UPSTREAM_REMOTE", End::UpstreamRemote),
    ("UPSTREAM_LOCAL", End::UpstreamLocal),
    ("DOWNSTREAM_DIRECT_REMOTE", End::DownstreamDirect),
    ("DOWNSTREAM_REMOTE", End::DownstreamRemote),
    ("DOWNSTREAM_LOCAL", End::DownstreamLocal),
];

/// `REQ(NAME?OTHER):LENGTH` and its kin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeaderLine {
    of: Of,
    /// In lower case.
    name: String,
    /// Taken where the first is absent.
    or: Option<String>,
    /// Bytes at most.
    length: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Request,
    RequestWithoutQuery,
    Response,
    Trailer,
}

/// What an operator stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    None,
    Text(Cow<'a, str>),
    Number(u64),
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::None, |text| Self::Text(text.into()))
    }
}

impl Operator {
    /// Of what is between the signs; an error names what is not known.
    pub(super) fn parse(command: &str) -> Result<Self, String> {
        if let Some((_, plain)) = PLAIN.iter().find(|(name, _)| *name == command) {
            return Ok(Self::Plain(*plain));
        }
        if let Some((end, part)) = address(command) {
            return Ok(Self::Address(end, part));
        }
        if let Some(part) = PeerPart::parse(command) {
            return Ok(Self::Peer(part));
        }
        if let Some(part) = PathPart::parse(command) {
            return Ok(Self::Path(part));
        }
        let unknown = || format!("the operator %{command}% is not known or not yet supported");
        match command {
            "START_TIME" => Ok(Self::StartTime(None)),
            "EMIT_TIME" => Ok(Self::EmitTime(None)),
            "HOSTNAME" => Ok(Self::Fixed(hostname())),
            _ => {
                let (name, arguments) = command.split_once('(').ok_or_else(unknown)?;
                match name {
                    "START_TIME" => time(arguments, command).map(Self::StartTime),
                    "EMIT_TIME" => time(arguments, command).map(Self::EmitTime),
                    "ENVIRONMENT" => variable(arguments).map(Self::Fixed).ok_or_else(unknown),
                    _ => header_line(name, arguments).map(Self::Header).ok_or_else(unknown),
                }
            }
        }
    }

    /// Adds the headers that it looks at and a record may lack.
    pub(super) fn add_to(&self, wanted: &mut Wanted) {
        match self {
            Self::Header(line) => line.add_to(wanted),
            Self::Plain(Plain::GrpcStatus | Plain::GrpcStatusNumber) => wanted.add_grpc_status(),
            Self::Plain(Plain::TraceId) => wanted.add_request(TRACEPARENT),
            Self::Plain(Plain::RequestDuration | Plain::ResponseDuration | Plain::ResponseTransmission) => {
                wanted.times = true;
            }
            Self::Peer(_) => wanted.certificate = true,
            _ => {}
        }
    }

    /// Adds what is made only to be added; false: [`Operator::value`] has it.
    pub(super) fn push(&self, text: &mut String, record: &Connection) -> bool {
        match self {
            Self::StartTime(None) => clock::push_milliseconds(text, record.started),
            Self::Address(end, AddressPart::Whole) => match end.of(record) {
                Some(address) => digits::push_address(text, address),
                None => return false,
            },
            Self::Plain(Plain::ResponseFlags) if record.flags.is_empty() => text.push('-'),
            _ => return false,
        }
        true
    }

    pub(super) fn value<'a>(&'a self, record: &'a Connection) -> Value<'a> {
        match self {
            Self::StartTime(None) => Value::Text(clock::milliseconds(record.started).into()),
            Self::StartTime(Some(format)) => Value::Text(format.write(record.started).into()),
            Self::EmitTime(None) => Value::Text(clock::milliseconds(SystemTime::now()).into()),
            Self::EmitTime(Some(format)) => Value::Text(format.write(SystemTime::now()).into()),
            Self::Path(part) => of_request(record, |request| part.value(request)),
            Self::Peer(part) => of_request(record, |request| part.value(request)),
            Self::Fixed(text) => Value::Text(text.into()),
            Self::Address(end, part) => of_address(end.of(record), *part),
            Self::Header(line) => line.value(record),
            Self::Plain(plain) => plain.value(record),
        }
    }
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// `DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT` and the like.
fn address(command: &str) -> Option<(End, AddressPart)> {
    if command == "UPSTREAM_HOST" {
        return Some((End::UpstreamRemote, AddressPart::Whole));
    }
    let parts = [
        ("_ADDRESS", AddressPart::Whole),
        ("_ADDRESS_WITHOUT_PORT", AddressPart::Address),
        ("_PORT", AddressPart::Port),
    ];
    let part = |rest| parts.iter().find(|(suffix, _)| *suffix == rest).map(|(_, part)| *part);
    ENDS.iter().find_map(|(name, end)| Some((*end, part(command.strip_prefix(name)?)?)))
}

/// `NAME):LENGTH`. A variable that is not there is a dash, in JSON too.
fn variable(arguments: &str) -> Option<String> {
    let HeaderArguments { name, or: None, length } = HeaderArguments::parse(arguments)? else { return None };
    let mut value = std::env::var(name).unwrap_or_else(|_| "-".to_owned());
    if let Some(length) = length {
        value.truncate(value.floor_char_boundary(length));
    }
    Some(value)
}

fn of_request<'a>(
    record: &'a Connection,
    part: impl FnOnce(&'a Request) -> Option<Cow<'a, str>>,
) -> Value<'a> {
    record.request.as_deref().and_then(part).map_or(Value::None, Value::Text)
}

fn time(arguments: &str, command: &str) -> Result<Option<TimeFormat>, String> {
    let format = arguments.strip_suffix(')').ok_or_else(|| format!("%{command}% has no closing bracket"))?;
    if format.is_empty() {
        return Ok(None);
    }
    let parsed = TimeFormat::parse(format);
    let parsed = parsed.map_err(|what| format!("%{command}%: the conversion {what} is not supported"))?;
    Ok(Some(parsed))
}

fn header_line(name: &str, arguments: &str) -> Option<HeaderLine> {
    let of = match name {
        "REQ" => Of::Request,
        "REQ_WITHOUT_QUERY" => Of::RequestWithoutQuery,
        "RESP" => Of::Response,
        "TRAILER" => Of::Trailer,
        _ => return None,
    };
    let HeaderArguments { name, or, length } = HeaderArguments::parse(arguments)?;
    let header = |name: &str| {
        let name = name.to_ascii_lowercase();
        let plain = name.strip_prefix(':').unwrap_or(&name);
        HeaderName::from_bytes(plain.as_bytes()).is_ok().then_some(name)
    };
    let or = match or {
        Some(or) => Some(header(or)?),
        None => None,
    };
    Some(HeaderLine { of, name: header(name)?, or, length })
}

impl HeaderLine {
    fn add_to(&self, wanted: &mut Wanted) {
        for name in [Some(&self.name), self.or.as_ref()].into_iter().flatten() {
            match self.of {
                Of::Request | Of::RequestWithoutQuery => wanted.add_request(name),
                Of::Response => wanted.add_response(name),
                Of::Trailer => wanted.add_trailer(name),
            }
        }
    }

    fn value<'a>(&self, record: &'a Connection) -> Value<'a> {
        let Some(request) = record.request.as_deref() else { return Value::None };
        let line = |name: &str| match self.of {
            Of::Request => request.header(name),
            Of::RequestWithoutQuery => {
                request.header(name).map(|value| value.split_once('?').map_or(value, |(path, _)| path))
            }
            Of::Response => request.response_header(name),
            Of::Trailer => request.trailer(name),
        };
        let found = line(&self.name).or_else(|| line(self.or.as_ref()?));
        let cut = |value: &'a str| match self.length {
            Some(length) => &value[..value.floor_char_boundary(length.min(value.len()))],
            None => value,
        };
        found.map(cut).into()
    }
}

impl Wanted {
    /// A header of the request, unless every record has it.
    pub(super) fn add_request(&mut self, name: &str) {
        if !name.starts_with(':') && !KEPT.contains(&name) {
            add(&mut self.request, name);
        }
    }

    pub(super) fn add_response(&mut self, name: &str) {
        if name != "x-envoy-upstream-service-time" {
            add(&mut self.response, name);
        }
    }

    pub(super) fn add_trailer(&mut self, name: &str) {
        add(&mut self.trailers, name);
    }

    pub(super) fn add_grpc_status(&mut self) {
        self.add_response(super::record::GRPC_STATUS);
        self.add_trailer(super::record::GRPC_STATUS);
    }
}

fn add(names: &mut Vec<HeaderName>, name: &str) {
    if let Ok(name) = HeaderName::from_bytes(name.as_bytes())
        && !names.contains(&name)
    {
        names.push(name);
    }
}

impl End {
    pub(super) fn of(self, record: &Connection) -> Option<SocketAddr> {
        match self {
            Self::UpstreamRemote => record.upstream_host,
            Self::UpstreamLocal => record.upstream_local,
            Self::DownstreamRemote => Some(record.downstream_remote),
            Self::DownstreamDirect => Some(record.downstream_direct),
            Self::DownstreamLocal => Some(record.downstream_local),
        }
    }
}

fn of_address(address: Option<SocketAddr>, part: AddressPart) -> Value<'static> {
    match (address, part) {
        (None, _) => Value::None,
        (Some(address), AddressPart::Whole) => Value::Text(address.to_string().into()),
        (Some(address), AddressPart::Address) => Value::Text(address.ip().to_string().into()),
        (Some(address), AddressPart::Port) => Value::Number(address.port().into()),
    }
}

/// Names of gRPC's codes, by number.
const GRPC: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

impl Plain {
    pub(super) fn value(self, record: &Connection) -> Value<'_> {
        let request = record.request.as_deref();
        let text = |field: fn(&Request) -> Option<&str>| request.and_then(field).into();
        match self {
            Self::Protocol => text(|request| request.protocol),
            Self::ResponseCodeDetails => record.details().map_or(Value::None, Value::Text),
            Self::RouteName => text(|request| request.route_name.as_deref()),
            Self::ResponseCode => Value::Number(request.map_or(0, |request| request.status.into())),
            Self::AttemptCount => {
                let of_connection = u64::from(record.upstream_host.is_some());
                Value::Number(request.map_or(of_connection, |request| request.attempts.into()))
            }
            Self::ResponseFlags => flags(record, ResponseFlag::to_string),
            Self::ResponseFlagsLong => flags(record, |flag| flag.long().to_owned()),
            Self::BytesReceived => Value::Number(record.received),
            Self::BytesSent => Value::Number(record.sent),
            Self::Duration => milliseconds(Some(record.duration)),
            Self::UpstreamCluster => record.upstream_cluster.as_deref().into(),
            Self::RequestedServerName => record.server_name.as_deref().into(),
            Self::TlsVersion => record.handshake.map(|handshake| handshake.version).into(),
            Self::TlsCipher => record.handshake.map(|handshake| handshake.cipher).into(),
            Self::GrpcStatus => match request.and_then(Request::grpc_status) {
                Some(code) => Value::Text(match GRPC.get(code as usize) {
                    Some(name) => (*name).into(),
                    None => code.to_string().into(),
                }),
                None => Value::None,
            },
            Self::GrpcStatusNumber => {
                request.and_then(Request::grpc_status).map_or(Value::None, |code| Value::Number(code.into()))
            }
            Self::TransportFailure => record.transport_failure.as_deref().into(),
            Self::Type => Value::Text(record.kind().into()),
            Self::RequestId => text(|request| request.request_id.as_deref()),
            Self::TraceId => of_request(record, |request| {
                Some(TraceId::of(request.header(TRACEPARENT)?)?.to_string().into())
            }),
            Self::RequestDuration => milliseconds(request.and_then(Request::until_whole)),
            Self::ResponseDuration => milliseconds(request.and_then(|request| request.answered)),
            Self::ResponseTransmission => milliseconds(
                request
                    .filter(|request| request.is_answered())
                    .and_then(|request| record.duration.checked_sub(request.answered?)),
            ),
            Self::Nothing => Value::None,
        }
    }
}

fn milliseconds(time: Option<Duration>) -> Value<'static> {
    time.map_or(Value::None, |time| Value::Number(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
}

/// In the order in which they were raised; Envoy's word for none is a dash, in JSON too.
fn flags(record: &Connection, name: fn(&ResponseFlag) -> String) -> Value<'static> {
    let names: Vec<String> = record.flags.iter().map(name).collect();
    Value::Text(if names.is_empty() { "-".into() } else { names.join(",").into() })
}
