//! The words of an expression.

/// A word with where it begins, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Name(String),
    Text(String),
    Number(i64),
    /// An operator, a bracket, a comma or a dot.
    Sign(&'static str),
}

/// The longer ones first.
const SIGNS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ",", ".", "-", "?", ":", "+", "*",
    "/",
];

pub(super) fn tokens(written: &str) -> Result<Vec<(usize, Token)>, String> {
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(c) = written[at..].chars().next() {
        let rest = &written[at..];
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let (token, length) = match c {
            '\'' | '"' => text(rest, c).map_err(|what| format!("column {}: {what}", at + 1))?,
            '0'..='9' => number(rest).map_err(|what| format!("column {}: {what}", at + 1))?,
            c if is_name(c) => {
                let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                (Token::Name(rest[..length].to_owned()), length)
            }
            _ => {
                let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
                let sign = sign.ok_or_else(|| format!("column {}: `{c}` is not served", at + 1))?;
                (Token::Sign(sign), sign.len())
            }
        };
        tokens.push((at, token));
        at += length;
    }
    Ok(tokens)
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

/// A text in quotes, with CEL's escapes of one character.
fn text(rest: &str, quote: char) -> Result<(Token, usize), String> {
    let (mut text, mut chars) = (String::new(), rest.char_indices().skip(1));
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((Token::Text(text), at + 1)),
            '\\' => text.push(match chars.next().map(|(_, c)| c) {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some(c @ ('\\' | '\'' | '"' | '`' | '?')) => c,
                Some(c) => return Err(format!("the escape `\\{c}` is not served")),
                None => break,
            }),
            c => text.push(c),
        }
    }
    Err("the text has no end".to_owned())
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let length = rest.find(|c: char| !(is_name(c) || c == '.')).unwrap_or(rest.len());
    let digits = &rest[..length];
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("`{digits}`: only whole numbers in decimal are served"));
    }
    let value = digits.parse().map_err(|_| format!("{digits} is too large"))?;
    Ok((Token::Number(value), length))
}
