//! Remembers which rule of which document a part of the snapshot comes from.

use std::sync::Arc;

use crate::api::{FieldPath, Sourced};
use crate::model::{Origin, ServerRef};

use super::select::SelectedServer;

/// A rule of a document's list below `spec`, or one match of it.
pub(super) fn origin<T>(
    document: &Sourced<T>,
    list: &'static str,
    index: usize,
    condition: Option<usize>,
) -> Arc<Origin> {
    let rule = FieldPath::spec().field(list).index(index);
    let field = condition.map_or_else(|| rule.clone(), |at| rule.field("match").index(at));
    let source = &document.source;
    let line = source.places.locate(&field).line;
    Arc::new(Origin {
        document: source.reference.to_string().into(),
        list,
        index,
        condition,
        place: source.file.as_ref().map(|file| (file.clone(), line)),
    })
}

/// The server itself.
pub(super) fn of_server(server: &SelectedServer<'_>) -> ServerRef {
    ServerRef { number: server.number, origin: origin(server.gateway, "servers", server.index, None) }
}
