//! The stage of a page: a gateway's machine, a client's and the backends', with what the page has of documents as files, and a
//! shell in which its commands are typed as they stand. Ports, paths and addresses are those that the page names, as the
//! machines are namespaces (`lab`): network, mounts (`/run`, bpffs) and processes are the stage's own.
//!
//! A Service that the page gives no endpoints gets a backend for each of its ports, as a cluster would give it pods: by the port's
//! name one of HTTP, HTTP/2 (gRPC), TLS, or an echo of TCP. So does an endpoint of a ServiceEntry at the backends' address, 198.18.1.2.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::authority::Authority;
use crate::backend::{Backend, Version};
use crate::docs::commands::commands;
use crate::docs::page::{Block, Page};
use crate::docs::shown::is_as_shown;
use crate::documents::{Slice, endpoint_slice};
use crate::gateway::program;
use crate::lab::{Family, Lab};
use crate::program::tool;
use crate::serve::{Place, Server};
use crate::tls::server_config;
use crate::{echo, wait, websocket};

/// Where documents lie, from the stage's directory.
const DOCUMENTS: &str = "documents";

/// Runs all that a page has to be typed, in order, and holds what it says against what is shown.
#[track_caller]
pub fn play(page: &Page) {
    let mut stage = Stage::new(page);
    let mut blocks = page.blocks.iter().peekable();
    while let Some(block) = blocks.next() {
        let shown = blocks.peek().filter(|next| next.language == "text" && next.is("output"));
        match block.language.as_str() {
            "yaml" if block.file().is_some() => stage.save(block),
            "sh" if is_played(block) => stage.play(page, block, shown.map(|shown| shown.text.as_str())),
            _ => {}
        }
    }
    stage.expect_sound(page);
}

/// Whether the page's own test types it.
pub fn is_played(block: &Block) -> bool {
    block.language == "sh" && block.words.iter().all(|word| matches!(word.as_str(), "client" | "until"))
}

/// See the module. Fields end in order.
#[derive(Debug)]
pub struct Stage {
    gateway: Shell,
    client: Shell,
    _backends: Vec<Running>,
    _lab: Lab,
    directory: TempDir,
}

/// A backend, held.
#[derive(Debug)]
#[expect(dead_code, reason = "held until the stage ends")]
enum Running {
    Http(Backend),
    Bytes(Server),
}

impl Stage {
    /// Makes it, with the backends that the page's documents want.
    #[track_caller]
    pub fn new(page: &Page) -> Self {
        let lab = Lab::new(1).expect("namespaces");
        let directory = tempfile::Builder::new().prefix("sluice-page-").tempdir().expect("a directory");
        fs::create_dir(directory.path().join(DOCUMENTS)).expect("a directory");
        // A terminal has no progress of curl's between lines.
        fs::write(directory.path().join(".curlrc"), "silent\nshow-error\nmax-time = 20\n").expect("writing");
        let (slices, backends) = backends(page, &lab, directory.path());
        fs::write(directory.path().join(DOCUMENTS).join("endpoints.yaml"), slices).expect("writing");
        let gateway = Shell::start(&lab.gateway.path(), directory.path(), "gateway");
        let client = Shell::start(&lab.client.path(), directory.path(), "client");
        Self { gateway, client, _backends: backends, _lab: lab, directory }
    }

    /// Writes a file of the page's, and waits until a gateway that runs has it in force.
    #[track_caller]
    fn save(&mut self, block: &Block) {
        let path = self.directory.path().join(block.file().expect("its name"));
        let before = self.gateway.generation();
        let hidden = path.with_extension("begun");
        fs::write(&hidden, &block.text).expect("writing a document");
        fs::rename(hidden, path).expect("renaming a document");
        // What is refused changes nothing.
        if let Some(before) = before.filter(|_| !block.is("broken")) {
            self.wait_for_change(before);
        }
    }

    #[track_caller]
    fn wait_for_change(&mut self, before: u64) {
        let is_newer = |now: u64| now > before;
        wait::until("a new generation", || self.gateway.generation().filter(|now| is_newer(*now)).map(drop));
    }

    #[track_caller]
    fn play(&mut self, page: &Page, block: &Block, shown: Option<&str>) {
        let place = page.at(block.line);
        let text = block.text.as_str();
        let before = writes_documents(text).then(|| self.gateway.generation()).flatten();
        let shell = if block.is("client") { &mut self.client } else { &mut self.gateway };
        let fits = |said: &Said| said.code == 0 && shown.is_none_or(|shown| is_as_shown(shown, &said.text));
        let mut said = shell.type_in(text, &place);
        if block.is("until") && !fits(&said) {
            let _ = wait::within(wait::PATIENCE, || {
                said = shell.type_in(text, &place);
                fits(&said).then_some(())
            });
        }
        // For whoever writes a page: with `--nocapture`, what could stand there.
        println!("── {place}\n{text}{}", said.text);
        assert!(
            fits(&said),
            "{place}:\n{text}\nended with {} and said:\n{}\nshown is:\n{}\nthe gateway:\n{}",
            said.code,
            said.text,
            shown.unwrap_or("nothing"),
            self.gateway.everything()
        );
        if starts_gateway(text) {
            self.gateway.wait_until_ready(&place);
        } else if let Some(before) = before {
            self.wait_for_change(before);
        }
    }

