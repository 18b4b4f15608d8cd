//! Cases as they are written.

use std::collections::BTreeMap;
use std::net::IpAddr;

use gateway_userspace::model::explain::Question;
use gateway_userspace::model::{GatewayIdentity, PathForm};

use crate::made;

/// Documents, and what is expected of them.
#[derive(Debug, Default)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Of the file.
    pub(crate) line: usize,
    pub(crate) identity: GatewayIdentity,
    pub(crate) documents: String,
    /// As written, with the answer expected.
    pub(crate) calls: Vec<(String, String)>,
    pub(crate) findings: Vec<String>,
}

impl Case {
    /// Those of a file.
    pub(crate) fn all(text: &str) -> Vec<Self> {
        let mut cases: Vec<Self> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            if let Some(name) = line.strip_prefix("# === ") {
                cases.push(Self { name: name.to_owned(), line: at + 1, ..Self::default() });
            } else if let Some(case) = cases.last_mut() {
                case.read(line);
            }
        }
        cases
    }

    fn read(&mut self, line: &str) {
        if let Some(call) = line.strip_prefix("# ? ") {
            let (call, answer) = call.split_once(" => ").unwrap_or_else(|| panic!("no answer in {line}"));
            self.calls.push((call.trim().to_owned(), answer.trim().to_owned()));
        } else if let Some(finding) = line.strip_prefix("# ! ") {
            self.findings.push(finding.to_owned());
        } else if let Some(words) = line.strip_prefix("# + ") {
            self.documents += &made::documents(words);
        } else if let Some(words) = line.strip_prefix("# @ ") {
            self.identity = identity(words);
        } else {
            self.documents += line;
            self.documents.push('\n');
        }
    }
}

fn identity(words: &str) -> GatewayIdentity {
    let mut labels = BTreeMap::new();
    let mut identity = GatewayIdentity::default();
    for (name, value) in words.split(' ').filter_map(|word| word.split_once('=')) {
        match name {
            "namespace" => value.clone_into(&mut identity.namespace),
            "root" => value.clone_into(&mut identity.root_namespace),
            "domain" => value.clone_into(&mut identity.domain),
            "scoped" => identity.own_gateways_only = true,
            _ => drop(labels.insert(name.to_owned(), value.to_owned())),
        }
    }
    if !labels.is_empty() {
        identity.labels = labels;
    }
    identity
}

/// A call as a question.
pub(crate) fn question(call: &str) -> Question {
    let mut words = call.split(' ').filter(|word| !word.is_empty());
    let url = words.next().expect("a URL");
    let (scheme, rest) = url.split_once("://").unwrap_or_else(|| panic!("no scheme in {call}"));
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (host, port) = authority.rsplit_once(':').unwrap_or_else(|| panic!("no port in {call}"));
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let tls = scheme == "https";
    let mut question = Question {
        port: port.parse().unwrap_or_else(|_| panic!("no port in {call}")),
        tls,
        sni: tls.then(|| host.to_owned()).filter(|host| host.parse::<IpAddr>().is_err()),
        method: "GET".to_owned(),
        authority: host.to_owned(),
        path: PathForm::Base.of(path).expect("a path").into_owned(),
        query: query.map(str::to_owned),
        ..Question::default()
    };
    for (name, value) in words.map(|word| word.split_once('=').unwrap_or_else(|| panic!("{word} in {call}")))
    {
        match name {
            "sni" => question.sni = Some(value.to_owned()).filter(|name| !name.is_empty()),
            "to" => question.address = Some(value.parse().expect("an address")),
            "method" => value.clone_into(&mut question.method),
            "host" => value.clone_into(&mut question.authority),
            _ => question.headers.push((name.to_owned(), value.to_owned())),
        }
    }
    question
}
