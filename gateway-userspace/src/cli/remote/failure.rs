//! What the API server's refusals mean for whoever typed a command, and what to do.

use std::fmt;

use http::StatusCode;
use kube::Error;

/// What was asked of the API server, in the words of its roles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Several between backticks of their own.
    pub(super) verb: &'static str,
    pub(super) resource: &'static str,
    /// `None`: in all of them.
    pub(super) namespace: Option<&'a str>,
}

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, resource, namespace } = self;
        match namespace {
            Some(namespace) => write!(f, "`{verb}` on {resource} in the namespace {namespace} (a Role)"),
            None => write!(f, "`{verb}` on {resource} in all namespaces (a ClusterRole)"),
        }
    }
}

/// Whether the answer has this status.
pub(super) fn is(error: &Error, code: StatusCode) -> bool {
    matches!(error, Error::Api(status) if status.code == code.as_u16())
}

/// What has become of a question.
pub(super) fn told(error: Error, asked: Asked<'_>) -> anyhow::Error {
    match error {
        Error::Api(status) if status.code == StatusCode::FORBIDDEN.as_u16() => {
            anyhow::anyhow!("{}\nthis user lacks the right to {asked}", status.message)
        }
        other => in_words(other),
    }
}

/// The same, whatever was asked.
pub(super) fn in_words(error: Error) -> anyhow::Error {
    match error {
        Error::Api(status) if status.code == StatusCode::UNAUTHORIZED.as_u16() => anyhow::anyhow!(
            "the API server does not know this user ({}): log in again, or choose another one with --kubeconfig or --context",
            status.message
        ),
        Error::Api(status) => anyhow::anyhow!("the API server answered {}: {}", status.code, status.message),
        other => anyhow::Error::new(other).context("the API server cannot be asked"),
    }
}
