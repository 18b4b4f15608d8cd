//! The access log of connections and requests that user space carries, those that fail among them.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};

use harness::authority::Authority;
use harness::backend::Backend;
use harness::client::{self, read_to_end, request};
use harness::documents::{self, Server, http_service, service, sni_route, tcp_route, tcp_service};
use harness::frames::{Connection, END_HEADERS, END_STREAM, HEADERS, Outcome, block, frame};
use harness::gateway::Gateway;
use harness::serve::Place;
use harness::tls::TlsClient;
use harness::{echo, port, wait};
use serde_json::Value;

const NAME: &str = "sni.istioinaction.io";

/// Says something and that it was all; returns how many bytes came back.
fn talk(mut stream: TcpStream, bytes: &[u8]) -> usize {
    // A gateway without a backend may have closed already.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    read_to_end(&mut stream).0.len()
}

#[test]
fn connections_have_their_bytes_their_server_name_and_the_flag_of_their_failure() {
    let ports = [0; 3].map(|_| port::free());
    let server = echo::start_silent(Place::loopback());
    let nobody = ([127, 0, 0, 1], port::free()).into();
    let servers = [Server::tcp(ports[0]), Server::tcp(ports[1]), Server::passthrough(ports[2], &[NAME])];
    let documents = documents::gateway("edge", &servers)
        + &tcp_route("refused", ports[0], "edge", "refused")
        + &tcp_route("empty", ports[1], "edge", "empty")
        + &sni_route("sni", ports[2], NAME, "edge", "sni")
        + &tcp_service("refused", &[nobody])
        + &tcp_service("empty", &[])
        + &service("sni", "https", &[server.address]);
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("access");
    let flags = ["--access-log", log.to_str().expect("a path"), "--access-log-format", "json"];
    let gateway = Gateway::arrange().document("site", &documents).flags(&flags).start();
    let line = |number: usize| -> Value {
        let text = wait::until("a line in the access log", || {
            let text = std::fs::read_to_string(&log).ok()?;
            text.lines().nth(number).map(str::to_owned)
        });
        serde_json::from_str(&text).expect("JSON")
    };

    assert_eq!(talk(client::connect(gateway.at(ports[0])), b"x"), 0);
    let told = line(0);
    assert_eq!((&told["response_flags"], &told["bytes_sent"]), (&"UF,URX".into(), &0.into()), "{told}");
    assert_eq!(told["downstream_local_address"], gateway.at(ports[0]).to_string(), "{told}");

    assert_eq!(talk(client::connect(gateway.at(ports[1])), b"x"), 0);
    assert_eq!(line(1)["response_flags"], "UH", "{}", line(1));

    let hello = TlsClient::new(Authority::new("nobody's").roots(), NAME).hello();
    assert_eq!(talk(client::connect(gateway.at(ports[2])), &hello), hello.len());
    let told = line(2);
    assert_eq!(
        (&told["response_flags"], &told["requested_server_name"]),
        (&"-".into(), &NAME.into()),
        "{told}"
    );
    assert_eq!(told["upstream_host"], server.address.to_string(), "{told}");
    assert_eq!(
        (&told["bytes_received"], &told["bytes_sent"]),
        (&hello.len().into(), &hello.len().into()),
        "{told}"
    );

    let other = TlsClient::new(Authority::new("nobody's").roots(), "other.istioinaction.io").hello();
    for (number, said, name) in
        [(3, &*other, "other.istioinaction.io".into()), (4, &b"GET / HTTP/1.1\r\n\r\n"[..], Value::Null)]
    {
        assert_eq!(talk(client::connect(gateway.at(ports[2])), said), 0);
        let told = line(number);
        assert_eq!(
            (&told["response_flags"], &told["response_code_details"], &told["response_code"]),
            (&"NR".into(), &"filter_chain_not_found".into(), &0.into()),
            "{told}"
        );
        assert_eq!(told["requested_server_name"], name, "{told}");
    }
}

