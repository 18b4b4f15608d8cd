//! A question as people describe a request: by its URL and what they would tell `curl` besides.

use std::net::IpAddr;

use http::{HeaderName, HeaderValue, Method, Uri};

use super::Question;

/// A request in a client's words.
#[derive(Debug, Clone, Copy)]
pub struct Described<'a> {
    /// `http://` or `https://`, host, port, path and query.
    pub url: &'a str,
    /// Such as `GET`.
    pub method: &'a str,
    /// Names in lower case; `host` takes the place of the URL's.
    pub headers: &'a [(String, String)],
    /// Server name of the ClientHello, where it is not the URL's host; empty: none.
    pub sni: Option<&'a str>,
    /// Where it comes from.
    pub client: Option<IpAddr>,
}

impl Described<'_> {
    /// What the client sends. `as_rules_see` says how rules see its headers, by its address and whether it speaks TLS. An error says
    /// what makes no sense, and what would.
    pub fn question(
        self,
        as_rules_see: impl FnOnce(&[(String, String)], Option<IpAddr>, bool) -> Vec<(String, String)>,
    ) -> Result<Question, String> {
        let Self { url, method, headers, sni, client } = self;
        let no_url = || format!("`{url}` is no URL: begin it with http:// or https:// and a host");
        let uri: Uri = url.parse().map_err(|_| no_url())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(no_url());
        };
        let tls = match scheme {
            "http" => false,
            "https" => true,
            other => return Err(format!("`{other}` is not served: http:// or https://")),
        };
        match Method::from_bytes(method.as_bytes()) {
            Ok(Method::CONNECT) => return Err("CONNECT is answered 404: no route serves it".to_owned()),
            Ok(_) => {}
            Err(_) => return Err(format!("`{method}` is no method: such as GET or POST")),
        }
        let host = authority.host().trim_matches(['[', ']']);
        let address: Option<IpAddr> = host.parse().ok();
        let sent = headers.iter().find(|(name, _)| name == "host").map(|(_, value)| value.clone());
        // A client names no address in its ClientHello, and no dot at the end (RFC 6066, 3).
        let named = sni.or_else(|| address.is_none().then(|| host.trim_end_matches('.')));
        Ok(Question {
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            address,
            tls,
            sni: named.filter(|name| tls && !name.is_empty()).map(str::to_owned),
            method: method.to_owned(),
            authority: sent.unwrap_or_else(|| authority.as_str().to_owned()),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
            headers: as_rules_see(headers, client, tls),
            client,
        })
    }
}

/// A header as it is typed, `name: value`; its name in lower case.
pub fn header(typed: &str) -> Result<(String, String), String> {
    let wrong = || format!("`{typed}` is no header: `name: value`");
    let (name, value) = typed.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
    HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    Ok((name.as_str().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(url: &str) -> Described<'_> {
        Described { url, method: "GET", headers: &[], sni: None, client: None }
    }

    fn question(described: Described<'_>) -> Result<Question, String> {
        described.question(|headers, _, _| headers.to_vec())
    }

    #[test]
    fn what_is_typed_is_what_a_client_sends() {
        let https = question(described("https://shop.test.:8443/a?b=c")).unwrap();
        assert_eq!((https.port, https.tls, https.sni.as_deref()), (8443, true, Some("shop.test")));
        assert_eq!((&*https.authority, &*https.path), ("shop.test.:8443", "/a"));
        assert_eq!((https.query.as_deref(), &*https.method), (Some("b=c"), "GET"));
        let headers = [header(" Host:  other.test ").unwrap()];
        let plain = Described { headers: &headers, method: "POST", ..described("http://10.0.0.1/") };
        let plain = question(plain).unwrap();
        assert_eq!((plain.port, plain.sni, &*plain.authority), (80, None, "other.test"));
        assert_eq!(plain.address, "10.0.0.1".parse().ok());
        let unnamed = question(Described { sni: Some(""), ..described("https://shop.test/") });
        assert_eq!(unnamed.unwrap().sni, None);
    }

    #[test]
    fn what_makes_no_sense_is_said_with_its_remedy() {
        for (described, want) in [
            (described("shop.test"), "is no URL"),
            (described("ftp://shop.test/"), "http:// or https://"),
            (Described { method: "CONNECT", ..described("http://a/") }, "no route serves it"),
            (Described { method: "a b", ..described("http://a/") }, "such as GET"),
        ] {
            let said = question(described).unwrap_err();
            assert!(said.contains(want), "{said}");
        }
        for typed in ["x", "a b: c", ": x"] {
            assert!(header(typed).unwrap_err().contains("`name: value`"), "{typed}");
        }
    }
}
