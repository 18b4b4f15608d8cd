//! Operations on headers.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::api::header_text::{self as api, Direction, Piece, Variable, pieces};
use crate::api::validate::is_authority;
use crate::api::virtual_service::HeaderOperations;
use crate::model::HeaderOps;
use crate::model::route::{AddressPart, HeaderField, HeaderPart, HeaderText, Made, Part, TimeForm};

/// `headers.request` or `.response`; `host` among set and add becomes the authority. An empty value does nothing, as Envoy
/// leaves a header alone that it would write nothing into.
pub(super) fn operations(written: &HeaderOperations, direction: Direction) -> HeaderOps {
    let mut operations = HeaderOps::default();
    for (pairs, is_set) in [(&written.set, true), (&written.add, false)] {
        for (name, value) in pairs {
            let Ok(pieces) = pieces(value, direction) else { continue };
            if is_authority(name) {
                operations.authority = alone(&pieces).map(str::to_owned).or(operations.authority);
                continue;
            }
            let parsed = HeaderName::from_bytes(name.as_bytes()).ok().zip(text(value, &pieces, direction));
            if let Some(pair) = parsed {
                if is_set { operations.set.push(pair) } else { operations.add.push(pair) }
            }
        }
    }
    operations.remove =
        written.remove.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect();
    operations
}

/// A value without variables.
fn alone(pieces: &[Piece]) -> Option<&str> {
    match pieces {
        [Piece::Text(text)] => Some(text),
        _ => None,
    }
}

fn text(written: &str, pieces: &[Piece], direction: Direction) -> Option<HeaderText> {
    if pieces.is_empty() {
        return None;
    }
    if let Some(text) = alone(pieces) {
        return HeaderValue::from_str(text).ok().map(HeaderText::Plain);
    }
    let parts = pieces.iter().map(|piece| part(piece, direction)).collect::<Option<Vec<_>>>()?;
    Some(HeaderText::Made(Arc::new(Made { written: written.to_owned(), parts })))
}

fn part(piece: &Piece, direction: Direction) -> Option<Part> {
    let variable = match piece {
        Piece::Text(text) => return Some(Part::Text(text.clone())),
        Piece::Variable(variable) => variable,
    };
    Some(match variable {
        Variable::Remote(part) => Part::Remote(address_part(*part)),
        Variable::DirectRemote(part) => Part::DirectRemote(address_part(*part)),
        Variable::Local(part) => Part::Local(address_part(*part)),
        Variable::Protocol => Part::Protocol,
        Variable::ServerName => Part::ServerName,
        Variable::RouteName => Part::RouteName,
        Variable::ResponseCode => Part::ResponseCode,
        Variable::StartTime(form) => Part::StartTime(match form {
            api::TimeForm::Rfc3339 => TimeForm::Rfc3339,
            api::TimeForm::Seconds => TimeForm::Seconds,
            api::TimeForm::Milliseconds => TimeForm::Milliseconds,
            api::TimeForm::Fraction => TimeForm::Fraction,
        }),
        Variable::Request(line) if direction == Direction::Response => Part::Asked(header_part(line)?),
        Variable::Request(line) | Variable::Response(line) => Part::Header(header_part(line)?),
    })
}

fn header_part(line: &api::HeaderLine) -> Option<HeaderPart> {
    Some(HeaderPart {
        name: HeaderField::new(&line.name)?,
        or: line.or.as_deref().and_then(HeaderField::new),
        length: line.length,
    })
}

fn address_part(part: api::AddressPart) -> AddressPart {
    match part {
        api::AddressPart::Whole => AddressPart::Whole,
        api::AddressPart::Address => AddressPart::Address,
        api::AddressPart::Port => AddressPart::Port,
    }
}

/// A lone destination's operations come after the route's, so that its `set` wins; but the route's Host wins.
pub(super) fn merge(route: &mut HeaderOps, destination: HeaderOps) {
    route.remove.extend(destination.remove);
    route.set.extend(destination.set);
    route.add.extend(destination.add);
    route.authority = route.authority.take().or(destination.authority);
}
