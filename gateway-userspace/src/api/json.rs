//! One document out of the API server's JSON, as the same tree that a file's YAML becomes, but without places.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::yaml::{Content, Entry, Node, Span};

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree).map(|content| Self { content, span: Span::default() })
    }
}

struct Tree;

/// A word that means what it means without quotes: a number, a boolean, nothing.
fn plain(text: impl ToString) -> Content {
    Content::Scalar { text: text.to_string(), plain: true }
}

impl<'de> Visitor<'de> for Tree {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(plain(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(plain(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(plain(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(plain(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar { text: value.to_owned(), plain: false })
    }

    fn visit_string<E>(self, text: String) -> Result<Content, E> {
        Ok(Content::Scalar { text, plain: false })
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(plain(""))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Content::Sequence(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = fields.next_entry()? {
            entries.push(Entry { key, key_span: Span::default(), value });
        }
        Ok(Content::Mapping(entries))
    }
}

#[cfg(test)]
mod tests {
    use crate::api::document::read_tree;
    use crate::api::{Code, Object};

    #[test]
    fn what_the_api_server_gives_reads_as_a_file_does() {
        let text = r#"{"apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "80", "namespace": "shop", "generation": 1, "labels": {"on": "true"}},
            "spec": {"selector": {}, "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"},
                "hosts": ["a.test"], "tls": {"httpsRedirect": true}}]}}"#;
        let reading = read_tree(serde_json::from_str(text).unwrap());
        let Some(Object::Gateway(gateway)) = reading.object else { panic!("{:?}", reading.diagnostics) };
        assert_eq!(gateway.reference().to_string(), "Gateway shop/80");
        assert_eq!(gateway.metadata.labels["on"], "true");
        assert!(gateway.spec.servers[0].tls.as_ref().unwrap().https_redirect);
        assert!(gateway.source.file.is_none());
    }

    #[test]
    fn what_is_wrong_with_it_has_a_field_and_no_position() {
        let text = r#"{"apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"servers": [{"port": {"number": "80"}, "hosts": null}]}}"#;
        let reading = read_tree(serde_json::from_str(text).unwrap());
        assert!(reading.is_refused());
        let found = &reading.diagnostics[0];
        assert_eq!(
            (found.code, found.field.as_deref()),
            (Code::SchemaValidation, Some("spec.servers[0].port.number"))
        );
        assert_eq!(found.message, "expected a whole number, found the text `80`");
        assert!(found.position.is_none());
    }
}
