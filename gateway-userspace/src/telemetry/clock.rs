//! Points in time as logs show them (RFC 3339, UTC).

use std::time::{Duration, SystemTime};

use super::digits::Backwards;

/// Bytes of the longest: of a year that no clock will show, as of those that clocks do.
const LONGEST: usize = 20 + "-01-31T12:00:00.123456Z".len();

/// `2024-01-31T12:00:00.123Z`, as Envoy's `%START_TIME%`. Times before 1970 are shown as its beginning.
pub fn milliseconds(time: SystemTime) -> String {
    let since = since_1970(time);
    written(since, (since.subsec_millis(), 3)).text().to_owned()
}

/// Adds the same to a text.
pub fn push_milliseconds(text: &mut String, time: SystemTime) {
    let since = since_1970(time);
    text.push_str(written(since, (since.subsec_millis(), 3)).text());
}

/// `2024-01-31T12:00:00.123456Z`.
pub fn microseconds(time: SystemTime) -> String {
    let since = since_1970(time);
    written(since, (since.subsec_micros(), 6)).text().to_owned()
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// With a fraction of so many digits.
fn written(since: Duration, (fraction, digits): (u32, usize)) -> Backwards<LONGEST> {
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = Backwards::new();
    text.put(b'Z');
    text.number(fraction.into(), digits);
    for (number, before) in [(second, b'.'), (minute, b':'), (hour, b':'), (day, b'T'), (month, b'-')] {
        text.put(before);
        text.number(number, 2);
    }
    text.put(b'-');
    text.number(year, 4);
    text
}

/// Year, month and day of a day since 1970. Counted from the 1st of March of year 0, so that the leap day comes last:
/// 400 years have 146,097 days, and the months from March on are 30.6 days long, rounded.
pub(super) fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (days, want) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_787, (2024, 3, 5)),
            (20_088, (2024, 12, 31)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), want, "{days}");
        }
    }

    #[test]
    fn times_have_fractions() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_706_702_400_123_456);
        assert_eq!(milliseconds(time), "2024-01-31T12:00:00.123Z");
        assert_eq!(microseconds(time), "2024-01-31T12:00:00.123456Z");
    }
}
