//! A real browser without a window, Debian's chromium-headless-shell, driven by its DevTools protocol over a pair of pipes: no port is
//! opened, and what it keeps goes with it. All that a page asks the network for, and all that it complains about, is noted.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::namespace::Namespace;
use crate::wait;

const PROGRAM: &str = "chromium-headless-shell";
/// The protocol's pipes are descriptors 3 and 4; a shell moves them there.
const PIPES: &str = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null";
/// No company for the page: no updates, no extensions, no other process that asks for something. Root has no sandbox of its
/// own, and what is shown is ours.
const FLAGS: &[&str] = &[
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
];

/// A running browser. Ended, and its profile removed, when dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    wire: Arc<Wire>,
    profile: TempDir,
}

#[derive(Debug)]
struct Wire {
    to: Mutex<ChildStdin>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Sender<Value>>>,
    events: Mutex<Vec<Value>>,
}

/// A tab, and what was seen of it.
#[derive(Debug)]
pub struct Page<'a> {
    browser: &'a Browser,
    session: String,
}

/// A key of the keyboard: its name, and its number for those who still look at that.
#[derive(Debug, Clone, Copy)]
pub struct Key(&'static str, u32, &'static str);

impl Key {
    /// Moves the focus.
    pub const TAB: Self = Self("Tab", 9, "");
    /// Presses a button.
    pub const ENTER: Self = Self("Enter", 13, "\r");
    /// Leaves.
    pub const ESCAPE: Self = Self("Escape", 27, "");
    /// To the right.
    pub const RIGHT: Self = Self("ArrowRight", 39, "");
    /// To the first.
    pub const HOME: Self = Self("Home", 36, "");
    /// To the last.
    pub const END: Self = Self("End", 35, "");
}

impl Browser {
    /// Starts one.
    #[track_caller]
    pub fn start() -> Self {
        Self::run(Command::new("sh"))
    }

    /// Starts one in a namespace.
    #[track_caller]
    pub fn within(namespace: &Namespace) -> Self {
        Self::run(namespace.command("sh"))
    }

    #[track_caller]
    fn run(mut shell: Command) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program =
            std::env::split_paths(&path).map(|directory| directory.join(PROGRAM)).find(|it| it.is_file());
        let Some(program) = program else {
            panic!("no {PROGRAM}: `cargo xtask setup` installs it, or `apt-get install {PROGRAM}`");
        };
        let profile = tempfile::Builder::new().prefix("sluice-browser-").tempdir().expect("a directory");
        let log = std::fs::File::create(profile.path().join("log")).expect("a log file");
        let mut child = shell
            .arg("-c")
            .arg(PIPES)
            .arg(program)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("starting the browser");
        let to = child.stdin.take().expect("a pipe");
        let from = child.stdout.take().expect("a pipe");
        let wire = Arc::new(Wire {
            to: Mutex::new(to),
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
            events: Mutex::default(),
        });
        let hearing = wire.clone();
        // It ends with the browser, whose pipe closes.
        std::thread::spawn(move || hearing.hear(from));
        Self { child, wire, profile }
    }

    /// Opens an empty tab.
    #[track_caller]
    pub fn page(&self) -> Page<'_> {
        let target = self.wire.call(None, "Target.createTarget", &json!({ "url": "about:blank" }));
        let attached = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.wire.call(None, "Target.attachToTarget", &attached);
        let session = attached["sessionId"].as_str().expect("a session").to_owned();
        let page = Page { browser: self, session };
        for domain in ["Page", "Runtime", "Network", "Log", "Accessibility"] {
            page.call(&format!("{domain}.enable"), &json!({}));
        }
        page.resize(1280, 800);
        page
    }

    /// What it said of itself, for failures.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.profile.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends its own children when it is asked to.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let ended = wait::within(wait::PATIENCE, || self.child.try_wait().ok().flatten());
        if ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the browser said:\n{}---", self.log());
        }
    }
}

impl Wire {
    fn hear(&self, from: ChildStdout) {
        for message in BufReader::new(from).split(0) {
            let Ok(message) = message else { return };
            let Ok(message) = serde_json::from_slice::<Value>(&message) else { continue };
            match message["id"].as_u64() {
                Some(id) => {
                    let waiting = unpoisoned(&self.waiting).remove(&id);
                    // Whoever asked may have given up.
                    drop(waiting.map(|waiting| waiting.send(message)));
                }
                None => unpoisoned(&self.events).push(message),
            }
        }
    }

    #[track_caller]
    fn call(&self, session: Option<&str>, method: &str, parameters: &Value) -> Value {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer): (_, Receiver<Value>) = channel();
        unpoisoned(&self.waiting).insert(id, sender);
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        unpoisoned(&self.to).write_all(&bytes).expect("the browser listens");
        let answer = answer.recv_timeout(wait::PATIENCE);
        let mut answer = answer.unwrap_or_else(|_| panic!("the browser does not answer {method}"));
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].take()
    }
}

