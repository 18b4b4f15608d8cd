//! Handshakes in memory, with configurations made of policies.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::*;
use crate::model::{ClusterName, CredentialSource, Pem, ProtocolPolicy, UpstreamProtocol};

/// A certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, PEM.
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// For names, of which those with `://` are URIs.
    fn issue(&self, names: &[&str], serial: u64) -> Identity {
        let (uris, names): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains("://"));
        let mut params =
            CertificateParams::new(names.into_iter().map(str::to_owned).collect::<Vec<_>>()).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let uri = |uri: &str| SanType::URI(uri.try_into().unwrap());
        params.subject_alt_names.extend(uris.into_iter().map(uri));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }

    fn revoke(&self, serial: u64) -> String {
        let now = time(std::time::SystemTime::now());
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update: now + std::time::Duration::from_hours(1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

/// As rcgen wants it.
fn time<T: From<std::time::SystemTime>>(at: std::time::SystemTime) -> T {
    at.into()
}

fn secret(pem: &str) -> Pem {
    Pem { source: CredentialSource::Secret("istio-system/it".into()), text: pem.as_bytes().into() }
}

fn trusting(authorities: &str) -> TlsMaterial {
    TlsMaterial { trust: Trust::Bundle { authorities: secret(authorities), revoked: None }, identity: None }
}

fn policy(material: TlsMaterial) -> UpstreamTls {
    UpstreamTls {
        material: Ok(material),
        asked: Vec::new(),
        sni: None,
        subject_alt_names: Vec::new(),
        verifies_host: true,
        offers_http2: false,
        protocol: ProtocolPolicy::default(),
        destination_rule: "it.default".into(),
        field: "spec.trafficPolicy.tls".into(),
    }
}

fn server(identity: &Identity, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = certificate::chain(identity.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.0.pem().as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// What came of a handshake: the name and the protocol that the server saw, or what the client or the server objected to.
fn shake(
    client: &Arc<ClientConfig>,
    name: &str,
    server: &Arc<ServerConfig>,
) -> Result<(Option<String>, Option<Vec<u8>>), String> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().map_err(|error| format!("server: {error}"))?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets().map_err(|error| error.to_string())?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((server.server_name().map(str::to_owned), server.alpn_protocol().map(<[u8]>::to_vec)))
}

#[test]
fn an_endpoint_is_believed_by_its_chain_and_by_the_names_that_count() {
    let (ours, other) = (Authority::new(), Authority::new());
    let good = ours.issue(&["a.test", "*.wild.test", "10.0.0.1", "spiffe://mesh/a"], 1);
    let alone = Authority::new().0.pem();
    for (trusted, sans, verifies_host, asked, is_believed) in [
        (ours.0.pem(), &[][..], true, "a.test", true),
        (ours.0.pem(), &[], true, "x.wild.test", true),
        (ours.0.pem(), &[], true, "10.0.0.1", true),
        (ours.0.pem(), &[], true, "b.test", false),
        (ours.0.pem(), &[], true, "10.0.0.2", false),
        // Names of the document count in place of the Host.
        (ours.0.pem(), &[], false, "b.test", true),
        (ours.0.pem(), &["a.test"], false, "b.test", true),
        (ours.0.pem(), &["z.test", "spiffe://mesh/a"], false, "b.test", true),
        (ours.0.pem(), &["deep.wild.test"], false, "b.test", true),
        (ours.0.pem(), &["too.deep.wild.test"], false, "b.test", false),
        (ours.0.pem(), &["wild.test"], false, "b.test", false),
        (ours.0.pem(), &["10.0.0.1"], false, "b.test", true),
        (ours.0.pem(), &["10.0.0.2"], false, "b.test", false),
        (ours.0.pem(), &["spiffe://mesh/b"], false, "a.test", false),
        // Both, as where a ServiceEntry has names and the rule has neither.
        (ours.0.pem(), &["spiffe://mesh/a"], true, "a.test", true),
        (ours.0.pem(), &["spiffe://mesh/a"], true, "b.test", false),
        (other.0.pem(), &[], true, "a.test", false),
        (other.0.pem(), &["a.test"], false, "a.test", false),
        (alone.clone() + &ours.0.pem(), &[], true, "a.test", true),
    ] {
        let policy = UpstreamTls {
            subject_alt_names: sans.iter().map(|name| (*name).into()).collect(),
            verifies_host,
            ..policy(trusting(&trusted))
        };
        let made = make(&policy).unwrap();
        let outcome = shake(&made.by_host, asked, &server(&good, None));
        assert_eq!(outcome.is_ok(), is_believed, "{sans:?} {verifies_host} {asked}: {outcome:?}");
        if !verifies_host {
            continue;
        }
        // Opaque bytes ask for the endpoint, whoever that is.
        let anonymous = shake(&made.anonymous, "192.0.2.1", &server(&good, None));
        assert_eq!(anonymous.is_ok(), trusted.contains(&ours.0.pem()), "{anonymous:?}");
        assert!(anonymous.is_err() || anonymous.unwrap().0.is_none(), "no name is sent");
    }
}

#[test]
fn a_certificate_that_the_bundle_holds_is_believed_though_it_is_an_authority() {
    let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    // As `openssl req -x509` makes them.
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let identity = Identity { certificate: certificate.clone(), key: key.serialize_pem() };
    let made = make(&policy(trusting(&certificate))).unwrap();
    assert!(shake(&made.by_host, "a.test", &server(&identity, None)).is_ok());
    assert!(shake(&made.by_host, "b.test", &server(&identity, None)).is_err());
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let certificate = params.self_signed(&key).unwrap().pem();
    let old = Identity { certificate: certificate.clone(), key: key.serialize_pem() };
    let made = make(&policy(trusting(&certificate))).unwrap();
    assert!(shake(&made.by_host, "a.test", &server(&old, None)).is_err());
}

#[test]
fn nobody_is_verified_where_the_document_says_so() {
    let identity = Authority::new().issue(&["a.test"], 1);
    let anyone = policy(TlsMaterial { trust: Trust::Anyone, identity: None });
    let made = make(&anyone).unwrap();
    let seen = shake(&made.by_host, "b.test", &server(&identity, None)).unwrap();
    assert_eq!(
        seen,
        (Some("b.test".to_owned()), None),
        "the name is sent all the same, and no protocol is offered"
    );
}

#[test]
fn a_revoked_certificate_is_not_believed() {
    let authority = Authority::new();
    let list = authority.revoke(7);
    for (serial, is_believed) in [(7, false), (8, true)] {
        let trust = Trust::Bundle { authorities: secret(&authority.0.pem()), revoked: Some(secret(&list)) };
        let made = make(&policy(TlsMaterial { trust, identity: None })).unwrap();
        let identity = authority.issue(&["a.test"], serial);
        let outcome = shake(&made.by_host, "a.test", &server(&identity, None));
        assert_eq!(outcome.is_ok(), is_believed, "{serial}: {outcome:?}");
    }
}

#[test]
fn a_certificate_of_our_own_is_shown_and_http2_offered_where_the_policy_has_them() {
    let authority = Authority::new();
    let (theirs, ours) = (authority.issue(&["a.test"], 1), authority.issue(&["gateway"], 2));
    let with =
        ClientIdentity { certificate_chain: secret(&ours.certificate), private_key: secret(&ours.key) };
    let wants_ours = server(&theirs, Some(&authority));
    for (identity, offers_http2, want) in [
        (None, false, None),
        (Some(with.clone()), false, Some(None)),
        (Some(with), true, Some(Some(b"h2".to_vec()))),
    ] {
        let material = TlsMaterial { identity, ..trusting(&authority.0.pem()) };
        let made = make(&UpstreamTls { offers_http2, ..policy(material) }).unwrap();
        let seen = shake(&made.by_host, "a.test", &wants_ours).ok().map(|(_, protocol)| protocol);
        assert_eq!(seen, want);
    }
}

#[test]
fn what_cannot_be_used_is_told_by_its_name_and_without_a_byte_of_it() {
    let authority = Authority::new();
    let (one, other) = (authority.issue(&["a"], 1), authority.issue(&["b"], 2));
    let identity = |certificate: &str, key: &str| ClientIdentity {
        certificate_chain: secret(certificate),
        private_key: secret(key),
    };
    let with_ca =
        |authorities, revoked| TlsMaterial { trust: Trust::Bundle { authorities, revoked }, identity: None };
    let ca = authority.0.pem();
    for (material, want) in [
        (trusting("hush"), "secret istio-system/it: holds no certificate in PEM form"),
        (
            with_ca(secret(&ca), Some(secret("hush"))),
            "secret istio-system/it: list of revoked certificates cannot be used: holds none in PEM form",
        ),
        (
            TlsMaterial { identity: Some(identity(&one.certificate, &other.key)), ..trusting(&ca) },
            "secret istio-system/it: private key does not match the certificate",
        ),
        (
            TlsMaterial { identity: Some(identity(&one.certificate, "hush")), ..trusting(&ca) },
            "secret istio-system/it: holds no private key in PEM form (PKCS#8, PKCS#1 or SEC1)",
        ),
    ] {
        assert_eq!(make(&policy(material)).unwrap_err().to_string(), want);
    }
}

fn snapshot(policy: &UpstreamTls) -> Snapshot {
    let name = ClusterName { host: "a".into(), port: 80, subset: None };
    let mut cluster = Cluster::new(name.clone(), UpstreamProtocol::Http1, Vec::new());
    cluster.tls = Some(Arc::new(policy.clone()));
    Snapshot { clusters: Arc::new([(name, Arc::new(cluster))].into()), ..Snapshot::default() }
}

#[test]
fn a_configuration_is_kept_until_its_policy_changes_and_over_material_that_is_gone() {
    let ca = Authority::new().0.pem();
    let with = |material: Result<TlsMaterial, CredentialProblem>| UpstreamTls {
        material,
        asked: vec!["it".into()],
        ..policy(trusting(&ca))
    };
    let gone = || {
        Err(CredentialProblem::NotFound { credential: CredentialSource::Secret("istio-system/it".into()) })
    };
    let build =
        |policy: &UpstreamTls, before: &ClientConfigs| ClientConfigs::build(&snapshot(policy), before);
    let config = |all: &ClientConfigs, policy: &UpstreamTls| {
        all.get(&Arc::new(policy.clone())).map(|configs| configs.by_host)
    };
    let (policy, broken, missing) = (with(Ok(trusting(&ca))), with(Ok(trusting("broken"))), with(gone()));
    let (first, faults) = build(&policy, &ClientConfigs::default());
    assert!(faults.is_empty());
    let first_config = config(&first, &policy).unwrap();
    let (second, _) = build(&policy, &first);
    assert!(Arc::ptr_eq(&config(&second, &policy).unwrap(), &first_config));
    let mut last = second;
    for unusable in [&broken, &missing] {
        let (next, faults) = build(unusable, &last);
        assert_eq!(faults.len(), 1);
        assert!(Arc::ptr_eq(&config(&next, unusable).unwrap(), &first_config));
        last = next;
    }
    // Not for one that is asked for by another name.
    let other = UpstreamTls { asked: vec!["other".into()], ..with(gone()) };
    assert!(config(&build(&other, &last).0, &other).is_err());
    let renewed = with(Ok(trusting(&Authority::new().0.pem())));
    let (renewed_configs, faults) = build(&renewed, &last);
    assert!(faults.is_empty());
    assert!(!Arc::ptr_eq(&config(&renewed_configs, &renewed).unwrap(), &first_config));
}
