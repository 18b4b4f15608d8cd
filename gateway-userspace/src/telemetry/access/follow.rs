//! Lines for whoever looks on, beside those of the files: what `sluice logs` shows. Nobody waits for a reader: what does not fit
//! is left out, and its number told with the next line that does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::filter::Filter;
use super::format::Format;
use super::record::Connection;
use super::rule::Wanted;

/// Lines that wait for a reader at most.
const WAITING: usize = 1024;

/// Who may look on at once.
const MOST: usize = 8;

/// What is asked for; by default every record, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// An expression as Telemetry's filters have them.
    pub filter: Option<String>,
    /// Of this host, whatever its port; or, of connections, with this server name.
    pub host: Option<String>,
    /// That came to this port of the gateway.
    pub port: Option<u16>,
    /// That have a response flag, a status from 400 on, or a gRPC status but 0.
    pub errors: bool,
    /// Istio's JSON, not its text.
    pub json: bool,
    /// Lines until the end.
    pub count: Option<u64>,
}

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Line {
    /// A record's line, without its end.
    Line(String),
    /// So many lines did not fit.
    LeftOut(u64),
}

/// Whoever looks on; clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Followers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    number: AtomicUsize,
    all: Mutex<Vec<Follower>>,
}

#[derive(Debug)]
struct Follower {
    wish: Wish,
    filter: Option<Filter>,
    format: Format,
    lines: mpsc::Sender<Line>,
    left_out: u64,
}

/// A reader's end. Dropped, nothing is written for it any more.
#[derive(Debug)]
pub struct Following {
    /// The lines; none: as many as were asked for have come.
    pub lines: mpsc::Receiver<Line>,
    followers: Followers,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.lines.close();
        self.followers.forget();
    }
}

impl Followers {
    /// Whether anybody looks on.
    pub(super) fn is_any(&self) -> bool {
        self.0.number.load(Ordering::Relaxed) > 0
    }

    /// Begins to write for a reader. An error says what is wrong with the wish; `known` is what records tell of headers.
    pub(super) fn add(&self, wish: Wish, known: &Wanted) -> Result<Following, String> {
        let filter = wish.filter.as_deref().map(Filter::parse).transpose()?;
        let mut wanted = Wanted::default();
        if let Some(filter) = &filter {
            filter.add_to(&mut wanted);
        }
        if let Some(header) = wanted.missing_in(known) {
            return Err(format!(
                "records do not have the header `{header}`: they have those that the access logs in force ask for"
            ));
        }
        let format = if wish.json { Format::default_json() } else { Format::default_text() };
        let (sender, lines) = mpsc::channel(WAITING);
        let mut all = self.all();
        if all.len() >= MOST {
            return Err(format!("{MOST} others follow the access log already"));
        }
        all.push(Follower { wish, filter, format, lines: sender, left_out: 0 });
        self.0.number.store(all.len(), Ordering::Relaxed);
        drop(all);
        Ok(Following { lines, followers: self.clone() })
    }

    /// Writes a record for those who want it.
    pub(super) fn tell(&self, record: &Connection) {
        let mut all = self.all();
        all.retain_mut(|follower| !follower.takes(record) || follower.tell(record));
        self.0.number.store(all.len(), Ordering::Relaxed);
    }

    /// Leaves those out who read no more.
    fn forget(&self) {
        let mut all = self.all();
        all.retain(|follower| !follower.lines.is_closed());
        self.0.number.store(all.len(), Ordering::Relaxed);
    }

    fn all(&self) -> MutexGuard<'_, Vec<Follower>> {
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    fn takes(&self, record: &Connection) -> bool {
        let Wish { host, port, errors, .. } = &self.wish;
        port.is_none_or(|port| record.downstream_local.port() == port)
            && host.as_deref().is_none_or(|host| is_of(record, host))
            && (!errors || has_failed(record))
            && self.filter.as_ref().is_none_or(|filter| filter.takes(record))
    }

