//! The client's certificates of a session, as rustls encodes one (`ServerSessionValue`): it looks at them no more when it
//! resumes, though they may have run out, or the list of revoked ones, which no longer lets anybody in. A session that is
//! not of this form is not resumed; the tests hold it to what rustls makes.

use rustls_pki_types::CertificateDer;

/// The certificates that the client has shown, its own first; none if it has shown nothing. `None`: not of the form.
pub(super) fn client_certificates(session: &[u8]) -> Option<Vec<CertificateDer<'_>>> {
    let mut rest = Rest(session);
    if rest.flag()? {
        rest.vector(1)?;
    }
    let (_version, _cipher_suite) = (rest.take(2)?, rest.take(2)?);
    let _secret = rest.vector(1)?;
    let _extended_master_secret = rest.flag()?;
    let shown = if rest.flag()? { rest.vector(3)? } else { &[] };
    if rest.flag()? {
        let _protocol = rest.vector(1)?;
    }
    let _application = rest.vector(2)?;
    let (_created, _age_offset) = (rest.take(8)?, rest.take(4)?);
    rest.0.is_empty().then_some(())?;
    let (mut chain, mut shown) = (Vec::new(), Rest(shown));
    while !shown.0.is_empty() {
        chain.push(CertificateDer::from(shown.vector(3)?));
    }
    Some(chain)
}

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.take(1)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    /// Bytes behind their length, which has so many bytes itself.
    fn vector(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.take(width)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        self.take(length)
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
