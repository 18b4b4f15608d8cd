//! `sluice explain`: which listener, filter chain, virtual host, route, cluster and endpoints a request would meet, and
//! which lines of which documents say so.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use http::Method;

use super::admin_client::Agent;
use super::documents::{self, Documents, NamespaceArgs};
use super::options::TextOutput;
use super::remote::RemoteArgs;
use super::table;
use crate::analysis::analyse;
use crate::api::Diagnostic;
use crate::model::explain::{Described, Explanation, Question, State, Step, UNREADABLE, decide, header};
use crate::model::{CredentialProblem, FilterChain};
use crate::proxy;
use crate::settings::{IdentityArgs, default_admin_socket};

/// Say where a request would go and which documents are responsible
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  sluice explain --url https://webapp.example.com/api/catalog
  sluice explain --url http://webapp.example.com/ -H 'x-user: jason' config/examples
  sluice explain --url https://10.0.0.1:8443/ --sni vault.example.com -o json
  sluice explain --url https://webapp.example.com/ --pod sluice-7xk2p.sluice-system
  sluice explain --url https://webapp.example.com/ --kubernetes new-routes.yaml")]
pub struct ExplainArgs {
    /// Files and directories to look in; without any, and without --kubernetes, a running agent is asked
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The same, as `sluice run` takes them
    #[arg(long, num_args = 1.., value_name = "DIR-OR-FILE")]
    pub config: Vec<PathBuf>,
    /// What is asked for: `http://` or `https://`, host, port, path and query; may stand before the files without --url
    #[arg(long, required_unless_present = "files")]
    pub url: Option<String>,
    /// A header, `name: value`; `host` takes the place of the URL's
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// Server name of the ClientHello, where it is not the URL's host; empty: none
    #[arg(long)]
    pub sni: Option<String>,
    /// Address that the client comes from; rules that look at forwarding headers see 127.0.0.1 without it
    #[arg(long)]
    pub client_ip: Option<IpAddr>,
    /// Method of the request
    #[arg(short = 'X', long, default_value = "GET", value_parser = parse_method)]
    pub method: String,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t = TextOutput::Text)]
    pub output: TextOutput,
    /// Look in the documents of a cluster's API server; those of files take the place of the cluster's
    #[arg(long)]
    pub kubernetes: bool,
    /// Ask a gateway in a cluster, by its pod (POD, POD.NAMESPACE, or POD with -n) or its node
    #[arg(long, value_name = "POD|NODE", conflicts_with_all = ["config", "kubernetes"])]
    pub pod: Option<String>,
    /// Of a cluster's documents, which; with --pod, -n is the pod's namespace.
    #[command(flatten)]
    pub namespaces: NamespaceArgs,
    /// Which cluster.
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// The agent's unix socket
    #[arg(long, env = "SLUICE_ADMIN_SOCKET", value_name = "SOCKET", default_value_os_t = default_admin_socket())]
    pub admin_socket: PathBuf,
    /// Which gateway the documents are for.
    #[command(flatten)]
    pub identity: IdentityArgs,
}

fn parse_method(text: &str) -> Result<String, String> {
    Method::from_bytes(text.as_bytes()).map(|method| method.to_string()).map_err(|error| error.to_string())
}

/// Asks, and prints the way.
pub fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let (url, files) = asked(args)?;
    let question = question(url, args)?;
    let files: Vec<PathBuf> = files.iter().chain(&args.config).cloned().collect();
    if let Some(file) = files.first().filter(|_| args.pod.is_some()) {
        bail!("{}: with --pod the gateway itself is asked, and no file is read", file.display());
    }
    let explanation = if files.is_empty() && !args.kubernetes {
        ask(args, &question)?
    } else {
        look(args, files, question)?
    };
    let text = args.output.render(&explanation, || text(&args.method, url, &explanation))?;
    table::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The URL, by its flag or before the files, and the files.
