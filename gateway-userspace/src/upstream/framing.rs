//! How a length is said on: in the plain form of a number, whatever form it came in.

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};

use crate::http1::Ambiguous;
use crate::wire::number;

/// Leading zeros make an octal number of it for some. A list of equal lengths is no number.
pub(crate) fn settle_length(headers: &mut HeaderMap) -> Result<(), Ambiguous> {
    let Some(length) = headers.get(CONTENT_LENGTH) else { return Ok(()) };
    let plain = number(length).ok_or(Ambiguous)?;
    if let [b'0', _, ..] = length.as_bytes() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(plain));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_said_plainly() {
        for (said, want) in [
            (None, Ok(None)),
            (Some("2"), Ok(Some("2"))),
            (Some("0"), Ok(Some("0"))),
            (Some("002"), Ok(Some("2"))),
            (Some("00"), Ok(Some("0"))),
            (Some("2, 2"), Err(Ambiguous)),
            (Some("+2"), Err(Ambiguous)),
            (Some(""), Err(Ambiguous)),
            (Some("018446744073709551616"), Err(Ambiguous)),
        ] {
            let value = |said| HeaderValue::from_static(said);
            let mut headers: HeaderMap = said.map(|said| (CONTENT_LENGTH, value(said))).into_iter().collect();
            let settled = settle_length(&mut headers);
            let length = headers.get(CONTENT_LENGTH).map(|length| length.to_str().unwrap());
            assert_eq!(settled.map(|()| length), want, "{said:?}");
        }
    }
}
