//! OCSP responses (RFC 6960) that a server shows with its certificate: what of one must be known to do so.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::asn1_rs::{Any, Class, FromDer as _, GeneralizedTime, Tag};

use super::certificate::{self, CertificateError};

/// `responseStatus` of an answer: successful.
const SUCCESSFUL: &[u8] = &[0];

/// Until when the response may be shown with the chain's first certificate: its `nextUpdate`, or for ever where it has none.
/// An error where it is no answer about that certificate.
pub(super) fn good_until(
    response: &[u8],
    chain: &[CertificateDer<'_>],
) -> Result<UnixTime, CertificateError> {
    let bad = |why: &str| CertificateError::BadStaple(why.to_owned());
    let single =
        single_response(response).ok_or_else(|| bad("it cannot be read, or is no successful answer"))?;
    let leaf = certificate::parse(chain.first().ok_or(CertificateError::NoCertificate)?)?;
    if single.serial != leaf.raw_serial() {
        return Err(bad("it is about another certificate"));
    }
    Ok(single.next_update.unwrap_or(UnixTime::since_unix_epoch(Duration::MAX)))
}

/// The first `SingleResponse`.
struct Single {
    /// Big-endian, as DER has it.
    serial: Vec<u8>,
    next_update: Option<UnixTime>,
}

/// The elements of a constructed value.
fn elements(content: &[u8]) -> Option<Vec<Any<'_>>> {
    let (mut rest, mut found) = (content, Vec::new());
    while !rest.is_empty() {
        let (after, element) = Any::from_der(rest).ok()?;
        found.push(element);
        rest = after;
    }
    Some(found)
}

fn is_context(element: &Any<'_>, number: u32) -> bool {
    element.class() == Class::ContextSpecific && element.tag() == Tag(number)
}

fn single_response(response: &[u8]) -> Option<Single> {
    let (_, response) = Any::from_der(response).ok()?;
    let response = elements(response.data)?;
    let [status, bytes] = response.as_slice() else { return None };
    if status.data != SUCCESSFUL || !is_context(bytes, 0) {
        return None;
    }
    // ResponseBytes: the type's OID, and an octet string with a BasicOCSPResponse.
    let (_, bytes) = Any::from_der(bytes.data).ok()?;
    let bytes = elements(bytes.data)?;
    let (_, basic) = Any::from_der(bytes.get(1)?.data).ok()?;
    let basic = elements(basic.data)?;
    // ResponseData: version [0] or nothing, responder, producedAt, responses.
    let data = elements(basic.first()?.data)?;
    let responses = data.iter().filter(|element| !is_context(element, 0)).nth(2);
    // `responderID` is [1] or [2], so that the count above holds with and without a version.
    let (_, single) = Any::from_der(responses?.data).ok()?;
    let single = elements(single.data)?;
    let identity = elements(single.first()?.data)?;
    let next = single.iter().find(|element| is_context(element, 0) && element.header.is_constructed());
    // `certStatus` is [0] too where it is good, yet primitive.
    let next_update = match next {
        Some(next) => Some(time(GeneralizedTime::from_der(next.data).ok()?.1)?),
        None => None,
    };
    Some(Single { serial: identity.get(3)?.data.to_vec(), next_update })
}

fn time(at: GeneralizedTime) -> Option<UnixTime> {
    let seconds = at.utc_datetime().ok()?.unix_timestamp();
    Some(UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).ok()?)))
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, KeyPair, SerialNumber};

    use super::*;

    /// A value of a tag around others; short and long form of its length (X.690, 8.1.3).
    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = content.len();
        let mut out = vec![tag];
        match u8::try_from(length) {
            Ok(short @ ..128) => out.push(short),
            _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        out.extend(content);
        out
    }

    const SEQUENCE: u8 = 0x30;
    const TIME: &[u8] = b"20200101000000Z";

    /// A response about a serial number; `next` is `YYYYMMDDHHMMSSZ`.
    pub(in crate::tls) fn response(
        serial: &[u8],
        next: Option<&str>,
        status: u8,
        is_versioned: bool,
    ) -> Vec<u8> {
        let algorithm = der(SEQUENCE, &[&der(6, &[&[0x2b, 14, 3, 2, 26]])]);
        let identity =
            der(SEQUENCE, &[&algorithm, &der(4, &[&[0; 20]]), &der(4, &[&[0; 20]]), &der(2, &[serial])]);
        let next = next.map(|next| der(0xa0, &[&der(0x18, &[next.as_bytes()])])).unwrap_or_default();
        let single = der(SEQUENCE, &[&identity, &der(0x80, &[]), &der(0x18, &[TIME]), &next]);
        let version = if is_versioned { der(0xa0, &[&der(2, &[&[0]])]) } else { Vec::new() };
        let responder = der(0xa2, &[&der(4, &[&[0; 20]])]);
        let data = der(SEQUENCE, &[&version, &responder, &der(0x18, &[TIME]), &der(SEQUENCE, &[&single])]);
        let basic = der(SEQUENCE, &[&data, &algorithm, &der(3, &[&[0; 65]])]);
        let kind = der(6, &[&[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]]);
        let bytes = der(0xa0, &[&der(SEQUENCE, &[&kind, &der(4, &[&basic])])]);
        der(SEQUENCE, &[&der(10, &[&[status]]), &bytes])
    }

    fn certificate(serial: &[u8]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).expect("names");
        params.serial_number = Some(SerialNumber::from_slice(serial));
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().clone()
    }

    #[test]
    fn a_response_is_good_for_its_own_certificate_until_its_next_update() {
        let chain = [certificate(&[1, 2, 3])];
        let at = |seconds| Ok(UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
        let bad = |why: &str| Err(CertificateError::BadStaple(why.to_owned()));
        let unread = || bad("it cannot be read, or is no successful answer");
        let good = response(&[1, 2, 3], Some("20300102030405Z"), 0, false);
        for (response, want) in [
            (good.clone(), at(1_893_553_445)),
            (response(&[1, 2, 3], Some("20300102030405Z"), 0, true), at(1_893_553_445)),
            (response(&[1, 2, 3], None, 0, false), Ok(UnixTime::since_unix_epoch(Duration::MAX))),
            (response(&[1, 2, 4], None, 0, false), bad("it is about another certificate")),
            (response(&[1, 2, 3], None, 6, false), unread()),
            (b"x".to_vec(), unread()),
        ] {
            assert_eq!(good_until(&response, &chain), want);
        }
        // Whatever is cut off is an error, never a panic.
        for length in 0..good.len() {
            assert_eq!(good_until(&good[..length], &chain), unread(), "{length}");
        }
    }
}
