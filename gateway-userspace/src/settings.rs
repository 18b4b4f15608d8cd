//! Process settings: what flags and environment say about this process. Never routing.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, ValueEnum};

use crate::model::{Ascent, GatewayIdentity, Tier};
use crate::telemetry::access::Encoding;

/// Which gateway this is, as a pod's labels and namespace would say.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which gateway this is")]
pub struct IdentityArgs {
    /// Labels that Gateway selectors are held against, `key=value` separated by commas.
    #[arg(long, value_parser = parse_labels, default_value = "istio=ingressgateway,app=istio-ingressgateway")]
    pub labels: BTreeMap<String, String>,
    /// Namespace of the gateway: secrets are looked up here.
    #[arg(long, env = "POD_NAMESPACE", default_value = "istio-system")]
    pub namespace: String,
    /// Namespace of mesh-wide documents.
    #[arg(long, default_value = "istio-system")]
    pub root_namespace: String,
    /// Domain that short host names are completed with.
    #[arg(long, default_value = "cluster.local")]
    pub domain: String,
    /// Take Gateways of the gateway's own namespace alone, as istiod does with this variable.
    #[arg(
        long,
        env = "PILOT_SCOPE_GATEWAY_TO_NAMESPACE",
        action = ArgAction::SetTrue,
        value_parser = FalseyValueParser::new()
    )]
    pub scope_gateway_to_namespace: bool,
    /// Namespace of file documents that name none.
    #[arg(long, default_value = "default")]
    pub default_namespace: String,
}

impl IdentityArgs {
    /// The gateway as translation sees it.
    pub fn identity(&self) -> GatewayIdentity {
        GatewayIdentity {
            labels: self.labels.clone(),
            namespace: self.namespace.clone(),
            root_namespace: self.root_namespace.clone(),
            domain: self.domain.clone(),
            own_gateways_only: self.scope_gateway_to_namespace,
        }
    }
}

fn parse_labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    text.split(',')
        .filter(|pair| !pair.trim().is_empty())
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok((key.trim().to_owned(), value.trim().to_owned()))
            }
            _ => Err(format!("`{pair}` is not key=value")),
        })
        .collect()
}

