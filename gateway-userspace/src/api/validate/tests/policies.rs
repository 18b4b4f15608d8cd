//! What a DestinationRule's policy says about choosing endpoints and connecting to them: errors in Istio's words, also
//! in what has no effect here yet.

use super::found;

/// What is found in a policy, besides that something is not supported; fields from the policy on.
fn policy(text: &str) -> Vec<String> {
    let all = found("DestinationRule", &format!("{{host: a, trafficPolicy: {text}}}"));
    let others = all.iter().filter(|line| !line.contains("is not yet supported"));
    others.map(|line| line.replace("spec.trafficPolicy.", "")).collect()
}

#[test]
fn tls_towards_backends_is_never_left_out_by_a_slip_of_the_pen() {
    for (tls, want) in [
        ("{mode: simpel}", Some("error tls.mode: unknown value \"simpel\"")),
        ("{mode: Simple}", Some("error tls.mode: unknown value \"Simple\"")),
        ("{mdoe: SIMPLE}", Some("error tls.mdoe: unknown field \"mdoe\"")),
        (
            "{sni: a.test, caCertificates: /ca.pem}",
            Some("warning tls: tls without a mode is DISABLE: requests go to the backends in the clear"),
        ),
        (
            "{insecureSkipVerify: true}",
            Some("warning tls: tls without a mode is DISABLE: requests go to the backends in the clear"),
        ),
        ("{}", None),
        ("{mode: DISABLE, sni: a.test}", None),
    ] {
        let want: Vec<String> = want.iter().map(ToString::to_string).collect();
        assert_eq!(policy(&format!("{{tls: {tls}}}")), want, "{tls}");
        let in_subset = format!("{{host: a, subsets: [{{name: v, trafficPolicy: {{tls: {tls}}}}}]}}");
        let found = found("DestinationRule", &in_subset);
        let want: Vec<String> =
            want.iter().map(|line| line.replacen(" tls", " spec.subsets[0].trafficPolicy.tls", 1)).collect();
        assert_eq!(found, want, "{tls}");
    }
}

#[test]
fn tls_towards_backends_is_checked_in_istios_words() {
    let (both, certificate, key) = (
        "cannot specify client certificates or CA certificate or CA CRL If credentialName is set",
        "client certificate required for mutual tls",
        "private key required for mutual tls",
    );
    for (tls, want) in [
        ("{mode: SIMPLE, credentialName: c, caCertificates: /ca.pem}", &[both][..]),
        ("{mode: MUTUAL, caCertificates: /ca.pem}", &[certificate, key]),
        ("{mode: MUTUAL, credentialName: c}", &[]),
        ("{mode: MUTUAL, caCertificates: /ca.pem, clientCertificate: /c.pem, privateKey: /k.pem}", &[]),
        ("{mode: SIMPLE, insecureSkipVerify: true}", &[]),
        (
            "{mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]}",
            &[
                "cannot specify CaCertificates or CredentialName or SubjectAltNames when InsecureSkipVerify is set true",
            ],
        ),
    ] {
        let want: Vec<String> = want.iter().map(|text| format!("error tls: {text}")).collect();
        assert_eq!(policy(&format!("{{tls: {tls}}}")), want, "{tls}");
    }
}

#[test]
fn tls_without_a_ca_is_told_with_its_place() {
    let rule = |text: &str| found("DestinationRule", &format!("{{host: a.test, {text}}}"));
    let words = |mode: &str| {
        format!(
            "DestinationRule default/x in namespace default has TLS mode set to {mode} but no caCertificates are set to \
             validate server identity for host: a.test"
        )
    };
    for (text, want) in [
        ("trafficPolicy: {tls: {mode: SIMPLE}}", vec![("trafficPolicy.tls", words("SIMPLE"))]),
        (
            "trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}",
            vec![("trafficPolicy.portLevelSettings[0].tls", words("SIMPLE") + " at port number:443")],
        ),
        (
            "subsets: [{name: v, trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k}}}]",
            vec![("subsets[0].trafficPolicy.tls", words("MUTUAL"))],
        ),
        ("trafficPolicy: {tls: {mode: SIMPLE, caCertificates: /ca.pem}}", vec![]),
        ("trafficPolicy: {tls: {mode: SIMPLE, credentialName: c}}", vec![]),
        ("trafficPolicy: {tls: {mode: DISABLE}}", vec![]),
    ] {
        let want: Vec<String> =
            want.iter().map(|(field, words)| format!("warning spec.{field}: {words}")).collect();
        assert_eq!(rule(text), want, "{text}");
    }
}

