//! The date of an answer.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The date, as HTTP writes it, and the moment up to which it is that.
struct Dated {
    text: String,
    until: SystemTime,
}

thread_local! {
    /// Written once a second.
    static DATED: RefCell<Dated> = const { RefCell::new(Dated { text: String::new(), until: UNIX_EPOCH }) };
}

/// Has what says the date (RFC 9110, 6.6.1) get it.
pub fn with_date<T>(say: impl FnOnce(&[u8]) -> T) -> T {
    DATED.with_borrow_mut(|dated| {
        let now = SystemTime::now();
        // A clock that was set back is noticed, too.
        if now >= dated.until
            || dated.until.duration_since(now).is_ok_and(|left| left > Duration::from_secs(1))
        {
            let beyond = now.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
            dated.text = httpdate::fmt_http_date(now);
            dated.until = now + Duration::from_secs(1) - Duration::from_nanos(beyond.into());
        }
        say(dated.text.as_bytes())
    })
}
