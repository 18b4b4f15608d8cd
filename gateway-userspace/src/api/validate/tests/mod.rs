//! Single documents against the rules of their kind: the spec, and all that is found in it.

mod delegates;
mod idle;
mod policies;
mod registry;
mod requests;
mod routes;
mod server_tls;
mod telemetry;

use std::sync::Arc;

use crate::api::{Reading, read_document, split};

fn read(kind: &str, name: &str, spec: &str) -> Reading {
    let file: Arc<str> = "t.yaml".into();
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    );
    split(&text)
        .into_iter()
        .flat_map(|chunk| read_document(&file, chunk, "default"))
        .next()
        .expect("a document")
}

/// `severity field: message` of each finding.
fn found(kind: &str, spec: &str) -> Vec<String> {
    let line = |found: &crate::api::Diagnostic| {
        format!("{} {}: {}", found.severity.as_str(), found.field.as_deref().unwrap_or("-"), found.message)
    };
    read(kind, "x", spec).diagnostics.iter().map(line).collect()
}

fn check(kind: &str, rows: &[(&str, &[&str])]) {
    for (spec, want) in rows {
        assert_eq!(found(kind, spec), *want, "{spec}");
    }
}

#[test]
fn servers_are_checked_in_istios_words() {
    let server =
        |port: &str, more: &str| format!("{{servers: [{{port: {{{port}}}, hosts: [a.test]{more}}}]}}");
    let https = "number: 443, name: x, protocol: HTTPS";
    let http = "number: 80, name: x, protocol: HTTP";
    for (spec, want) in [
        (server(http, ""), vec![]),
        ("{}".to_owned(), vec!["error spec.servers: gateway must have at least one server"]),
        ("{servers: [{hosts: [a.test]}]}".to_owned(), vec!["error spec.servers[0]: port is required"]),
        (
            server("number: 0, name: x, protocol: HTTP", ""),
            vec!["error spec.servers[0].port.number: port number 0 must be in the range 1..65535"],
        ),
        (
            server("number: 70000, name: x, protocol: http", ""),
            vec!["error spec.servers[0].port.number: port number 70000 must be in the range 1..65535"],
        ),
        (
            server("number: 80, protocol: HTTP", ""),
            vec!["error spec.servers[0].port.name: port name must be set: number 80"],
        ),
        (
            server("number: 80, name: x, protocol: WAT", ""),
            vec![
                "error spec.servers[0].port.protocol: invalid protocol \"WAT\", supported protocols are HTTP, HTTP2, GRPC, \
                 GRPC-WEB, MONGO, REDIS, MYSQL, TCP",
            ],
        ),
        (
            server("number: 80, name: x, protocol: HTTP, targetPort: 1", ""),
            vec!["warning spec.servers[0].port.targetPort: targetPort has no impact on Gateways"],
        ),
        (server(http, ", bind: here"), vec!["error spec.servers[0].bind: here is not a valid IP"]),
        (server(http, ", bind: 10.0.0.1"), vec![]),
        (
            server(http, ", bind: 'unix:///run/x.sock'"),
            vec![
                "error spec.servers[0].bind: binding to a unix domain socket is not yet supported: the document is refused",
            ],
        ),
        (
            server("number: 0, name: x, protocol: HTTP", ", bind: 'unix:///run/x.sock'"),
            vec![
                "error spec.servers[0].bind: binding to a unix domain socket is not yet supported: the document is refused",
            ],
        ),
        (
            server(https, ""),
            vec!["error spec.servers[0]: server must have TLS settings for HTTPS/TLS protocols"],
        ),
        (
            server(http, ", tls: {mode: SIMPLE, credentialName: c}"),
            vec!["error spec.servers[0].tls: server cannot have TLS settings for plain text HTTP ports"],
        ),
        (server(http, ", tls: {httpsRedirect: true}"), vec![]),
        (
            server("number: 1, name: x, protocol: TCP", ", tls: {}"),
            vec!["error spec.servers[0].tls: server cannot have TLS settings for non HTTPS/TLS ports"],
        ),
        (
            server(https, ", tls: {mode: SIMPLE}"),
            vec![
                "error spec.servers[0].tls: SIMPLE TLS requires a server certificate",
                "error spec.servers[0].tls: SIMPLE TLS requires a private key",
            ],
        ),
        (server(https, ", tls: {}"), vec![]),
        (
            server(https, ", tls: {credentialName: c}"),
            vec![
                "warning spec.servers[0].tls.credentialName: PASSTHROUGH mode does not use certificates, they will be ignored",
            ],
        ),
        (
            server(https, ", tls: {mode: SIMPLE, credentialName: c, httpsRedirect: true}"),
            vec![
                "warning spec.servers[0].tls.httpsRedirect: tls.httpsRedirect should only be used with http servers",
            ],
        ),
        (
            server(https, ", tls: {mode: SECRET}"),
            vec!["error spec.servers[0].tls.mode: unknown value \"SECRET\""],
        ),
        (
            server(https, ", tls: {mdoe: SIMPLE}"),
            vec!["error spec.servers[0].tls.mdoe: unknown field \"mdoe\""],
        ),
        (
            "{servers: [{port: {number: 1, name: x, protocol: TCP}, hosts: []}]}".to_owned(),
            vec!["error spec.servers[0].hosts: server config must contain at least one host"],
        ),
        (
            format!("{{servers: [{{port: {{{http}}}, hosts: ['*']}}, {{port: {{{http}}}, hosts: ['*']}}]}}"),
            vec!["error spec.servers[1].port.name: port names in servers must be unique: duplicate name x"],
        ),
    ] {
        check("Gateway", &[(&spec, &want)]);
    }
    let bad_name = read("Gateway", "bad.name", &server(http, ""));
    assert_eq!(bad_name.diagnostics[0].message, "invalid gateway name: \"bad.name\"");
    assert!(bad_name.is_refused());
}

