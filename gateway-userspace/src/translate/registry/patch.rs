//! EndpointSlices that say something else, and nothing else that does: what changes most in a mesh. Their Services alone are
//! looked at again. Whatever is not plain, such as something to report, is left to the walk through all services.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::endpoints::{self, Group};
use super::services::ListedService;
use super::unit::{Ingredients, Unit};
use super::visibility::Visibility;
use super::{Known, Listed, Memo, Workloads};
use crate::api::{EndpointSlice, Objects, Sourced};
use crate::model::Cluster;
use crate::translate::credential::Credentials;
use crate::translate::memo::Address;
use crate::translate::policy::DestinationRules;
use crate::translate::report::Report;
use crate::translate::surroundings::Surroundings;

/// A slice before and now.
type Change<'a> = (&'a Sourced<EndpointSlice>, &'a Sourced<EndpointSlice>);

/// What becomes of a change. All of it is made before any of it is put in place.
struct Patch {
    /// For the slice before: the slice now, and its groups.
    groups: Vec<(Address, Address, Arc<Vec<Group>>)>,
    services: Vec<(Address, Arc<ListedService>)>,
    units: Vec<(Arc<str>, Arc<Unit>)>,
}

/// Has what is known follow slices in which two sets of documents differ, and notes the hosts that changed. False, with
/// nothing done, where a walk through all services is needed.
pub(super) fn slices(
    (before, now): (&Objects, &Objects),
    workloads: &Workloads<'_>,
    surroundings: &Surroundings,
    (memo, changed): (&mut Memo, &mut HashSet<Arc<str>>),
) -> bool {
    let patch = Patch::new((before, now), workloads, surroundings, memo);
    patch.is_some_and(|patch| patch.put_in_place(memo, changed))
}

/// The slices that differ, if each is the same document of the same Service as before.
fn changes<'a>(before: &'a Objects, now: &'a Objects) -> Option<Vec<Change<'a>>> {
    let (before, now) = (&before.endpoint_slices, &now.endpoint_slices);
    let pairs = before.iter().zip(now).filter(|(before, now)| !Arc::ptr_eq(before, now));
    let pairs: Vec<Change<'_>> = pairs.map(|(before, now)| (&**before, &**now)).collect();
    let stays = |(before, now): &Change<'_>| {
        before.reference() == now.reference()
            && before.metadata.creation_timestamp == now.metadata.creation_timestamp
            && endpoints::service_of(before)
                .is_some_and(|service| endpoints::service_of(now) == Some(service))
    };
    (before.len() == now.len() && pairs.iter().all(stays)).then_some(pairs)
}

impl Patch {
    fn new(
        (before, now): (&Objects, &Objects),
        workloads: &Workloads<'_>,
        surroundings: &Surroundings,
        memo: &Memo,
    ) -> Option<Self> {
        let mut patch = Self { groups: Vec::new(), services: Vec::new(), units: Vec::new() };
        let mut replaced = HashMap::new();
        for (before, now) in changes(before, now)? {
            let known = memo.groups.peek(&Address::of(before))?;
            let made = Arc::new(endpoints::of_slice_alone(now, workloads));
            if !endpoints::same_findings(known, &made) {
                return None;
            }
            replaced.insert(Arc::as_ptr(known).addr(), made.clone());
            patch.groups.push((Address::of(before), Address::of(now), made));
        }
        let default = &surroundings.mesh.default_service_export_to;
        let visibility = Visibility { identity: &surroundings.identity, default };
        let mut listed = Vec::new();
        for (address, known) in memo.services.iter() {
            if let Some(groups) = known.groups_with(&replaced) {
                let made = known.with_groups(groups, workloads, visibility)?;
                listed.extend(known.listed().cloned().zip(made.listed().cloned()));
                patch.services.push((*address, Arc::new(made)));
            }
        }
        patch.units = units(&listed, now, surroundings, &memo.known)?;
        Some(patch)
    }

