//! What `sluice explain` answers, for a request that people describe as they would type it.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue, Method, Uri};
use serde::Deserialize;

use super::super::view::View;
use super::Refusal;
use crate::model::explain::{Explanation, Question, UNREADABLE};

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
    let no_url = || format!("`{}` is no URL: begin it with http:// or https:// and a host", asked.url);
    let uri: Uri = asked.url.trim().parse().map_err(|_| no_url())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(no_url()) };
    let tls = match scheme {
        "http" => false,
        "https" => true,
        other => return Err(format!("`{other}` is not served: http:// or https://")),
    };
    let method = if asked.method.is_empty() { Method::GET.as_str() } else { asked.method.trim() };
    if Method::from_bytes(method.as_bytes()).is_err() || method == Method::CONNECT.as_str() {
        return Err(format!("`{method}` is no method that routes are for: such as GET or POST"));
    }
    let headers = headers(&asked.headers)?;
    let client = match asked.client.trim() {
        "" => None,
        text => Some(text.parse().map_err(|_| format!("`{text}` is no address: such as 198.51.100.7"))?),
    };
    let host = authority.host().trim_matches(['[', ']']);
    let address: Option<IpAddr> = host.parse().ok();
    let sent = headers.iter().find(|(name, _)| name == "host").map(|(_, value)| value.clone());
    // A client names no address in its ClientHello, and no dot at the end (RFC 6066, 3).
    let of_host = || address.is_none().then(|| host.trim_end_matches('.').to_owned());
    let named = asked.sni.clone().or_else(of_host);
    Ok(Question {
        port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        address,
        tls,
        sni: named.filter(|name| tls && !name.is_empty()),
        method: method.to_owned(),
        authority: sent.unwrap_or_else(|| authority.as_str().to_owned()),
        path: uri.path().to_owned(),
        query: uri.query().map(str::to_owned),
        headers: as_rules_see(&headers, client, tls),
        client,
    })
}

fn headers(lines: &[String]) -> Result<Headers, String> {
    let lines = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
    let read = |line: &str| {
        let wrong = || format!("`{line}` is no header: `name: value`");
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
        HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
        Ok((name.as_str().to_owned(), value.trim().to_owned()))
    };
    lines.take(MOST_HEADERS).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(url: &str) -> Asked {
        Asked { url: url.to_owned(), ..Asked::default() }
    }

    #[test]
    fn what_is_typed_is_what_a_client_sends() {
        let question = |asked: Asked| super::question(&asked, AsRulesSee::default()).unwrap();
        let https = question(asked("https://shop.test:8443/a?b=c"));
        assert_eq!((https.port, https.tls, https.sni.as_deref()), (8443, true, Some("shop.test")));
        assert_eq!((&*https.authority, &*https.path), ("shop.test:8443", "/a"));
        assert_eq!((https.query.as_deref(), &*https.method), (Some("b=c"), "GET"));
        let plain = question(Asked {
            headers: vec![" Host:  other.test ".to_owned(), String::new()],
            method: "POST".to_owned(),
            client: "198.51.100.7".to_owned(),
            ..asked("http://10.0.0.1/")
        });
        assert_eq!((plain.port, plain.sni, &*plain.authority), (80, None, "other.test"));
        assert_eq!(plain.client, "198.51.100.7".parse().ok());
        let unnamed = question(Asked { sni: Some(String::new()), ..asked("https://shop.test/") });
        assert_eq!(unnamed.sni, None);
    }

    #[test]
    fn what_makes_no_sense_is_said_with_its_remedy() {
        for (asked, want) in [
            (asked("shop.test"), "is no URL"),
            (asked("ftp://shop.test/"), "http:// or https://"),
            (Asked { method: "CONNECT".to_owned(), ..asked("http://a/") }, "no method"),
            (Asked { headers: vec!["x".to_owned()], ..asked("http://a/") }, "`name: value`"),
            (Asked { client: "home".to_owned(), ..asked("http://a/") }, "no address"),
        ] {
            let error = question(&asked, AsRulesSee::default()).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
