//! Text in which `%XX` stands for a byte and a plus sign for a space, as forms and queries write it
//! (application/x-www-form-urlencoded).

/// The bytes, and whether every per cent sign began an escape: those that do not stand for themselves.
pub fn decoded(text: &str) -> (Vec<u8>, bool) {
    let (bytes, mut out, mut is_sound, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), true, 0);
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let escaped = digits.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        let (value, length) = match (byte, escaped) {
            (b'%', Some(value)) => (value, 3),
            (b'+', _) => (b' ', 1),
            _ => (*byte, 1),
        };
        is_sound &= value != b'%' || length == 3;
        out.push(value);
        at += length;
    }
    (out, is_sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_others_stay() {
        for (text, want, is_sound) in [
            ("a+b%20c", "a b c", true),
            ("%2F%2f%25", "//%", true),
            ("", "", true),
            ("100%", "100%", false),
            ("%4", "%4", false),
            ("%+1", "% 1", false),
            ("%zz", "%zz", false),
        ] {
            assert_eq!(decoded(text), (want.as_bytes().to_vec(), is_sound), "{text}");
        }
    }
}