    /// All documents of a page together have nothing wrong with them, unless it says so itself.
    #[track_caller]
    fn expect_sound(&mut self, page: &Page) {
        if page.blocks.iter().any(|block| block.is("broken")) {
            return;
        }
        let said = self.gateway.type_in(&format!("sluice check {DOCUMENTS}"), &page.name);
        let last = said.text.lines().last().unwrap_or_default();
        assert!(
            said.code == 0 && last.ends_with(" 0 errors, 0 warnings"),
            "{}: its documents are not sound:\n{}",
            page.name,
            said.text
        );
    }
}

/// Whether a command changes the files that a running gateway reads.
fn writes_documents(text: &str) -> bool {
    text.contains("> documents/") || text.contains("rm documents/")
}

fn starts_gateway(text: &str) -> bool {
    commands(text)
        .iter()
        .any(|words| matches!(words.as_slice(), [first, second, ..] if first == "sluice" && second == "run"))
}

/// `PATH` of a reader: with `sluice`, and with the `kubectl` that `cargo xtask setup` makes.
pub fn path() -> String {
    let directories = [program(), tool("kube/kubectl")].map(|program| program.parent().map(Path::to_owned));
    let own: Vec<_> = directories.iter().flatten().map(|directory| directory.display().to_string()).collect();
    format!("{}:{}", own.join(":"), std::env::var("PATH").unwrap_or_default())
}

/// What was said, and the status of the last command.
#[derive(Debug)]
struct Said {
    code: i32,
    text: String,
}

/// A shell that is told what to run by files, so that variables and jobs last from block to block. It and all of its
/// children end with it.
#[derive(Debug)]
struct Shell {
    child: Child,
    directory: PathBuf,
    name: &'static str,
    number: usize,
}

/// Reads names of scripts, runs each in the shell itself, and says when it is done.
const LOOP: &str = "mount -t tmpfs tmpfs /run && { mount -t bpf bpf /sys/fs/bpf || true; } && \
     while read -r n; do . \"$HOME/$n.sh\" > \"$HOME/$n.out\" 2>&1 < /dev/null; echo $? > \"$HOME/$n.code\"; done";

