//! What is known of a cluster's documents. A document that breaks keeps its last sound state in force until it is mended or
//! deleted, as one in a file does.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::api::{Diagnostic, Fingerprint, Object, ObjectRef, Reading};
use crate::model::GatewayIdentity;
use crate::source::together::in_force;

use super::kinds::Scope;
use super::standing::{Standing, Status};
use super::watch::Event;
use super::writer::Order;

/// One document.
#[derive(Debug)]
struct Held {
    /// What is wrong with it as it is.
    diagnostics: Vec<Diagnostic>,
    /// As it is, or as it was when it was sound last.
    object: Option<Object>,
    /// Of kinds that get a status.
    standing: Option<Box<Standing>>,
}

/// The documents of a scope.
#[derive(Debug, Default)]
struct Shelf {
    /// Of the follower whose word counts: one that was dropped may have said something that is heard only now.
    number: u64,
    held: BTreeMap<ObjectRef, Held>,
    /// Of those in force.
    fingerprint: Fingerprint,
    /// What there is of it, be it nothing, has been told by the server.
    is_told: bool,
    /// The same, or there is none for us.
    is_complete: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Store {
    shelves: BTreeMap<Scope, Shelf>,
    /// Followers so far.
    followers: u64,
}

impl Store {
    /// Holds documents of these scopes, and no others. If they are others than before: who is to follow each of them.
    pub(super) fn keep(&mut self, scopes: &BTreeSet<Scope>) -> Option<BTreeMap<Scope, u64>> {
        if self.shelves.keys().eq(scopes) {
            return None;
        }
        self.shelves.retain(|scope, _| scopes.contains(scope));
        for scope in scopes {
            self.shelves.entry(scope.clone()).or_insert_with(|| {
                self.followers += 1;
                Shelf { number: self.followers, ..Shelf::default() }
            });
        }
        Some(self.shelves.iter().map(|(scope, shelf)| (scope.clone(), shelf.number)).collect())
    }

    /// Whether all documents of all scopes have been told.
    pub(super) fn is_complete(&self) -> bool {
        self.shelves.values().all(|shelf| shelf.is_complete)
    }

    /// What has not been told yet.
    pub(super) fn missing(&self) -> impl Iterator<Item = &Scope> {
        self.shelves.iter().filter(|(_, shelf)| !shelf.is_complete).map(|(scope, _)| scope)
    }

    /// What the server has never told.
    pub(super) fn untold(&self) -> impl Iterator<Item = &Scope> {
        self.shelves.iter().filter(|(_, shelf)| !shelf.is_told).map(|(scope, _)| scope)
    }

    /// Goes on as if there were no such documents.
    pub(super) fn go_without(&mut self, scope: &Scope) {
        if let Some(shelf) = self.shelves.get_mut(scope) {
            shelf.is_complete = true;
        }
    }

    /// Takes note of what became of a document. Whether there is something else to be in force, or all is known for the first
    /// time.
    pub(super) fn take(&mut self, (scope, number): (&Scope, u64), event: Event) -> bool {
        let shelf = self.shelves.get_mut(scope).filter(|shelf| shelf.number == number);
        // Of a scope that nobody wants any more.
        let Some(shelf) = shelf else { return false };
        match event {
            Event::Is(reference, reading, standing) => {
                shelf.put(reference, *reading, standing);
                true
            }
            Event::Stands(reference, standing) => {
                if let Some(held) = shelf.held.get_mut(&reference) {
                    held.standing = Some(standing);
                }
                false
            }
            Event::Gone(reference) => shelf.remove(&reference).is_some(),
            Event::Complete | Event::Absent => {
                shelf.is_told = true;
                !std::mem::replace(&mut shelf.is_complete, true)
            }
            Event::Refused => !std::mem::replace(&mut shelf.is_complete, true),
            Event::Lost(_) | Event::Regained => false,
        }
    }

    /// All sound documents, and the last sound state of broken ones.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.held().filter_map(|(_, held)| held.object.as_ref())
    }

