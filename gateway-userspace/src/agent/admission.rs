//! The admission webhook: who makes its certificates, and where it answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::TcpSocket;
use tokio::sync::watch;

use crate::admission;
use crate::settings::KubernetesArgs;
use crate::source::kubernetes::webhook::{Craft, Made, Shown, Webhook};
use crate::tls::{certificate, own};

/// How long a certificate is good.
const LIFETIME: Duration = Duration::from_hours(90 * 24);
/// With less than this to go it is replaced.
const LEFT: Duration = Duration::from_hours(30 * 24);
/// Connections that may wait.
const BACKLOG: u32 = 128;

/// What is to be kept for the webhook, if there is to be one.
pub(super) fn webhook(args: &KubernetesArgs, namespace: &str) -> Option<Webhook> {
    args.admission_address.0?;
    Some(Webhook {
        name: args.admission_webhook.clone(),
        host: format!("{}.{namespace}.svc", args.admission_service),
        craft: Craft { make, is_old },
    })
}

fn make(host: &str) -> anyhow::Result<Made> {
    let own = own::issue(&[host.to_owned()], LIFETIME, SystemTime::now())?;
    let shown = Shown { certificate: own.certificate.into_bytes(), key: own.key.as_bytes().to_vec() };
    Ok(Made { shown, authority: own.authority })
}

/// One that cannot be read is to be replaced, too.
fn is_old(certificate: &[u8], now: SystemTime) -> bool {
    let until = (now + LEFT).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    certificate::bounds(certificate).is_none_or(|(_, end)| u64::try_from(end).is_ok_and(|end| end < until))
}

/// Begins to answer. Beside another gateway on the machine, such as the one that is being replaced.
pub(super) fn open(address: SocketAddr, shown: watch::Receiver<Option<Arc<Shown>>>) -> anyhow::Result<()> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    tokio::spawn(admission::serve(socket.listen(BACKLOG)?, shown));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_replaced_in_time() {
        let now = UNIX_EPOCH + Duration::from_hours(24 * 365 * 56);
        let own = own::issue(&["a".to_owned()], LIFETIME, now).unwrap();
        let is_old = |days: u64| is_old(own.certificate.as_bytes(), now + Duration::from_hours(24 * days));
        assert_eq!([0, 59, 61, 100].map(is_old), [false, false, true, true]);
        assert!(super::is_old(b"no certificate", now));
    }
}