impl Shell {
    fn start(namespace: &Path, directory: &Path, name: &'static str) -> Self {
        let path = path();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", namespace.display()));
        command.args(["--", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["bash", "-c", LOOP]).current_dir(directory).env("HOME", directory);
        command.env("PATH", path).env("NO_PROXY", "*").env("NO_COLOR", "1");
        let child = command.stdin(Stdio::piped()).spawn().expect("unshare, of util-linux");
        Self { child, directory: directory.to_owned(), name, number: 0 }
    }

    #[track_caller]
    fn type_in(&mut self, text: &str, place: &str) -> Said {
        use std::io::Write as _;
        let name = format!(".{}-{}", self.name, self.number);
        self.number += 1;
        let path = |ending: &str| self.directory.join(format!("{name}.{ending}"));
        fs::write(path("sh"), text).expect("writing a script");
        let input = self.child.stdin.as_mut().expect("it is piped");
        writeln!(input, "{name}").unwrap_or_else(|error| panic!("{place}: the shell has ended: {error}"));
        let code =
            wait::within(wait::PATIENCE * 2, || fs::read_to_string(path("code")).ok()?.trim().parse().ok());
        let said = fs::read_to_string(path("out")).unwrap_or_default();
        let code = code.unwrap_or_else(|| panic!("{place}: no end of\n{text}\nwhich has said:\n{said}"));
        Said { code, text: said }
    }

    /// What is asked of the gateway that runs on the stage, if one does.
    fn generation(&mut self) -> Option<u64> {
        let said = self.type_in("sluice status --json", "the generation");
        let status: Value = serde_json::from_str(&said.text).ok().filter(|_| said.code == 0)?;
        status["generation"].as_u64()
    }

    #[track_caller]
    fn wait_until_ready(&mut self, place: &str) {
        let ready = wait::within(wait::PATIENCE, || {
            let said = self.type_in("sluice ready", place);
            (said.code == 0).then_some(())
        });
        assert!(ready.is_some(), "{place}: the gateway is not ready:\n{}", self.everything());
    }

    /// All that was said, for people.
    fn everything(&self) -> String {
        let read = |number: &usize| {
            fs::read_to_string(self.directory.join(format!(".{}-{number}.out", self.name)))
                .unwrap_or_default()
        };
        let texts: BTreeSet<String> = (0..self.number).map(|number| read(&number)).collect();
        texts.into_iter().filter(|text| !text.starts_with('{')).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // `unshare` ends its child, the first of its processes, and all others end with that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Backends for the ports of Services that have no endpoints, and the documents that name them.
fn backends(page: &Page, lab: &Lab, directory: &Path) -> (String, Vec<Running>) {
    let objects: Vec<Value> = page
        .blocks_of("yaml")
        .filter(|block| block.file().is_some() && !block.is("broken"))
        .flat_map(|block| serde_saphyr::from_multiple::<Value>(&block.text).expect("YAML"))
        .collect();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let with_endpoints: BTreeSet<String> = objects
        .iter()
        .filter(|object| object["kind"] == "EndpointSlice")
        .map(|object| text(&object["metadata"]["labels"]["kubernetes.io/service-name"]))
        .collect();
    let seals = Seals::new(&objects, directory);
    let (mut slices, mut running) = (BTreeMap::new(), Vec::new());
    for service in objects.iter().filter(|object| object["kind"] == "Service") {
        let name = text(&service["metadata"]["name"]);
        if with_endpoints.contains(&name) || name == "istio-ingressgateway" {
            continue;
        }
        let namespace = service["metadata"]["namespace"].as_str().unwrap_or("default");
        for (index, port) in service["spec"]["ports"].as_array().into_iter().flatten().enumerate() {
            let port_name = text(&port["name"]);
            let place = place(lab, 0);
            let (backend, endpoint) = start(&name, &port_name, place, &seals);
            running.push(backend);
            let slice = Slice { namespace, service: &name, index, port_name: &port_name, endpoint };
            slices.insert((name.clone(), index), endpoint_slice(&slice));
        }
    }
    running.extend(entries(&objects, lab, &seals));
    let none = "# Endpoints of the backends.\n".to_owned();
    (slices.into_values().fold(none, |all, slice| all + &slice), running)
}

/// Backends of ServiceEntries at the backends' address.
fn entries(objects: &[Value], lab: &Lab, seals: &Seals) -> Vec<Running> {
    let own = lab.backend_address(Family::V4, 0).to_string();
    let mut running = Vec::new();
    for entry in objects.iter().filter(|object| object["kind"] == "ServiceEntry") {
        let spec = &entry["spec"];
        let endpoints = spec["endpoints"].as_array().into_iter().flatten();
        if !endpoints.into_iter().any(|endpoint| endpoint["address"] == *own) {
            continue;
        }
        for port in spec["ports"].as_array().into_iter().flatten() {
            let number = port["targetPort"].as_u64().or(port["number"].as_u64()).unwrap_or_default() as u16;
            let (name, kind) = (spec["hosts"][0].as_str().unwrap_or_default(), port["name"].as_str());
            running.push(start(name, kind.unwrap_or_default(), place(lab, number), seals).0);
        }
    }
    running
}

fn place(lab: &Lab, port: u16) -> Place {
    Place::within(&lab.backends[0], SocketAddr::new(lab.backend_address(Family::V4, 0), port))
}

fn start(name: &str, port_name: &str, place: Place, seals: &Seals) -> (Running, SocketAddr) {
    let protocol = port_name.split('-').next().unwrap_or_default();
    if port_name == "http-websocket" {
        let server = websocket::start(place);
        let address = server.address;
        return (Running::Bytes(server), address);
    }
    match protocol {
        "http" => of_http(Backend::start(name, Version::Http1, place)),
        "http2" | "grpc" => of_http(Backend::start(name, Version::Http2, place)),
        "https" | "tls" => of_http(Backend::tls(name, seals.config(), place)),
        _ => {
            let server = echo::start(name, place);
            let address = server.address;
            (Running::Bytes(server), address)
        }
    }
}

fn of_http(backend: Backend) -> (Running, SocketAddr) {
    let address = backend.server.address;
    (Running::Http(backend), address)
}

/// What backends that end TLS show: a certificate for all names that the page's rules pass through, and those of its
/// DestinationRules. Their authority's is beside the documents.
struct Seals {
    authority: Authority,
    names: Vec<String>,
}

impl Seals {
    fn new(objects: &[Value], directory: &Path) -> Self {
        let mut names = BTreeSet::new();
        for object in objects {
            let routes = object["spec"]["tls"].as_array().into_iter().flatten();
            let matches = routes.flat_map(|route| route["match"].as_array().into_iter().flatten());
            let hosts = matches.flat_map(|it| it["sniHosts"].as_array().into_iter().flatten());
            names.extend(hosts.filter_map(Value::as_str).map(str::to_owned));
            names.extend(object["spec"]["trafficPolicy"]["tls"]["sni"].as_str().map(str::to_owned));
        }
        let authority = Authority::new("the backends'");
        fs::write(directory.join("backends-ca.pem"), authority.certificate()).expect("writing");
        Self { authority, names: names.into_iter().collect() }
    }

    fn config(&self) -> std::sync::Arc<rustls::ServerConfig> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        server_config(&self.authority.issue(&names))
    }
}