    fn put_in_place(self, memo: &mut Memo, changed: &mut HashSet<Arc<str>>) -> bool {
        let Some(known) = Arc::get_mut(&mut memo.known) else { return false };
        for (before, now, made) in self.groups {
            memo.groups.replace(&before, now, made);
        }
        for (address, made) in self.services {
            memo.services.replace(&address, address, made);
        }
        if self.units.is_empty() {
            return true;
        }
        let clusters = Arc::make_mut(&mut known.clusters);
        for (host, unit) in self.units {
            let named = |cluster: &Arc<Cluster>| (cluster.name.clone(), cluster.clone());
            clusters.extend(unit.clusters.iter().map(named));
            known.units.insert(host.clone(), unit);
            changed.insert(host);
        }
        true
    }
}

/// The services anew of which something else is listed. Their ports are the same, and so are the names of their clusters.
fn units(
    listed: &[(Arc<Listed>, Arc<Listed>)],
    objects: &Objects,
    surroundings: &Surroundings,
    known: &Known,
) -> Option<Vec<(Arc<str>, Arc<Unit>)>> {
    let mut differ = listed.iter().filter(|(before, now)| !Arc::ptr_eq(before, now)).peekable();
    if differ.peek().is_none() {
        return Some(Vec::new());
    }
    let identity = &surroundings.identity;
    // What is to be said of rules was said when they came.
    let rules = DestinationRules::new(objects, identity, &mut Report::default());
    let credentials = &Credentials::new(objects, surroundings);
    let unit = |(before, now): &(Arc<Listed>, Arc<Listed>)| {
        let old = known.units.get(&before.host)?;
        let parts = old.parts_with(before, now)?;
        let rule = rules.of(&now.host, parts[0].namespace(), identity);
        let ingredients = Ingredients::new(parts, rule.as_ref());
        let made = Unit::new(ingredients, rule, (credentials, identity, &surroundings.mesh));
        (old.findings == made.findings).then(|| (now.host.clone(), Arc::new(made)))
    };
    differ.map(unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::Translator;
    use crate::translate::tests::objects;

    fn service(name: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n"
        )
    }

    fn slice(name: &str, service: &str, port: &str, address: &str) -> String {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, labels: \
             {{kubernetes.io/service-name: {service}}}}}\nports: [{{name: {port}, port: 80}}]\nendpoints: [{{addresses: \
             [{address}]}}]\n"
        )
    }

    #[test]
    fn slices_that_change_alone_are_followed_and_whatever_is_not_plain_is_left_to_the_walk() {
        let services = [service("a"), service("b")].concat();
        let with = |slices: &[String]| Arc::new(objects(&[services.clone(), slices.concat()].concat()));
        let first = slice("a1", "a", "http", "10.0.0.1");
        let others = [slice("a2", "a", "http", "10.0.0.2"), slice("b1", "b", "http", "10.0.0.3")];
        let of = |changed: String| with(&[&[changed], &others[..]].concat());
        let both = [slice("a1", "a", "http", "10.0.0.8"), slice("a2", "a", "http", "10.0.0.9")];
        let host: Arc<str> = "a.default.svc.cluster.local".into();
        for (what, now, want) in [
            ("an address", of(slice("a1", "a", "http", "10.0.0.9")), Some((vec![host.clone()], 2))),
            ("two slices", with(&[&both[..], &others[1..]].concat()), Some((vec![host.clone()], 2))),
            ("the same in another place", of(format!("---\n# moved\n{first}")), Some((vec![], 2))),
            ("an address that is none", of(slice("a1", "a", "http", "none")), None),
            ("another Service", of(slice("a1", "b", "http", "10.0.0.1")), None),
            ("one slice less", with(&others), None),
            ("another name", of(slice("a0", "a", "http", "10.0.0.1")), None),
        ] {
            let (before, surroundings) = (of(first.clone()), Surroundings::default());
            let mut translator = Translator::default();
            translator.translate(&before, &surroundings, 1);
            let (mut changed, memo) = (HashSet::new(), &mut translator.registry);
            let workloads = Workloads::new(&now);
            let follows = slices((&before, &now), &workloads, &surroundings, (memo, &mut changed));
            let endpoints = || memo.known.units[&host].clusters[0].endpoints.len();
            let found = follows.then(|| (changed.into_iter().collect::<Vec<_>>(), endpoints()));
            assert_eq!(found, want, "{what}");
        }
    }
}