#[test]
fn an_invalid_host_comes_with_what_a_host_may_be_made_of() {
    for (kind, spec) in [
        ("Gateway", "{servers: [{port: {number: 80, name: x, protocol: HTTP}, hosts: [a_b.test]}]}"),
        ("VirtualService", "{hosts: [a_b.test], gateways: [g], http: [{route: [{destination: {host: a}}]}]}"),
    ] {
        let found = read(kind, "x", spec).diagnostics;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].help.as_ref().is_some_and(|help| help.contains("letters, digits and dashes")));
    }
}

#[test]
fn what_is_not_supported_is_refused_where_ignoring_it_would_let_someone_in() {
    let tls = |more: &str| {
        format!(
            "{{servers: [{{port: {{number: 1, name: x, protocol: HTTPS}}, hosts: [a.test], tls: {{credentialName: c, {more}}}}}]}}"
        )
    };
    for (more, field, refused) in [
        ("mode: MUTUAL, caCrl: /x", "caCrl", true),
        ("mode: SIMPLE, cipherSuites: [AES128-SHA]", "cipherSuites", false),
    ] {
        let reading = read("Gateway", "x", &tls(more));
        let [found] = reading.diagnostics.as_slice() else { panic!("{more}: {:?}", reading.diagnostics) };
        assert_eq!(found.field.as_deref(), Some(format!("spec.servers[0].tls.{field}").as_str()), "{more}");
        assert_eq!((found.is_error(), reading.is_refused()), (refused, refused), "{more}");
    }
    assert!(
        found("Gateway", &tls("mode: MUTUAL, subjectAltNames: [], insecureSkipVerify: false")).is_empty()
    );
    let rule = |more: &str| {
        format!(
            "{{hosts: [a.test], gateways: [g], http: [{{route: [{{destination: {{host: a}}}}], {more}}}]}}"
        )
    };
    for (more, refused) in [
        ("retries: {attempts: 3, retryRemoteLocalities: true}", false),
        ("match: [{headers: {'@request.auth.claims.sub': {exact: a}}}]", true),
    ] {
        assert_eq!(read("VirtualService", "x", &rule(more)).is_refused(), refused, "{more}");
    }
}

