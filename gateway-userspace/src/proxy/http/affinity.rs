//! What keeps requests at one endpoint: a value of the request as its backend gets it, or a cookie that is made for the
//! client. Pure but for the cookie's value.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};
use http::request::Parts;

use super::outgoing::Address;
use crate::model::{Affinity, CookieAffinity};
use crate::upstream::Key;

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Of requests that belong together; `None` belongs nowhere.
    pub(super) key: Option<Key>,
    /// `Set-Cookie` for a client that had none.
    pub(super) cookie: Option<HeaderValue>,
}

/// Of a request that is ready but for its request line, which is `address`.
pub(super) fn of(affinity: &Affinity, head: &Parts, address: &Address, client: IpAddr) -> Kept {
    let key = match affinity {
        Affinity::None => None,
        Affinity::SourceAddress => Some(Key::of(&client)),
        Affinity::Header(name) => header(name, head, address),
        Affinity::QueryParameter(name) => query(name, address.path_and_query().query()),
        Affinity::Cookie(cookie) => return of_cookie(cookie, &head.headers),
    };
    Kept { key, cookie: None }
}

fn header(name: &str, head: &Parts, address: &Address) -> Option<Key> {
    match name {
        ":authority" | "host" => Some(Key::of(address.authority())),
        ":path" => Some(Key::of(address.path_and_query().as_str())),
        ":method" => Some(Key::of(head.method.as_str())),
        _ => {
            let mut values: Vec<&[u8]> =
                head.headers.get_all(name).into_iter().map(HeaderValue::as_bytes).collect();
            // Lines of a header may come in any order.
            values.sort_unstable();
            (!values.is_empty()).then(|| Key::of(&values))
        }
    }
}

fn query(name: &str, query: Option<&str>) -> Option<Key> {
    let mut pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| Key::of(value))
}

fn of_cookie(wanted: &CookieAffinity, headers: &HeaderMap) -> Kept {
    if let Some(value) = cookie(&wanted.name, headers) {
        return Kept { key: Some(Key::of(value)), cookie: None };
    }
    let Some(given) = &wanted.given else { return Kept::default() };
    let value = format!("{:016x}", fastrand::u64(..));
    let cookie = HeaderValue::from_str(&format!("{}=\"{value}\"{given}", wanted.name)).ok();
    Kept { key: Some(Key::of(value.as_str())), cookie }
}

/// The first cookie of a name, without quotes (RFC 6265, 4.1.1).
fn cookie<'h>(name: &str, headers: &'h HeaderMap) -> Option<&'h str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(found, _)| *found == name)?;
    let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    (!bare.is_empty()).then_some(bare)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn kept(affinity: &Affinity, target: &str, headers: &[(&'static str, &str)]) -> Kept {
        let mut request = Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let address = Address::new(target.parse().unwrap(), "shop.test:80");
        of(affinity, &head, &address, CLIENT)
    }

    #[test]
    fn requests_with_the_same_value_belong_together() {
        let (header, authority) = (Affinity::Header("x-user".into()), Affinity::Header("host".into()));
        let parameter = Affinity::QueryParameter("user".into());
        let brought = Affinity::Cookie(CookieAffinity { name: "user".into(), given: None }.into());
        let a = Some(Key::of("a"));
        for (affinity, target, headers, want) in [
            (&Affinity::None, "/", &[("x-user", "a")][..], None),
            (&Affinity::SourceAddress, "/", &[], Some(Key::of(&CLIENT))),
            (&header, "/", &[("x-user", "a")], Some(Key::of(&vec![b"a".as_slice()]))),
            (&header, "/", &[("X-User", "a"), ("x-user", "b")], Some(Key::of(&vec![b"a".as_slice(), b"b"]))),
            (&header, "/", &[("x-user", "b"), ("x-user", "a")], Some(Key::of(&vec![b"a".as_slice(), b"b"]))),
            (&header, "/", &[], None),
            (&authority, "/", &[], Some(Key::of("shop.test:80"))),
            (&parameter, "/?x=1&user=a&user=b", &[], a),
            (&parameter, "/?x=user", &[], None),
            (&parameter, "/?user", &[], Some(Key::of(""))),
            (&parameter, "/user=a", &[], None),
            (&brought, "/", &[("cookie", "x=y; user=a; z=1")], a),
            (&brought, "/", &[("cookie", "x=y"), ("cookie", "user=\"a\"")], a),
            (&brought, "/", &[("cookie", "users=a")], None),
            (&brought, "/", &[], None),
        ] {
            let found = kept(affinity, target, headers);
            assert_eq!(found, Kept { key: want, cookie: None }, "{affinity:?} {target} {headers:?}");
        }
    }

    #[test]
    fn a_client_is_given_a_cookie_that_finds_the_same_endpoint() {
        let given = Some("; Max-Age=5; Path=/; HttpOnly".into());
        let affinity = Affinity::Cookie(CookieAffinity { name: "user".into(), given }.into());
        let first = kept(&affinity, "/", &[]);
        let cookie = first.cookie.unwrap().to_str().unwrap().to_owned();
        let (pair, attributes) = cookie.split_once(';').unwrap();
        assert_eq!(attributes, " Max-Age=5; Path=/; HttpOnly");
        let again = kept(&affinity, "/", &[("cookie", pair)]);
        assert_eq!(again, Kept { key: first.key, cookie: None });
        assert_ne!(kept(&affinity, "/", &[]).key, first.key);
    }
}
