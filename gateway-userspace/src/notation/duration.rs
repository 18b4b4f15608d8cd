//! Durations as documents and filters write them, which is Go's way: `10s`, `1.5h`, `300ms`, `1m30s`.

use std::time::Duration;

/// Reads Go's notation. `None` on anything else, on negative values and on what no clock holds.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let seconds = match &rest[digits..unit_end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let number: f64 = rest[..digits].parse().ok()?;
        // Rounded to whole microseconds, so that 0.3 s is 300 ms and not a little less.
        let micros = (number * seconds * 1e6).round();
        if !(0.0..1e15).contains(&micros) {
            return None;
        }
        total = total.checked_add(Duration::from_micros(micros as u64))?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_go() {
        for (text, want) in [
            ("10s", Some(10_000)),
            ("1.5h", Some(5_400_000)),
            ("1m30s", Some(90_000)),
            ("300ms", Some(300)),
            ("0.3s", Some(300)),
            ("0", Some(0)),
            ("", None),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("1.2.3s", None),
            ("99999999999999999h", None),
        ] {
            assert_eq!(parse(text), want.map(Duration::from_millis), "{text}");
        }
    }
}
