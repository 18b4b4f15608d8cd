//! Changes octets at random in ways that readers of HTTP/1 have tripped over. The same seed makes the same changes.

use fastrand::Rng;

/// What is put in: whole words of the grammar and octets at its edges.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"0",
    b"5",
    b"f",
    b"+",
    b"-",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\r\n\r\n",
    b"\r\n ",
    b"0\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Host: b.test\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\n",
    b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"POST /y HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"chunked",
    b"\"",
    b"%00",
];
/// Changes of one text.
const MOST: usize = 4;

/// Another text like these.
pub fn mutated(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut text = rng.choice(corpus).expect("a corpus").clone();
    for _ in 0..rng.usize(1..=MOST) {
        change(rng, &mut text, corpus);
    }
    text
}

fn change(rng: &mut Rng, text: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = rng.usize(0..=text.len());
    let end = rng.usize(at..=text.len().min(at + 8));
    match rng.u8(0..7) {
        0 => drop(text.splice(at..end, rng.choice(WORDS).expect("a word").iter().copied())),
        1 => drop(text.splice(at..at, rng.choice(WORDS).expect("a word").iter().copied())),
        2 => drop(text.drain(at..end)),
        3 => drop(text.splice(at..at, text[at..end].to_vec())),
        4 => repeat_line(rng, text),
        // The beginning of one and the end of another.
        5 => {
            let other = rng.choice(corpus).expect("a corpus");
            text.truncate(at);
            text.extend_from_slice(&other[rng.usize(0..=other.len())..]);
        }
        _ => text.extend_from_slice(rng.choice(corpus).expect("a corpus")),
    }
}

/// Puts a line in once more, somewhere at the beginning of another.
fn repeat_line(rng: &mut Rng, text: &mut Vec<u8>) {
    let lines: Vec<Vec<u8>> = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let Some(line) = rng.choice(&lines) else { return };
    let at = lines.iter().take(rng.usize(0..=lines.len())).map(Vec::len).sum::<usize>();
    text.splice(at..at, line.iter().copied());
}
