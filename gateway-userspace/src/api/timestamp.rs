//! Points in time as the API server writes them (RFC 3339): `2024-01-31T12:00:00Z`, with fractions or an offset too.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// A point in time; the earlier is the lesser, however it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Since 1970, UTC, without leap seconds.
    seconds: i64,
    nanoseconds: u32,
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a time such as 2024-01-31T12:00:00Z")))
    }
}

/// Reads RFC 3339's `date-time`. A leap second counts as the first one of the next minute.
fn parse(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_once(['T', 't'])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (time, rest) = rest.split_at_checked(8)?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let (nanoseconds, zone) = fraction(rest)?;
    let valid = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    let local = ((days_since_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(Timestamp { seconds: local - offset(zone)?, nanoseconds }).filter(|_| valid)
}

/// Numbers of fixed widths with a separator between.
fn numbers(text: &str, separator: char, widths: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(separator);
    let mut read = [0; 3];
    for (number, width) in read.iter_mut().zip(widths) {
        *number = parts.next().filter(|part| part.len() == width).and_then(digits)?;
    }
    parts.next().is_none().then_some(read)
}

/// Digits alone: no sign, which `parse` would take.
fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `.123` at the beginning, if it is there, in nanoseconds; finer digits are cut off. And what follows.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let written = &rest[..end.min(9)];
    let value: u32 = written.parse().ok()?;
    Some((value * 10_u32.pow(9 - written.len() as u32), &rest[end..]))
}

/// Seconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = match zone.bytes().next()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone[1..].split_once(':').filter(|(h, m)| h.len() == 2 && m.len() == 2)?;
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar, counted in years that begin in March, so that a leap day is the
/// last day of its year.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_nanosecond() {
        for (text, seconds, nanoseconds) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("1969-12-31T23:59:59Z", -1, 0),
            ("2000-02-29T12:00:00Z", 951_825_600, 0),
            ("2024-01-31T12:00:00+05:30", 1_706_682_600, 0),
            ("2024-01-31t12:00:00.25z", 1_706_702_400, 250_000_000),
            ("2024-01-31T12:00:00.0000000019-00:30", 1_706_704_200, 1),
            ("2016-12-31T23:59:60Z", 1_483_228_800, 0),
        ] {
            assert_eq!(parse(text), Some(Timestamp { seconds, nanoseconds }), "{text}");
        }
    }

    #[test]
    fn order_is_by_time_and_not_by_text() {
        let time = |text| parse(text).unwrap();
        assert!(time("2024-01-01T01:00:00+02:00") < time("2024-01-01T00:00:00Z"));
        assert!(time("2024-01-01T00:00:00Z") < time("2024-01-01T00:00:00.5Z"));
        assert_eq!(time("2024-01-01T02:00:00.50+02:00"), time("2024-01-01T00:00:00.5Z"));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2024-01-31",
            "2024-01-31T12:00:00",
            "2024-01-31 12:00:00Z",
            "2023-02-29T12:00:00Z",
            "2024-13-01T12:00:00Z",
            "2024-01-31T24:00:00Z",
            "2024-01-31T12:00:00.Z",
            "2024-01-31T12:00:00+5:30",
            "2024-01-31T12:00:00Zé",
            "2024-01-31T12:00:0éZ",
            "+024-01-31T12:00:00Z",
            "-0001-01-31T12:00:00Z",
            "2024-01-31T12:00:00é01:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
