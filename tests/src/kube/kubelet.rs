//! Stands in for a node and its kubelet, where the API server asks one to forward a port of a pod: to processes of this machine in
//! the place of pods. Of a kubelet it has this alone, in the protocol of its WebSockets (`v4.channel.k8s.io`: two channels to a
//! port, the second for errors, each of which begins with the port). Pods are documents that nobody runs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    UPGRADE,
};
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode, server};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::authority::Authority;
use crate::kube::ControlPlane;
use crate::serve::{Place, Server};
use crate::tls::server_config;

/// The only version of the protocol that kubelets speak over WebSockets.
const PROTOCOL: &str = "v4.channel.k8s.io";
/// The port of pods that somebody listens on.
const ADMIN: u16 = 15000;
/// Of a port, its data and errors.
const DATA: u8 = 0;
const ERRORS: u8 = 1;

/// Where pods' processes are, by namespace and name.
type Pods = Arc<Mutex<HashMap<(String, String), SocketAddr>>>;

/// See the module. Its connections end when it is dropped; its documents go with the control plane.
#[derive(Debug)]
pub struct Kubelet {
    plane: Arc<ControlPlane>,
    node: String,
    pods: Pods,
    _server: Server,
}

impl Kubelet {
    /// Of a node that is not there yet.
    #[track_caller]
    pub fn start(plane: &Arc<ControlPlane>, node: &str) -> Self {
        let pods = Pods::default();
        let server = serve(pods.clone());
        let metadata = json!({"name": node});
        plane.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata}).to_string());
        let status = json!({
            "addresses": [{"type": "InternalIP", "address": Ipv4Addr::LOCALHOST}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": server.address.port()}},
        });
        let kubelet = Self { plane: plane.clone(), node: node.to_owned(), pods, _server: server };
        kubelet.set_status(&["node", node], &status);
        kubelet
    }

    /// Has a process of this machine be a pod's, with these labels; what it listens on is the pod's port 15000.
    #[track_caller]
    pub fn run(&self, (namespace, name): (&str, &str), labels: &Value, process: SocketAddr) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": namespace, "name": name, "labels": labels},
            "spec": {"nodeName": self.node, "containers": [{"name": "sluice", "image": "sluice"}]},
        });
        self.plane.apply(&pod.to_string());
        let key = (namespace.to_owned(), name.to_owned());
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).insert(key, process);
        let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        self.set_status(&["pod", name, "--namespace", namespace], &status);
    }

    #[track_caller]
    fn set_status(&self, of: &[&str], status: &Value) {
        let patch = json!({"status": status}).to_string();
        let words = ["--subresource=status", "--type=merge", "--patch", &patch];
        self.plane.kubectl(&[&["patch"], of, &words].concat()).expect_success();
    }
}

/// The API server verifies no kubelet's certificate unless it is told by whom they are.
fn serve(pods: Pods) -> Server {
    let acceptor = TlsAcceptor::from(server_config(&Authority::new("a node's").issue(&["localhost"])));
    Server::start(Place::loopback(), move |stream| {
        let (acceptor, pods) = (acceptor.clone(), pods.clone());
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| {
                let pods = pods.clone();
                async move { Ok::<_, Infallible>(respond(request, &pods)) }
            });
            let connection = server::conn::http1::Builder::new();
            // A client that goes away ends its connection alone.
            drop(connection.serve_connection(TokioIo::new(stream), service).with_upgrades().await);
        }
    })
}

/// `/portForward/NAMESPACE/POD?port=15000`, as the API server asks.
fn respond(mut request: Request<Incoming>, pods: &Pods) -> Response<Full<Bytes>> {
    let refuse = |status: StatusCode| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        response
    };
    let parts: Vec<&str> = request.uri().path().split('/').skip(1).collect();
    let ["portForward", namespace, pod] = parts.as_slice() else { return refuse(StatusCode::NOT_FOUND) };
    let key = ((*namespace).to_owned(), (*pod).to_owned());
    let process = pods.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
    let Some(process) = process else { return refuse(StatusCode::NOT_FOUND) };
    let headers = request.headers();
    let offered =
        headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let port = request.uri().query().and_then(|query| query.strip_prefix("port=")?.parse().ok());
    let (Some(key), Some(port), true) =
        (headers.get(SEC_WEBSOCKET_KEY), port, offered.split(',').any(|it| it.trim() == PROTOCOL))
    else {
        return refuse(StatusCode::BAD_REQUEST);
    };
    let mut response = refuse(StatusCode::SWITCHING_PROTOCOLS);
    switch(response.headers_mut(), key);
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None);
            relay(socket.await, process, port).await;
        }
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

async fn relay(mut socket: WebSocketStream<TokioIo<Upgraded>>, process: SocketAddr, port: u16) {
    let message = |channel: u8, bytes: &[u8]| Message::binary([&[channel], bytes].concat());
    for channel in [DATA, ERRORS] {
        if socket.send(message(channel, &port.to_le_bytes())).await.is_err() {
            return;
        }
    }
    let connected = if port == ADMIN {
        TcpStream::connect(process).await
    } else {
        Err(std::io::ErrorKind::ConnectionRefused.into())
    };
    match connected {
        Ok(stream) => carry(&mut socket, stream, message).await,
        Err(error) => {
            let words = format!("error forwarding port {port}: dial tcp4 127.0.0.1:{port}: connect: {error}");
            // Whoever does not hear it hears of the end.
            let _ = socket.send(message(ERRORS, words.as_bytes())).await;
        }
    }
    let _ = socket.close(None).await;
}

/// Bytes both ways until one side is done.
async fn carry(
    socket: &mut WebSocketStream<TokioIo<Upgraded>>,
    mut stream: TcpStream,
    message: impl Fn(u8, &[u8]) -> Message,
) {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let is_over = tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(length) if length > 0 => socket.send(message(DATA, &buffer[..length])).await.is_err(),
                _ => true,
            },
            heard = socket.next() => match heard {
                Some(Ok(Message::Binary(bytes))) if bytes.first() == Some(&DATA) => {
                    stream.write_all(&bytes[1..]).await.is_err()
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_))) => false,
                _ => true,
            },
        };
        if is_over {
            return;
        }
    }
}
