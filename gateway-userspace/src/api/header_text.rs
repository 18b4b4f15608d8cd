//! Values of `headers.set` and `headers.add`: text in which `%COMMAND%` stands for what is known of a request only when it
//! comes (Envoy's command operators), and `%%` for a per cent sign.

use crate::notation::command::{HeaderArguments, Part, parts};

/// Part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// What stands for something else.
    Variable(Variable),
}

/// A command operator of those that are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// `DOWNSTREAM_REMOTE_ADDRESS` and its kin: the client's end, as trusted proxies tell it.
    Remote(AddressPart),
    /// `DOWNSTREAM_DIRECT_REMOTE_ADDRESS` and its kin: whoever the connection is with.
    DirectRemote(AddressPart),
    /// `DOWNSTREAM_LOCAL_ADDRESS` and its kin: the gateway's end towards the client.
    Local(AddressPart),
    /// `PROTOCOL`.
    Protocol,
    /// `REQUESTED_SERVER_NAME`.
    ServerName,
    /// `ROUTE_NAME`.
    RouteName,
    /// `START_TIME`.
    StartTime(TimeForm),
    /// `REQ(NAME?OTHER):LENGTH`: a header of the request, or else another one.
    Request(HeaderLine),
    /// `RESP(NAME?OTHER):LENGTH`: likewise of the response.
    Response(HeaderLine),
    /// `RESPONSE_CODE`.
    ResponseCode,
}

/// What is said of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressPart {
    /// `address:port`.
    Whole,
    /// `_WITHOUT_PORT`.
    Address,
    /// `_PORT`.
    Port,
}

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeForm {
    /// RFC 3339 with milliseconds, UTC.
    Rfc3339,
    /// `%s`: seconds since 1970.
    Seconds,
    /// `%s%3f`: milliseconds since 1970.
    Milliseconds,
    /// `%s.%3f`: seconds with three digits behind the point.
    Fraction,
}

/// Arguments of `REQ` and `RESP`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderLine {
    /// Header, or one of HTTP/2's such as `:path`.
    pub name: String,
    /// Taken where the first is absent.
    pub or: Option<String>,
    /// Bytes of it at most.
    pub length: Option<usize>,
}

/// Which headers a value is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// `headers.request`.
    Request,
    /// `headers.response`.
    Response,
}

/// Takes a value apart. What is not served, or not known on the way in question, is an error.
pub fn pieces(value: &str, direction: Direction) -> Result<Vec<Piece>, String> {
    let parts = parts(value).map_err(|rest| {
        format!(
            "header value configuration: invalid header configuration. Un-terminated variable expression '%{rest}'"
        )
    })?;
    let piece = |part| match part {
        Part::Text(text) => Ok(Piece::Text(text)),
        Part::Command(command) => {
            let variable = variable(command).filter(|variable| variable.is_known(direction));
            variable
                .map(Piece::Variable)
                .ok_or_else(|| format!("the variable %{command}% in a header value is not yet supported"))
        }
    };
    parts.into_iter().map(piece).collect()
}

impl Variable {
    /// A response is not there before it comes.
    fn is_known(&self, direction: Direction) -> bool {
        match self {
            Self::Response(_) | Self::ResponseCode => direction == Direction::Response,
            _ => true,
        }
    }
}

fn variable(command: &str) -> Option<Variable> {
    let (name, arguments) = match command.split_once('(') {
        Some((name, arguments)) => (name, Some(arguments)),
        None => (command, None),
    };
    if let Some(arguments) = arguments {
        return match name {
            "REQ" => Some(Variable::Request(header_line(arguments)?)),
            "RESP" => Some(Variable::Response(header_line(arguments)?)),
            "START_TIME" => Some(Variable::StartTime(match arguments {
                ")" => TimeForm::Rfc3339,
                "%s)" => TimeForm::Seconds,
                "%s%3f)" => TimeForm::Milliseconds,
                "%s.%3f)" => TimeForm::Fraction,
                _ => return None,
            })),
            _ => None,
        };
    }
    if let Some(part) = name.strip_prefix("DOWNSTREAM_REMOTE") {
        return Some(Variable::Remote(address_part(part)?));
    }
    if let Some(part) = name.strip_prefix("DOWNSTREAM_DIRECT_REMOTE") {
        return Some(Variable::DirectRemote(address_part(part)?));
    }
    if let Some(part) = name.strip_prefix("DOWNSTREAM_LOCAL") {
        return Some(Variable::Local(address_part(part)?));
    }
    match name {
        "PROTOCOL" => Some(Variable::Protocol),
        "REQUESTED_SERVER_NAME" => Some(Variable::ServerName),
        "ROUTE_NAME" => Some(Variable::RouteName),
        "START_TIME" => Some(Variable::StartTime(TimeForm::Rfc3339)),
        "RESPONSE_CODE" => Some(Variable::ResponseCode),
        _ => None,
    }
}