#[test]
fn virtual_services_are_checked_in_istios_words() {
    const HTTP: &str = "http: [{route: [{destination: {host: a}}]}]";
    for (spec, want) in [
        (format!("{{hosts: [a.test], gateways: [g], {HTTP}}}"), vec![]),
        (
            "{hosts: [a.test]}".to_owned(),
            vec!["error spec: http, tcp or tls must be provided in virtual service"],
        ),
        (
            format!("{{gateways: [g], {HTTP}}}"),
            vec!["error spec.gateways: delegate virtual service must have no gateways specified"],
        ),
        (
            format!("{{hosts: [a.foo.com, '*'], gateways: [g], {HTTP}}}"),
            vec!["error spec.hosts[1]: duplicate hosts in virtual service: a.foo.com & *"],
        ),
        (
            format!("{{hosts: ['*'], {HTTP}}}"),
            vec![
                "error spec.hosts[0]: wildcard host * is not allowed for virtual services bound to the mesh gateway",
            ],
        ),
        (
            format!("{{hosts: [a.test], gateways: [g, a/b/c, foo_bar, /x], {HTTP}}}"),
            vec![
                "error spec.gateways[1]: invalid value for gateway name: \"b/c\"",
                "error spec.gateways[2]: invalid value for gateway name: \"foo_bar\"",
                "error spec.gateways[3]: config namespace and gateway name cannot be empty",
            ],
        ),
        (
            format!("{{hosts: [a.test], gateways: [g.ns.svc.cluster.local], {HTTP}}}"),
            vec!["warning spec.gateways[0]: legacy gateway name \"g.ns.svc.cluster.local\""],
        ),
        (
            format!("{{hosts: [a.test], gateways: [g], exportTo: ['*', ns], {HTTP}}}"),
            vec![
                "error spec.exportTo: cannot have both public (*) and non-public exportTo values for a resource",
            ],
        ),
        (
            "{hosts: [a.test], gateways: [g], tls: [{match: [{sniHosts: [b.test]}], route: [{destination: {host: a}}]}]}".to_owned(),
            vec![
                "error spec.tls[0].match[0].sniHosts[0]: SNI host \"b.test\" is not a compatible subset of any of the virtual \
                 service hosts: [a.test]",
            ],
        ),
        (
            "{hosts: [a.test], gateways: [g], tls: [{}], tcp: [{}]}".to_owned(),
            vec![
                "error spec.tls[0]: TLS route must have at least one match condition",
                "error spec.tls[0]: TLS route is required",
                "error spec.tcp[0]: TCP route is required",
            ],
        ),
        (
            "{hosts: [a.test], gateways: [g], tls: [{match: [{}], route: [{destination: {host: a}}]}]}".to_owned(),
            vec!["error spec.tls[0].match[0].sniHosts: TLS match must have at least one SNI host"],
        ),
    ] {
        check("VirtualService", &[(&spec, &want)]);
    }
}

