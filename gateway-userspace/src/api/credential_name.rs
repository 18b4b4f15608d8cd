//! What the name of a credential leads to: `credentialName` and its like in Gateways.

/// Ending of the names of Secrets that hold a CA alone.
pub const CA_SUFFIX: &str = "-cacert";

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialName {
    /// A Secret of the gateway's own namespace, by its name.
    Secret(String),
    /// A ConfigMap, by namespace and name: a CA alone.
    ConfigMap(String, String),
}

impl CredentialName {
    /// Reads a name for a gateway of a namespace as istiod does: `[kubernetes://][namespace/]name`, where the namespace can be
    /// the gateway's own only; `configmap://namespace/name`. The error says why the name leads to nothing that the gateway may
    /// have.
    pub fn parse(written: &str, own_namespace: &str) -> Result<Self, String> {
        // Nobody serves certificates to this gateway: so Istio's takes the rest for the name of a Secret.
        let written = written.strip_prefix("sds://").unwrap_or(written);
        if written.starts_with("builtin://") {
            return Err("builtin:// is the mesh's own certificate, of which this gateway has none".to_owned());
        }
        if written.starts_with("invalid://") {
            return Err("invalid:// never leads to a credential".to_owned());
        }
        if let Some(name) = written.strip_prefix("configmap://") {
            let (namespace, name) = namespaced(name).ok_or_else(|| incomplete(written))?;
            return Ok(Self::ConfigMap(namespace.to_owned(), name.to_owned()));
        }
        if written.starts_with("kubernetes-gateway://") {
            return Err("cross namespace secret reference requires ReferenceGrant: kubernetes-gateway:// is for the Kubernetes \
                        Gateway API alone"
                .to_owned());
        }
        let name = written.strip_prefix("kubernetes://").unwrap_or(written);
        match name.split_once('/') {
            None => Ok(Self::Secret(name.to_owned())),
            Some((namespace, rest)) if namespace == own_namespace => {
                Ok(Self::Secret(rest.split('/').next().unwrap_or(rest).to_owned()))
            }
            Some(_) => Err(format!(
                "cross namespace secret reference requires ReferenceGrant: a Gateway's Secrets are those of {own_namespace}, \
                 the gateway's own namespace"
            )),
        }
    }

    /// The name under which the CA is looked for that belongs to a credential.
    pub fn of_authority(written: &str) -> String {
        format!("{written}{CA_SUFFIX}")
    }
}

/// `namespace/name`, both there; what follows another slash is not heeded.
fn namespaced(name: &str) -> Option<(&str, &str)> {
    let (namespace, rest) = name.split_once('/')?;
    let name = rest.split('/').next().unwrap_or(rest);
    (!namespace.is_empty() && !name.is_empty()).then_some((namespace, name))
}

fn incomplete(written: &str) -> String {
    format!("invalid resource name \"{written}\". Expected namespace and name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_where_istiods_lead() {
        let secret = |name: &str| Ok(CredentialName::Secret(name.to_owned()));
        let config_map = |namespace: &str, name: &str| {
            Ok(CredentialName::ConfigMap(namespace.to_owned(), name.to_owned()))
        };
        for (written, want) in [
            ("c", secret("c")),
            ("kubernetes://c", secret("c")),
            ("kubernetes://own/c", secret("c")),
            ("own/c", secret("c")),
            ("sds://c", secret("c")),
            ("sds://kubernetes://own/c", secret("c")),
            ("configmap://other/c", config_map("other", "c")),
            ("other/c", Err("cross namespace secret reference requires ReferenceGrant")),
            ("kubernetes://other/c", Err("cross namespace secret reference requires ReferenceGrant")),
            ("kubernetes-gateway://own/c", Err("cross namespace secret reference requires ReferenceGrant")),
            ("file:///etc/c.crt", Err("cross namespace secret reference requires ReferenceGrant")),
            ("configmap://c", Err("invalid resource name \"configmap://c\". Expected namespace and name")),
            ("configmap:///c", Err("invalid resource name")),
            ("configmap://other/", Err("invalid resource name")),
            ("invalid://", Err("invalid:// never leads to a credential")),
            ("builtin://", Err("builtin:// is the mesh's own certificate")),
        ] {
            match (CredentialName::parse(written, "own"), want) {
                (Err(found), Err(want)) => assert!(found.starts_with(want), "{written}: {found}"),
                (found, want) => assert_eq!(found, want.map_err(str::to_owned), "{written}"),
            }
        }
    }
}