/// Neither what finds no backend nor a request has a start.
#[test]
fn connections_that_start_have_a_line_if_that_is_asked_for() {
    let (backend, server) = (Backend::http("shop"), echo::start_silent(Place::loopback()));
    let ports = [0; 4].map(|_| port::free());
    let nobody = ([127, 0, 0, 1], port::free()).into();
    let servers = [
        Server::tcp(ports[0]),
        Server::passthrough(ports[1], &[NAME]),
        Server::tcp(ports[2]),
        Server::http(ports[3], &["*"]),
    ];
    let format = "%ACCESS_LOG_TYPE% %UPSTREAM_HOST% %UPSTREAM_CLUSTER% %TRACE_ID% %REQUESTED_SERVER_NAME% \
                  %DURATION% %BYTES_RECEIVED% %DOWNSTREAM_LOCAL_PORT%";
    let documents = documents::gateway("edge", &servers)
        + &tcp_route("tcp", ports[0], "edge", "tcp")
        + &sni_route("sni", ports[1], NAME, "edge", "sni")
        + &tcp_route("refused", ports[2], "edge", "refused")
        + &documents::http_route("shop", "*", "edge", "shop")
        + &tcp_service("tcp", &[server.address])
        + &service("sni", "https", &[server.address])
        + &tcp_service("refused", &[nobody])
        + &http_service("shop", &[backend.server.address])
        + &documents::config_map(
            "istio-system",
            "istio",
            &[("mesh", &format!("accessLogFormat: '{format}'"))],
        );
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("access");
    let flags = ["--access-log", log.to_str().expect("a path"), "--access-log-connection-starts"];
    let gateway = Gateway::arrange().document("site", &documents).flags(&flags).start();
    let lines = |count: usize| -> Vec<String> {
        let text = wait::until("lines in the access log", || {
            std::fs::read_to_string(&log).ok().filter(|text| text.lines().count() >= count)
        });
        assert_eq!(text.lines().count(), count, "{text}");
        text.lines().map(str::to_owned).collect()
    };

    let hello = TlsClient::new(Authority::new("nobody's").roots(), NAME).hello();
    for (number, (service, said, name)) in
        [("tcp", &b"x"[..], "-"), ("sni", &hello[..], NAME)].into_iter().enumerate()
    {
        let mut stream = client::connect(gateway.at(ports[number]));
        stream.write_all(said).expect("sending");
        // The end comes no sooner than the start was seen.
        let start = lines(2 * number + 1).pop().expect("a line");
        let host = server.address;
        assert!(start.starts_with(&format!("TcpConnectionStart {host} outbound|")), "{start}");
        assert!(start.contains(&format!("||{service}.")), "{start}");
        assert!(start.ends_with(&format!(" {name} 0 0 {}", ports[number])), "{start}");
        assert_eq!(talk(stream, b""), said.len());
        let end = lines(2 * number + 2).pop().expect("a line");
        assert!(end.starts_with(&format!("TcpConnectionEnd {host} outbound|")), "{end}");
        assert!(end.ends_with(&format!(" {} {}", said.len(), ports[number])), "{end}");
    }
    assert_eq!(talk(client::connect(gateway.at(ports[2])), b"x"), 0);
    assert!(lines(5)[4].starts_with(&format!("TcpConnectionEnd {nobody} ")), "{:?}", lines(5));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{trace}-00f067aa0ba902b7-00");
    let asked = request("GET", "shop.test", "/", &[("traceparent", &traceparent)]);
    assert_eq!(client::send(gateway.at(ports[3]), asked).status.as_u16(), 200);
    let told = lines(6).pop().expect("a line");
    assert!(told.starts_with("DownstreamEnd ") && told.contains(&format!(" {trace} ")), "{told}");
}

