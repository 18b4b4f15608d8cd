//! Texts with Envoy's command operators in them: `%NAME(ARGUMENTS)%` stands for something else, `%%` for a per cent sign.
//! Which operators there are, and what they stand for, is said where such texts are used.

/// Part of a text.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// As it stands; never empty, and never next to another.
    Text(String),
    /// What is between the signs of an operator.
    Command(&'a str),
}

/// Takes a text apart. The error is what stands behind a sign that no other one ends.
pub fn parts(text: &str) -> Result<Vec<Part<'_>>, &str> {
    let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some((before, behind)) = rest.split_once('%') {
        plain.push_str(before);
        if let Some(tail) = behind.strip_prefix('%') {
            plain.push('%');
            rest = tail;
            continue;
        }
        let end = end_of_command(behind).ok_or(behind)?;
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(Part::Command(&behind[..end]));
        rest = &behind[end + 1..];
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

/// Where an operator's closing sign is, behind its first one; those in brackets are arguments.
fn end_of_command(rest: &str) -> Option<usize> {
    let sign = rest.find('%')?;
    match rest.find('(') {
        Some(open) if open < sign => {
            let close = open + rest[open..].find(')')?;
            Some(close + rest[close..].find('%')?)
        }
        _ => Some(sign),
    }
}

/// `NAME?OTHER):LENGTH`, as the arguments of operators that name a header are written behind the opening bracket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderArguments<'a> {
    /// Whether it is a header's is not looked at, nor is it of the next.
    pub name: &'a str,
    /// Taken where the first is absent.
    pub or: Option<&'a str>,
    /// Bytes of the value at most.
    pub length: Option<usize>,
}

impl<'a> HeaderArguments<'a> {
    /// `None`: they are written otherwise.
    pub fn parse(arguments: &'a str) -> Option<Self> {
        let (names, rest) = arguments.split_once(')')?;
        let length = match rest.strip_prefix(':') {
            Some(digits) => Some(digits.parse().ok()?),
            None if rest.is_empty() => None,
            None => return None,
        };
        Some(match names.split_once('?') {
            Some((name, or)) => Self { name, or: Some(or), length },
            None => Self { name: names, or: None, length },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_taken_apart() {
        let text = |text: &str| Part::Text(text.to_owned());
        for (written, want) in [
            ("", Ok(vec![])),
            ("a%%b", Ok(vec![text("a%b")])),
            ("%A%", Ok(vec![Part::Command("A")])),
            ("a%B(%s%3f)%%%c", Ok(vec![text("a"), Part::Command("B(%s%3f)"), text("%c")])),
            ("%A%%B%", Ok(vec![Part::Command("A"), Part::Command("B")])),
            ("a%B", Err("B")),
            ("%A(b%", Err("A(b%")),
        ] {
            assert_eq!(parts(written), want, "{written}");
        }
    }

    #[test]
    fn arguments_name_a_header_another_and_a_length() {
        let of = |name, or, length| Some(HeaderArguments { name, or, length });
        for (written, want) in [
            ("A)", of("A", None, None)),
            ("A?:path):5", of("A", Some(":path"), Some(5))),
            ("A", None),
            ("A)5", None),
            ("A):x", None),
        ] {
            assert_eq!(HeaderArguments::parse(written), want, "{written}");
        }
    }
}