#[test]
fn http_rules_are_checked_in_istios_words() {
    const ROUTE: &str = "route: [{destination: {host: a}}]";
    let re2 = "Istio uses RE2 style regex-based match (https://github.com/google/re2/wiki/Syntax)";
    for (rule, want) in [
        (String::new(), vec![": HTTP route, redirect or direct_response is required".to_owned()]),
        (format!("{ROUTE}, redirect: {{uri: /}}"), vec![": HTTP route cannot contain both route and redirect".to_owned()]),
        (
            "rewrite: {uri: /}, directResponse: {status: 200}".to_owned(),
            vec![": HTTP route rule cannot contain both rewrite and direct_response".to_owned()],
        ),
        (
            "redirect: {uri: /}, directResponse: {status: 200}".to_owned(),
            vec![": HTTP route rule cannot contain both direct_response and redirect".to_owned()],
        ),
        (
            format!("{ROUTE}, rewrite: {{authority: a}}, headers: {{request: {{set: {{Host: b}}}}}}"),
            vec![
                ".headers.request.set.Host: authority header cannot be set multiple times: have \"a\", attempting to set \"b\""
                    .to_owned(),
            ],
        ),
        (
            format!("{ROUTE}, headers: {{request: {{set: {{x-envoy-retry-on: 5xx}}}}}}"),
            vec![
                ".headers.request.set.x-envoy-retry-on: a route that tells the gateway by x-envoy-retry-on is not yet supported"
                    .to_owned(),
            ],
        ),
        (format!("{ROUTE}, headers: {{response: {{set: {{x: '%REQ(x-request-id)%'}}}}}}"), vec![]),
        (format!("{ROUTE}, match: [{{withoutHeaders: {{x: {{regex: '*'}}}}}}]"), vec![]),
        ("route: [{}]".to_owned(), vec![".route[0]: destination is required".to_owned()]),
        (
            "route: [{destination: {host: '*'}}]".to_owned(),
            vec![".route[0].destination.host: invalid destination host *".to_owned()],
        ),
        (
            "route: [{destination: {host: a, port: {}}}]".to_owned(),
            vec![".route[0].destination.port.number: port number 0 must be in the range 1..65535".to_owned()],
        ),
        (
            "route: [{destination: {host: a}, weight: -1}]".to_owned(),
            vec![".route[0].weight: weight -1 < 0".to_owned()],
        ),
        (
            "route: [{destination: {host: a}}, {destination: {host: b}}]".to_owned(),
            vec![".route: total destination weight = 0".to_owned()],
        ),
        ("redirect: {}".to_owned(), vec![".redirect: redirect must specify URI, authority, scheme, or port".to_owned()]),
        (
            "redirect: {uri: /, redirectCode: 404}".to_owned(),
            vec![".redirect.redirectCode: 404 is not a valid redirect code, must be 3xx".to_owned()],
        ),
        (
            "redirect: {uri: /, redirectCode: 304}".to_owned(),
            vec![".redirect.redirectCode: 304 is not a redirect that can be served".to_owned()],
        ),
        (
            "redirect: {scheme: ftp}".to_owned(),
            vec![".redirect.scheme: invalid redirect scheme, must be \"http\" or \"https\"".to_owned()],
        ),
        (
            "directResponse: {status: 700}".to_owned(),
            vec![".directResponse.status: HTTP status 700 is not in range 200-599".to_owned()],
        ),
        (format!("{ROUTE}, timeout: 0s"), vec![".timeout: duration must be greater than 1ms".to_owned()]),
        (
            format!("{ROUTE}, timeout: soon"),
            vec![".timeout: `soon` is not a duration such as 10s, 300ms or 1m30s".to_owned()],
        ),
        (
            format!("{ROUTE}, rewrite: {{}}"),
            vec![
                ".rewrite: rewrite must specify at least one of URI, UriRegexRewrite, or authority. Only one of URI or \
                 UriRegexRewrite may be specified"
                    .to_owned(),
            ],
        ),
        (
            format!("{ROUTE}, rewrite: {{uriRegexRewrite: {{match: a}}}}"),
            vec![
                ".rewrite.uriRegexRewrite: UriRegexRewrite requires both Rewrite and Match fields to be specified".to_owned(),
            ],
        ),
        (
            format!("{ROUTE}, match: [{{uri: {{regex: '('}}}}]"),
            vec![format!(".match[0].uri.regex: \"uri\": error parsing regexp: missing closing ): `(`; {re2}")],
        ),
        (
            format!("{ROUTE}, match: [{{uri: {{regex: '{}'}}}}]", "a".repeat(1025)),
            vec![".match[0].uri.regex: \"uri\": regex is too large, max length allowed is 1024".to_owned()],
        ),
        (format!("{ROUTE}, match: [{{uri: {{prefix: ''}}}}]"), vec![]),
        (
            format!("{ROUTE}, match: [{{headers: {{x: {{prefix: ''}}}}}}]"),
            vec![".match[0].headers.x.prefix: \"headers\": prefix string match should not be empty".to_owned()],
        ),
        (
            format!("{ROUTE}, match: [{{uri: {{prefix: /, exact: /}}}}]"),
            vec![".match[0].uri: \"uri\": only one of exact, prefix and regex may be given".to_owned()],
        ),
        (
            format!("{ROUTE}, headers: {{request: {{set: {{':path': x}}}}}}"),
            vec![".headers.request.set.:path: invalid header \":path\": header cannot have \":\" prefix".to_owned()],
        ),
        (
            format!("{ROUTE}, headers: {{request: {{set: {{host: a}}, add: {{':authority': b}}}}}}"),
            vec![
                ".headers.request.add.:authority: authority header cannot be set multiple times: have \"a\", attempting to set \
                 \"b\""
                    .to_owned(),
            ],
        ),
        (
            format!("{ROUTE}, headers: {{response: {{set: {{host: a}}}}, request: {{remove: [Host]}}}}"),
            vec![
                ".headers.request.remove[0]: invalid header \"Host\": cannot set Host header".to_owned(),
                ".headers.response.set.host: invalid header \"host\": cannot set Host header".to_owned(),
            ],
        ),
        (
            format!("{ROUTE}, headers: {{request: {{set: {{x: '50%foo'}}}}}}"),
            vec![
                ".headers.request.set.x: header value configuration: invalid header configuration. Un-terminated variable \
                 expression '%foo'"
                    .to_owned(),
            ],
        ),
        (
            format!("{ROUTE}, headers: {{request: {{set: {{x: true}}}}}}"),
            vec![".headers.request.set.x: expected text, found the boolean `true`".to_owned()],
        ),
        // YAML 1.1 took `y` for a boolean, and kubectl still does; here it is text where text is asked.
        (format!("{ROUTE}, headers: {{request: {{set: {{x: y}}}}}}"), vec![]),
    ] {
        let spec = format!("{{hosts: [a.test], gateways: [g], http: [{{{rule}}}]}}");
        let want: Vec<String> = want.iter().map(|line| format!("error spec.http[0]{line}")).collect();
        assert_eq!(found("VirtualService", &spec), want, "{rule}");
    }
}

