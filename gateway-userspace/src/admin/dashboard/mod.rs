//! The dashboard: a page for browsers and the small answers that it polls. What moves (`now`, `traffic`, `flows`) is apart from what
//! documents decide (`topology` and the lists), which is answered 304 while it stays the same. Every answer is bounded, and
//! nothing here is on the way of a request.

mod assets;
mod certificates;
mod documents;
mod explain;
mod finding;
mod flows;
mod guard;
mod history;
mod now;
mod paging;
mod query;
mod topology;
mod traffic;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use tokio::sync::Semaphore;

use self::query::Query;
use super::view::View;

pub use explain::AsRulesSee;
pub use finding::worst as worst_findings;
pub use history::keep as keep_history;

pub(super) use guard::{is_own_host, protect, wants_page};

/// Where all of it is, but for the page, which is at `/` too.
const BELOW: &str = "/dashboard/";
/// Who may have something worked out at once: each has a thread.
const READERS: usize = 4;

static PLACES: Semaphore = Semaphore::const_new(READERS);

type Answer = Response<Full<Bytes>>;

/// What the dashboard remembers between two questions. Shared by all who look.
#[derive(Debug, Default)]
pub struct Dashboard {
    history: history::History,
    now: now::Latest,
    flows: flows::Memory,
}

/// Answers a path of the dashboard; `None` if it is none.
pub(super) async fn answer(
    view: &Arc<View>,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Option<Answer> {
    if matches!(path, "/" | "/dashboard") {
        return Some(assets::page());
    }
    let name = path.strip_prefix(BELOW)?;
    if let Some(asset) = assets::find(name) {
        return Some(asset);
    }
    let query = match Query::parse(query.unwrap_or_default()) {
        Ok(query) => query,
        Err(error) => return Some(refused(&error.to_string())),
    };
    if is_unchanged(view, name, &query, headers) {
        return Some(unchanged(view));
    }
    let answer = match name {
        "now" => fresh(now::answer(view).await),
        "history" => json(&view.dashboard.history.view()),
        "topology" => told(view, apart(view, move |view| Ok(topology::answer(view, &query))).await),
        "traffic" => json(&traffic::answer(view, &query).await),
        "flows" => moving(flows::answer(view, query).await),
        "certificates" => told(view, apart(view, move |view| Ok(certificates::answer(view, &query))).await),
        "findings" => told(view, apart(view, move |view| Ok(finding::answer(view, &query))).await),
        "documents" => told(view, apart(view, move |view| Ok(documents::answer(view, &query))).await),
        _ => match name.strip_prefix("explain/") {
            Some(asked) => moving(explain::answer(view, asked)),
            None => text(StatusCode::NOT_FOUND, "the dashboard has no such page or answer\n"),
        },
    };
    Some(answer)
}

/// Why something is not answered.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Question(String),
    /// Too many ask.
    #[error("as many others look as may at once; ask again in a second")]
    Busy,
}

impl Refusal {
    fn answer(&self) -> Answer {
        let status = match self {
            Self::Question(_) => StatusCode::BAD_REQUEST,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        };
        text(status, format!("{self}\n"))
    }
}

/// Works something out on a thread of its own: what walks over ten thousand routes must not hold up the agent.
async fn apart<T: Send + 'static>(
    view: &Arc<View>,
    work: impl FnOnce(&View) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let place = PLACES.try_acquire().map_err(|_| Refusal::Busy)?;
    let view = view.clone();
    let worked = tokio::task::spawn_blocking(move || {
        let _place = place;
        work(&view)
    });
    worked.await.unwrap_or(Err(Refusal::Busy))
}

/// What stays the same as long as the view does: a process' number keeps one agent's views from another's.
fn tag(view: &View) -> String {
    format!("\"{}-{}\"", std::process::id(), view.revision)
}

fn is_unchanged(view: &View, name: &str, query: &Query, headers: &HeaderMap) -> bool {
    let stays = matches!(name, "topology" | "certificates" | "findings" | "documents");
    // Whether endpoints are well is nobody's generation.
    stays && !query.trouble && headers.get(IF_NONE_MATCH).is_some_and(|known| *known == *tag(view))
}

fn unchanged(view: &View) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    tagged(view, answer)
}

fn tagged(view: &View, mut answer: Answer) -> Answer {
    if let Ok(tag) = HeaderValue::try_from(tag(view)) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

fn told<T: Serialize>(view: &View, result: Result<T, Refusal>) -> Answer {
    match result {
        Ok(value) => tagged(view, json(&value)),
        Err(refusal) => refusal.answer(),
    }
}

fn moving<T: Serialize>(result: Result<T, Refusal>) -> Answer {
    match result {
        Ok(value) => json(&value),
        Err(refusal) => refusal.answer(),
    }
}

fn refused(reason: &str) -> Answer {
    text(StatusCode::BAD_REQUEST, format!("{reason}\n"))
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => fresh(body.into()),
        Err(error) => {
            tracing::error!(%error, "dashboard: cannot serialise");
            text(StatusCode::INTERNAL_SERVER_ERROR, "cannot serialise; see the agent's log\n")
        }
    }
}

fn fresh(body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}