    /// Whether there is more to come.
    fn tell(&mut self, record: &Connection) -> bool {
        if self.left_out > 0 && self.lines.try_send(Line::LeftOut(self.left_out)).is_ok() {
            self.left_out = 0;
        }
        let mut line = String::new();
        self.format.add_line(&mut line, record);
        line.truncate(line.trim_end().len());
        match self.lines.try_send(Line::Line(line)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => self.left_out += 1,
            Err(mpsc::error::TrySendError::Closed(_)) => return false,
        }
        if let Some(count) = &mut self.wish.count {
            *count = count.saturating_sub(1);
        }
        self.wish.count != Some(0)
    }
}

fn is_of(record: &Connection, host: &str) -> bool {
    let asked = record.request.as_deref().and_then(|request| request.authority.as_deref());
    let bare = |authority: &str| {
        let port =
            authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        port.map_or(authority, |(host, _)| host).eq_ignore_ascii_case(host)
    };
    asked.or(record.server_name.as_deref()).is_some_and(bare)
}

fn has_failed(record: &Connection) -> bool {
    let of_request = |request: &super::record::Request| {
        request.status >= 400 || request.grpc_status().is_some_and(|status| status > 0)
    };
    !record.flags.is_empty() || record.request.as_deref().is_some_and(of_request)
}

#[cfg(test)]
mod tests {
    use super::super::record::samples;
    use super::*;

    fn follow(followers: &Followers, wish: Wish) -> Following {
        followers.add(wish, &Wanted::default()).expect("a wish")
    }

    fn told(following: &mut Following) -> Vec<Line> {
        std::iter::from_fn(|| following.lines.try_recv().ok()).collect()
    }

    #[test]
    fn each_reader_gets_what_it_wants() {
        let followers = Followers::default();
        for (wish, lines) in [
            (Wish::default(), 2),
            (Wish { host: Some("A.test".to_owned()), ..Wish::default() }, 1),
            (Wish { host: Some("b.test".to_owned()), ..Wish::default() }, 0),
            (Wish { port: Some(31_400), ..Wish::default() }, 2),
            (Wish { port: Some(80), ..Wish::default() }, 0),
            // The sample has a gRPC status.
            (Wish { errors: true, ..Wish::default() }, 1),
            (Wish { filter: Some("response.code == 200".to_owned()), json: true, ..Wish::default() }, 1),
            (Wish { count: Some(1), ..Wish::default() }, 1),
        ] {
            let mut following = follow(&followers, wish.clone());
            followers.tell(&samples::connection());
            followers.tell(&samples::request());
            assert_eq!(told(&mut following).len(), lines, "{wish:?}");
            drop(following);
            assert!(!followers.is_any(), "{wish:?}");
        }
    }

    #[test]
    fn a_reader_that_is_slow_hears_how_much_it_missed() {
        let followers = Followers::default();
        let mut following = follow(&followers, Wish::default());
        for _ in 0..WAITING + 7 {
            followers.tell(&samples::connection());
        }
        assert_eq!(told(&mut following).len(), WAITING);
        followers.tell(&samples::connection());
        let rest = told(&mut following);
        assert!(matches!(&*rest, [Line::LeftOut(7), Line::Line(_)]), "{rest:?}");
    }

    #[test]
    fn a_wish_that_cannot_be_granted_is_refused() {
        let followers = Followers::default();
        let filtered = |filter: &str| Wish { filter: Some(filter.to_owned()), ..Wish::default() };
        let refused = |wish| followers.add(wish, &Wanted::default()).unwrap_err();
        assert!(refused(filtered("response.cod == 1")).contains("response.cod"));
        assert!(refused(filtered("request.headers['x-team'] == 'blue'")).contains("x-team"));
        let readers: Vec<_> = (0..MOST).map(|_| follow(&followers, Wish::default())).collect();
        assert!(refused(Wish::default()).contains("already"));
        drop(readers);
        assert!(!followers.is_any());
    }
}