/// Each request has a line with what was asked, where it went, and Envoy's flags and details for what became of it.
#[test]
fn requests_have_their_route_their_bytes_and_the_flags_of_what_became_of_them() {
    const HOST: &str = "shop.istioinaction.io";
    let (backend, port) = (Backend::http("shop"), port::free());
    let dead = ([127, 0, 0, 1], port::free()).into();
    let to = |service: &str| format!("route: [{{destination: {{host: {service}}}}}]");
    let rules = format!(
        "  http:\n  - {{name: rule, match: [{{name: match, uri: {{prefix: /digest}}}}], rewrite: {{authority: inner.test}}, {}}}\n  \
         - {{match: [{{uri: {{prefix: /dead}}}}], {}}}\n  - {{match: [{{uri: {{prefix: /empty}}}}], {}}}\n  \
         - {{match: [{{uri: {{prefix: /nowhere}}}}], {}}}\n  - {{match: [{{uri: {{prefix: /stall}}}}], timeout: 50ms, {}}}\n  \
         - {{match: [{{uri: {{prefix: /turns}}}}], retries: {{attempts: 1, retryOn: 5xx}}, {}}}\n  \
         - {{match: [{{uri: {{prefix: /fault}}}}], fault: {{delay: {{fixedDelay: 1ms, percentage: {{value: 100}}}}, abort: \
         {{httpStatus: 418, percentage: {{value: 100}}}}}}, {}}}\n  \
         - {{match: [{{uri: {{prefix: /direct}}}}], directResponse: {{status: 200, body: {{string: hello}}}}}}\n  \
         - {{match: [{{uri: {{prefix: /bytes}}}}, {{uri: {{prefix: /held}}}}], {}}}",
        to("shop"),
        to("dead"),
        to("empty"),
        to("nowhere"),
        to("shop"),
        to("shop"),
        to("shop"),
        to("shop"),
    );
    let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &documents::virtual_service("shop", &[HOST], "edge", &rules)
        + &http_service("shop", &[backend.server.address])
        + &http_service("dead", &[dead])
        + &http_service("empty", &[]);
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("access");
    let flags = ["--access-log", log.to_str().expect("a path"), "--access-log-format", "json"];
    let gateway = Gateway::arrange().document("site", &documents).flags(&flags).start();
    let address = gateway.at(port);
    let line = |number: usize| -> Value {
        let text = wait::until("a line in the access log", || {
            std::fs::read_to_string(&log).ok()?.lines().nth(number).map(str::to_owned)
        });
        serde_json::from_str(&text).expect("JSON")
    };

    let post =
        request("POST", HOST, "/digest?a=b", &[("user-agent", "tester"), ("x-forwarded-for", "192.0.2.1")]);
    let answer = client::send(address, post.map(|_| bytes::Bytes::from_static(b"12345").into()));
    let told = line(0);
    for (name, want) in [
        ("method", Value::from("POST")),
        ("path", "/digest?a=b".into()),
        ("protocol", "HTTP/1.1".into()),
        ("response_code", 200.into()),
        ("response_flags", "-".into()),
        ("response_code_details", "via_upstream".into()),
        ("bytes_received", 5.into()),
        ("bytes_sent", answer.body.len().into()),
        ("upstream_service_time", answer.header("x-envoy-upstream-service-time").into()),
        ("x_forwarded_for", "192.0.2.1,127.0.0.1".into()),
        ("user_agent", "tester".into()),
        ("authority", "inner.test".into()),
        ("upstream_host", backend.server.address.to_string().into()),
        ("upstream_cluster", "outbound|80||shop.istioinaction.svc.cluster.local".into()),
        ("downstream_local_address", address.to_string().into()),
        ("route_name", "rule.match".into()),
    ] {
        assert_eq!(told[name], want, "{name} of {told}");
    }

    let refused = "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}";
    let rows = [
        ("GET", "/dead", 503, "URX,UF", refused),
        ("GET", "/empty", 503, "UH", "no_healthy_upstream"),
        ("GET", "/nowhere", 503, "NC", "cluster_not_found"),
        ("GET", "/stall", 504, "UT", "response_timeout"),
        ("GET", "/turns/503", 503, "URX", "via_upstream"),
        ("GET", "/fault", 418, "DI,FI", "fault_filter_abort"),
        ("GET", "/direct", 200, "-", "direct_response"),
        ("HEAD", "/direct", 200, "-", "direct_response"),
        ("GET", "/bytes/100000", 200, "-", "via_upstream"),
        ("GET", "/nothing", 404, "NR", "route_not_found"),
    ];
    for (number, (method, path, status, flags, details)) in rows.into_iter().enumerate() {
        let answer = client::send(address, request(method, HOST, path, &[]));
        let told = line(1 + number);
        assert_eq!((&told["path"], &told["method"]), (&path.into(), &method.into()), "{told}");
        assert_eq!(
            (&told["response_code"], &told["response_flags"]),
            (&status.into(), &flags.into()),
            "{told}"
        );
        assert_eq!(
            (&told["response_code_details"], answer.status.as_u16()),
            (&details.into(), status),
            "{told}"
        );
        assert_eq!(told["bytes_sent"], answer.body.len(), "{told}");
    }

    // A client that goes away gets no status, one of an old version no line of its own words.
    let mut client = client::connect(address);
    write!(client, "GET /held HTTP/1.1\r\nhost: {HOST}\r\n\r\n").expect("sending");
    wait::until("the request at the backend", || (backend.requests() == 6).then_some(()));
    drop(client);
    let told = line(1 + rows.len());
    assert_eq!((&told["response_code"], &told["response_flags"]), (&0.into(), &"DC".into()), "{told}");
    let mut client = client::connect(address);
    write!(client, "GET / HTTP/1.0\r\nhost: {HOST}\r\n\r\n").expect("sending");
    let told = line(2 + rows.len());
    assert_eq!((&told["response_code"], &told["response_flags"]), (&426.into(), &"DPE".into()), "{told}");
    assert_eq!(told["path"], Value::Null, "{told}");
    // Nor is a head of HTTP/2 seen by anybody that is too large.
    let mut client = Connection::open(address, &[]);
    let head = format!(":method: GET|:scheme: http|:authority: {HOST}|:path: /|{}", "x: y|".repeat(2_000));
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&head)));
    assert_eq!(client.outcome(1), Outcome::Answered(431));
    let told = line(3 + rows.len());
    assert_eq!((&told["response_code"], &told["protocol"]), (&431.into(), &"HTTP/2".into()), "{told}");
}

