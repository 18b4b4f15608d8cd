//! TLS towards endpoints: what `tls` of a policy says, and certificates out of the Secrets that it names.

use std::sync::Arc;

use crate::api::destination_rule::{ClientTlsMode, ClientTlsSettings};
use crate::api::{Code, Severity};
use crate::model::{
    ClientIdentity, CredentialProblem, GatewayIdentity, Pem, TlsMaterial, Trust, UpstreamProtocol,
    UpstreamTls,
};

use super::blocks::PlacedTls;
use crate::translate::credential::Credentials;
use crate::translate::report::Report;

/// What else decides about the connections to a service.
#[derive(Clone, Copy)]
pub(in crate::translate) struct Facts<'f> {
    /// Where Secrets are.
    pub(in crate::translate) credentials: &'f Credentials<'f>,
    /// `subjectAltNames` of its ServiceEntry.
    pub(in crate::translate) subject_alt_names: &'f [String],
    /// Where the gateway runs.
    pub(in crate::translate) identity: &'f GatewayIdentity,
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
    let material = match settings.credential_name.as_str() {
        "" => Ok(of_files(settings, is_mutual)),
        name => of_secret(settings, name, is_mutual, facts.credentials),
    };
    if let Err(problem) = &material {
        report_problem(placed, problem, report);
    }
    let own = &settings.subject_alt_names;
    let names = if own.is_empty() { facts.subject_alt_names } else { own };
    Some(UpstreamTls {
        material,
        sni: Some(settings.sni.as_str()).filter(|sni| !sni.is_empty()).map(Into::into),
        subject_alt_names: names.iter().map(|name| name.as_str().into()).collect(),
        verifies_host: settings.sni.is_empty() && own.is_empty(),
        offers_http2: protocol == UpstreamProtocol::Http2,
        destination_rule: format!("{}.{}", document.name(), document.namespace()).into(),
        field: field.to_string().into(),
    })
}

fn of_files(settings: &ClientTlsSettings, is_mutual: bool) -> TlsMaterial {
    let file = |path: &str| Pem::File(path.into());
    let optional = |path: &str| Some(path).filter(|path| !path.is_empty()).map(file);
    let trust = match optional(&settings.ca_certificates) {
        _ if settings.insecure_skip_verify == Some(true) => Trust::Anyone,
        None => Trust::System,
        Some(authorities) => Trust::Bundle { authorities, revoked: optional(&settings.ca_crl) },
    };
    let identity = is_mutual.then(|| ClientIdentity {
        certificate_chain: file(&settings.client_certificate),
        private_key: file(&settings.private_key),
    });
    TlsMaterial { trust, identity }
}

/// A Secret must have a CA: the system's authorities never stand in for it.
fn of_secret(
    settings: &ClientTlsSettings,
    name: &str,
    is_mutual: bool,
    credentials: &Credentials<'_>,
) -> Result<TlsMaterial, CredentialProblem> {
    let pem = |name: &Arc<str>, pem: &[u8]| Pem::Secret { name: name.clone(), pem: pem.into() };
    let identity = if is_mutual {
        let (name, certificate, key) = credentials.own(name)?;
        Some(ClientIdentity { certificate_chain: pem(&name, certificate), private_key: pem(&name, key) })
    } else {
        None
    };
    let trust = if settings.insecure_skip_verify == Some(true) {
        Trust::Anyone
    } else {
        let (name, authorities) = credentials.authorities(name)?;
        Trust::Bundle { authorities: pem(&name, authorities), revoked: None }
    };
    Ok(TlsMaterial { trust, identity })
}

fn report_problem(placed: &PlacedTls<'_>, problem: &CredentialProblem, report: &mut Report) {
    let PlacedTls { document, field, .. } = placed;
    let (code, message) = match problem {
        CredentialProblem::NotFound { name } => {
            let short = name.rsplit('/').next().unwrap_or(name);
            let message =
                format!("Referenced credentialName not found: \"{short}\" (secret {name} not found)");
            (Code::ReferencedResourceNotFound, message)
        }
        CredentialProblem::Unusable { name, reason } => {
            (Code::UpstreamTlsUnusable, format!("secret {name}: {reason}"))
        }
    };
    let field = field.field("credentialName");
    report.add(document.diagnostic(Severity::Error, code, &field, message).help(
        "requests to the host are answered with 503 until the Secret is there, in the gateway's own namespace; nothing \
         is sent in the clear meanwhile",
    ));
}
