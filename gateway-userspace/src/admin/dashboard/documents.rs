//! The documents in force: which there are and where they were read, never what they say.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::super::view::View;
use super::paging::Page;
use super::query::Query;
use crate::api::{Objects, Source};

/// One of them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    kind: Arc<str>,
    namespace: Arc<str>,
    name: Arc<str>,
    /// `file:line`; of those of a cluster nothing.
    place: Option<String>,
}

/// A page of them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Documents {
    /// Of each kind.
    kinds: BTreeMap<&'static str, usize>,
    #[serde(flatten)]
    page: Page<Document>,
}

type List<'a> = Box<dyn Iterator<Item = &'a Arc<Source>> + 'a>;

/// Kinds in the order in which people look at them.
fn lists(objects: &Objects) -> Vec<(&'static str, usize, List<'_>)> {
    macro_rules! lists {
        ($($kind:literal: $list:ident,)+) => {
            vec![$((
                $kind,
                objects.$list.len(),
                Box::new(objects.$list.iter().map(|object| &object.source)) as List<'_>,
            )),+]
        };
    }
    lists! {
        "Gateway": gateways,
        "VirtualService": virtual_services,
        "DestinationRule": destination_rules,
        "ServiceEntry": service_entries,
        "WorkloadEntry": workload_entries,
        "Service": services,
        "EndpointSlice": endpoint_slices,
        "Endpoints": endpoints,
        "Secret": secrets,
        "ConfigMap": config_maps,
        "MeshConfig": mesh_configs,
        "Telemetry": telemetries,
        "Pod": pods,
        "Namespace": namespaces,
    }
}

/// `kind` is one of theirs.
pub(super) fn answer(view: &View, query: &Query) -> Documents {
    let lists = lists(&view.objects);
    let kinds =
        lists.iter().map(|(kind, count, _)| (*kind, *count)).filter(|(_, count)| *count > 0).collect();
    let of_kind = |kind: &str| query.kind.as_deref().is_none_or(|wanted| wanted == kind);
    let sources = lists.into_iter().filter(|(kind, ..)| of_kind(kind)).flat_map(|(_, _, sources)| sources);
    let wanted = sources.filter(|source| {
        let reference = &source.reference;
        let texts = [&*reference.kind, &*reference.namespace, &*reference.name];
        query.fits(texts.into_iter().chain(source.file.as_deref()))
    });
    Documents { kinds, page: Page::of(query, wanted, document) }
}

fn document(source: &Arc<Source>) -> Document {
    let reference = &source.reference;
    Document {
        kind: reference.kind.clone(),
        namespace: reference.namespace.clone(),
        name: reference.name.clone(),
        place: source.file.as_ref().map(|file| format!("{file}:{}", source.first_line)),
    }
}
