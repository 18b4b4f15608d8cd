//! Frames as octets.

/// What a client begins with (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (RFC 9113, 6).
pub const DATA: u8 = 0;
/// See [`DATA`].
pub const HEADERS: u8 = 1;
/// See [`DATA`].
pub const PRIORITY: u8 = 2;
/// See [`DATA`].
pub const RST_STREAM: u8 = 3;
/// See [`DATA`].
pub const SETTINGS: u8 = 4;
/// See [`DATA`].
pub const PUSH_PROMISE: u8 = 5;
/// See [`DATA`].
pub const PING: u8 = 6;
/// See [`DATA`].
pub const GOAWAY: u8 = 7;
/// See [`DATA`].
pub const WINDOW_UPDATE: u8 = 8;
/// See [`DATA`].
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const ACK: u8 = 0x1;
/// See [`ACK`].
pub const END_STREAM: u8 = 0x1;
/// See [`ACK`].
pub const END_HEADERS: u8 = 0x4;
/// See [`ACK`].
pub const PADDED: u8 = 0x8;
/// See [`ACK`]: of HEADERS that say a priority.
pub const PRIORITY_FLAG: u8 = 0x20;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// One of the settings of a SETTINGS frame.
pub fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// A header block of fields, each `name: value`, one a line, none of them indexed or compressed. A character stands for the
/// octet of its number.
pub fn block(fields: &str) -> Vec<u8> {
    let lines = fields.split('|').filter(|line| !line.is_empty());
    lines
        .flat_map(|line| {
            // Pseudo-header fields begin with a colon.
            let colon = line[1..].find(':').map_or(line.len(), |at| at + 1);
            let value = line[colon..].strip_prefix(':').unwrap_or_default();
            field(&octets(&line[..colon]), &octets(value.strip_prefix(' ').unwrap_or(value)))
        })
        .collect()
}

/// A field, as a literal without indexing (RFC 7541, 6.2.2).
pub fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        length(&mut out, text.len());
        out.extend(text);
    }
    out
}

/// An integer with a prefix of seven bits (RFC 7541, 5.1).
fn length(out: &mut Vec<u8>, length: usize) {
    const PREFIX: usize = 0x7f;
    if length < PREFIX {
        return out.push(length as u8);
    }
    out.push(PREFIX as u8);
    let mut rest = length - PREFIX;
    while rest >= 0x80 {
        out.push((rest % 0x80) as u8 | 0x80);
        rest /= 0x80;
    }
    out.push(rest as u8);
}

fn octets(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).expect("an octet")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_literals() {
        assert_eq!(block(":path: /|x: \u{ff}"), b"\0\x05:path\x01/\0\x01x\x01\xff");
        assert_eq!(field(b"a", &[b'x'; 300])[2..6], [b'a', 0x7f, 0xad, 0x01]);
        assert_eq!(frame(DATA, END_STREAM, 1, b"ab"), b"\0\0\x02\0\x01\0\0\0\x01ab");
    }
}
