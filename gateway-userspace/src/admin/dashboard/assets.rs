//! The page's files, which are a part of the program. All but the page itself are below a digest of all of them, so that browsers
//! keep them for good and never mix those of two versions.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body_util::Full;
use sha2::{Digest as _, Sha256};

use super::Answer;

/// What stands in the page for the digest.
const PLACE: &str = "{version}";
const PAGE: &str = include_str!("page/index.html");
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! files {
    ($($name:literal: $kind:expr,)+) => {
        &[$(($name, $kind, include_bytes!(concat!("page/", $name)).as_slice())),+]
    };
}

/// Name, kind and content.
const FILES: &[(&str, &str, &[u8])] = files! {
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "agent.js": SCRIPT,
    "certificates.js": SCRIPT,
    "details.js": SCRIPT,
    "documents.js": SCRIPT,
    "dom.js": SCRIPT,
    "explain.js": SCRIPT,
    "findings.js": SCRIPT,
    "flows.js": SCRIPT,
    "format.js": SCRIPT,
    "history.js": SCRIPT,
    "list.js": SCRIPT,
    "main.js": SCRIPT,
    "map.js": SCRIPT,
    "overview.js": SCRIPT,
    "planes.js": SCRIPT,
    "spark.js": SCRIPT,
    "tabs.js": SCRIPT,
    "theme.js": SCRIPT,
    "topology.js": SCRIPT,
    "traffic.js": SCRIPT,
};

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut digest = Sha256::new();
    digest.update(PAGE);
    for (name, _, content) in FILES {
        digest.update(name);
        digest.update(content);
    }
    let digest = digest.finalize();
    let first = digest.first_chunk().copied().unwrap_or_default();
    format!("{:016x}", u64::from_be_bytes(first))
});

static WRITTEN: LazyLock<Bytes> = LazyLock::new(|| PAGE.replace(PLACE, &VERSION).into());

/// The page; it names the version of its files, so it is asked for each time.
pub(super) fn page() -> Answer {
    file("text/html; charset=utf-8", WRITTEN.clone(), "no-cache")
}

/// A file by `version/name`.
pub(super) fn find(name: &str) -> Option<Answer> {
    let name = name.strip_prefix(VERSION.as_str())?.strip_prefix('/')?;
    let (_, kind, content) = FILES.iter().find(|(known, ..)| *known == name)?;
    Some(file(kind, Bytes::from_static(content), "public, max-age=31536000, immutable"))
}

fn file(kind: &'static str, content: Bytes, caching: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(content));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_files_that_are_there() {
        let written = String::from_utf8(WRITTEN.to_vec()).unwrap();
        assert!(!written.contains(PLACE));
        let named: Vec<_> = written
            .split('"')
            .filter_map(|part| part.strip_prefix("/dashboard/"))
            .filter(|part| part.contains('.'))
            .collect();
        assert!(named.len() >= 3, "{named:?}");
        assert!(named.iter().all(|name| find(name).is_some()), "{named:?}");
        assert!(find(&format!("{}/index.html", *VERSION)).is_none());
        assert!(find("0000000000000000/main.js").is_none(), "another version's");
    }

    #[test]
    fn modules_import_files_that_are_there_and_make_no_markup_of_text() {
        for (name, kind, content) in FILES.iter().filter(|(_, kind, _)| *kind == SCRIPT) {
            let text = std::str::from_utf8(content).unwrap();
            for import in text.lines().filter_map(|line| line.split_once(" from \"./")) {
                let imported = import.1.trim_end_matches("\";");
                assert!(FILES.iter().any(|(known, ..)| *known == imported), "{name} imports {imported}");
            }
            for word in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("]
            {
                assert!(!text.contains(word), "{word} in {name} ({kind})");
            }
        }
    }
}
