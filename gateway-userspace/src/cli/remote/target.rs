//! What a user calls a gateway, read in every way that it can be meant: as istioctl's `POD`, `POD.NAMESPACE` and `pod/POD`,
//! and as the node that a gateway runs on.

/// One way to read a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading {
    /// A pod; without a namespace, in that of the kubeconfig's context.
    Pod {
        /// As given, or read out of the name.
        namespace: Option<String>,
        /// `metadata.name`.
        name: String,
    },
    /// The gateway on a node.
    Node(String),
}

/// Ways to read a name, the likeliest first. A namespace has no dots, so that what follows a name's last one may be it; with a
/// namespace given, a name is likelier to be one with dots in it. The error says what a name looks like.
pub(super) fn readings(text: &str, namespace: Option<&str>) -> Result<Vec<Reading>, String> {
    if let Some(namespace) = namespace.filter(|namespace| !is_label(namespace)) {
        return Err(format!("`{namespace}` is no name of a namespace"));
    }
    let (kind, name) = match text.split_once('/') {
        Some((kind, name)) => (Some(kind), name),
        None => (None, text),
    };
    if !is_name(name) {
        return Err(format!("`{text}` is no name: expected POD, POD.NAMESPACE, pod/POD or node/NODE"));
    }
    let node = || Reading::Node(name.to_owned());
    match kind {
        Some("node" | "nodes" | "no") => Ok(vec![node()]),
        Some("pod" | "pods" | "po") => Ok(pods(name, namespace)),
        None => Ok(pods(name, namespace).into_iter().chain([node()]).collect()),
        Some(kind @ ("deploy" | "deployment" | "ds" | "daemonset" | "svc" | "service")) => Err(format!(
            "`{kind}/` may be several gateways, each with a configuration of its own: expected POD, POD.NAMESPACE, pod/POD \
             or node/NODE; `sluice proxy-status` lists them"
        )),
        Some(kind) => {
            Err(format!("`{kind}/` is not understood: expected POD, POD.NAMESPACE, pod/POD or node/NODE"))
        }
    }
}

fn pods(name: &str, namespace: Option<&str>) -> Vec<Reading> {
    let pod = |namespace: Option<&str>, name: &str| Reading::Pod {
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    };
    let whole = pod(namespace, name);
    let split = name.rsplit_once('.').filter(|(_, behind)| is_label(behind));
    match (split, namespace) {
        (None, _) => vec![whole],
        (Some((name, behind)), None) => vec![pod(Some(behind), name), whole],
        (Some((name, behind)), Some(_)) => vec![whole, pod(Some(behind), name)],
    }
}

/// A DNS label (RFC 1123), as namespaces are.
fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A DNS subdomain (RFC 1123), as pods and nodes are.
fn is_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, namespace: Option<&str>) -> Vec<String> {
        let word = |reading: Reading| match reading {
            Reading::Pod { namespace, name } => format!("{}/{name}", namespace.as_deref().unwrap_or("-")),
            Reading::Node(name) => format!("node {name}"),
        };
        readings(text, namespace).unwrap().into_iter().map(word).collect()
    }

    #[test]
    fn a_name_is_read_as_istioctl_reads_it_and_then_as_a_node() {
        for (text, namespace, want) in [
            ("sluice-x2k", None, &["-/sluice-x2k", "node sluice-x2k"][..]),
            ("sluice-x2k", Some("edge"), &["edge/sluice-x2k", "node sluice-x2k"]),
            ("sluice-x2k.edge", None, &["edge/sluice-x2k", "-/sluice-x2k.edge", "node sluice-x2k.edge"]),
            ("a.b", Some("edge"), &["edge/a.b", "b/a", "node a.b"]),
            ("pod/sluice-x2k", Some("edge"), &["edge/sluice-x2k"]),
            ("pod/sluice-x2k.edge", None, &["edge/sluice-x2k", "-/sluice-x2k.edge"]),
            ("node/ip-10-0-0-1.ec2.internal", None, &["node ip-10-0-0-1.ec2.internal"]),
            ("no/n1", None, &["node n1"]),
        ] {
            assert_eq!(words(text, namespace), want, "{text}");
        }
    }

    #[test]
    fn what_can_be_no_name_is_refused() {
        for (text, namespace) in [
            ("", None),
            ("a/b/c", None),
            ("deployment/sluice", None),
            ("../secrets", None),
            ("a..b", None),
            ("A", None),
            ("a?x=1", None),
            ("-a", None),
            ("a", Some("b/c")),
            ("a", Some("")),
            ("a", Some("b.c")),
        ] {
            assert!(readings(text, namespace).is_err(), "{text} in {namespace:?}");
        }
    }
}
