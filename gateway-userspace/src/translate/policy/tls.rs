//! TLS towards endpoints: what `tls` of a policy says, and certificates out of the Secrets that it names.

use std::sync::Arc;

use crate::api::destination_rule::{ClientTlsMode, ClientTlsSettings};
use crate::api::{Code, CredentialName, MeshConfig, Severity};
use crate::model::{
    ClientAuthority, ClientIdentity, CredentialProblem, CredentialSource, GatewayIdentity, Pem,
    ServerCertificate, TlsMaterial, Trust, UpstreamProtocol, UpstreamTls,
};

use super::blocks::PlacedTls;
use crate::translate::credential::{self, Credentials};
use crate::translate::registry::Distribution;
use crate::translate::report::Report;

/// What else decides about the connections to a service.
#[derive(Clone, Copy)]
pub(in crate::translate) struct Facts<'f> {
    /// Where Secrets are.
    pub(in crate::translate) credentials: &'f Credentials<'f>,
    /// `subjectAltNames` of its ServiceEntry.
    pub(in crate::translate) subject_alt_names: &'f [String],
    /// Which endpoints it would rather have used.
    pub(in crate::translate) distribution: Distribution,
    /// Where the gateway runs.
    pub(in crate::translate) identity: &'f GatewayIdentity,
    /// What holds where its rule says nothing.
    pub(in crate::translate) mesh: &'f MeshConfig,
}

/// How a cluster's endpoints are spoken to; `None` is in the clear.
pub(super) fn upstream(
    placed: &PlacedTls<'_>,
    protocol: UpstreamProtocol,
    facts: Facts<'_>,
    report: &mut Report,
) -> Option<UpstreamTls> {
    let PlacedTls { document, field, settings } = placed;
    let is_mutual = match settings.mode.unwrap_or_default() {
        ClientTlsMode::Disable => return None,
        // Documents with the last one are refused.
        ClientTlsMode::Simple | ClientTlsMode::IstioMutual => false,
        ClientTlsMode::Mutual => true,
    };
    let asker = Asker { settings, is_mutual, credentials: facts.credentials };
    let material = asker.material().map_err(|(field, problem)| {
        report_problem(placed, field, &problem, report);
        problem
    });
    let own = &settings.subject_alt_names;
    let names = if own.is_empty() { facts.subject_alt_names } else { own };
    Some(UpstreamTls {
        material,
        asked: asked(settings),
        sni: Some(settings.sni.as_str()).filter(|sni| !sni.is_empty()).map(Into::into),
        subject_alt_names: names.iter().map(|name| name.as_str().into()).collect(),
        verifies_host: settings.sni.is_empty() && own.is_empty(),
        offers_http2: protocol == UpstreamProtocol::Http2,
        protocol: facts.credentials.towards_backends(),
        destination_rule: format!("{}.{}", document.name(), document.namespace()).into(),
        field: field.to_string().into(),
    })
}

/// Everything that the document names, in its own words.
fn asked(settings: &ClientTlsSettings) -> Vec<Arc<str>> {
    let ClientTlsSettings {
        credential_name, ca_certificates, ca_crl, client_certificate, private_key, ..
    } = settings;
    let all = [credential_name, ca_certificates, ca_crl, client_certificate, private_key];
    all.into_iter().filter(|name| !name.is_empty()).map(|name| name.as_str().into()).collect()
}

/// Collects what settings name.
struct Asker<'s> {
    settings: &'s ClientTlsSettings,
    is_mutual: bool,
    credentials: &'s Credentials<'s>,
}

/// The field below `tls` that leads to nothing, and why.
type Wrong = (&'static str, CredentialProblem);

impl Asker<'_> {
    fn material(&self) -> Result<TlsMaterial, Wrong> {
        let identity = self.is_mutual.then(|| self.identity()).transpose()?;
        Ok(TlsMaterial { trust: self.trust()?, identity })
    }

    /// A Secret must have a CA: the system's authorities never stand in for it.
    fn trust(&self) -> Result<Trust, Wrong> {
        let settings = self.settings;
        if settings.insecure_skip_verify == Some(true) {
            return Ok(Trust::Anyone);
        }
        if !settings.credential_name.is_empty() {
            let name = CredentialName::of_authority(&settings.credential_name);
            let found = self.credentials.named_authority(&name).map_err(|it| ("credentialName", it))?;
            let ClientAuthority { source, bundle, revoked } = found;
            let revoked = revoked.map(|text| Pem { source: source.clone(), text });
            return Ok(Trust::Bundle { authorities: Pem { source, text: bundle }, revoked });
        }
        if settings.ca_certificates.is_empty() {
            return Ok(Trust::System);
        }
        let authorities = self.file("caCertificates", &settings.ca_certificates)?;
        let lists = Some(&settings.ca_crl).filter(|path| !path.is_empty());
        let revoked = lists.map(|path| self.file("caCrl", path)).transpose()?;
        Ok(Trust::Bundle { authorities, revoked })
    }

    fn identity(&self) -> Result<ClientIdentity, Wrong> {
        let settings = self.settings;
        if settings.credential_name.is_empty() {
            return Ok(ClientIdentity {
                certificate_chain: self.file("clientCertificate", &settings.client_certificate)?,
                private_key: self.file("privateKey", &settings.private_key)?,
            });
        }
        let found = self.credentials.named_certificate(&settings.credential_name);
        let ServerCertificate { source, chain, private_key, .. } =
            found.map_err(|it| ("credentialName", it))?;
        Ok(ClientIdentity {
            certificate_chain: Pem { source: source.clone(), text: chain },
            private_key: Pem { source, text: private_key },
        })
    }

    fn file(&self, field: &'static str, path: &str) -> Result<Pem, Wrong> {
        let text = self.credentials.file(path).map_err(|it| (field, it))?;
        Ok(Pem { source: CredentialSource::File(path.into()), text })
    }
}

fn report_problem(
    placed: &PlacedTls<'_>,
    field: &'static str,
    problem: &CredentialProblem,
    report: &mut Report,
) {
    let PlacedTls { document, field: place, .. } = placed;
    let (severity, code, message) = credential::told(problem, Code::UpstreamTlsUnusable);
    let found = document.diagnostic(severity, code, &place.field(field), message);
    if severity < Severity::Error {
        return report.add(found);
    }
    report.add(found.help(
        "requests to the host are answered with 503 until it is there, Secrets in the gateway's own namespace; a running \
         gateway goes on with the one before if it is merely gone; nothing is sent in the clear meanwhile",
    ));
}
