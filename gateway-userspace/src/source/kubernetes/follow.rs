//! Who follows which scope.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kube::{Client, Config};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::client;
use super::kinds::Scope;
use super::watch::{Follower, News};

/// Scopes to a connection. API servers allow a hundred streams on one, and what is beyond would wait for a watch to end.
const TOGETHER: usize = 64;

/// The scopes that are to be followed, and by which follower each.
pub(super) type Wishes = BTreeMap<Scope, u64>;

/// Has scopes followed.
pub(super) struct Followers {
    config: Config,
    /// Each with a connection of its own, and by how many it is used.
    clients: Vec<(Client, usize)>,
    labels: Arc<BTreeMap<String, String>>,
    news: mpsc::Sender<News>,
    /// Those at work, and which client each uses.
    tasks: HashMap<(Scope, u64), (usize, AbortHandle)>,
}

impl Followers {
    /// For a gateway with these labels. Must be called within the runtime that they work on.
    pub(super) fn new(
        config: Config,
        labels: Arc<BTreeMap<String, String>>,
        news: mpsc::Sender<News>,
    ) -> anyhow::Result<Self> {
        let first = client::multiplexing(&config)?;
        Ok(Self { config, clients: vec![(first, 0)], labels, news, tasks: HashMap::new() })
    }

    /// Has each scope followed that is wished for, and no other, until nobody wishes any more.
    pub(super) async fn run(mut self, mut wishes: mpsc::UnboundedReceiver<Wishes>) {
        while let Some(wanted) = wishes.recv().await {
            self.stop_all_but(&wanted);
            for one in wanted {
                if !self.tasks.contains_key(&one) {
                    self.start(one);
                }
            }
        }
    }

    fn stop_all_but(&mut self, wanted: &Wishes) {
        self.tasks.retain(|(scope, number), (client, task)| {
            let is_wanted = wanted.get(scope) == Some(number);
            if !is_wanted {
                task.abort();
                self.clients[*client].1 -= 1;
            }
            is_wanted
        });
    }

    fn start(&mut self, one: (Scope, u64)) {
        let place = self.place();
        let (client, uses) = &mut self.clients[place];
        *uses += 1;
        let follower = Follower::new(client.clone(), one.clone(), self.labels.clone(), self.news.clone());
        self.tasks.insert(one, (place, tokio::spawn(follower.run()).abort_handle()));
    }

    /// The client with room for one more.
    fn place(&mut self) -> usize {
        if let Some(place) = self.clients.iter().position(|(_, uses)| *uses < TOGETHER) {
            return place;
        }
        match client::multiplexing(&self.config) {
            Ok(client) => self.clients.push((client, 0)),
            // It could be made once. One more on the last one may have to wait, and is told of as missing.
            Err(error) => tracing::warn!(%error, "no further connection to the API server"),
        }
        self.clients.len() - 1
    }
}
