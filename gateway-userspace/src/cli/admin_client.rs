//! Asks a running agent: the one on this machine over its unix socket, or one in a cluster by way of the API server. Both
//! answer the same questions; orders, and what is written into programs, the unix socket alone takes.

use std::future::Future;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::Request;
use http::request::Builder;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use super::remote::{self, Forward, RemoteArgs};

/// An agent of this machine that takes longer to answer, or between two parts of an answer, is not well.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same by way of an API server.
const REMOTE_PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of an answer that is held whole: five times what a mesh of 50,000 routes takes as JSON.
const MOST: usize = 1 << 30;

/// An agent, and how it is reached.
pub(super) struct Agent {
    runtime: Runtime,
    way: Way,
}

#[derive(Clone)]
enum Way {
    Socket(PathBuf),
    Pod(Box<Forward>),
}

impl Agent {
    /// The one of this machine that answers on a socket.
    pub(super) fn local(socket: &Path) -> anyhow::Result<Self> {
        Ok(Self { runtime: runtime()?, way: Way::Socket(socket.to_owned()) })
    }

    /// The one in a pod, if one is named, else that of this machine.
    pub(super) fn of(
        socket: &Path,
        pod: Option<&str>,
        namespace: Option<&str>,
        args: &RemoteArgs,
    ) -> anyhow::Result<Self> {
        let Some(pod) = pod else {
            let idle = namespace.map(|_| "--namespace").or_else(|| remote::idle_flag(&args.cluster));
            ensure!(
                idle.is_none(),
                "{} says where a pod is: name the pod, or its node, too",
                idle.unwrap_or_default()
            );
            return Self::local(socket);
        };
        let runtime = runtime()?;
        let forward = runtime.block_on(remote::reach(pod, namespace, args))?;
        Ok(Self { runtime, way: Way::Pod(Box::new(forward)) })
    }

    /// Whether it is another machine's.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self.way, Way::Pod(_))
    }

    /// GETs a path and reads the JSON it answers with.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.runtime.block_on(self.way.get(path))
    }

    /// GETs a path and hands on what it answers with, as it comes, until `each` says that it has enough.
    pub(super) fn copy(
        &self,
        path: &str,
        each: impl FnMut(&[u8]) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<()> {
        self.runtime.block_on(self.way.frames(Request::get(path), Some(self.way.patience()), each))
    }

    /// POSTs to a path and hands on every line that it answers with, as they come, until there are no more or
    /// `each` says that it has enough.
    pub(super) fn stream(
        &self,
        path: &str,
        each: impl FnMut(&[u8]) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<()> {
        self.lines(Request::post(path), each)
    }

    /// Likewise by a GET.
    pub(super) fn follow(
        &self,
        path: &str,
        each: impl FnMut(&[u8]) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<()> {
        self.lines(Request::get(path), each)
    }

    fn lines(
        &self,
        request: Builder,
        mut each: impl FnMut(&[u8]) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<()> {
        let mut rest = Vec::new();
        let lines = |data: &[u8]| {
            rest.extend_from_slice(data);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if each(&line)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        };
        // Whoever is quiet may still have something to tell.
        self.runtime.block_on(self.way.frames(request, None, lines))
    }
}

impl Way {
    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let mut body = Vec::new();
        let collect = |data: &[u8]| {
            ensure!(body.len() + data.len() <= MOST, "the answer has more than {} MiB", MOST >> 20);
            body.extend_from_slice(data);
            Ok(ControlFlow::Continue(()))
        };
        self.frames(Request::get(path), Some(self.patience()), collect).await?;
        serde_json::from_slice(&body).context("the agent's answer cannot be read; is it of another version?")
    }

    /// Hands on an answer as it comes, each part of it within a time, if one is given.
    async fn frames(
        &self,
        request: Builder,
        pause: Option<Duration>,
        mut each: impl FnMut(&[u8]) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<()> {
        let mut body = self.within(self.patience(), self.ask(request)).await??;
        loop {
            let frame = match pause {
                Some(pause) => self.within(pause, body.frame()).await?,
                None => body.frame().await,
            };
            let Some(frame) = frame else { return Ok(()) };
            let Ok(data) = frame.context("the answer broke off")?.into_data() else { continue };
            if each(&data)?.is_break() {
                return Ok(());
            }
        }
    }

    async fn ask(&self, request: Builder) -> anyhow::Result<Incoming> {
        match self {
            Self::Pod(forward) => forward.ask(request).await,
            Self::Socket(socket) => {
                let stream = UnixStream::connect(socket).await;
                exchange(stream.map_err(|error| unreachable(socket, &error))?, request).await
            }
        }
    }

    fn patience(&self) -> Duration {
        match self {
            Self::Socket(_) => PATIENCE,
            Self::Pod(_) => REMOTE_PATIENCE,
        }
    }

    async fn within<T>(&self, time: Duration, answer: impl Future<Output = T>) -> anyhow::Result<T> {
        let no_answer = || match self {
            Self::Socket(socket) => format!("{}: no answer within {time:?}", socket.display()),
            Self::Pod(forward) => format!("{}: no answer within {time:?}", forward.words()),
        };
        tokio::time::timeout(time, answer).await.with_context(no_answer)
    }
}

/// GETs a path of the agent behind a port-forward and reads the JSON it answers with.
pub(super) async fn get_through<T: DeserializeOwned>(forward: Forward, path: &str) -> anyhow::Result<T> {
    Way::Pod(Box::new(forward)).get(path).await
}

/// A runtime for questions.
pub(super) fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn unreachable(socket: &Path, error: &std::io::Error) -> anyhow::Error {
    let socket = socket.display();
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        return anyhow::anyhow!("{socket}: {error}; root and whoever runs the agent may ask it");
    }
    anyhow::anyhow!(
        "no agent answers on {socket}: {error}\nstart one with `sluice run`, name its socket with --admin-socket, or name \
         the pod of one in a cluster"
    )
}

/// Sends a request on a stream of its own, and gives the body of the answer.
pub(super) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Builder,
) -> anyhow::Result<Incoming> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the runtime, if not before.
    drop(tokio::spawn(connection));
    let request = request.header(http::header::HOST, "localhost").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    if !status.is_success() {
        let body = response.into_body().collect().await?.to_bytes();
        anyhow::bail!("the agent answered {status}: {}", String::from_utf8_lossy(&body).trim_end());
    }
    Ok(response.into_body())
}
