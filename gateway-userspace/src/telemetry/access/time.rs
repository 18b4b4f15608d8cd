//! How `%START_TIME(FORMAT)%` writes a time: strftime's conversions that name digits, in UTC, and Envoy's `%f`.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use super::super::clock;

/// A format in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimeFormat(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Conversion(char),
    /// Digits of the second's fraction.
    Fraction(usize),
}

const CONVERSIONS: &str = "YmdHMSsyFTeZz";

impl TimeFormat {
    /// Takes a format apart; an error names the conversion that is not there.
    pub(super) fn parse(format: &str) -> Result<Self, String> {
        let (mut parts, mut chars) = (Vec::new(), format.chars().peekable());
        while let Some(c) = chars.next() {
            if c != '%' {
                match parts.last_mut() {
                    Some(Part::Text(text)) => text.push(c),
                    _ => parts.push(Part::Text(c.to_string())),
                }
                continue;
            }
            let digits = chars.next_if(|c| ('1'..='9').contains(c));
            parts.push(match (digits.and_then(|digit| digit.to_digit(10)), chars.next()) {
                (None, Some('%')) => Part::Text("%".to_owned()),
                (None, Some(c)) if CONVERSIONS.contains(c) => Part::Conversion(c),
                (digits, Some('f')) => Part::Fraction(digits.unwrap_or(9) as usize),
                (_, Some(c)) => return Err(format!("%{c}")),
                (_, None) => return Err("%".to_owned()),
            });
        }
        Ok(Self(parts))
    }

    pub(super) fn write(&self, time: SystemTime) -> String {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Conversion(conversion) => convert(&mut text, *conversion, since),
                Part::Fraction(digits) => {
                    let all = format!("{:09}", since.subsec_nanos());
                    text.push_str(&all[..*digits]);
                }
            }
        }
        text
    }
}

fn convert(text: &mut String, conversion: char, since: Duration) {
    let ((year, month, day), second) = (clock::date(since.as_secs() / 86_400), since.as_secs() % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    // Writing to a string cannot fail.
    let _ = match conversion {
        'Y' => write!(text, "{year:04}"),
        'y' => write!(text, "{:02}", year % 100),
        'm' => write!(text, "{month:02}"),
        'd' => write!(text, "{day:02}"),
        'e' => write!(text, "{day:2}"),
        'H' => write!(text, "{hour:02}"),
        'M' => write!(text, "{minute:02}"),
        'S' => write!(text, "{second:02}"),
        's' => write!(text, "{}", since.as_secs()),
        'F' => write!(text, "{year:04}-{month:02}-{day:02}"),
        'T' => write!(text, "{hour:02}:{minute:02}:{second:02}"),
        'z' => write!(text, "+0000"),
        _ => write!(text, "UTC"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_asked_for() {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_706_702_405, 12_345_678);
        for (format, want) in [
            ("%Y-%m-%dT%H:%M:%S.%3fZ", "2024-01-31T12:00:05.012Z"),
            ("%F %T%z", "2024-01-31 12:00:05+0000"),
            ("%s.%6f 100%%", "1706702405.012345 100%"),
            ("%d/%m/%y %e %f %Z", "31/01/24 31 012345678 UTC"),
        ] {
            assert_eq!(TimeFormat::parse(format).unwrap().write(time), want, "{format}");
        }
        for (bad, named) in [("%Y %Q", "%Q"), ("%3Y", "%Y"), ("at %", "%")] {
            assert_eq!(TimeFormat::parse(bad).unwrap_err(), named, "{bad}");
        }
    }
}