    /// What is wrong with the others.
    pub(super) fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut all = Vec::new();
        for (_, held) in self.held().filter(|(_, held)| !held.diagnostics.is_empty()) {
            all.extend(held.diagnostics.iter().cloned());
            let is_broken = held.diagnostics.iter().any(Diagnostic::is_error);
            all.extend(held.object.as_ref().filter(|_| is_broken).map(in_force));
        }
        all
    }

    /// Of those in force.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut all = Fingerprint::default();
        self.shelves.values().for_each(|shelf| all.join(shelf.fingerprint));
        all
    }

    /// How many there are, sound or not.
    pub(super) fn documents(&self) -> usize {
        self.shelves.values().map(|shelf| shelf.held.len()).sum()
    }

    /// What is to be written into the status of documents that are for this gateway, where these are all findings.
    pub(super) fn orders(
        &self,
        diagnostics: &[Diagnostic],
        identity: &GatewayIdentity,
    ) -> BTreeMap<ObjectRef, Order> {
        let mut findings: HashMap<&ObjectRef, Vec<&Diagnostic>> = HashMap::new();
        for found in diagnostics {
            if let Some(document) = &found.document {
                findings.entry(document).or_default().push(found);
            }
        }
        let gateways: HashSet<&ObjectRef> =
            self.objects().filter(|object| selects(object, identity)).map(Object::reference).collect();
        let mut orders = BTreeMap::new();
        for (scope, shelf) in self.shelves.iter().filter(|(scope, _)| scope.kind.gets_status()) {
            for (reference, held) in &shelf.held {
                let is_ours = held.object.as_ref().is_none_or(|object| is_for(object, &gateways));
                let Some(standing) = held.standing.as_ref().filter(|_| is_ours) else { continue };
                let found = findings.get(reference).map_or(&[][..], Vec::as_slice);
                let is_in_force = !held.diagnostics.iter().any(Diagnostic::is_error);
                let status = Status::wanted(standing.generation, is_in_force, found);
                if standing.status.as_ref().is_none_or(|before| !before.says_as(&status)) {
                    let order = Order { kind: scope.kind, standing: (**standing).clone(), status };
                    orders.insert(reference.clone(), order);
                }
            }
        }
        orders
    }

    fn held(&self) -> impl Iterator<Item = (&ObjectRef, &Held)> {
        self.shelves.values().flat_map(|shelf| &shelf.held)
    }
}

/// Whether it is a Gateway for us.
fn selects(object: &Object, identity: &GatewayIdentity) -> bool {
    let Object::Gateway(gateway) = object else { return false };
    let is_near = !identity.own_gateways_only || **gateway.namespace() == *identity.namespace;
    is_near && identity.has(&gateway.spec.selector)
}

/// Whether it is one of these Gateways, or bound to one.
fn is_for(object: &Object, gateways: &HashSet<&ObjectRef>) -> bool {
    match object {
        Object::VirtualService(it) => it.spec.gateways.iter().any(|name| {
            let (namespace, name) = name.split_once('/').unwrap_or((it.namespace(), name));
            gateways.contains(&ObjectRef::new("Gateway", namespace, name))
        }),
        other => gateways.contains(other.reference()),
    }
}

impl Shelf {
    fn put(&mut self, reference: ObjectRef, reading: Reading, standing: Option<Box<Standing>>) {
        let is_refused = reading.is_refused();
        let before = self.remove(&reference).and_then(|held| held.object).filter(|_| is_refused);
        let held = Held { diagnostics: reading.diagnostics, object: reading.object.or(before), standing };
        if let Some(object) = &held.object {
            self.fingerprint.add(object.source().digest);
        }
        self.held.insert(reference, held);
    }

