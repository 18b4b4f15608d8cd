//! What becomes of requests, a table: `tests/data/exchanges` has one site's documents and files of cases, each a request,
//! what its client gets and what its backend has seen. The answers are those of Istio's gateway. A case is a line:
//!
//! ```text
//! GET a.test/x?y [x-a: 1] {body}  -> 200 =shop <POST /x> <x-a: 1> <!x-b> [location: …] [!server] "text"
//! h2 GET a.test/x                 -> 404 ""
//! raw "GET / HTTP/1.0\r\n\r\n"    -> 426 "Upgrade Required"
//! ```
//!
//! On the left: `h2` for HTTP/2, `:$HTTP2` for the site's other port, a method, host and target (`host|target` for one without
//! a slash), headers in brackets, a body in braces; or the bytes themselves. On the right: the status, the backend that was asked
//! (none without it), its request line and headers in angle brackets, the response's headers in brackets, the body in quotes.
//! Lines of a header are joined with commas, `!` is absence. `== words` says what the cases below are about.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use harness::backend::{Backend, Version};
use harness::gateway::Gateway;
use harness::serve::Place;
use harness::{client, port};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;

/// Requests under way at a time.
const AT_ONCE: usize = 8;

/// What stands for what is known only when the test runs.
struct Site {
    words: Vec<(&'static str, String)>,
    ports: [SocketAddr; 2],
    _gateway: Gateway,
    _backends: [Backend; 4],
}

/// A line's parts by what they stand between.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Square(String),
    Angle(String),
    Brace(String),
    Quoted(String),
}

struct Case {
    place: String,
    line: String,
    left: Vec<Token>,
    right: Vec<Token>,
}

/// What a client gets, lines of a header joined with commas.
#[derive(Debug, Default)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

#[test]
fn requests_become_what_they_become_at_istios_gateway() {
    let site = Site::start();
    let cases = cases(&site);
    assert!(cases.len() > 500, "{} cases: some file was not read", cases.len());
    // Most of a case's time is waiting.
    let wrong: String = std::thread::scope(|scope| {
        let parts = cases.chunks(cases.len().div_ceil(AT_ONCE));
        let threads: Vec<_> = parts.map(|part| scope.spawn(|| faults(&site, part))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a case that can be asked")).collect()
    });
    assert!(wrong.is_empty(), "of {} cases:\n{wrong}", cases.len());
}

/// What is wrong with some cases, for people.
fn faults(site: &Site, cases: &[Case]) -> String {
    let mut wrong = String::new();
    for case in cases {
        let differences = differences(&case.right, &site.ask(case));
        if !differences.is_empty() {
            let _ = writeln!(wrong, "{}: {}\n    {}", case.place, case.line, differences.join("\n    "));
        }
    }
    wrong
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/exchanges")
}

impl Site {
    fn start() -> Self {
        let backends = [
            Backend::http("shop"),
            Backend::http("other"),
            Backend::http("third"),
            Backend::start("calls", Version::Http2, Place::loopback()),
        ];
        let [shop, other, third, calls] = backends.each_ref().map(|backend| backend.server.address.port());
        let [first, second, dead] = [(); 3].map(|()| port::free());
        let words = [
            // The longer ones first: `$HTTP` begins `$HTTP2`.
            ("$HTTP2", second),
            ("$HTTP", first),
            ("$SHOP", shop),
            ("$OTHER", other),
            ("$THIRD", third),
            ("$CALLS", calls),
            ("$DEAD", dead),
        ];
        let mut words: Vec<_> = words.map(|(word, port)| (word, port.to_string())).into();
        words.push(("$CLIENT", "127.0.0.1".to_owned()));
        let documents = std::fs::read_to_string(directory().join("site.yaml")).expect("the documents");
        let gateway = Gateway::arrange().document("site", &replaced(&documents, &words)).start();
        let ports = [gateway.at(first), gateway.at(second)];
        Self { words, ports, _gateway: gateway, _backends: backends }
    }

    fn ask(&self, case: &Case) -> Answer {
        let mut left = case.left.as_slice();
        let (mut is_h2, mut address) = (false, self.ports[0]);
        while let [Token::Word(word), rest @ ..] = left {
            match word.as_str() {
                "h2" => is_h2 = true,
                word if word.starts_with(':') => address = self.ports[1],
                _ => break,
            }
            left = rest;
        }
        match left {
            [Token::Word(raw), Token::Quoted(text)] if raw == "raw" => {
                ask_raw(address, text.as_bytes(), text.starts_with("HEAD "))
            }
            [Token::Word(method), Token::Word(target), fields @ ..] => {
                let (host, path) = host_and_path(target);
                let agent = ("user-agent".to_owned(), case.place.clone());
                let headers: Vec<_> = fields.iter().filter_map(header).chain([agent]).collect();
                let body = fields.iter().find_map(|token| match token {
                    Token::Brace(body) => Some(body.as_str()),
                    _ => None,
                });
                if is_h2 {
                    return ask_h2(address, (method, host, path), &headers, body.unwrap_or_default());
                }
                let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
                for (name, value) in &headers {
                    let _ = write!(text, "{name}: {value}\r\n");
                }
                if let Some(body) = body {
                    let _ = write!(text, "content-length: {}\r\n", body.len());
                }
                let _ = write!(text, "\r\n{}", body.unwrap_or_default());
                ask_raw(address, text.as_bytes(), method == "HEAD")
            }
            _ => panic!("{}: no request: {}", case.place, case.line),
        }
    }
}

fn host_and_path(target: &str) -> (&str, &str) {
    let (host, path) = target.split_at(target.find(['/', '\\', '|']).expect("a target behind the host"));
    (host, path.strip_prefix('|').unwrap_or(path))
}

fn header(token: &Token) -> Option<(String, String)> {
    let Token::Square(text) = token else { return None };
    let (name, value) = text.split_once(':').expect("a name and a value");
    Some((name.to_owned(), value.strip_prefix(' ').unwrap_or(value).to_owned()))
}

fn replaced(text: &str, words: &[(&str, String)]) -> String {
    words.iter().fold(text.to_owned(), |text, (word, with)| text.replace(word, with))
}

fn cases(site: &Site) -> Vec<Case> {
    let entries = std::fs::read_dir(directory()).expect("the directory of cases");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let mut cases = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|ending| ending == "cases")) {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(file).expect("cases");
        for (at, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') || line.starts_with("==") {
                continue;
            }
            let line = replaced(line, &site.words);
            let place = format!("{name}:{}", at + 1);
            let (left, right) = line.split_once(" -> ").unwrap_or_else(|| panic!("{place}: no arrow"));
            let (left, right) = (tokens(left), tokens(right));
            cases.push(Case { place, line, left, right });
        }
    }
    cases
}

