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