#[test]
fn kinds_that_are_not_served_are_never_passed_over_in_silence() {
    let file: Arc<str> = "t.yaml".into();
    for (version, kind, want) in [
        ("security.istio.io/v1", "AuthorizationPolicy", "error SLU0005"),
        ("security.istio.io/v1", "RequestAuthentication", "error SLU0005"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute", "error SLU0005"),
        ("networking.istio.io/v1", "WorkloadGroup", "warning SLU0004"),
        ("telemetry.istio.io/v1beta1", "Telemetry", "error SLU0002"),
        ("networking.k8s.io/v1", "Ingress", "warning SLU0004"),
        ("apps/v1", "Deployment", "info SLU0003"),
        ("v1", "ConfigMap", "info SLU0003"),
        ("networking.istio.io/v2", "ServiceEntry", "error SLU0002"),
        ("v1", "Gateway", "warning SLU0003"),
        ("networking.istio.io/v2", "Gateway", "error SLU0002"),
    ] {
        let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n");
        let readings: Vec<Reading> =
            split(&text).into_iter().flat_map(|chunk| read_document(&file, chunk, "default")).collect();
        let found = &readings[0].diagnostics[0];
        assert_eq!(format!("{} {}", found.severity.as_str(), found.code), want, "{version} {kind}");
    }
}

#[test]
fn a_secrets_content_is_never_shown() {
    let file: Arc<str> = "t.yaml".into();
    for body in ["data: {key: '%%hush%%'}", "data: hush", "stringData: {key: 1}\n", "data:\n\tkey: hush"] {
        let text = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: x}}\n{body}\n");
        let readings: Vec<Reading> =
            split(&text).into_iter().flat_map(|chunk| read_document(&file, chunk, "default")).collect();
        let shown = crate::api::render(&readings[0].diagnostics[0], false);
        assert!(!shown.contains("hush"), "{shown}");
        assert!(readings[0].is_refused());
    }
}

