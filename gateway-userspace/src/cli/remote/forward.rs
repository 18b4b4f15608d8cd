//! One request to an agent's admin address, through the API server and the node's kubelet into the pod.

use std::time::Duration;

use futures_util::FutureExt as _;
use http::request::Builder;
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};

use super::failure::{self, Asked};
use super::pods::{GatewayPod, within};
use crate::cli::admin_client::exchange;

/// How much later than the end of a connection the reason for it may come.
const REASON: Duration = Duration::from_millis(500);

/// The way to a pod's agent.
#[derive(Clone)]
pub(in crate::cli) struct Forward {
    pods: Api<Pod>,
    namespace: String,
    name: String,
    port: u16,
}

impl Forward {
    /// To a pod of the cluster that a client asks.
    pub(in crate::cli) fn to(client: Client, pod: &GatewayPod, port: u16) -> Self {
        Self {
            pods: Api::namespaced(client, &pod.namespace),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            port,
        }
    }

    /// The pod, for errors.
    pub(in crate::cli) fn words(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }

    /// Sends a request, and gives the body of the answer.
    pub(in crate::cli) async fn ask(&self, request: Builder) -> anyhow::Result<Incoming> {
        let asked = Asked {
            verb: "get` and `create",
            resource: "pods/portforward",
            namespace: Some(&self.namespace),
        };
        let ports = [self.port];
        let opened = within(self.pods.portforward(&self.name, &ports)).await?;
        let mut forwarder = opened.map_err(|error| failure::told(error, asked))?;
        let (Some(stream), Some(refusal)) =
            (forwarder.take_stream(self.port), forwarder.take_error(self.port))
        else {
            anyhow::bail!("the port-forward to {} has no stream", self.words());
        };
        let mut refusal = std::pin::pin!(refusal.fuse());
        let mut answer = std::pin::pin!(exchange(stream, request));
        let error = tokio::select! {
            biased;
            Some(why) = &mut refusal => return Err(self.refused(&why)),
            answered = &mut answer => match answered {
                Ok(body) => return Ok(body),
                Err(error) => error,
            },
        };
        match tokio::time::timeout(REASON, refusal).await {
            Ok(Some(why)) => Err(self.refused(&why)),
            _ => Err(error.context(format!("{}: the port-forward broke off", self.words()))),
        }
    }

    fn refused(&self, why: &str) -> anyhow::Error {
        let Self { port, .. } = self;
        anyhow::anyhow!(
            "{}: no agent answers on port {port} in the pod: is it run with `--admin-address none`, or on another port \
             (--admin-port)?\n{}",
            self.words(),
            why.trim_end()
        )
    }
}
