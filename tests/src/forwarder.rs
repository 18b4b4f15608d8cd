//! Stands in for a cluster where commands reach gateways through it: for the API server, as far as it tells of pods and lets
//! users at them, and for the kubelet behind its port-forward. It speaks the kubelet's WebSocket protocol (`v4.channel.k8s.io`:
//! two channels to a port, the second for errors, each beginning with the port), to processes of this machine in the place of
//! pods. What a real one does besides, such as moving a request from one to the other, it does not.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, server};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::serve::{Place, Server};

/// Who may do everything.
pub const ADMINISTRATOR: &str = "administrator";
/// Who may look at pods and no more.
pub const VIEWER: &str = "viewer";
/// Who may do nothing.
pub const STRANGER: &str = "stranger";

/// The only version of the protocol that kubelets speak over WebSockets.
const PROTOCOL: &str = "v4.channel.k8s.io";
/// The labels that gateway pods have by default.
const LABELS: &str = "app.kubernetes.io/name=sluice";

/// A pod.
#[derive(Debug, Clone)]
pub struct Pod {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `spec.nodeName`.
    pub node: String,
    /// `status.phase`.
    pub phase: String,
    /// `metadata.labels`, as a selector.
    pub labels: String,
    /// What its port 15000 is here.
    pub admin: SocketAddr,
}

impl Pod {
    /// One that runs, with the usual labels.
    pub fn of(namespace: &str, name: &str, node: &str, admin: SocketAddr) -> Self {
        let [namespace, name, node, phase, labels] =
            [namespace, name, node, "Running", LABELS].map(str::to_owned);
        Self { namespace, name, node, phase, labels, admin }
    }

    fn labels(&self) -> BTreeMap<&str, &str> {
        self.labels.split(',').filter_map(|pair| pair.split_once('=')).collect()
    }

    fn document(&self) -> Value {
        json!({
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": self.labels()},
            "spec": {"nodeName": self.node, "containers": [{"name": "sluice"}]},
            "status": {"phase": self.phase, "conditions": [{"type": "Ready", "status": "True"}]},
        })
    }
}

/// A cluster that is none. Gone when dropped.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    directory: TempDir,
    pods: Arc<Mutex<Vec<Pod>>>,
}

impl Cluster {
    /// One with these pods.
    pub fn of(pods: &[Pod]) -> Self {
        let pods = Arc::new(Mutex::new(pods.to_vec()));
        let known = pods.clone();
        let server = Server::start(Place::loopback(), move |stream| {
            let known = known.clone();
            let service = service_fn(move |request| {
                let pods = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
                async move { Ok::<_, Infallible>(respond(request, &pods)) }
            });
            let connection = server::conn::http1::Builder::new();
            // A client that goes away ends its connection alone.
            async move {
                drop(connection.serve_connection(TokioIo::new(stream), service).with_upgrades().await);
            }
        });
        let directory = tempfile::tempdir().expect("a directory");
        Self { server, directory, pods }
    }

    /// Has other pods from now on.
    pub fn set(&self, pods: &[Pod]) {
        *self.pods.lock().unwrap_or_else(PoisonError::into_inner) = pods.to_vec();
    }

    /// A kubeconfig of a user, whose context is in a namespace.
    pub fn kubeconfig(&self, user: &str, namespace: &str) -> PathBuf {
        let path = self.directory.path().join(format!("{user}-{namespace}"));
        write_kubeconfig(&path, self.server.address, user, namespace);
        path
    }
}

fn write_kubeconfig(path: &Path, server: SocketAddr, user: &str, namespace: &str) {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": format!("http://{server}")}}],
        "users": [{"name": "it", "user": {"token": user}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": namespace}}],
    });
    std::fs::write(path, config.to_string()).expect("writing a kubeconfig");
}

type Answer = Response<Full<Bytes>>;

fn answer(status: StatusCode, body: &Value) -> Answer {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    response
}

fn failure(status: StatusCode, reason: &str, message: &str) -> Answer {
    let body = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": status.as_u16(), "reason": reason,
        "message": message,
    });
    answer(status, &body)
}

/// A refusal in the words of Kubernetes' roles.
fn forbidden(user: &str, verb: &str, resource: &str, (namespace, name): (Option<&str>, &str)) -> Answer {
    let place =
        namespace.map_or("at the cluster scope".to_owned(), |it| format!("in the namespace \"{it}\""));
    let which = if name.is_empty() { "pods".to_owned() } else { format!("pods \"{name}\"") };
    let message = format!(
        "{which} is forbidden: User \"{user}\" cannot {verb} resource \"{resource}\" in API group \"\" {place}"
    );
    failure(StatusCode::FORBIDDEN, "Forbidden", &message)
}

