//! What a validating admission webhook needs beside its server: a certificate that all gateways share, in a Secret, and the
//! API server told whom to trust. The gateway that writes the status of documents makes a new certificate in time; the
//! others find it. While certificates change hands, those of before are trusted too.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{PatchParams, PostParams};
use kube::{Api, Client, Error};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use super::client;

/// The Secret, in the gateway's namespace.
pub const SECRET: &str = "sluice-admission";
/// How often everything is looked at: so long may a gateway show a certificate that is not the newest.
const LOOK: Duration = Duration::from_secs(20);

/// A certificate for the webhook's server, all PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Shown {
    /// With its chain.
    pub certificate: Vec<u8>,
    /// Never in a log.
    pub key: Vec<u8>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

/// Made anew.
pub struct Made {
    /// What is shown.
    pub shown: Shown,
    /// Who is to be trusted.
    pub authority: String,
}

/// How certificates are made and judged, which is another module's.
pub struct Craft {
    /// Makes one for a name.
    pub make: fn(&str) -> anyhow::Result<Made>,
    /// Whether one, in PEM, is to be replaced by now.
    pub is_old: fn(&[u8], SystemTime) -> bool,
}

/// An admission webhook.
pub struct Webhook {
    /// Of the ValidatingWebhookConfiguration.
    pub name: String,
    /// Where the API server calls it: `SERVICE.NAMESPACE.svc`.
    pub host: String,
    /// Who makes its certificates.
    pub craft: Craft,
}

/// Keeps certificate and trust up to date.
pub(super) struct Keeper {
    secrets: Api<Secret>,
    webhooks: Api<ValidatingWebhookConfiguration>,
    /// Of the ValidatingWebhookConfiguration.
    name: String,
    /// That the API server calls.
    host: String,
    craft: Craft,
    shown: watch::Sender<Option<Arc<Shown>>>,
    is_told: bool,
}

impl Keeper {
    /// For the webhooks of a configuration, which are called at a host.
    pub(super) fn new(
        client: Client,
        namespace: &str,
        (name, host): (&str, &str),
        craft: Craft,
    ) -> (Self, watch::Receiver<Option<Arc<Shown>>>) {
        let (shown, showing) = watch::channel(None);
        let keeper = Self {
            secrets: Api::namespaced(client.clone(), namespace),
            webhooks: Api::all(client),
            name: name.to_owned(),
            host: host.to_owned(),
            craft,
            shown,
            is_told: false,
        };
        (keeper, showing)
    }

    /// Until the task is dropped.
    pub(super) async fn run(mut self, leads: watch::Receiver<bool>) {
        let mut leads = leads;
        loop {
            let is_leader = *leads.borrow_and_update();
            match self.look(is_leader).await {
                Ok(()) => self.is_told = false,
                Err(error) if !std::mem::replace(&mut self.is_told, true) => {
                    let why = error.downcast_ref().map_or_else(|| error.to_string(), client::words);
                    tracing::warn!(%why, webhook = self.name, "the admission webhook is not up to date");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                Ok(()) = leads.changed() => {}
            }
        }
    }

    async fn look(&mut self, is_leader: bool) -> anyhow::Result<()> {
        let secret = self.secrets.get_opt(SECRET).await?;
        let known = secret.as_ref().and_then(shown);
        let is_old =
            known.as_ref().is_none_or(|known| (self.craft.is_old)(&known.certificate, SystemTime::now()));
        let before = secret.as_ref().and_then(|secret| text(secret, "ca.crt"));
        if !(is_leader && is_old) {
            self.show(known);
            return match before {
                Some(trusted) if is_leader => self.trust(&trusted).await,
                _ => Ok(()),
            };
        }
        let made = (self.craft.make)(&self.host)?;
        // Whoever still shows the one before stays trusted until the next.
        let trusted = made.authority.clone() + &before.as_deref().map(first_certificate).unwrap_or_default();
        self.trust(&trusted).await?;
        self.keep(secret, &made, &trusted).await?;
        tracing::info!(webhook = self.name, "a new certificate for the admission webhook");
        self.show(Some(made.shown));
        Ok(())
    }

    fn show(&self, known: Option<Shown>) {
        self.shown.send_if_modified(|before| {
            let is_new = before.as_deref() != known.as_ref();
            if is_new {
                *before = known.map(Arc::new);
            }
            is_new
        });
    }

    /// Writes the Secret, unless somebody else has done so meanwhile.
    async fn keep(&self, before: Option<Secret>, made: &Made, trusted: &str) -> Result<(), Error> {
        let exists = before.is_some();
        let mut secret = before.unwrap_or_default();
        secret.metadata.name = Some(SECRET.to_owned());
        secret.type_ = Some("kubernetes.io/tls".to_owned());
        secret.data = Some(BTreeMap::from([
            ("tls.crt".to_owned(), ByteString(made.shown.certificate.clone())),
            ("tls.key".to_owned(), ByteString(made.shown.key.clone())),
            ("ca.crt".to_owned(), ByteString(trusted.as_bytes().to_vec())),
        ]));
        let parameters = PostParams::default();
        if exists {
            self.secrets.replace(SECRET, &parameters, &secret).await.map(drop)
        } else {
            self.secrets.create(&parameters, &secret).await.map(drop)
        }
    }

    /// Has the API server trust these authorities at each webhook of the configuration.
    async fn trust(&self, authorities: &str) -> anyhow::Result<()> {
        let Some(configuration) = self.webhooks.get_opt(&self.name).await? else {
            anyhow::bail!("there is no ValidatingWebhookConfiguration {}", self.name);
        };
        let webhooks = configuration.webhooks.unwrap_or_default();
        let is_trusted =
            |bundle: &Option<ByteString>| bundle.as_ref().is_some_and(|it| it.0 == authorities.as_bytes());
        if webhooks.iter().all(|webhook| is_trusted(&webhook.client_config.ca_bundle)) {
            return Ok(());
        }
        // By name: the API server merges these lists by it.
        let of = |name: &String| json!({"name": name, "clientConfig": {"caBundle": ByteString(authorities.as_bytes().to_vec())}});
        let patch = json!({"webhooks": webhooks.iter().map(|webhook| of(&webhook.name)).collect::<Vec<_>>()});
        self.webhooks.patch(&self.name, &PatchParams::default(), &kube::api::Patch::Strategic(patch)).await?;
        Ok(())
    }
}

fn shown(secret: &Secret) -> Option<Shown> {
    let bytes = |key: &str| Some(secret.data.as_ref()?.get(key)?.0.clone());
    Some(Shown { certificate: bytes("tls.crt")?, key: bytes("tls.key")? })
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

/// Of several in PEM.
fn first_certificate(pem: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    pem.find(END).map(|at| format!("{}\n", &pem[..at + END.len()])).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_those_trusted_before_the_newest_stays() {
        let one = "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n";
        let two = "-----BEGIN CERTIFICATE-----\nYg==\n-----END CERTIFICATE-----\n";
        assert_eq!(first_certificate(&format!("{one}{two}")), one);
        assert_eq!(first_certificate("nothing"), "");
    }
}