/// No document asks for a log, and no flag.
#[test]
fn the_log_is_followed_by_whoever_asks_and_by_nobody_else() {
    const HOST: &str = "shop.istioinaction.io";
    let (backend, port) = (Backend::http("shop"), port::free());
    let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &documents::http_route("shop", HOST, "edge", "shop")
        + &http_service("shop", &[backend.server.address]);
    let gateway = Gateway::arrange().document("site", &documents).start();
    let address = gateway.at(port);
    // Requests go on until the command has had enough.
    let followed = |words: &[&str]| {
        std::thread::scope(|scope| {
            let command = scope.spawn(|| gateway.sluice(words));
            wait::until("the end of the command", || {
                client::get(address, HOST, "/status/200");
                client::get(address, HOST, "/status/503");
                client::get(address, "other.test", "/");
                command.is_finished().then_some(())
            });
            command.join().expect("a command")
        })
    };
    let said = followed(&["logs", "--count", "3", "--errors", "--host", HOST, "-o", "json"]).expect_success();
    assert_eq!(said.out.lines().count(), 3, "{}", said.all());
    for line in said.out.lines() {
        let told: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!((&told["response_code"], &told["path"]), (&503.into(), &"/status/503".into()), "{told}");
        assert_eq!(told["upstream_host"], backend.server.address.to_string(), "{told}");
    }
    let filter = ["logs", "--count", "2", "--filter", "response.code == 404"];
    let said = followed(&filter).expect_success();
    assert_eq!(said.out.lines().count(), 2, "{}", said.all());
    assert!(said.out.lines().all(|line| line.contains("\"GET / HTTP/1.1\" 404 NR ")), "{}", said.out);
    let listener = port.to_string();
    assert_eq!(
        followed(&["logs", "--count", "4", "--listener", &listener]).expect_success().out.lines().count(),
        4
    );

    let refused = gateway.sluice(&["logs", "--filter", "response.cod == 1"]);
    assert!(refused.code == Some(1) && refused.err.contains("response.cod"), "{}", refused.all());
    let refused = gateway.sluice(&["logs", "--filter", "request.headers['x-team'] == 'blue'"]);
    assert!(refused.err.contains("x-team"), "{}", refused.all());
}

/// What is put aside has every line once.
#[test]
fn a_log_that_is_full_is_put_aside_while_requests_go_on() {
    let port = port::free();
    let documents = documents::gateway("edge", &[Server::http(port, &["*"])]);
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("access");
    let path = log.to_str().expect("a path");
    let flags = ["--access-log", path, "--access-log-max-size", "2Ki", "--access-log-keep", "100"];
    let gateway = Gateway::arrange().document("site", &documents).flags(&flags).start();
    for number in 0..40 {
        client::get(gateway.at(port), "shop.test", &format!("/{number}/"));
    }
    let files = || {
        let aside = (1..).map(|number| directory.path().join(format!("access.{number}")));
        let aside: Vec<_> = aside.take_while(|path| path.exists()).collect();
        aside.into_iter().rev().chain([log.clone()])
    };
    let text = wait::until("all lines", || {
        let text: String = files().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
        (text.lines().count() >= 40).then_some(text)
    });
    for (number, line) in text.lines().enumerate() {
        assert!(line.contains(&format!("\"GET /{number}/ ")), "{number}: {line}");
    }
    assert!(files().count() > 3, "{}", text.len());
    assert_eq!(gateway.status()["accessLogDropped"], 0);
}
