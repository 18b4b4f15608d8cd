//! Text that stands for octets: `¶` is CR LF, `\r`, `\n`, `\t`, `\0`, `\xNN`, `\"` and `\\` are what they are in Rust,
//! and `\{N text}` is a text N times.

/// The octets.
pub fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match next {
            '¶' => out.extend(b"\r\n"),
            '\\' => escape(&mut out, &mut rest),
            other => out.extend(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

fn escape(out: &mut Vec<u8>, rest: &mut std::str::Chars<'_>) {
    match rest.next().expect("something behind a backslash") {
        'r' => out.push(b'\r'),
        'n' => out.push(b'\n'),
        't' => out.push(b'\t'),
        '0' => out.push(0),
        'x' => {
            let digits: String = rest.by_ref().take(2).collect();
            out.push(u8::from_str_radix(&digits, 16).expect("two hexadecimal digits"));
        }
        '{' => {
            let (count, text) = rest.as_str().split_once(' ').expect("a count and a text");
            let (text, behind) = text.split_once('}').expect("an end of what is repeated");
            out.extend(bytes(text).repeat(count.parse().expect("a count")));
            *rest = behind.chars();
        }
        other => out.extend(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stands_for_octets() {
        assert_eq!(bytes(r#"a¶\r\n\t\0\xff\"\\\{3 b¶}c"#), b"a\r\n\r\n\t\0\xff\"\\b\r\nb\r\nb\r\nc");
        assert_eq!(bytes("ä"), "ä".as_bytes());
    }
}
