//! Which records get a line: an expression of CEL about a record's attributes, such as `response.code >= 400`.
//!
//! Served are the operators `&& || ! == != < <= > >= in`, brackets, lists, texts, whole numbers, `true`, `false`,
//! `duration('1s')`, the functions `startsWith`, `endsWith`, `contains`, `matches` and `size` of texts, and the attributes of
//! `attribute`. What has no value makes what depends on it neither true nor false, and there is no line; `false &&` and
//! `true ||` don't ask for their other side (CEL, Logical Operators).

mod attribute;
mod expression;
mod lexer;
mod parser;

use std::fmt;

use serde::{Serialize, Serializer};

use self::expression::Expression;
use super::record::Connection;
use super::rule::Wanted;

/// See the module.
#[derive(Debug, Clone)]
pub struct Filter {
    written: String,
    expression: Expression,
}

impl Filter {
    /// Reads an expression that must be true or false. An error says what is wrong or not served, and where.
    pub fn parse(written: &str) -> Result<Self, String> {
        let expression = parser::parse(written)?;
        Ok(Self { written: written.to_owned(), expression })
    }

    /// Whether a record gets a line.
    pub(super) fn takes(&self, record: &Connection) -> bool {
        self.expression.truth(record) == Some(true)
    }

    pub(super) fn add_to(&self, wanted: &mut Wanted) {
        self.expression.add_to(wanted);
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Filter {}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::samples;
    use super::*;

    fn takes(written: &str, record: &Connection) -> bool {
        Filter::parse(written).unwrap_or_else(|error| panic!("{written}: {error}")).takes(record)
    }

    #[test]
    fn a_request_is_asked_for_its_attributes() {
        for (written, want) in [
            ("response.code >= 400", false),
            ("response.code == 200 && connection.mtls", true),
            ("!(response.code < 300) || request.method == 'GET'", true),
            ("request.headers['x-team'] == \"blue\"", true),
            ("request.headers['X-Team'] != 'blue'", false),
            ("has(request.headers['x-none']) || 'x-team' in request.headers", true),
            ("request.path.startsWith('/new/') && request.url_path == '/new/a'", true),
            ("request.query == 'b' && request.host.endsWith('.test') && request.scheme == 'https'", true),
            ("request.useragent.matches('^curl/[0-9]+') && !request.useragent.contains('Mozilla')", true),
            ("request.useragent.matches('^curl/[[:digit:]]{1,2} [[\"]')", true),
            ("request.method in ['PUT', 'GET']", true),
            ("response.code in [500, 503]", false),
            ("request.duration > duration('1s') && request.duration < duration('1501ms')", true),
            ("response.size == 92 && request.size >= 550", true),
            ("source.address == '198.18.0.2:50000' && source.port == 50000", true),
            ("upstream.port == 8080 && xds.route_name == 'rule.match'", true),
            ("response.grpc_status == 5 && response.trailers['grpc-status'] == '5'", true),
            ("response.headers['content-type'].startsWith('text/')", true),
            ("response.code_details == 'via_upstream' && connection.tls_version == 'TLSv1.3'", true),
            ("size(request.method) == 3 && -1 < response.code && true != false", true),
            ("request.protocol == 'HTTP/1.1' && request.id == 'id'", true),
        ] {
            assert_eq!(takes(written, &samples::request()), want, "{written}");
        }
    }

    #[test]
    fn what_has_no_value_decides_nothing() {
        for (written, of_request, of_connection) in [
            ("response.code < 400", true, false),
            ("!(response.code >= 400)", true, false),
            ("request.headers['x-none'] != 'a'", false, false),
            ("request.headers['x-none'] == 'a' || source.port > 0", true, true),
            ("source.port > 0 || request.headers['x-none'] == 'a'", true, true),
            ("!(request.headers['x-none'] == 'a' && source.port == 0)", true, true),
            ("!has(request.method)", false, true),
            ("connection.mtls == false", false, true),
        ] {
            let got = (takes(written, &samples::request()), takes(written, &samples::connection()));
            assert_eq!(got, (of_request, of_connection), "{written}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (written, said) in [
            ("response.code >= ", "expected a value"),
            ("response.code", "is a number, not true or false"),
            ("response.code == '200'", "a number cannot be compared with a text"),
            ("connection.mtls < true", "true or false cannot be ordered"),
            ("response.colour == 1", "unknown attribute `response.colour`"),
            ("filter_state.x == 1", "unknown attribute `filter_state.x`"),
            ("request.headers == 'a'", "request.headers is a map"),
            ("request.method[0] == 'G'", "`[` is not expected"),
            ("(response.code > 1", "expected `)`"),
            ("response.code > 1)", "`)` is not expected"),
            ("request.method == 'GET", "the text has no end"),
            ("request.method.upper() == 'GET'", "unknown function `upper`"),
            ("request.method.matches('[')", "regex"),
            ("request.method.matches(request.path)", "takes a text in quotes"),
            ("response.code > 1.5", "only whole numbers"),
            ("response.code > 99999999999999999999", "is too large"),
            ("request.duration > duration('x')", "duration"),
            ("1 ? 2 : 3", "`?` is not expected"),
            ("response.code in 5", "expected a list"),
            ("response.code in ['a']", "a number cannot be compared with a text"),
            ("response.code & 1", "`&`"),
            ("", "expected a value"),
        ] {
            let error = Filter::parse(written).unwrap_err();
            assert!(error.contains(said), "{written}: {error}");
        }
        let deep = "!".repeat(10_000) + "true";
        assert!(Filter::parse(&deep).unwrap_err().contains("too deep"));
        let deep = "(".repeat(10_000);
        assert!(Filter::parse(&deep).unwrap_err().contains("too deep"));
    }
}