fn unpoisoned<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Page<'_> {
    /// Says something of the protocol to the tab.
    #[track_caller]
    pub fn call(&self, method: &str, parameters: &Value) -> Value {
        self.browser.wire.call(Some(&self.session), method, parameters)
    }

    /// Goes to an address and waits until the page is loaded.
    #[track_caller]
    pub fn open(&self, url: &str) {
        let before = self.count("Page.loadEventFired");
        let gone = self.call("Page.navigate", &json!({ "url": url }));
        assert!(gone["errorText"].is_null(), "{url}: {gone}");
        wait::until("the page to be loaded", || (self.count("Page.loadEventFired") > before).then_some(()));
    }

    /// The value of an expression, once it is one.
    #[track_caller]
    pub fn evaluate(&self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", &asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].take()
    }

    /// Waits until an expression is neither false nor nothing, and returns it.
    #[track_caller]
    pub fn until(&self, what: &str, expression: &str) -> Value {
        let is_there = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && *value != "";
        let found = wait::within(wait::PATIENCE, || Some(self.evaluate(expression)).filter(is_there));
        found.unwrap_or_else(|| {
            panic!("waited {:?} for {what}; the page shows:\n{}", wait::PATIENCE, self.text())
        })
    }

    /// What people see of the page.
    #[track_caller]
    pub fn text(&self) -> String {
        self.evaluate("document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Presses a key.
    #[track_caller]
    pub fn press(&self, Key(name, number, text): Key) {
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let stroke = json!({
                "type": kind, "key": name, "code": name, "windowsVirtualKeyCode": number, "text": text,
            });
            self.call("Input.dispatchKeyEvent", &stroke);
        }
    }

    /// Types into what has the focus.
    #[track_caller]
    pub fn type_text(&self, text: &str) {
        self.call("Input.insertText", &json!({ "text": text }));
    }

    /// Another size of the window, in pixels of CSS.
    #[track_caller]
    pub fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// What the system prefers: `light` or `dark`.
    #[track_caller]
    pub fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Controls and figures that the accessibility tree has no name for: their roles.
    #[track_caller]
    pub fn nameless(&self) -> Vec<String> {
        const NAMED: [&str; 14] = [
            "button",
            "checkbox",
            "combobox",
            "form",
            "image",
            "link",
            "meter",
            "navigation",
            "region",
            "searchbox",
            "tab",
            "table",
            "tabpanel",
            "textbox",
        ];
        let tree = self.call("Accessibility.getFullAXTree", &json!({}));
        let nodes = tree["nodes"].as_array().expect("a tree").iter().filter(|node| node["ignored"] != true);
        let nameless = nodes.filter_map(|node| {
            let role = node["role"]["value"].as_str()?;
            let name = node["name"]["value"].as_str().unwrap_or_default().trim();
            (NAMED.contains(&role) && name.is_empty()).then(|| format!("{role}: {node}"))
        });
        nameless.collect()
    }

    /// The window as a PNG.
    #[track_caller]
    pub fn picture(&self) -> Vec<u8> {
        let taken =
            self.call("Page.captureScreenshot", &json!({ "format": "png", "optimizeForSpeed": false }));
        STANDARD.decode(taken["data"].as_str().expect("a picture")).expect("base64")
    }

    /// All addresses that the page has asked for.
    pub fn requested(&self) -> Vec<String> {
        let url = |event: &Value| event["params"]["request"]["url"].as_str().map(str::to_owned);
        self.events("Network.requestWillBeSent").iter().filter_map(url).collect()
    }

    /// What went wrong: exceptions, errors and warnings of the console, violations of the content security policy among
    /// them, and whatever could not be loaded.
    pub fn complaints(&self) -> Vec<Value> {
        let said = self.events("Runtime.consoleAPICalled").into_iter();
        let said =
            said.filter(|it| matches!(it["params"]["type"].as_str(), Some("error" | "warning" | "assert")));
        let logged = self.events("Log.entryAdded").into_iter();
        let logged =
            logged.filter(|it| matches!(it["params"]["entry"]["level"].as_str(), Some("error" | "warning")));
        let thrown = self.events("Runtime.exceptionThrown");
        let failed = self.events("Network.loadingFailed").into_iter();
        // A page that is left lets go of what it was asking for.
        let failed = failed.filter(|it| it["params"]["canceled"] != true);
        said.chain(logged).chain(thrown).chain(failed).collect()
    }

    fn count(&self, method: &str) -> usize {
        self.events(method).len()
    }

    fn events(&self, method: &str) -> Vec<Value> {
        let events = unpoisoned(&self.browser.wire.events);
        let own = events.iter().filter(|it| it["method"] == method && it["sessionId"] == *self.session);
        own.cloned().collect()
    }
}

/// What must hold of a page once it was used: it asked nobody but `own`, the beginning of addresses, and complained of nothing.
#[track_caller]
pub fn expect_quiet(page: &Page<'_>, own: &str) {
    let strangers: Vec<_> = page.requested().into_iter().filter(|url| !url.starts_with(own)).collect();
    assert_eq!(strangers, Vec::<String>::new());
    assert_eq!(page.complaints(), Vec::<Value>::new());
}