/// `sluice run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Files or directories of YAML documents; watched, changes are live within a second.
    #[arg(long, required_unless_present = "kubernetes", num_args = 1.., value_name = "DIR-OR-FILE")]
    pub config: Vec<PathBuf>,
    /// Worker threads of the user-space plane. Default: one for each core.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Seconds that a stop waits for connections to finish, and that those of a listener last that has gone from the documents.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=86_400))]
    pub drain_time: u64,
    /// Take the place of the agent that answers on `--admin-socket`, if one does: its listening sockets are taken over, so that
    /// no connection is lost, and it drains. Both must be in the same network namespace.
    #[arg(long)]
    pub take_over: bool,
    /// What an agent does when another one has taken its place and it has drained: `exit`, or `wait` for a signal, where
    /// whoever started it would start it again.
    #[arg(long, value_enum, default_value_t = AfterHandOver::Exit)]
    pub after_hand_over: AfterHandOver,
    /// Name server that the names of ServiceEntries are resolved by; may be given several times. Default: the machine's, of
    /// `/etc/resolv.conf`, and `/etc/hosts` before them.
    #[arg(long = "dns-server", value_name = "ADDRESS[:PORT]", value_parser = parse_name_server)]
    pub dns_servers: Vec<SocketAddr>,
    /// Serves clients of HTTP/1.0, as Istio's gateway does with this variable. Without it they are told to upgrade (426).
    #[arg(long, env = "PILOT_HTTP10", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    pub http10: bool,
    /// Lets clients open WebSockets over HTTP/2 (RFC 8441). Without it they open them over HTTP/1.1, as at Istio's gateway.
    #[arg(long)]
    pub http2_websockets: bool,
    /// Value of the `server` response header; empty sends none.
    #[arg(long, default_value = "sluice")]
    pub server_header: String,
    /// Log level or filter: error, warn, info, debug, trace, or directives as in RUST_LOG.
    #[arg(long, env = "SLUICE_LOG", default_value = "info")]
    pub log: String,
    /// File that each request, and each TCP connection of either plane, gets a line in when it is over; `/dev/stdout`
    /// too. Stands for MeshConfig's `accessLogFile`, and for where Telemetry's provider `envoy` writes. Default: what those
    /// say. A connection's bytes are those of the stream, without headers and without what was sent again. Opened anew at
    /// SIGHUP.
    #[arg(long, env = "SLUICE_ACCESS_LOG", value_name = "FILE")]
    pub access_log: Option<PathBuf>,
    /// Istio's text format, or its JSON: `text` or `json`. Stands for MeshConfig's `accessLogEncoding`, whose
    /// `accessLogFormat` counts where it is of the same kind.
    #[arg(long, value_name = "FORMAT")]
    pub access_log_format: Option<Encoding>,
    /// Bytes that a file of an access log may have, such as 100Mi; 0 for no such bound. A full one is put aside as FILE.1, the
    /// one before it as FILE.2.
    #[arg(long, default_value_t = 0, value_name = "BYTES", value_parser = parse_bytes)]
    pub access_log_max_size: u64,
    /// Files of an access log that are kept besides the one that is written.
    #[arg(long, default_value_t = 5, value_name = "FILES", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub access_log_keep: u32,
    /// A line of an access log also when a TCP connection of either plane has found its backend, which `%ACCESS_LOG_TYPE%`
    /// calls `TcpConnectionStart`. Not of requests, nor of WebSockets.
    #[arg(long)]
    pub access_log_connection_starts: bool,
    /// Best tier that opaque connections of user space may reach (TCP, TLS passed through, WebSocket): `copy`; `splice`,
    /// which moves bytes from socket to socket in the kernel; `handoff`, which gives connections to the kernel plane as
    /// early as possible; or `auto`, which lets the gateway decide for each connection.
    #[arg(long, env = "SLUICE_TIER", value_enum, default_value_t = TierLimit::Auto)]
    pub tier: TierLimit,
    /// Documents of a cluster's API server, beside those of `--config`, if both are given.
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    /// What clients may ask of it.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Which gateway this is.
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// The kernel plane.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// The admin interface.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Documents out of a cluster.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct KubernetesArgs {
    /// Serve the documents of a cluster's API server, and follow their changes.
    #[arg(long, env = "SLUICE_KUBERNETES", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    pub kubernetes: bool,
    /// Namespace whose documents are read; may be given several times. Default: all of them.
    #[arg(long = "watch-namespace", value_name = "NAMESPACE", requires = "kubernetes")]
    pub watch_namespaces: Vec<String>,
    /// Write nothing into the status of documents. Otherwise one of all gateways of the namespace does, by a Lease.
    #[arg(long, requires = "kubernetes")]
    pub no_status: bool,
    /// Address of an admission webhook, such as 0.0.0.0:15017: the API server asks there before it takes a document, and refuses
    /// what would not be in force. `none`: there is none.
    #[arg(long, default_value = "none", value_name = "ADDRESS", value_parser = parse_optional_address)]
    pub admission_address: OptionalAddress,
    /// The ValidatingWebhookConfiguration that is told whom to trust.
    #[arg(long, default_value = "sluice", value_name = "NAME")]
    pub admission_webhook: String,
    /// The Service, in the gateway's namespace, that it calls.
    #[arg(long, default_value = "sluice-admission", value_name = "NAME")]
    pub admission_service: String,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Which cluster, and as whom it is asked.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct ClusterArgs {
    /// File that says how the API server is reached. Default: `KUBECONFIG`, `~/.kube/config`, or, in a pod, its service
    /// account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of that file. Default: its current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// What clients of the user-space plane may ask of it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits of user space")]
pub struct LimitArgs {
    /// Streams that an HTTP/2 client may have open at once; further ones are refused.
    #[arg(long, default_value_t = 128, value_name = "STREAMS", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_concurrent_streams: u32,
    /// Seconds that nothing may move in a request before it is given up (408, 504, or a reset); 0 for ever.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub stream_idle_timeout: u64,
    /// Bytes a second that a request's body has to come at, on average, once it has been waited for as long as a request may be
    /// idle; 0 for no such bound. gRPC and what is answered already has none.
    #[arg(long, default_value_t = 240, value_name = "BYTES")]
    pub min_body_rate: u32,
    /// Bytes that a request's body may have, such as 10Mi; 0 for no such bound. One that is longer is answered with 413.
    #[arg(long, default_value_t = 0, value_name = "BYTES", value_parser = parse_bytes)]
    pub max_request_body: u64,
    /// Seconds after which an HTTP connection takes no further requests; 0 for no such bound.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub max_connection_age: u64,
    /// Connections that one source address (of IPv6: one /64) may have with user space at once; 0 for no such bound. Those
    /// beyond are reset.
    #[arg(long, default_value_t = 0, value_name = "CONNECTIONS")]
    pub max_connections_per_source: u32,
    /// Memory that the process may have, such as 512Mi: work is refused before that. 0 for no such bound. Default: the limit
    /// of the control group, if there is one.
    #[arg(long, env = "SLUICE_MAX_MEMORY", value_name = "BYTES", value_parser = parse_bytes)]
    pub max_memory: Option<u64>,
}

/// A number of bytes, with `Ki`, `Mi`, `Gi` or `K`, `M`, `G` behind it as Kubernetes has them.
fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 6] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("K", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
    ];
    let (digits, unit) =
        UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit))).unwrap_or((text, 1));
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.ok_or_else(|| format!("`{text}` is no number of bytes such as 536870912 or 512Mi"))
}

