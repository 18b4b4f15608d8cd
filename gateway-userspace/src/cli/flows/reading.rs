//! The flows at one moment, from the pinned maps and from the agent, and the rates between two moments.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::row::{FlowRow, Plane};
use crate::cli::admin_client::Agent;
use crate::cli::maps;
use crate::datapath::handoff::EntryView;
use crate::datapath::maps::Maps;
use crate::datapath::stats;
use crate::datapath::view::{self, Steered};
use crate::model::{ConnectionView, Tier};

/// Where flows are read.
pub(in crate::cli) struct Sources {
    kernel: Result<Maps>,
    agent: Agent,
}

/// What tells a flow from a later one on the same tuple: its plane, its ends, and the time of its SYN or its number.
type Identity = (Plane, SocketAddr, SocketAddr, u64);

/// Server names of connections that were handed over.
type Names = HashMap<Identity, Box<str>>;

/// The flows at one moment; their rates are not known yet.
pub(in crate::cli) struct Reading {
    /// Monotonic clock in ns.
    at: u64,
    flows: Vec<(Identity, FlowRow)>,
    /// What could not be read, and why.
    pub(in crate::cli) unread: Vec<String>,
}

impl Sources {
    /// The maps below a pin directory, if they are this agent's, and the agent.
    pub(in crate::cli) fn new(pin_dir: &Path, agent: Agent) -> Self {
        let elsewhere = || {
            Err(anyhow::anyhow!("they are read on the gateway's own node: kubectl exec POD -- sluice flows"))
        };
        Self { kernel: if agent.is_remote() { elsewhere() } else { maps::open_below(pin_dir) }, agent }
    }

    /// Whom connections are asked for.
    pub(in crate::cli) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Opens the maps anew, where others may have taken their place.
    pub(in crate::cli) fn reopen(&mut self, pin_dir: &Path) {
        if !self.agent.is_remote() {
            self.kernel = maps::open_below(pin_dir);
        }
    }

    /// Reads both; an error when neither can be read.
    pub(in crate::cli) fn read(&self) -> Result<Reading> {
        let connections: Result<Vec<ConnectionView>> = self.agent.get("/connections");
        let at = stats::monotonic();
        let (mut flows, mut unread) = (Vec::new(), Vec::new());
        match &self.kernel {
            Ok(maps) => flows.extend(view::pairs(maps).iter().map(|pair| steered(&Steered::of(pair, at)))),
            Err(error) => unread.push(format!("flows in the kernel are not shown: {error:#}")),
        }
        // When the kernel's are known, so that none of them was handed over later.
        let told = connections.and_then(|connections| Ok((connections, self.handed_over()?)));
        match told {
            Ok((connections, handed_over)) => {
                for (identity, row) in &mut flows {
                    row.sni = handed_over.get(identity).cloned();
                }
                flows.extend(connections.into_iter().map(carried));
            }
            Err(error) => unread.push(format!("connections in user space are not shown: {error:#}")),
        }
        anyhow::ensure!(unread.len() < 2, "{}", unread.join("\n"));
        Ok(Reading { at, flows, unread })
    }

    /// The server names of the agent's handed-over connections.
    fn handed_over(&self) -> Result<Names> {
        let entries: Vec<EntryView> = self.agent.get("/handed-over")?;
        let named = |entry: EntryView| {
            let EntryView { client, listener, created, sni, .. } = entry;
            Some(((Plane::Kernel, client, listener, created), sni?))
        };
        Ok(entries.into_iter().filter_map(named).collect())
    }
}

impl Reading {
    /// The flows with their rates since an earlier reading.
    pub(in crate::cli) fn since(&self, before: &Self) -> Vec<FlowRow> {
        let earlier: HashMap<_, _> =
            before.flows.iter().map(|(identity, row)| (*identity, total(row))).collect();
        let in_user_space: HashMap<_, _> = before
            .flows
            .iter()
            .filter(|(_, row)| row.plane == Plane::UserSpace)
            .map(|(_, row)| ((row.client, row.gateway), total(row)))
            .collect();
        let nanoseconds = u128::from(self.at.saturating_sub(before.at).max(1));
        let rated = |(identity, row): &(Identity, FlowRow)| {
            // What was handed over meanwhile has carried much of it before; any other that was not there all of it since.
            let handed_over =
                || in_user_space.get(&(row.client, row.gateway)).filter(|_| row.tier == Tier::Handoff);
            let before = earlier.get(identity).or_else(handed_over).copied().unwrap_or(0);
            let bytes = u128::from(total(row).saturating_sub(before));
            let bytes_per_second = u64::try_from(bytes * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX);
            FlowRow { bytes_per_second, ..row.clone() }
        };
        self.flows.iter().map(rated).collect()
    }
}

fn total(row: &FlowRow) -> u64 {
    row.bytes_to_backend.saturating_add(row.bytes_to_client)
}

/// A flow that the kernel steers.
fn steered(flow: &Steered) -> (Identity, FlowRow) {
    let row = FlowRow {
        client: flow.client_side.source,
        gateway: flow.client_side.destination,
        source: flow.backend_side.source,
        backend: flow.backend_side.destination,
        plane: Plane::Kernel,
        tier: if flow.handed_over { Tier::Handoff } else { Tier::Kernel },
        reason: None,
        sni: None,
        state: flow.phase.words(),
        age_seconds: flow.age_seconds,
        idle_seconds: flow.idle_seconds,
        bytes_to_backend: flow.bytes_to_backend,
        bytes_to_client: flow.bytes_to_client,
        bytes_per_second: 0,
    };
    ((Plane::Kernel, row.client, row.gateway, flow.created), row)
}

/// A connection that user space carries.
fn carried(connection: ConnectionView) -> (Identity, FlowRow) {
    let number = connection.number;
    let row = FlowRow {
        client: connection.client,
        gateway: connection.listener,
        source: connection.source,
        backend: connection.backend,
        plane: Plane::UserSpace,
        tier: connection.tier,
        reason: connection.below,
        sni: connection.sni,
        state: "established",
        age_seconds: Duration::from_millis(connection.age_milliseconds).as_secs(),
        idle_seconds: Duration::from_millis(connection.idle_milliseconds).as_secs(),
        bytes_to_backend: connection.bytes_to_backend,
        bytes_to_client: connection.bytes_to_client,
        bytes_per_second: 0,
    };
    ((Plane::UserSpace, row.client, row.gateway, number), row)
}
