//! Documents of all sources together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::api::{Code, Diagnostic, Fingerprint, Object, Objects, Severity};

use super::file::{self, FileSource};
use super::kubernetes::webhook::Shown;
use super::kubernetes::{KubernetesSource, Link, Unread};

/// What a load found.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Sound documents, and the last sound state of broken ones.
    pub objects: Objects,
    /// What is wrong with the others: of files in the order of their lines, then of a cluster.
    pub diagnostics: Vec<Diagnostic>,
    /// Documents found, sound or not.
    pub documents: usize,
    /// Of those in force.
    pub fingerprint: Fingerprint,
}

/// Files, a cluster, or both.
#[derive(Debug)]
pub struct Sources {
    files: FileSource,
    cluster: Option<KubernetesSource>,
    /// Whether a file's document is what the cluster's is to become.
    proposes: bool,
}

impl Sources {
    /// Reads these from now on. Of a document that is in both the file's counts.
    pub fn new(files: FileSource, cluster: Option<KubernetesSource>) -> Self {
        Self { files, cluster, proposes: false }
    }

    /// Reads a cluster as it would be with these files' documents in the place of its own.
    pub fn proposing(files: FileSource, cluster: KubernetesSource) -> Self {
        Self { files, cluster: Some(cluster), proposes: true }
    }

    /// What they say now. `None`: not all that a cluster has is known yet; `changed` tells when.
    pub fn load(&mut self) -> Option<Loaded> {
        let cluster = match &mut self.cluster {
            None => return Some(self.files.load()),
            Some(cluster) if !cluster.has_begun() => return None,
            Some(cluster) => cluster,
        };
        let (mut diagnostics, mut documents) = self.files.read();
        documents += cluster.documents();
        let of_files = self.files.objects();
        let (mut both, mut theirs) = (Vec::new(), Vec::new());
        let mut fingerprint = self.files.fingerprint();
        fingerprint.join(cluster.fingerprint());
        for object in cluster.objects() {
            let Some(first) = of_files.get(object.reference()) else {
                theirs.push(object);
                continue;
            };
            fingerprint.remove(object.source().digest);
            if self.proposes {
                documents -= 1;
            } else {
                both.push(file::duplicate(first, object));
            }
        }
        let objects: Objects = of_files.values().chain(theirs).cloned().collect();
        diagnostics.extend(cluster.diagnostics());
        diagnostics.extend(both);
        cluster.want(&objects);
        Some(Loaded { objects, diagnostics, documents, fingerprint })
    }

    /// Has what was found told where documents come from: in the status of a cluster's.
    pub fn report(&mut self, findings: &[Diagnostic]) {
        if let Some(cluster) = &mut self.cluster {
            cluster.report(findings);
        }
    }

    /// Whether nothing is missing that documents lead to.
    pub fn is_complete(&self) -> bool {
        self.cluster.as_ref().is_none_or(KubernetesSource::is_complete)
    }

    /// Goes on without what a cluster has not given for so long, unless something else may still come.
    pub fn go_without(&mut self, patience: Duration) {
        if let Some(cluster) = &mut self.cluster {
            cluster.go_without(patience);
        }
    }

    /// What of a cluster could not be read.
    pub fn unread(&self) -> Vec<Unread> {
        self.cluster.as_ref().map(KubernetesSource::unread).unwrap_or_default()
    }

    /// What of a cluster is still being waited for, in words.
    pub fn missing(&self) -> Vec<String> {
        self.cluster.as_ref().map(KubernetesSource::missing).unwrap_or_default()
    }

    /// Waits until a cluster has other documents. Nothing is lost if this is dropped. Of files, `watch` tells.
    pub async fn changed(&mut self) {
        match &mut self.cluster {
            Some(cluster) => cluster.changed().await,
            None => std::future::pending().await,
        }
    }

    /// What an admission webhook is to show, if there is to be one.
    pub fn shown(&self) -> Option<watch::Receiver<Option<Arc<Shown>>>> {
        self.cluster.as_ref().and_then(KubernetesSource::shown)
    }

    /// How things stand with the API server, if one is read from.
    pub fn link(&self) -> Option<Link> {
        self.cluster.as_ref().map(KubernetesSource::link)
    }
}

/// Tells that an older state of a document is in force.
pub(super) fn in_force(object: &Object) -> Diagnostic {
    let mut found = Diagnostic::new(
        Severity::Warning,
        Code::LastGoodInForce,
        "the document is broken: its last sound state stays in force until it is mended or removed",
    );
    found.document = Some(object.reference().clone());
    found
}