/// `--after-hand-over`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum AfterHandOver {
    /// End.
    #[default]
    Exit,
    /// Wait to be told to.
    Wait,
}

/// `--tier`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum TierLimit {
    /// Up to the kernel plane, as early as possible; once its tables are filling up, only connections that last.
    #[default]
    Auto,
    /// Up to the kernel plane, as early as possible.
    Handoff,
    /// Up to splice(2).
    Splice,
    /// Copying alone.
    Copy,
    /// Up to the kernel plane, each connection after another number of bytes: for tests.
    #[value(hide = true)]
    Random,
    /// Up to the kernel plane, only connections that last: for tests.
    #[value(hide = true)]
    Lasting,
}

impl TierLimit {
    /// The best tier that it allows a connection which user space has accepted.
    pub fn highest(self) -> Tier {
        match self {
            Self::Auto | Self::Handoff | Self::Random | Self::Lasting => Tier::Handoff,
            Self::Splice => Tier::Splice,
            Self::Copy => Tier::Copy,
        }
    }

    /// When such a connection is handed over.
    pub fn ascent(self) -> Ascent {
        match self {
            Self::Handoff => Ascent::AtOnce,
            Self::Random => Ascent::AtRandom,
            Self::Lasting => Ascent::WhenLasting,
            Self::Auto | Self::Splice | Self::Copy => Ascent::WithRoom,
        }
    }
}

/// Where the agent answers about itself.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Administration")]
pub struct AdminArgs {
    /// Unix socket that `sluice proxy-config` talks to.
    #[arg(long, env = "SLUICE_ADMIN_SOCKET", value_name = "SOCKET", default_value_os_t = default_admin_socket())]
    pub admin_socket: PathBuf,
    /// TCP address of the same interface; keep it on loopback. `none` switches it off.
    #[arg(long, default_value = "127.0.0.1:15000", value_parser = parse_optional_address)]
    pub admin_address: OptionalAddress,
    /// Address of `/healthz/ready`. `none` switches it off.
    #[arg(long, default_value = "0.0.0.0:15021", value_parser = parse_optional_address)]
    pub ready_address: OptionalAddress,
    /// Address of `/stats/prometheus`, where Prometheus reads metrics. `none` switches it off, and counting with it.
    #[arg(long, default_value = "0.0.0.0:15020", value_parser = parse_optional_address)]
    pub metrics_address: OptionalAddress,
    /// Combinations of labels that requests and connections are counted by; all beyond are counted together.
    #[arg(long, default_value_t = 4096, value_name = "COMBINATIONS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_metric_series: u32,
    /// Name of the gateway's workload, as metrics tell it. Default: its label `app`.
    #[arg(long, env = "ISTIO_META_WORKLOAD_NAME", value_name = "NAME")]
    pub workload: Option<String>,
    /// Name of the cluster that the gateway runs in, as metrics tell it.
    #[arg(long, env = "ISTIO_META_CLUSTER_ID", value_name = "NAME", default_value = "Kubernetes")]
    pub cluster_id: String,
}