fn respond(mut request: Request<Incoming>, pods: &[Pod]) -> Answer {
    let user =
        request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let user = user.unwrap_or_default().to_owned();
    if ![ADMINISTRATOR, VIEWER, STRANGER].contains(&user.as_str()) {
        return failure(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized");
    }
    let (path, query) =
        (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["api", "v1", "pods"] => list(&user, None, &query, pods),
        ["api", "v1", "namespaces", namespace, "pods"] => list(&user, Some(namespace), &query, pods),
        ["api", "v1", "namespaces", namespace, "pods", name, rest @ ..] => {
            let found = pods.iter().find(|pod| pod.namespace == *namespace && pod.name == *name);
            let what = (Some(*namespace), *name);
            match (found, rest) {
                (_, []) if user == STRANGER => forbidden(&user, "get", "pods", what),
                (_, ["portforward"]) if user != ADMINISTRATOR => {
                    forbidden(&user, "create", "pods/portforward", what)
                }
                (None, _) => {
                    failure(StatusCode::NOT_FOUND, "NotFound", &format!("pods \"{name}\" not found"))
                }
                (Some(pod), []) => answer(StatusCode::OK, &pod.document()),
                (Some(pod), ["portforward"]) => forward(&mut request, pod, &query),
                _ => failure(StatusCode::NOT_FOUND, "NotFound", "there is no such subresource"),
            }
        }
        _ => failure(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource"),
    }
}

fn list(user: &str, namespace: Option<&str>, query: &str, pods: &[Pod]) -> Answer {
    if user == STRANGER {
        return forbidden(user, "list", "pods", (namespace, ""));
    }
    let decoded = query.replace("%3D", "=").replace("%2F", "/").replace("%2C", ",");
    let value = |key: &str| decoded.split('&').find_map(|pair| pair.strip_prefix(&format!("{key}=")));
    let labels = value("labelSelector").unwrap_or_default();
    let node = value("fieldSelector").and_then(|field| field.strip_prefix("spec.nodeName="));
    let is_meant = |pod: &&Pod| {
        let mut wanted = labels.split(',').filter_map(|pair| pair.split_once('='));
        namespace.is_none_or(|namespace| pod.namespace == namespace)
            && node.is_none_or(|node| pod.node == node)
            && wanted.all(|(key, value)| pod.labels().get(key) == Some(&value))
    };
    let items: Vec<Value> = pods.iter().filter(is_meant).map(Pod::document).collect();
    answer(StatusCode::OK, &json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items}))
}

/// Switches to the kubelet's protocol.
fn forward(request: &mut Request<Incoming>, pod: &Pod, query: &str) -> Answer {
    let headers = request.headers();
    let offered =
        headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let ports: Vec<u16> = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("ports="))
        .flat_map(|ports| ports.split("%2C").filter_map(|port| port.parse().ok()).collect::<Vec<_>>())
        .collect();
    let (Some(key), [port]) = (headers.get(SEC_WEBSOCKET_KEY), ports.as_slice()) else {
        return failure(StatusCode::BAD_REQUEST, "BadRequest", "Upgrade request required, and one port");
    };
    if !offered.split(',').any(|protocol| protocol.trim() == PROTOCOL) {
        return failure(StatusCode::BAD_REQUEST, "BadRequest", "no protocol that a kubelet speaks");
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    switch(response.headers_mut(), key);
    let (port, pod, upgrade) = (*port, pod.clone(), hyper::upgrade::on(request));
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        relay(socket, &pod, port).await;
    });
    response
}

fn switch(headers: &mut HeaderMap, key: &HeaderValue) {
    let accept = derive_accept_key(key.as_bytes());
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).expect("base64"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Of a pod's port, its data and errors.
const DATA: u8 = 0;
const ERRORS: u8 = 1;

async fn relay(mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, pod: &Pod, port: u16) {
    let message = |channel: u8, bytes: &[u8]| Message::binary([&[channel], bytes].concat());
    for channel in [DATA, ERRORS] {
        if socket.send(message(channel, &port.to_le_bytes())).await.is_err() {
            return;
        }
    }
    // A pod has no other port that anybody listens on.
    let address = if port == 15000 { pod.admin } else { SocketAddr::new(pod.admin.ip(), 1) };
    let mut stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => {
            let words = format!(
                "error forwarding port {port} to pod {}, uid : failed to execute portforward: dial tcp4 127.0.0.1:{port}: {error}",
                pod.name
            );
            // Whoever does not hear it hears of the end.
            let _ = socket.send(message(ERRORS, words.as_bytes())).await;
            let _ = socket.close(None).await;
            return;
        }
    };
    let mut buffer = [0; 32 * 1024];
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(length) if length > 0 => {
                    if socket.send(message(DATA, &buffer[..length])).await.is_err() {
                        return;
                    }
                }
                _ => {
                    let _ = socket.close(None).await;
                    return;
                }
            },
            heard = socket.next() => match heard {
                Some(Ok(Message::Binary(bytes))) if bytes.first() == Some(&DATA) => {
                    if stream.write_all(&bytes[1..]).await.is_err() {
                        return;
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_))) => {}
                _ => return,
            },
        }
    }
}