#[test]
fn pools_of_connections_are_checked_in_istios_words() {
    for (pool, want) in [
        ("{http: {http1MaxPendingRequests: 1, http2MaxRequests: 2, idleTimeout: 5s}}", None),
        ("{tcp: {tcpKeepalive: {probes: 3, time: 7200s, interval: 75s}, maxConnectionDuration: 1h}}", None),
        (
            "{http: {http1MaxPendingRequests: -1}}",
            Some("http.http1MaxPendingRequests: http1 max pending requests must be non-negative"),
        ),
        (
            "{http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}",
            Some(
                "http.useClientProtocol: use client protocol must not be true when H2UpgradePolicy is UPGRADE",
            ),
        ),
        ("{http: {h2UpgradePolicy: upgrade}}", Some("http.h2UpgradePolicy: unknown value \"upgrade\"")),
        ("{http: {maxRequests: 1}}", Some("http.maxRequests: unknown field \"maxRequests\"")),
        ("{http: {http2KeepAlive: {interval: 10s, timeout: 1s}}}", None),
        (
            "{http: {http2KeepAlive: {interval: 10s}}}",
            Some("http.http2KeepAlive: http2 keep alive must have a timeout"),
        ),
        (
            "{http: {http2KeepAlive: {interval: 0s, timeout: 1s}}}",
            Some("http.http2KeepAlive.interval: duration must be greater than 1ms"),
        ),
        (
            "{tcp: {maxConnectionDuration: 0s}}",
            Some("tcp.maxConnectionDuration: duration must be greater than 1ms"),
        ),
    ] {
        let want: Vec<String> = want.iter().map(|text| format!("error connectionPool.{text}")).collect();
        assert_eq!(policy(&format!("{{connectionPool: {pool}}}")), want, "{pool}");
    }
}

#[test]
fn a_port_that_has_settings_twice_is_told() {
    let port = |number: u32| format!("{{port: {{number: {number}}}, loadBalancer: {{simple: RANDOM}}}}");
    let again = "warning portLevelSettings[1].port: the port has settings above, which are in force: these take no effect";
    for (second, want) in [(80, vec![again]), (81, vec![])] {
        let text = format!("{{portLevelSettings: [{}, {}]}}", port(80), port(second));
        assert_eq!(policy(&text), want);
    }
}

#[test]
fn choices_of_endpoints_are_checked_in_istios_words() {
    for (balancer, want) in [
        ("{consistentHash: {httpCookie: {name: c, ttl: 0s}, ringHash: {minimumRingSize: 1024}}}", None),
        ("{consistentHash: {useSourceIp: true, maglev: {tableSize: 65537}}}", None),
        (
            "{consistentHash: {useSourceIp: true, maglev: {tableSize: 65536}}}",
            Some(
                "consistentHash.maglev.tableSize: maglev table size 65536 must be a prime number not above 5000011",
            ),
        ),
        ("{simple: ROUND_ROBIN, warmup: {duration: 30s, minimumPercent: 10, aggression: 1}}", None),
        ("{warmup: {duration: 30s, aggression: 0.5}}", None),
        ("{warmup: {minimumPercent: 10}}", Some("warmup: warmup must have a duration")),
        (
            "{warmup: {duration: 30s, minimumPercent: 101}}",
            Some("warmup.minimumPercent: minimumPercent must be in range [0, 100]"),
        ),
        (
            "{warmup: {duration: 30s, aggression: -1}}",
            Some("warmup.aggression: aggression must not be negative"),
        ),
        ("{localityLbSetting: {distribute: [{from: 'a/*', to: {'a/*': 80, 'b/*': 20}}]}}", None),
        (
            "{consistentHash: {httpCookie: {}}}",
            Some("consistentHash.httpCookie: name required for HttpCookie"),
        ),
        (
            "{localityLbSetting: {distribute: [{from: a, to: {a: 80}}]}}",
            Some("localityLbSetting.distribute[0].to: total locality weight 80 != 100"),
        ),
        (
            "{localityLbSetting: {distribute: [{from: a, to: {a: 100}}], failover: [{from: a, to: b}]}}",
            Some("localityLbSetting: can not simultaneously specify 'distribute' and 'failover'"),
        ),
        (
            "{localityLbSetting: {failover: [{from: a, to: a}]}}",
            Some(
                "localityLbSetting.failover[0]: locality lb failover settings must specify different regions",
            ),
        ),
    ] {
        let want: Vec<String> = want.iter().map(|text| format!("error loadBalancer.{text}")).collect();
        assert_eq!(policy(&format!("{{loadBalancer: {balancer}}}")), want, "{balancer}");
    }
    let words = "holds for ROUND_ROBIN and LEAST_REQUEST: it has no effect here";
    for (balancer, name) in [
        ("{simple: RANDOM, warmup: {duration: 5s}}", "warmup"),
        ("{consistentHash: {useSourceIp: true}, warmupDurationSecs: 5s}", "warmupDurationSecs"),
    ] {
        let want = format!("warning loadBalancer.{name}: {name} {words}");
        assert_eq!(policy(&format!("{{loadBalancer: {balancer}}}")), [want]);
    }
    let codes = policy("{outlierDetection: {outlierDetectionHttpErrorCodes: [429, 99]}}");
    let field = "outlierDetection.outlierDetectionHttpErrorCodes";
    assert_eq!(codes, [format!("error {field}[1]: HTTP status 99 is not in range 100-599")]);
}