    fn remove(&mut self, reference: &ObjectRef) -> Option<Held> {
        let held = self.held.remove(reference)?;
        if let Some(object) = &held.object {
            self.fingerprint.remove(object.source().digest);
        }
        Some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::WHOLE;
    use super::*;
    use crate::api::read_tree;

    fn is(name: &str, port: u32) -> Event {
        let text = format!(
            r#"{{"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {{"name": "{name}", "namespace": "shop"}},
                "spec": {{"servers": [{{"port": {{"number": {port}, "name": "http", "protocol": "HTTP"}}, "hosts": ["*"]}}]}}}}"#
        );
        let reading = read_tree(serde_json::from_str(&text).unwrap());
        let standing = Standing { version: "v1", uid: "u".to_owned(), generation: port.into(), status: None };
        Event::Is(ObjectRef::new("Gateway", "shop", name), Box::new(reading), Some(Box::new(standing)))
    }

    fn ports(store: &Store) -> Vec<u32> {
        let port = |object: &Object| match object {
            Object::Gateway(gateway) => gateway.spec.servers[0].port.as_ref().unwrap().number,
            other => panic!("{other:?}"),
        };
        store.objects().map(port).collect()
    }

    #[test]
    fn a_document_that_breaks_stays_as_it_was_until_it_is_mended_or_deleted() {
        let scope = Scope::all(&WHOLE[0], None);
        let mut store = Store::default();
        assert_eq!(store.keep(&[scope.clone()].into()), Some([(scope.clone(), 1)].into()));
        let codes = |store: &Store| -> Vec<&str> {
            store.diagnostics().iter().map(|found| found.code.as_str()).collect()
        };
        let mut see = |event| {
            store.take((&scope, 1), event);
            (ports(&store), codes(&store))
        };
        assert_eq!(see(is("a", 80)), (vec![80], vec![]));
        assert_eq!(see(is("a", 0)), (vec![80], vec!["IST0106", "SLU0008"]));
        assert_eq!(see(is("b", 0)), (vec![80], vec!["IST0106", "SLU0008", "IST0106"]));
        assert_eq!(see(is("a", 81)), (vec![81], vec!["IST0106"]));
        assert_eq!(see(is("a", 0)).0, [81]);
        assert_eq!(see(Event::Gone(ObjectRef::new("Gateway", "shop", "a"))), (vec![], vec!["IST0106"]));
    }

    #[test]
    fn the_fingerprint_is_of_what_is_in_force_however_it_came_about() {
        let scope = Scope::all(&WHOLE[0], None);
        let gone = || Event::Gone(ObjectRef::new("Gateway", "shop", "b"));
        let after = |events: Vec<Event>| {
            let mut store = Store::default();
            store.keep(&[scope.clone()].into());
            for event in events {
                store.take((&scope, 1), event);
            }
            store.fingerprint()
        };
        let plain = after(vec![is("a", 80), is("b", 81)]);
        for events in [
            vec![is("b", 81), is("a", 80)],
            vec![is("a", 79), is("b", 81), is("a", 80), is("a", 80)],
            vec![is("a", 80), is("b", 80), gone(), is("b", 81)],
            vec![is("a", 80), is("b", 81), is("b", 0), is("c", 0)],
        ] {
            assert_eq!(after(events), plain);
        }
        for events in
            [vec![is("a", 80)], vec![is("a", 80), is("b", 82)], vec![is("a", 80), is("b", 81), gone()]]
        {
            assert_ne!(after(events), plain);
        }
        assert_eq!(after(vec![is("b", 81), gone()]), Fingerprint::default());
    }

    #[test]
    fn all_is_known_once_each_scope_was_listed_or_cannot_be() {
        let [gateways, services, secret] = [
            Scope::all(&WHOLE[0], None),
            Scope::all(&WHOLE[6], None),
            Scope::one(&super::super::kinds::SECRET, "a", "b"),
        ];
        let mut store = Store::default();
        store.keep(&[gateways.clone(), services.clone()].into());
        assert!(store.keep(&[gateways.clone(), services.clone()].into()).is_none());
        assert!(store.take((&gateways, 1), Event::Absent), "news");
        assert!(!store.take((&gateways, 1), Event::Complete), "none");
        assert!(!store.is_complete());
        assert!(store.take((&services, 2), Event::Complete));
        assert!(store.is_complete());
        store.keep(&[gateways.clone(), services, secret.clone()].into());
        assert!(store.missing().eq([&secret]));
        assert!(store.take((&secret, 3), Event::Refused) && store.is_complete(), "others are served");
        assert!(store.untold().eq([&secret]));
        store.keep(&[gateways.clone()].into());
        assert!(store.is_complete(), "nobody wants it any more");
        assert!(!store.take((&secret, 3), is("a", 80)));
        let again = store.keep(&[gateways, secret.clone()].into()).unwrap();
        assert!(!store.take((&secret, 3), is("a", 80)), "it was said before it was wanted again");
        assert_eq!(store.documents(), 0);
        assert!(store.take((&secret, again[&secret]), is("a", 80)));
    }

    #[test]
    fn a_status_is_written_where_another_one_stands() {
        let scope = Scope::all(&WHOLE[0], None);
        let mut store = Store::default();
        store.keep(&[scope.clone()].into());
        for event in [is("sound", 80), is("broken", 0)] {
            store.take((&scope, 1), event);
        }
        let orders = |store: &Store| {
            let found = store.diagnostics();
            let orders = store.orders(&found, &GatewayIdentity::default());
            orders.into_iter().map(|(name, order)| (name.name.to_string(), order)).collect::<Vec<_>>()
        };
        let first = orders(&store);
        let said: Vec<_> = first.iter().map(|(name, order)| (&**name, order.status.is_in_force)).collect();
        assert_eq!(said, [("broken", Some(false)), ("sound", Some(true))]);
        for (name, order) in first {
            let standing = Standing { status: Some(order.status), ..order.standing };
            store.take(
                (&scope, 1),
                Event::Stands(ObjectRef::new("Gateway", "shop", &name), Box::new(standing)),
            );
        }
        assert!(orders(&store).is_empty(), "it stands there");
        store.take((&scope, 1), is("sound", 81));
        assert_eq!(orders(&store).len(), 1, "of another state");
    }
}