#[test]
fn destination_rules_are_checked_in_istios_words() {
    let policy = |text: &str| format!("{{host: a, trafficPolicy: {text}}}");
    let outlier = |text: &str| policy(&format!("{{outlierDetection: {text}}}"));
    let (at, pool) = ("error spec.trafficPolicy", "connectionPool.tcp");
    for (spec, want) in [
        ("{host: a}".to_owned(), vec![]),
        ("{host: '*.svc.cluster.local'}".to_owned(), vec![]),
        ("{}".to_owned(), vec!["error spec.host: empty domain name not allowed".to_owned()]),
        (policy("{}"), vec![format!("{at}: traffic policy must have at least one field")]),
        (
            policy("{tunnel: {targetHost: a}, proxyProtocol: {}}"),
            vec![
                format!("{at}: tunnel and proxyProtocol must not be set together"),
                format!("{at}.tunnel: tunnel is not yet supported and must not be ignored: the document is refused"),
            ],
        ),
        (
            policy("{portLevelSettings: [{outlierDetection: {}}]}"),
            vec![format!("{at}.portLevelSettings[0]: portTrafficPolicy must have valid port")],
        ),
        (
            "{host: a, subsets: [{name: v1}, {name: v1}, {name: ''}]}".to_owned(),
            vec![
                "error spec.subsets[1].name: duplicate subset names: v1".to_owned(),
                "error spec.subsets[2].name: subset name cannot be empty".to_owned(),
            ],
        ),
        (policy("{loadBalancer: {simple: LEAST_CONN}}"), vec![]),
        (policy("{loadBalancer: {consistentHash: {useSourceIp: true}}}"), vec![]),
        (
            policy("{loadBalancer: {consistentHash: {}}}"),
            vec![format!(
                "{at}.loadBalancer.consistentHash: exactly one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName must be given"
            )],
        ),
        (
            policy("{connectionPool: {tcp: {maxConnections: -1, connectTimeout: 0s, idleTimeout: 0s}}}"),
            vec![
                format!("{at}.{pool}.maxConnections: max connections must be non-negative"),
                format!("{at}.{pool}.connectTimeout: duration must be greater than 1ms"),
            ],
        ),
        (policy("{connectionPool: {}}"), vec![format!("{at}.connectionPool: connection pool must have at least one field")]),
        (outlier("{consecutive5xxErrors: 3, interval: 5s, maxEjectionPercent: 100}"), vec![]),
        (
            outlier("{maxEjectionPercent: 101, minHealthPercent: -1}"),
            vec![
                format!("{at}.outlierDetection.maxEjectionPercent: percentage 101 is not in range 0..100"),
                format!("{at}.outlierDetection.minHealthPercent: percentage -1 is not in range 0..100"),
            ],
        ),
        (
            outlier("{consecutiveLocalOriginFailures: 3}"),
            vec![format!(
                "{at}.outlierDetection.consecutiveLocalOriginFailures: outlier detection consecutive local origin failures is specified, but split external local origin errors is set to false"
            )],
        ),
        (
            outlier("{consecutiveErrors: 3}"),
            vec!["warning spec.trafficPolicy.outlierDetection.consecutiveErrors: outlier detection consecutive errors is deprecated, use consecutiveGatewayErrors or consecutive5xxErrors instead".to_owned()],
        ),
    ] {
        assert_eq!(found("DestinationRule", &spec), want, "{spec}");
    }
}

