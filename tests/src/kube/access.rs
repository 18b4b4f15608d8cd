//! Who may ask an API server, and how they show who they are.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::authority::{Authority, Identity};
use crate::kube::api::Api;
use crate::kube::seat::{self, Seat};
use crate::tls::TlsClient;

/// In certificates, and asked for by clients of ours.
const NAME: &str = "localhost";
/// May do anything.
const ADMINISTRATORS: &str = "system:masters";

/// Somebody whom RBAC knows.
#[derive(Debug, Clone, Copy)]
pub enum User<'a> {
    /// By a certificate in this name, which bindings have, too.
    Person(&'a str),
    /// By a token of an hour.
    ServiceAccount {
        /// Where the account is, which must be there.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Access {
    authority: Authority,
    administrator: Identity,
    directory: PathBuf,
    /// The authority's certificate.
    trusted: PathBuf,
    seat: Seat,
}

impl Access {
    /// Makes all that an API server has to show and to verify, below a directory.
    pub(super) fn new(directory: &Path, seat: &Seat) -> Self {
        let authority = Authority::new("kubernetes");
        let trusted = authority.write(directory);
        let address = seat.address().to_string();
        let names = [NAME, &address, seat::SERVICE, "kubernetes.default.svc"];
        put(directory, "api-server", &authority.issue(&names));
        put(directory, "service-accounts", &authority.issue(&["service-accounts"]));
        let administrator = authority.issue_to("administrator", Some(ADMINISTRATORS));
        Self { authority, administrator, directory: directory.to_owned(), trusted, seat: seat.clone() }
    }

    pub(super) fn administrator(&self, port: u16) -> PathBuf {
        self.certified(port, "administrator", &self.administrator)
    }

    pub(super) fn person(&self, port: u16, name: &str) -> PathBuf {
        self.certified(port, name, &self.authority.issue_to(name, None))
    }

    /// Somebody by a certificate with a group in it: `system:nodes` is for kubelets.
    pub(super) fn member(&self, port: u16, name: &str, group: &str) -> PathBuf {
        self.certified(port, name, &self.authority.issue_to(name, Some(group)))
    }

    /// Writes what a server shows that the API server asks: certificate and key.
    pub(super) fn server(&self, name: &str, names: &[&str]) -> [PathBuf; 2] {
        put(&self.directory, name, &self.authority.issue(names))
    }

    /// The authority's certificate, that servers verify clients by.
    pub(super) fn trusted(&self) -> &Path {
        &self.trusted
    }

    pub(super) fn bearer(&self, port: u16, name: &str, token: &str) -> PathBuf {
        self.kubeconfig(port, name, &json!({"token": token}))
    }

    /// Asks as an administrator.
    pub(super) fn api(&self, port: u16) -> Api {
        let client = TlsClient::new(self.authority.roots(), NAME).identity(&self.administrator);
        Api::new(self.seat.clone(), port, client)
    }

    fn certified(&self, port: u16, name: &str, identity: &Identity) -> PathBuf {
        let [certificate, key] = put(&self.directory, name, identity);
        self.kubeconfig(port, name, &json!({"client-certificate": certificate, "client-key": key}))
    }

    fn kubeconfig(&self, port: u16, name: &str, user: &Value) -> PathBuf {
        let cluster = json!({"server": url(&self.seat, port), "certificate-authority": self.trusted});
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        });
        let path = self.directory.join(format!("{name}.kubeconfig"));
        write(&path, &config.to_string());
        path
    }
}

/// Of an API server.
pub(super) fn url(seat: &Seat, port: u16) -> String {
    format!("https://{}", seat.at(port))
}

/// What tells an API server of the files.
pub(super) fn flags(directory: &Path) -> Vec<String> {
    let files = [
        ("client-ca-file", "ca-chain.cert.pem"),
        ("tls-cert-file", "api-server.crt"),
        ("tls-private-key-file", "api-server.key"),
        ("service-account-signing-key-file", "service-accounts.key"),
        // The public key in it.
        ("service-account-key-file", "service-accounts.crt"),
    ];
    let flag = |(flag, file): &(&str, &str)| format!("--{flag}={}", directory.join(file).display());
    let issuer = "--service-account-issuer=https://kubernetes.default.svc".to_owned();
    files.iter().map(flag).chain([issuer]).collect()
}

/// Writes a certificate and its key, and says where.
fn put(directory: &Path, name: &str, identity: &Identity) -> [PathBuf; 2] {
    let parts = [("crt", &identity.certificate), ("key", &identity.key)];
    parts.map(|(extension, pem)| {
        let path = directory.join(format!("{name}.{extension}"));
        write(&path, pem);
        path
    })
}

/// Writes what is not there yet: tests that share a control plane may be reading it.
fn write(path: &Path, text: &str) {
    if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
        return;
    }
    std::fs::write(path, text).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
}
