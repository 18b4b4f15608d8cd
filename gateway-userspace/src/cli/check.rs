//! `sluice check`: what the agent would do with documents, and what is wrong with them.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::documents::{self, Documents, NamespaceArgs};
use super::options::{ColorArgs, TextOutput};
use super::table;
use crate::analysis::{Analysis, analyse};
use crate::api::{Diagnostic, Severity, render};
use crate::settings::{ClusterArgs, IdentityArgs};

/// Check documents without serving them
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  sluice check config/examples
  sluice check --kubernetes
  sluice check --kubernetes -n shop --context staging new-routes.yaml")]
pub struct CheckArgs {
    /// Files and directories; `-` is standard input
    #[arg(value_name = "FILE", required_unless_present = "kubernetes")]
    pub files: Vec<PathBuf>,
    /// Check the documents of a cluster's API server; those of files take the place of the cluster's
    #[arg(long)]
    pub kubernetes: bool,
    /// How.
    #[command(flatten)]
    pub options: CheckOptions,
}

/// Check the documents of a cluster
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Reads all documents once, as the kubeconfig's user. Secrets that this user may not read are named in warnings.

Examples:
  sluice analyze
  sluice analyze --namespace sluice-system
  sluice analyze -n shop new-routes.yaml
  sluice analyze --context staging -o json")]
pub struct AnalyzeArgs {
    /// Files and directories whose documents take the place of the cluster's; `-` is standard input
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How.
    #[command(flatten)]
    pub options: CheckOptions,
}

/// What both have in common.
#[derive(Debug, Clone, Args)]
pub struct CheckOptions {
    /// How to say what was found
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t = TextOutput::Text)]
    pub output: TextOutput,
    /// Colours.
    #[command(flatten)]
    pub color: ColorArgs,
    /// Fail on warnings too
    #[arg(long)]
    pub warnings_as_errors: bool,
    /// Leave out what is merely worth knowing
    #[arg(short, long)]
    pub quiet: bool,
    /// Which gateway the documents are for.
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Of a cluster's documents, which.
    #[command(flatten)]
    pub namespaces: NamespaceArgs,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// What was found in a set of documents.
#[derive(Debug, Serialize)]
pub struct Findings {
    /// Documents, sound or not.
    pub documents: usize,
    /// Number of errors.
    pub errors: usize,
    /// Number of warnings.
    pub warnings: usize,
    /// In the order of files and lines, then what concerns several documents.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads, analyses as the agent does, and reports.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let findings = find(&args.files, args.kubernetes, &args.options)?;
    if findings.documents == 0 && findings.errors == 0 && !args.kubernetes {
        let files: Vec<String> = args.files.iter().map(|file| file.display().to_string()).collect();
        bail!(
            "no documents in {}: of a directory those files are read whose names end in .yaml, .yml or .json",
            files.join(", ")
        );
    }
    report(&findings, &args.options)
}

/// The same with a cluster's documents.
pub fn analyze(args: &AnalyzeArgs) -> anyhow::Result<ExitCode> {
    report(&find(&args.files, true, &args.options)?, &args.options)
}

fn report(findings: &Findings, args: &CheckOptions) -> anyhow::Result<ExitCode> {
    let colour = args.color.on(io::stdout().is_terminal());
    let out = args.output.render(findings, || text(findings, args.quiet, colour))?;
    table::print(&out)?;
    let failed = findings.errors > 0 || (args.warnings_as_errors && findings.warnings > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What is reported.
fn find(files: &[PathBuf], kubernetes: bool, args: &CheckOptions) -> anyhow::Result<Findings> {
    let cluster = documents::cluster(kubernetes, &args.cluster, &args.namespaces)?;
    let Documents { loaded, surroundings } = documents::read(files.to_vec(), cluster, &args.identity)?;
    let documents = loaded.documents;
    let Analysis { diagnostics, .. } = analyse(loaded, &surroundings, SystemTime::now());
    let count = |severity| diagnostics.iter().filter(|found| found.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    Ok(Findings { documents, errors, warnings, diagnostics })
}

fn text(findings: &Findings, quiet: bool, colour: bool) -> String {
    let shown = findings.diagnostics.iter().filter(|found| !quiet || found.severity > Severity::Info);
    let mut out: String = shown.map(|found| render(found, colour) + "\n").collect();
    let of = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    out.push_str(&of(findings.documents, "document"));
    for part in [of(findings.errors, "error"), of(findings.warnings, "warning")] {
        out.push_str(", ");
        out.push_str(&part);
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        check: CheckArgs,
    }

    fn args(words: &[&str]) -> CheckArgs {
        Command::parse_from(["check"].iter().chain(words)).check
    }

    #[test]
    fn findings_are_counted_and_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        let document =
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec: {servers: []}\n";
        fs::write(&file, format!("{document}---\nkind: X\n")).unwrap();
        let path = file.display().to_string();
        let args = args(&[path.as_str()]);
        let findings = find(&args.files, args.kubernetes, &args.options).unwrap();
        assert_eq!((findings.documents, findings.errors, findings.warnings), (2, 2, 0));
        let text = text(&findings, false, false);
        assert!(text.starts_with("error[IST0106]: gateway must have at least one server\n"), "{text}");
        assert!(text.ends_with("\n2 documents, 2 errors, 0 warnings\n"), "{text}");
        assert!(serde_json::to_value(&findings).unwrap()["diagnostics"][0]["position"]["line"] == 4);
    }
}