fn address_part(rest: &str) -> Option<AddressPart> {
    match rest {
        "_ADDRESS" => Some(AddressPart::Whole),
        "_ADDRESS_WITHOUT_PORT" => Some(AddressPart::Address),
        "_PORT" => Some(AddressPart::Port),
        _ => None,
    }
}

/// `NAME?OTHER):LENGTH`, the length being optional.
fn header_line(arguments: &str) -> Option<HeaderLine> {
    let HeaderArguments { name, or, length } = HeaderArguments::parse(arguments)?;
    let is_name = |name: &str| {
        let pseudo = [":authority", ":method", ":path", ":scheme"];
        pseudo.iter().any(|known| name.eq_ignore_ascii_case(known))
            || http::HeaderName::from_bytes(name.as_bytes()).is_ok()
    };
    let sound = is_name(name) && or.is_none_or(is_name);
    sound.then(|| HeaderLine { name: name.to_owned(), or: or.map(str::to_owned), length })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    fn line(name: &str, or: Option<&str>, length: Option<usize>) -> HeaderLine {
        HeaderLine { name: name.to_owned(), or: or.map(str::to_owned), length }
    }

    #[test]
    fn values_are_texts_and_variables() {
        for (value, want) in [
            ("plain", vec![text("plain")]),
            ("", vec![]),
            ("100%%", vec![text("100%")]),
            ("%PROTOCOL%", vec![Piece::Variable(Variable::Protocol)]),
            (
                "a=%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%;b",
                vec![text("a="), Piece::Variable(Variable::Remote(AddressPart::Address)), text(";b")],
            ),
            (
                "%REQ(X-A?:authority):5%%%",
                vec![Piece::Variable(Variable::Request(line("X-A", Some(":authority"), Some(5)))), text("%")],
            ),
            (
                "t=%START_TIME(%s.%3f)%",
                vec![text("t="), Piece::Variable(Variable::StartTime(TimeForm::Fraction))],
            ),
            ("%DOWNSTREAM_LOCAL_PORT%", vec![Piece::Variable(Variable::Local(AddressPart::Port))]),
        ] {
            assert_eq!(pieces(value, Direction::Request), Ok(want), "{value}");
        }
        let of_response =
            pieces("%RESPONSE_CODE% %RESP(x)%%REQ(x-request-id)%", Direction::Response).unwrap();
        assert_eq!(of_response.len(), 4);
    }

    #[test]
    fn what_is_not_served_is_an_error() {
        for (value, direction, want) in [
            ("%foo", Direction::Request, "Un-terminated variable expression '%foo'"),
            ("%REQ(a)", Direction::Request, "Un-terminated"),
            ("%HOSTNAME%", Direction::Request, "%HOSTNAME% in a header value is not yet supported"),
            ("%START_TIME(%Y)%", Direction::Request, "not yet supported"),
            ("%REQ(a b)%", Direction::Request, "not yet supported"),
            ("%REQ(a):x%", Direction::Request, "not yet supported"),
            ("%REQ(:protocol)%", Direction::Request, "not yet supported"),
            ("%RESPONSE_CODE%", Direction::Request, "not yet supported"),
            ("%RESP(a)%", Direction::Request, "not yet supported"),
        ] {
            let error = pieces(value, direction).unwrap_err();
            assert!(error.contains(want), "{value}: {error}");
        }
    }
}
