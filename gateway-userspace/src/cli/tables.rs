//! What `sluice maps dump` shows of the smaller tables: source ports in use, the deny list, limits, interfaces.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use gateway_common::flow::NO_PORTS;
use gateway_common::ports::PORTS_PER_WORD;
use gateway_common::{Link, ListenerId};
use serde::Serialize;

use super::maps::{Families, Row};
use crate::datapath::maps::Maps;
use crate::datapath::view;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PortsRow {
    backend: SocketAddr,
    /// The gateway's address that the ports are of.
    source: IpAddr,
    in_use: u32,
    ports: u32,
}

impl Row for PortsRow {
    const COLUMNS: &'static [&'static str] = &["BACKEND", "SOURCE", "IN USE", "PORTS"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.backend.to_string(),
            self.source.to_string(),
            self.in_use.to_string(),
            self.ports.to_string(),
        ]
    }
}

/// Of backends that new flows may go to, unless those keep the client's port.
pub(super) fn ports(maps: &Maps, families: Families) -> Result<Vec<PortsRow>> {
    let ports = maps.config()?.port_count;
    let row = |backend: view::BackendView| {
        let source = backend.source.filter(|_| backend.ports != NO_PORTS)?;
        let in_use = maps.ports.count(backend.ports, ports / PORTS_PER_WORD);
        Some(PortsRow { backend: backend.address, source, in_use, ports })
    };
    let backends = view::backends(maps)?.into_iter().filter(|backend| families.has(backend.address.ip()));
    Ok(backends.filter_map(row).collect())
}

#[derive(Serialize)]
pub(super) struct DenyRow {
    prefix: String,
}

impl Row for DenyRow {
    const COLUMNS: &'static [&'static str] = &["PREFIX"];

    fn cells(&self) -> Vec<String> {
        vec![self.prefix.clone()]
    }
}

pub(super) fn denied(maps: &Maps, families: Families) -> Result<Vec<DenyRow>> {
    let prefixes = view::denied(maps)?.into_iter().filter(|(address, _)| families.has(*address));
    let row = |(address, length): (IpAddr, u32)| DenyRow { prefix: format!("{address}/{length}") };
    Ok(prefixes.map(row).collect())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LimitsRow {
    /// Number of the listener.
    listener: ListenerId,
    /// Where it listens.
    addresses: Vec<SocketAddr>,
    flows: u64,
    /// 0: any number.
    max_flows: u32,
    /// New flows in each second; 0: any number.
    max_rate: u32,
}

impl Row for LimitsRow {
    const COLUMNS: &'static [&'static str] = &["LISTENER", "ADDRESSES", "FLOWS", "MOST", "MOST NEW A SECOND"];

    fn cells(&self) -> Vec<String> {
        let most = |limit: u32| if limit == 0 { "-".to_owned() } else { limit.to_string() };
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        vec![
            self.listener.to_string(),
            addresses.join(","),
            self.flows.to_string(),
            most(self.max_flows),
            most(self.max_rate),
        ]
    }
}

/// A row for each listener, whatever number of addresses it has.
pub(super) fn limits(maps: &Maps) -> Result<Vec<LimitsRow>> {
    let mut rows: Vec<LimitsRow> = Vec::new();
    for view::ListenerView { address, table } in view::listeners(maps)? {
        if let Some(row) = rows.iter_mut().find(|row| row.listener == table.listener) {
            row.addresses.push(address);
            continue;
        }
        rows.push(LimitsRow {
            listener: table.listener,
            addresses: vec![address],
            flows: maps
                .listener_flows(table.listener)
                .map_or(0, |flows| flows.load(std::sync::atomic::Ordering::Relaxed)),
            max_flows: table.max_flows,
            max_rate: table.max_rate,
        });
    }
    Ok(rows)
}

#[derive(Serialize)]
pub(super) struct LinkRow {
    interface: u32,
    mtu: u32,
    xdp: bool,
}

impl Row for LinkRow {
    const COLUMNS: &'static [&'static str] = &["INTERFACE", "MTU", "XDP"];

    fn cells(&self) -> Vec<String> {
        vec![self.interface.to_string(), self.mtu.to_string(), self.xdp.to_string()]
    }
}

/// Interfaces that packets are sent out by.
pub(super) fn links(maps: &Maps) -> Result<Vec<LinkRow>> {
    let row = |(interface, link): (u32, Link)| LinkRow {
        interface,
        mtu: link.mtu,
        xdp: link.flags & Link::XDP != 0,
    };
    Ok(maps.links()?.into_iter().map(row).collect())
}
