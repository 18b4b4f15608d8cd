//! TLS stacks of other languages: small programs in `data/exchange`, built once by the toolchains that are installed.
//! One that is not installed is said on standard error, past the capture of the test runner.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::namespace::Namespace;
use crate::program::must;

/// A language whose standard library speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// crypto/tls.
    Go,
    /// SSLSocket.
    Java,
}

impl Language {
    /// The program in a namespace, or `None` without its toolchain; what it takes and says stands at its head.
    pub fn program_within(self, namespace: &Namespace) -> Option<Command> {
        let words = self.built()?;
        let mut command = namespace.command(&words[0]);
        command.args(&words[1..]);
        Some(command)
    }

    /// Likewise, in this namespace.
    pub fn program(self) -> Option<Command> {
        let words = self.built()?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        Some(command)
    }

    /// The words that start the program.
    fn built(self) -> Option<&'static [PathBuf]> {
        static GO: OnceLock<Option<Vec<PathBuf>>> = OnceLock::new();
        static JAVA: OnceLock<Option<Vec<PathBuf>>> = OnceLock::new();
        let built = match self {
            Self::Go => GO.get_or_init(|| installed(&["go"]).then(build_go)),
            Self::Java => JAVA.get_or_init(|| installed(&["java", "javac"]).then(build_java)),
        };
        built.as_deref()
    }
}

/// Whether programs are on the path.
fn installed(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = programs
        .iter()
        .find(|program| !std::env::split_paths(&path).any(|directory| directory.join(program).is_file()));
    if let Some(program) = missing {
        // Not by a macro, whose words are held back while a test succeeds.
        let _ = writeln!(std::io::stderr(), "NOT TESTED: {program} is not installed, so its TLS is left out");
    }
    missing.is_none()
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/exchange").join(name)
}

/// A directory beside the tests. Test programs may build at the same time, so each replaces what is there in one step.
fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("path of this program");
    own.parent().expect("a directory").join(name)
}

fn build_go() -> Vec<PathBuf> {
    let built = beside("exchange-go");
    let fresh = beside(&format!("exchange-go.{}", std::process::id()));
    must(Command::new("go").arg("build").arg("-o").arg(&fresh).arg(source("exchange.go"))).expect("go build");
    std::fs::rename(fresh, &built).expect("renaming a program");
    vec![built]
}

fn build_java() -> Vec<PathBuf> {
    let built = beside("exchange-java.jar");
    let fresh = beside(&format!("exchange-java.{}", std::process::id()));
    must(Command::new("javac").arg("-d").arg(&fresh).arg(source("Exchange.java"))).expect("javac");
    let archive = fresh.join("exchange.jar");
    must(Command::new("jar").arg("--create").arg("--file").arg(&archive).arg("-C").arg(&fresh).arg("."))
        .expect("jar");
    std::fs::rename(&archive, &built).expect("renaming an archive");
    std::fs::remove_dir_all(fresh).expect("removing classes");
    // Two processors are to be left to others: the compiler that optimises for hours costs more than it saves.
    ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]
        .map(PathBuf::from)
        .into_iter()
        .chain([built, "Exchange".into()])
        .collect()
}