/// An address, or none.
pub type OptionalAddress = OptionalOf<SocketAddr>;

/// A flag's value that may be `none`. Not an `Option`: clap would take that for a flag that may be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionalOf<T>(pub Option<T>);

fn parse_optional_address(text: &str) -> Result<OptionalAddress, String> {
    if text == "none" {
        return Ok(OptionalOf(None));
    }
    text.parse()
        .map(|address| OptionalOf(Some(address)))
        .map_err(|_| "expected ADDRESS:PORT or `none`".to_owned())
}

fn parse_name_server(text: &str) -> Result<SocketAddr, String> {
    let address = || text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    text.parse().or_else(|_| address()).map_err(|_| "expected ADDRESS or ADDRESS:PORT".to_owned())
}

/// `/run/sluice/admin.sock` for root, else below the user's runtime directory.
pub fn default_admin_socket() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/run/sluice/admin.sock");
    }
    let directory = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    directory.join(format!("sluice-{}.sock", rustix::process::geteuid().as_raw()))
}

/// Whether, where and how large the kernel plane is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Kernel plane")]
pub struct KernelArgs {
    /// `auto` attaches eBPF where the machine allows it and says why where not; `require` fails instead; `off`
    /// stays in user space.
    #[arg(long, value_enum, default_value_t = KernelMode::Auto)]
    pub kernel: KernelMode,
    /// Interface that clients come in by; may be given several times. Default: every one that is up, carries Ethernet
    /// and has an address that is not link-local. Interfaces towards backends are found by themselves.
    #[arg(long = "interface", value_name = "NAME")]
    pub interfaces: Vec<String>,
    /// Directory of bpffs that maps and links are pinned in.
    #[arg(long, env = "SLUICE_PIN_DIR", value_name = "DIR", default_value = DEFAULT_PIN_DIR)]
    pub pin_dir: PathBuf,
    /// Flows that the kernel's flow table of each address family holds; more are served in user space.
    #[arg(long, default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(2..=16_777_216))]
    pub max_flows: u32,
    /// Where the programs meet packets: `auto` is tc, and XDP before it on network cards whose driver has it.
    #[arg(long, value_enum, default_value_t = Datapath::Auto)]
    pub datapath: Datapath,
    /// Prefix whose packets are dropped, on every interface that clients come in by; may be given several times.
    #[arg(long = "deny-source", value_name = "PREFIX")]
    pub denied: Vec<Prefix>,
    /// New flows that one source address may open in each second, through the kernel plane; 0 for no limit.
    #[arg(long, default_value_t = 0, value_name = "FLOWS")]
    pub max_new_flows_per_source: u32,
    /// Seconds that flows go on after their backend has gone from the documents; then they are reset.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub backend_drain_time: u64,
    /// Where `sluice.dev/source-address: preserve` is wished: the mark of packets that answer to clients' addresses and are
    /// meant for this node, and the bits of it that count. Others of the node's must not give them.
    #[arg(long, value_name = "MARK/MASK", default_value_t)]
    pub mark: Mark,
}

/// What rules of routing know packets by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Among the bits of `mask`, and not 0.
    pub value: u32,
    /// The bits that count.
    pub mask: u32,
}

impl Default for Mark {
    /// A bit that nobody else is known to use: Cilium has 0x0f00 and all above 0xffff, Calico likewise above 0xffff,
    /// kube-proxy 0x4000 and 0x8000, CNI's port mapping 0x2000, Istio 0x0539. And none of theirs up to 0xffff with it: a
    /// mark of theirs that happens to have the bit too is theirs.
    fn default() -> Self {
        Self { value: 0x1000, mask: 0xffff }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}

impl FromStr for Mark {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |word: &str| match word.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => word.parse().ok(),
        };
        let numbers = text.split_once('/').and_then(|(value, mask)| Some((number(value)?, number(mask)?)));
        match numbers {
            Some((value, mask)) if value != 0 && value & mask == value => Ok(Self { value, mask }),
            Some(_) => Err(format!("`{text}` has no bit set, or one that its mask has not")),
            None => Err(format!("`{text}` is not two numbers such as {}", Self::default())),
        }
    }
}