fn tokens(line: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let closing = match first {
            '"' => Some('"'),
            '[' => Some(']'),
            '<' => Some('>'),
            '{' => Some('}'),
            _ => None,
        };
        let Some(closing) = closing else {
            let end = rest.find(' ').unwrap_or(rest.len());
            tokens.push(Token::Word(unescaped(&rest[..end])));
            rest = rest[end..].trim_start();
            continue;
        };
        let inner = &rest[1..];
        let end = end_of(inner, closing).unwrap_or_else(|| panic!("nothing closes {rest}"));
        let text = unescaped(&inner[..end]);
        tokens.push(match first {
            '"' => Token::Quoted(text),
            '[' => Token::Square(text),
            '<' => Token::Angle(text),
            _ => Token::Brace(text),
        });
        rest = inner[end + 1..].trim_start();
    }
    tokens
}

/// Where the closing sign is that no backslash stands before.
fn end_of(text: &str, closing: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, next)| {
        let ends = next == closing && !escaped;
        escaped = next == '\\' && !escaped;
        ends.then_some(at)
    })
}

/// `\r`, `\n`, `\t`; any other sign behind a backslash stands for itself.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        out.push(match next {
            '\\' => match rest.next() {
                Some('r') => '\r',
                Some('n') => '\n',
                Some('t') => '\t',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    out
}

/// Sends bytes and reads one response.
fn ask_raw(address: SocketAddr, bytes: &[u8], is_head: bool) -> Answer {
    let mut stream = client::connect(address);
    // The gateway may answer, and close, before it has read all.
    let _ = stream.write_all(bytes);
    let mut read = Vec::new();
    let mut block = [0; 16 * 1024];
    loop {
        if let Some(answer) = parse(&read, is_head) {
            return answer;
        }
        match stream.read(&mut block) {
            Ok(length @ 1..) => read.extend_from_slice(&block[..length]),
            ended => panic!(
                "{ended:?} after {:?} to {:?}",
                String::from_utf8_lossy(&read),
                String::from_utf8_lossy(bytes)
            ),
        }
    }
}