fn asked(args: &ExplainArgs) -> anyhow::Result<(&str, &[PathBuf])> {
    if let Some(url) = &args.url {
        return Ok((url, &args.files));
    }
    let first = args.files.split_first().and_then(|(first, files)| Some((first.to_str()?, files)));
    let Some((url, files)) = first.filter(|(first, _)| first.contains("://")) else {
        bail!("which request? --url https://HOST/PATH, or the URL before the files");
    };
    Ok((url, files))
}

/// What a client would send for these flags.
fn question(url: &str, args: &ExplainArgs) -> anyhow::Result<Question> {
    let described = Described {
        url,
        method: &args.method,
        headers: &args.headers,
        sni: args.sni.as_deref(),
        client: args.client_ip,
    };
    described.question(proxy::as_rules_see).map_err(anyhow::Error::msg)
}

fn ask(args: &ExplainArgs, question: &Question) -> anyhow::Result<Explanation> {
    let question = URL_SAFE_NO_PAD.encode(serde_json::to_vec(question)?);
    let namespace = match args.namespaces.namespaces.as_slice() {
        [] => None,
        [one] => Some(one.as_str()),
        _ => bail!("a pod is in one namespace: give one -n"),
    };
    let agent = Agent::of(&args.admin_socket, args.pod.as_deref(), namespace, &args.remote)?;
    agent.get(&format!("/explain/{question}"))
}

fn look(args: &ExplainArgs, files: Vec<PathBuf>, question: Question) -> anyhow::Result<Explanation> {
    let cluster = documents::cluster(args.kubernetes, &args.remote.cluster, &args.namespaces)?;
    let Documents { loaded, surroundings } = documents::read(files, cluster, &args.identity)?;
    let analysis = analyse(loaded, &surroundings, SystemTime::now());
    let errors = analysis.diagnostics.iter().filter(|found| Diagnostic::is_error(found)).count();
    if errors > 0 {
        let plural = if errors == 1 { "" } else { "s" };
        table::warn(&format!(
            "the documents have {errors} error{plural}, which may be why: `sluice check` shows them"
        ));
    }
    let question = question.in_form(analysis.snapshot.http.path).context(UNREADABLE)?;
    let state = State {
        available: &|cluster| {
            let nobody = None::<fn(std::net::SocketAddr) -> bool>;
            cluster.eligible(nobody).map(|candidate| candidate.endpoint.address).collect()
        },
        // A certificate that this user may not read is as good as there.
        terminates: &|listener, chain| analysis.tls.get(listener, &chain.name).is_some() || is_unread(chain),
    };
    Ok(decide(&analysis.snapshot, &question, state))
}

fn is_unread(chain: &FilterChain) -> bool {
    let credential = chain.action.server_tls().map(|tls| &tls.credential);
    matches!(credential, Some(Err(CredentialProblem::Unread { .. })))
}

/// Columns before what is said of a stage.
const INDENT: usize = 16;

fn text(method: &str, url: &str, explanation: &Explanation) -> String {
    let mut out = format!("{method} {url}\n{}\n", explanation.summary);
    for step in &explanation.steps {
        let name = step.found.as_deref().unwrap_or("none fits");
        let _ = writeln!(out, "\n  {:<14}{name}", step.stage.to_string());
        for line in details(step) {
            let _ = writeln!(out, "{:INDENT$}{line}", "");
        }
    }
    out
}

fn details(step: &Step) -> Vec<String> {
    let mut lines: Vec<String> = step.origins.iter().map(|origin| format!("from {origin}")).collect();
    lines.extend(step.notes.iter().cloned());
    if !step.passed_over.is_empty() {
        let heading = if step.found.is_some() { "tried before it:" } else { "nearest:" };
        lines.push(heading.to_owned());
    }
    for miss in &step.passed_over {
        lines.push(format!("- {}: {}", miss.name, miss.why));
        lines.extend(miss.origin.iter().map(|origin| format!("  {origin}")));
    }
    lines
}
