//! Certificates, lists of revoked ones and OCSP responses as people make them: by `openssl`, in a directory of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::program::must;

/// Kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// RSA of 2048 bits.
    Rsa,
    /// ECDSA on P-256.
    Ecdsa,
}

/// What a certificate says beside its common name.
#[derive(Debug, Clone, Copy)]
pub enum Extensions<'a> {
    /// None at all: X.509 version 1, as `openssl x509 -req` does it untold.
    None,
    /// `subjectAltName`, such as `DNS:a.test,URI:spiffe://a/b`.
    Names(&'a str),
}

/// A directory of certificates, `NAME.crt`, and keys, `NAME.key`.
#[derive(Debug)]
pub struct Workshop {
    directory: TempDir,
}

/// What `openssl ca` wants to know.
const SETTINGS: &str = "[ca]\ndefault_ca = own\n[own]\ndatabase = index\ncrlnumber = crlnumber\ndefault_md = sha256\n\
                        default_crl_days = 30\n";

impl Workshop {
    /// An empty one.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let own = Self { directory };
        own.write("settings", SETTINGS);
        own.write("index", "");
        own.write("crlnumber", "01\n");
        own
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A file's path.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file's text.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect(name)
    }

    /// Makes or replaces a file.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect(name);
    }

    /// Runs `openssl` in the directory, with arguments separated by spaces.
    #[track_caller]
    pub fn openssl(&self, arguments: &str) -> String {
        let mut command = Command::new("openssl");
        let said = must(command.current_dir(self.directory()).args(arguments.split_whitespace()));
        said.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// An authority that signs for itself.
    pub fn authority(&self, name: &str) {
        self.openssl(&format!(
            "req -x509 -sha256 -nodes -days 30 -newkey rsa:2048 -subj /O=Example/CN={name} -keyout {name}.key -out {name}.crt"
        ));
    }

    /// A certificate that an authority signs.
    pub fn issue(&self, authority: &str, name: &str, key: Key, extensions: Extensions<'_>) {
        let kind = match key {
            Key::Rsa => "rsa:2048",
            Key::Ecdsa => "ec -pkeyopt ec_paramgen_curve:P-256",
        };
        self.openssl(&format!(
            "req -nodes -newkey {kind} -subj /O=Example/CN={name} -keyout {name}.key -out {name}.csr"
        ));
        let more = match extensions {
            Extensions::None => String::new(),
            Extensions::Names(names) => {
                self.write(&format!("{name}.ext"), &format!("subjectAltName = {names}\n"));
                format!("-extfile {name}.ext")
            }
        };
        self.openssl(&format!(
            "x509 -req -sha256 -days 30 -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -in {name}.csr -out \
             {name}.crt {more}"
        ));
    }

    /// Revokes certificates and writes the authority's list of all of them, `AUTHORITY.crl`.
    pub fn revoke(&self, authority: &str, names: &[&str]) {
        let by = format!("-config settings -cert {authority}.crt -keyfile {authority}.key");
        for name in names {
            self.openssl(&format!("ca {by} -revoke {name}.crt"));
        }
        self.openssl(&format!("ca {by} -gencrl -out {authority}.crl"));
    }

    /// The authority's OCSP response (RFC 6960, DER) that a certificate is good, for a day: `NAME.ocsp`. As base64.
    pub fn staple(&self, authority: &str, name: &str) -> String {
        let by = format!("-config settings -cert {authority}.crt -keyfile {authority}.key");
        self.openssl(&format!("ca {by} -valid {name}.crt"));
        self.openssl(&format!(
            "ocsp -index index -rsigner {authority}.crt -rkey {authority}.key -CA {authority}.crt -issuer {authority}.crt -cert \
             {name}.crt -respout {name}.ocsp -ndays 1"
        ));
        self.openssl(&format!("base64 -A -in {name}.ocsp"))
    }
}

impl Default for Workshop {
    fn default() -> Self {
        Self::new()
    }
}
