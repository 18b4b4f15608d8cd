//! What `sluice explain` answers, for a request that people describe as they would type it.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde::Deserialize;

use super::super::view::View;
use super::Refusal;
use crate::model::explain::{Described, Explanation, Question, UNREADABLE, header};

/// Headers of a question at most.
const MOST_HEADERS: usize = 100;

/// Name and value.
type Header = (String, String);
type Headers = Vec<Header>;
type Rewrite = fn(&[Header], Option<IpAddr>, bool) -> Headers;

/// How rules see the headers that a client sends, by its address and whether it speaks TLS: the proxy knows.
#[derive(Clone, Copy)]
pub struct AsRulesSee(pub Rewrite);

impl Default for AsRulesSee {
    /// As they are sent.
    fn default() -> Self {
        Self(|headers, _, _| headers.to_vec())
    }
}

impl fmt::Debug for AsRulesSee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsRulesSee").finish_non_exhaustive()
    }
}

/// As the form has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    /// `http://` or `https://`, host, port, path and query.
    url: String,
    /// Such as `GET`.
    method: String,
    /// Lines `name: value`; empty ones count for nothing.
    headers: Vec<String>,
    /// Server name of the ClientHello, where it is not the URL's host.
    sni: Option<String>,
    /// Where the client comes from.
    client: String,
}

/// `asked` is JSON in base64 for URLs (RFC 4648, 5).
pub(super) fn answer(view: &View, asked: &str) -> Result<Explanation, Refusal> {
    let no_question = || Refusal::Question("wanted: what the dashboard's form sends".to_owned());
    let bytes = URL_SAFE_NO_PAD.decode(asked).map_err(|_| no_question())?;
    let asked: Asked = serde_json::from_slice(&bytes).map_err(|_| no_question())?;
    let question = question(&asked, view.as_rules_see).map_err(Refusal::Question)?;
    view.explain(question).ok_or_else(|| Refusal::Question(UNREADABLE.to_owned()))
}

fn question(asked: &Asked, AsRulesSee(as_rules_see): AsRulesSee) -> Result<Question, String> {
    let lines = asked.headers.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
    let headers = lines.take(MOST_HEADERS).map(header).collect::<Result<Headers, _>>()?;
    let client = match asked.client.trim() {
        "" => None,
        text => Some(text.parse().map_err(|_| format!("`{text}` is no address: such as 198.51.100.7"))?),
    };
    let method = if asked.method.is_empty() { Method::GET.as_str() } else { asked.method.trim() };
    let (url, sni) = (asked.url.trim(), asked.sni.as_deref());
    Described { url, method, headers: &headers, sni, client }.question(as_rules_see)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(url: &str) -> Asked {
        Asked { url: url.to_owned(), ..Asked::default() }
    }

    #[test]
    fn the_form_is_read_as_it_is_filled_in() {
        let question = |asked: Asked| super::question(&asked, AsRulesSee::default());
        let found = question(Asked {
            headers: vec![" Host:  other.test ".to_owned(), String::new()],
            client: " 198.51.100.7".to_owned(),
            ..asked(" http://10.0.0.1/ ")
        });
        let found = found.unwrap();
        assert_eq!((&*found.method, &*found.authority), ("GET", "other.test"));
        assert_eq!(found.client, "198.51.100.7".parse().ok());
        for (asked, want) in [
            (Asked { headers: vec!["x".to_owned()], ..asked("http://a/") }, "`name: value`"),
            (Asked { client: "home".to_owned(), ..asked("http://a/") }, "no address"),
            (asked("shop.test"), "is no URL"),
        ] {
            let said = question(asked).unwrap_err();
            assert!(said.contains(want), "{said}");
        }
    }
}
