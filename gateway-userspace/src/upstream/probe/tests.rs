//! Probes against real sockets: endpoints that answer well, badly, slowly, without end, or not at all.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};

use super::*;
use crate::model::{ClusterName, ProxyVersion};

fn http() -> Probe {
    Probe::Http { host: None, path: "/healthz?x=1".into(), expected: vec![200..=200, 300..=399] }
}

fn cluster() -> Cluster {
    let name = ClusterName { host: "web.test".into(), port: 80, subset: None };
    Cluster::new(name, UpstreamProtocol::Http1, Vec::new())
}

/// What comes of a probe of an endpoint that does `serve` with the connection.
async fn asked<F: Future<Output = ()> + 'static>(
    cluster: &Cluster,
    probe: Probe,
    serve: impl FnOnce(TcpStream) -> F + 'static,
) -> Checked {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let check = HealthCheck { timeout: Duration::from_millis(500), ..HealthCheck::new(probe) };
    let serving = tokio::task::spawn_local(async move { serve(listener.accept().await.unwrap().0).await });
    let checked = super::probe((cluster, &check), address, &ClientConfigs::default()).await;
    serving.abort();
    checked.expect("descriptors")
}

/// Tasks are the thread's own, as those of workers are.
fn run(test: impl Future<Output = ()>) {
    let tokio = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    tokio.unwrap().block_on(test);
}

async fn head(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\n") {
        heard.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(heard).unwrap()
}

/// Answers a request with these words, and keeps the connection open.
async fn answers(words: &'static str) -> Checked {
    asked(&cluster(), http(), move |mut stream| async move {
        head(&mut stream).await;
        stream.write_all(words.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await
}

fn unanswered(checked: &Checked) -> bool {
    matches!(checked, Checked::Unanswered(_))
}

#[test]
fn an_answer_is_judged_by_its_status_once_it_is_whole() {
    run(async {
        let failed = |status: &str| Checked::Failed(format!("status {status}"));
        for (words, want) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Checked::Passed),
            ("HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n", Checked::Passed),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Checked::Passed),
            ("HTTP/1.1 204 No Content\r\n\r\n", failed("204")),
            ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", failed("503")),
        ] {
            assert_eq!(answers(words).await, want, "{words}");
        }
        for words in [
            "",
            "HTTP/1.1 200 OK\r\ncontent-len",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok",
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        ] {
            assert!(unanswered(&answers(words).await), "{words}");
        }
    });
}

#[test]
fn no_more_than_a_bounded_part_of_an_answer_is_read() {
    run(async {
        let endless = |begin: &'static str, more: &'static [u8]| {
            move |mut stream: TcpStream| async move {
                head(&mut stream).await;
                let _ = stream.write_all(begin.as_bytes()).await;
                while stream.write_all(more).await.is_ok() {}
            }
        };
        let body = endless("HTTP/1.1 200 OK\r\n\r\n", &[b'a'; 4096]);
        assert_eq!(asked(&cluster(), http(), body).await, Checked::Passed);
        let headers = endless("HTTP/1.1 200 OK\r\n", b"x-header: again\r\n");
        assert!(unanswered(&asked(&cluster(), http(), headers).await));
    });
}

#[test]
fn a_request_says_what_it_is() {
    run(async {
        let (tell, told) = tokio::sync::oneshot::channel();
        asked(&cluster(), http(), move |mut stream| async move {
            tell.send(head(&mut stream).await).unwrap();
        })
        .await;
        let heard = told.await.unwrap();
        assert!(heard.starts_with("GET /healthz?x=1 HTTP/1.1\r\n"), "{heard}");
        for line in ["host: web.test\r\n", "user-agent: Sluice/HC\r\n", "connection: close\r\n"] {
            assert!(heard.contains(line), "{line} in {heard}");
        }
    });
}

#[test]
fn a_backend_that_wants_a_proxy_header_gets_one_of_the_checks_own() {
    run(async {
        let mut cluster = cluster();
        cluster.proxy_protocol = Some(ProxyVersion::V1);
        let (tell, told) = tokio::sync::oneshot::channel();
        asked(&cluster, http(), move |mut stream| async move {
            let ends = (stream.peer_addr().unwrap().port(), stream.local_addr().unwrap().port());
            tell.send((head(&mut stream).await, ends)).unwrap();
        })
        .await;
        let (heard, (ours, theirs)) = told.await.unwrap();
        let want = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {ours} {theirs}\r\nGET /healthz");
        assert!(heard.starts_with(&want), "{heard}");
    });
}

#[test]
fn tcp_is_content_with_a_connection() {
    run(async {
        let silent = |_: TcpStream| std::future::pending();
        assert_eq!(asked(&cluster(), Probe::Tcp, silent).await, Checked::Passed);
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let check = HealthCheck::new(Probe::Tcp);
        let checked = super::probe((&cluster(), &check), nobody, &ClientConfigs::default()).await;
        assert!(checked.as_ref().is_some_and(unanswered), "{checked:?}");
    });
}

#[test]
fn what_is_no_http2_is_no_answer() {
    run(async {
        let probe = || Probe::Grpc { service: "".into() };
        let silent = |_: TcpStream| std::future::pending();
        assert!(unanswered(&asked(&cluster(), probe(), silent).await));
        let other = |mut stream: TcpStream| async move {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        };
        assert!(unanswered(&asked(&cluster(), probe(), other).await));
    });
}
