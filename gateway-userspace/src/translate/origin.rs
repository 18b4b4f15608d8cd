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
    let name = document.reference().to_string().into();
    named_origin(document, name, (list, index, condition))
}

/// The same for a document whose name, `Kind namespace/name`, many rules share.
pub(super) fn named_origin<T>(
    document: &Sourced<T>,
    name: Arc<str>,
    (list, index, condition): (&'static str, usize, Option<usize>),
) -> Arc<Origin> {
    let rule = FieldPath::spec().field(list).index(index);
    let field = condition.map_or_else(|| rule.clone(), |at| rule.field("match").index(at));
    let source = &document.source;
    let line = source.places.locate(&field).line;
    Arc::new(Origin {
        document: name,
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
