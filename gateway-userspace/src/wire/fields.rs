//! What headers hold: lists of words (RFC 9110, 5.6.1), and lengths.

use http::header::{EXPECT, HeaderMap, HeaderName, HeaderValue};

/// The words of a header that holds a list, over all its lines.
pub fn tokens(headers: &HeaderMap, name: HeaderName) -> impl DoubleEndedIterator<Item = &[u8]> {
    let lines = headers.get_all(name).into_iter();
    lines.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Whether a header that holds a list has a word; case does not count.
pub fn lists(headers: &HeaderMap, name: HeaderName, word: &[u8]) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(word))
}

/// A length that is said in digits alone: a sign, blanks, or a list of equal numbers is read otherwise by others.
pub fn number(said: &HeaderValue) -> Option<u64> {
    let digits = said.as_bytes();
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

/// Whether a client waits for a 100 before it sends its body (RFC 9110, 10.1.1).
pub fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