/// A whole response (RFC 9112, 6.3), or none yet.
fn parse(read: &[u8], is_head: bool) -> Option<Answer> {
    let text = String::from_utf8_lossy(read);
    let (head, rest) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut answer = Answer { status, ..Answer::default() };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        answer.add(name, value.trim());
    }
    if is_head || matches!(status, 204 | 304) {
        return Some(answer);
    }
    answer.body = match answer.header("content-length") {
        Some(length) => rest.get(..length.parse().ok()?)?.to_owned(),
        None => unchunked(rest)?,
    };
    Some(answer)
}

fn unchunked(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, behind) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(behind.get(..size)?);
        rest = behind.get(size + 2..)?;
    }
}

fn ask_h2(
    address: SocketAddr,
    (method, host, path): (&str, &str, &str),
    headers: &[(String, String)],
    body: &str,
) -> Answer {
    let uri = format!("http://{host}{path}");
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).expect("a request");
    let exchange = async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let shake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, driver) = shake.await.expect("a handshake");
        tokio::spawn(driver);
        let (head, body) = sender.send_request(request).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        let mut answer = Answer { status: head.status.as_u16(), ..Answer::default() };
        for (name, value) in &head.headers {
            answer.add(name.as_str(), &String::from_utf8_lossy(value.as_bytes()));
        }
        answer.body = String::from_utf8_lossy(&body).into_owned();
        answer
    };
    client::runtime()
        .block_on(async { tokio::time::timeout(client::LIMIT, exchange).await.expect("in time") })
}

impl Answer {
    fn add(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        match self.headers.iter_mut().find(|(known, _)| *known == name) {
            Some((_, lines)) => lines.extend([",", value]),
            None => self.headers.push((name, value.to_owned())),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What is otherwise than a case says, in words.
fn differences(right: &[Token], answer: &Answer) -> Vec<String> {
    let seen: Option<Value> =
        serde_json::from_str(&answer.body).ok().filter(|seen: &Value| seen.get("backend").is_some());
    let mut wrong = Vec::new();
    let mut backend = None;
    for token in right {
        let (what, want, found) = match token {
            Token::Word(word) => match word.strip_prefix('=') {
                Some(name) => {
                    backend = Some(name);
                    continue;
                }
                None => ("status", Some(word.clone()), Some(answer.status.to_string())),
            },
            Token::Quoted(body) => ("body", Some(body.clone()), Some(answer.body.clone())),
            Token::Square(text) => {
                let (name, want) = expected(text);
                (name, want, answer.header(name).map(str::to_owned))
            }
            Token::Angle(text) if text.contains(" /") && !text.contains(": ") => {
                let line = |seen: &Value| {
                    format!(
                        "{} {}",
                        seen["method"].as_str().unwrap_or(""),
                        seen["path"].as_str().unwrap_or("")
                    )
                };
                ("the backend's request line", Some(text.clone()), seen.as_ref().map(line))
            }
            Token::Angle(text) => {
                let (name, want) = expected(text);
                let of = |seen: &Value| match name {
                    "host" => seen["host"].as_str().map(str::to_owned),
                    name => seen["headers"][name].as_str().map(str::to_owned),
                };
                (name, want, seen.as_ref().and_then(of))
            }
            Token::Brace(text) => panic!("a body in braces on the right: {text}"),
        };
        if want != found {
            wrong.push(format!("{what}: expected {want:?}, found {found:?}"));
        }
    }
    if !wrong.is_empty() && seen.is_none() {
        wrong.push(format!("the answer says {:?}", answer.body));
    }
    let asked = seen.as_ref().and_then(|seen| seen["backend"].as_str());
    if backend != asked {
        wrong.push(format!("backend: expected {backend:?}, found {asked:?}"));
    }
    wrong
}

/// `name: value`, or `!name`.
fn expected(text: &str) -> (&str, Option<String>) {
    if let Some(name) = text.strip_prefix('!') {
        return (name, None);
    }
    let (name, value) = text.split_once(':').expect("a name and a value");
    (name, Some(value.strip_prefix(' ').unwrap_or(value).to_owned()))
}