/// `--datapath`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Datapath {
    /// What serves each interface better.
    Auto,
    /// tc: tcx (Linux 6.6), or a clsact qdisc where the kernel has none.
    Tc,
    /// tc by a clsact qdisc, as on kernels before 6.6.
    Clsact,
    /// XDP in the driver, or else in the stack, with tc behind it for what XDP cannot do.
    Xdp,
    /// None: the same as `--kernel off`.
    Off,
}

/// An address prefix, such as 198.51.100.0/24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// Its first address.
    pub address: IpAddr,
    /// Bits that count.
    pub length: u8,
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| format!("`{address}` is no address"))?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => longest,
            Some(length) => length
                .parse()
                .ok()
                .filter(|length| *length <= longest)
                .ok_or_else(|| format!("`{length}` is no prefix length; 0 to {longest} are"))?,
        };
        if masked(address, length) != address {
            let first = masked(address, length);
            return Err(format!("bits are set behind the first {length}; meant is perhaps {first}/{length}"));
        }
        Ok(Self { address, length })
    }
}

/// An address with all but its first bits cleared.
fn masked(address: IpAddr, length: u8) -> IpAddr {
    let behind = |bits: u32| bits.saturating_sub(length.into());
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(behind(32)).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(behind(128)).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    }
}

/// Default of `--pin-dir`.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/sluice";

/// `--kernel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KernelMode {
    /// Where possible.
    Auto,
    /// Or fail.
    Require,
    /// User space only.
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_whole() {
        let prefix = |text: &str| text.parse::<Prefix>();
        let net = prefix("198.51.100.0/24").unwrap();
        assert_eq!((net.address.to_string().as_str(), net.length), ("198.51.100.0", 24));
        assert_eq!(prefix("2001:db8::1").unwrap().length, 128);
        assert_eq!(prefix("0.0.0.0/0").unwrap().length, 0);
        assert!(prefix("198.51.100.7/24").unwrap_err().contains("198.51.100.0/24"));
        for bad in ["x", "1.2.3.4/33", "::/129", "1.2.3.4/", "1.2.3.0/-1"] {
            assert!(prefix(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn name_servers_have_a_port_of_their_own_or_the_usual_one() {
        for (text, want) in [
            ("192.0.2.1", Some("192.0.2.1:53")),
            ("192.0.2.1:5353", Some("192.0.2.1:5353")),
            ("fd00::1", Some("[fd00::1]:53")),
            ("[fd00::1]:5353", Some("[fd00::1]:5353")),
            ("dns.test", None),
        ] {
            assert_eq!(parse_name_server(text).ok().map(|server| server.to_string()).as_deref(), want);
        }
    }

    #[test]
    fn marks_are_within_their_masks_and_the_default_one_is_nobody_elses() {
        let mark = |text: &str| text.parse::<Mark>();
        assert_eq!(mark("4096/0xffff"), Ok(Mark { value: 0x1000, mask: 0xffff }));
        for bad in ["", "0x1000", "0/0xffff", "0x10000/0xffff", "x/1", "1/0x", "-1/1", "1/0x100000000"] {
            assert!(mark(bad).is_err(), "{bad}");
        }
        // Cilium, kube-proxy, port mapping of CNI, Istio.
        let default = Mark::default();
        assert_eq!(mark(&default.to_string()), Ok(default));
        let Mark { value, mask } = default;
        for theirs in [0x0f00, 0x4000, 0x8000, 0x2000, 1337] {
            assert_eq!((value & theirs, mask & theirs), (0, theirs), "{theirs:#x}");
        }
    }

    #[test]
    fn bytes_have_units() {
        for (text, want) in [
            ("0", Some(0)),
            ("512Mi", Some(512 << 20)),
            ("1Gi", Some(1 << 30)),
            ("80M", Some(80_000_000)),
            ("2Ki", Some(2048)),
            ("Mi", None),
            ("1.5Gi", None),
            ("-1", None),
            ("99999999999Gi", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn labels_are_pairs() {
        let labels = parse_labels("istio=ingressgateway, app=x,").unwrap();
        assert_eq!(labels.get("app").map(String::as_str), Some("x"));
        assert_eq!(labels.len(), 2);
        assert!(parse_labels("istio").is_err());
        assert!(parse_labels("=x").is_err());
    }
}