#[test]
fn what_a_policy_asks_for_in_vain_is_said_wherever_it_stands() {
    let ignored = "is not yet supported: it has no effect here";
    let spec = "{host: a, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}, portLevelSettings: [{port: {number: 80}, \
                loadBalancer: {zoneAwareLbSetting: {enabled: true}}}]}, subsets: [{name: v, trafficPolicy: {loadBalancer: \
                {simple: PASSTHROUGH}}}]}";
    check(
        "DestinationRule",
        &[
            (
                spec,
                &[
                    &format!("warning spec.trafficPolicy.loadBalancer.simple: PASSTHROUGH {ignored}"),
                    &format!(
                        "warning spec.trafficPolicy.portLevelSettings[0].loadBalancer.zoneAwareLbSetting: zoneAwareLbSetting {ignored}"
                    ),
                    &format!(
                        "warning spec.subsets[0].trafficPolicy.loadBalancer.simple: PASSTHROUGH {ignored}"
                    ),
                ],
            ),
            (
                "{host: a, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}",
                &[
                    "error spec.trafficPolicy.tls.mode: ISTIO_MUTUAL is not yet supported and must not be ignored: the document is refused",
                ],
            ),
            ("{host: a, trafficPolicy: {tls: {mode: DISABLE}}}", &[]),
        ],
    );
}

#[test]
fn our_annotations_are_checked_with_their_place() {
    let file: Arc<str> = "t.yaml".into();
    let text = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata:\n  name: x\n  annotations:\n    sluice.dev/proxy-protocol: v3\n\
                    other.dev/x: y\nspec: {servers: [{port: {number: 80, name: x, protocol: TCP}, hosts: ['*']}]}\n"
        .replace("\nother", "\n    other");
    let read = |text: &str| read_document(&file, split(text)[0], "default").remove(0);
    let wrong = read(&text);
    assert!(wrong.is_refused());
    let found = &wrong.diagnostics[0];
    assert_eq!(found.field.as_deref(), Some("metadata.annotations[\"sluice.dev/proxy-protocol\"]"));
    assert_eq!(found.position.as_ref().map(|at| (at.line, at.column)), Some((6, 32)));
    assert!(found.help.as_ref().is_some_and(|help| help.contains("`v1` or `v2`")), "{found:?}");
    assert!(read(&text.replace("v3", "v2")).object.is_some());
    let number = read(&text.replace("sluice.dev/proxy-protocol: v3", "sluice.dev/max-connections: 9"));
    assert!(number.diagnostics[0].help.as_ref().is_some_and(|help| help.contains("quotes")), "{number:?}");
    let misplaced = read(&text.replace("proxy-protocol: v3", "health-check: tcp"));
    assert!(misplaced.diagnostics[0].help.as_ref().is_some_and(|help| help.contains("a DestinationRule")));
}

#[test]
fn health_checks_are_checked_with_their_place() {
    let file: Arc<str> = "t.yaml".into();
    for (annotations, want) in [
        ("health-check: 'http:///healthz'", &[][..]),
        (
            "health-check: /healthz",
            &["error unknown value \"/healthz\" of the annotation sluice.dev/health-check"],
        ),
        (
            "health-check: tcp, health-check-statuses: '200', health-check-timeout: 1s",
            &["warning sluice.dev/health-check-statuses has no effect: only checks of HTTP have statuses"],
        ),
        (
            "health-check-timeout: 1s",
            &[
                "warning sluice.dev/health-check-timeout has no effect: without sluice.dev/health-check nothing is checked",
            ],
        ),
        ("health-checks: tcp", &["error unknown annotation \"sluice.dev/health-checks\""]),
        ("max-connections: '5'", &["error unknown annotation \"sluice.dev/max-connections\""]),
    ] {
        let annotations: Vec<String> =
            annotations.split(", ").map(|annotation| format!("sluice.dev/{annotation}")).collect();
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: x\n  annotations: {{{}}}\nspec: \
             {{host: a}}\n",
            annotations.join(", ")
        );
        let reading = read_document(&file, split(&text)[0], "default").remove(0);
        let found: Vec<String> =
            reading.diagnostics.iter().map(|it| format!("{} {}", it.severity.as_str(), it.message)).collect();
        assert_eq!(found, want, "{text}");
        assert_eq!(reading.is_refused(), want.iter().any(|it| it.starts_with("error")), "{text}");
        for it in &reading.diagnostics {
            let field = it.field.as_deref().unwrap_or_default();
            assert!(
                field.starts_with("metadata.annotations[\"sluice.dev/") && it.position.is_some(),
                "{it:?}"
            );
        }
    }
}
