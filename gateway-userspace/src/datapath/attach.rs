//! The programs on the interfaces. tc by links of tcx (Linux 6.6), pinned so that they outlive the agent, and updated in
//! place by the next one, without a packet between the old program and the new; on older kernels by filters of a clsact
//! qdisc, which stay by themselves and are replaced likewise. XDP in front of it where that serves better.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{
    self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};

use super::interfaces::Interface;
use super::pin::Pins;
use crate::settings::Datapath;

/// Priority and handle of our filter below a clsact qdisc: what the next agent finds it by.
const FILTER_PRIORITY: u16 = 50;
const FILTER_HANDLE: TcHandle = TcHandle::new(0, 0x736c);

/// Names of the classifiers, which filters carry, and where they are.
const FILTERS: [(&str, TcAttachType); 2] =
    [("sluice_tc", TcAttachType::Ingress), ("sluice_guard", TcAttachType::Egress)];

/// Drivers of virtual machines' cards: XDP takes their offloads or half of their queues away.
const VIRTUAL_CARDS: [&str; 5] = ["virtio_net", "hv_netvsc", "ena", "vmxnet3", "xen-netfront"];

/// Why the programs are not on an interface.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Packets without an Ethernet header.
    #[error("{0} carries no Ethernet")]
    NotEthernet(String),
    /// The routing table or somebody's flag names an interface that is not there.
    #[error("no interface {0}")]
    NoInterface(u32),
    /// The kernel refused.
    #[error("cannot attach to {interface}: {reason}")]
    Refused {
        /// Which.
        interface: String,
        /// Why.
        reason: String,
    },
    /// An interface has one XDP program, and it is not ours.
    #[error(
        "another XDP program is on {0} (`ip link show dev {0}` tells its number): take it off, or steer by tc alone \
         with --datapath tc"
    )]
    Occupied(String),
    /// The link cannot be pinned.
    #[error("cannot pin the link of {interface}: {reason}")]
    Unpinned {
        /// Which.
        interface: String,
        /// Why.
        reason: String,
    },
}

/// Where the programs meet the packets of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// tc by a link.
    Tcx,
    /// tc by a filter below a clsact qdisc.
    Clsact,
    /// XDP in the driver, and tc by a link behind it.
    XdpDriver,
    /// XDP in the stack, and tc by a link behind it.
    XdpGeneric,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::XdpDriver => "xdp (driver), tcx",
            Self::XdpGeneric => "xdp (generic), tcx",
        })
    }
}

/// The programs that are attached.
pub struct Programs<'a> {
    /// For tc, on what comes in.
    pub classifier: &'a mut SchedClassifier,
    /// For tc, on what this node's own sockets send.
    pub guard: &'a mut SchedClassifier,
    /// For XDP.
    pub xdp: &'a mut Xdp,
}

/// What holds the programs on an interface.
#[derive(Debug)]
struct Links {
    hook: Hook,
    _tc: Option<PinnedLink>,
    _guard: Option<PinnedLink>,
    _xdp: Option<PinnedLink>,
}

/// The interfaces that the programs are on. Dropping it detaches nothing: the pins hold the links.
#[derive(Debug)]
pub struct Attached {
    pins: Pins,
    datapath: Datapath,
    links: BTreeMap<u32, Links>,
}

impl Attached {
    /// Takes over the links that an agent before this one pinned, each with the program of this one. Links whose
    /// interface is gone are removed.
    pub fn adopt(
        pins: &Pins,
        datapath: Datapath,
        programs: &mut Programs<'_>,
        interfaces: &BTreeMap<u32, Interface>,
    ) -> Result<Self, AttachError> {
        let mut attached = Self { pins: pins.clone(), datapath, links: BTreeMap::new() };
        for index in pins.linked() {
            match interfaces.get(&index) {
                // One that refuses keeps the programs it has; whatever is planned for it is refused with the reason.
                Some(interface) => drop(attached.attach(programs, interface)),
                None => attached.forget(index),
            }
        }
        Ok(attached)
    }

    /// Numbers of the interfaces, and the hook of each.
    pub fn hooks(&self) -> impl Iterator<Item = (u32, Hook)> {
        self.links.iter().map(|(index, links)| (*index, links.hook))
    }

    /// Numbers of the interfaces.
    pub fn indices(&self) -> impl Iterator<Item = u32> {
        self.links.keys().copied()
    }

    /// Whether XDP programs may send packets out by an interface.
    pub fn takes_xdp(&self, index: u32) -> bool {
        self.links.get(&index).is_some_and(|links| matches!(links.hook, Hook::XdpDriver | Hook::XdpGeneric))
    }

    /// Puts the programs on an interface, unless they are there.
    pub fn attach(&mut self, programs: &mut Programs<'_>, interface: &Interface) -> Result<(), AttachError> {
        let is_there = |links: &Links| links.hook != Hook::Clsact || !put_clsact_back(&interface.name);
        if self.links.get(&interface.index).is_some_and(is_there) {
            return Ok(());
        }
        if !interface.ethernet {
            return Err(AttachError::NotEthernet(interface.name.clone()));
        }
        // First the guard: with it alone nothing is steered, and nothing leaks.
        let guard = self.pins.guard_link(interface.index);
        let (_, guard) = self.attach_tc(programs.guard, interface, TcAttachType::Egress, &guard)?;
        let link = self.pins.link(interface.index);
        let (mut hook, tc) = self.attach_tc(programs.classifier, interface, TcAttachType::Ingress, &link)?;
        let xdp = match self.xdp_modes(interface) {
            [] => {
                unpin(&self.pins.xdp_link(interface.index));
                None
            }
            modes => match self.attach_xdp(programs.xdp, interface, modes) {
                Ok(attached) => Some(attached),
                // tc alone does the same work; somebody else's XDP program goes on in front of it.
                Err(error) if self.datapath == Datapath::Auto => {
                    tracing::warn!(interface = %interface.name, %error, "steering by tc, without XDP");
                    None
                }
                Err(error) => return Err(error),
            },
        };
        let xdp = xdp.map(|(found, link)| {
            hook = found;
            link
        });
        self.links.insert(interface.index, Links { hook, _tc: tc, _guard: guard, _xdp: xdp });
        Ok(())
    }

    /// Lets go of an interface that is gone; its number may come again for another one.
    pub fn forget(&mut self, index: u32) {
        self.links.remove(&index);
        unpin(&self.pins.link(index));
        unpin(&self.pins.guard_link(index));
        unpin(&self.pins.xdp_link(index));
    }

    fn attach_tc(
        &self,
        classifier: &mut SchedClassifier,
        interface: &Interface,
        place: TcAttachType,
        path: &Path,
    ) -> Result<(Hook, Option<PinnedLink>), AttachError> {
        if self.datapath != Datapath::Clsact {
            if let Some(link) = update_tcx(classifier, path) {
                return Ok((Hook::Tcx, Some(link)));
            }
            match create_tcx(classifier, interface, place, path) {
                // A kernel without tcx does not know the attach type.
                Err(error) if error.is_unknown() => {}
                Err(error) => return Err(error.about(interface)),
                Ok(link) => return Ok((Hook::Tcx, Some(link))),
            }
        }
        attach_clsact(classifier, &interface.name, place)
            .map_err(|error| Failure::from(error).about(interface))?;
        Ok((Hook::Clsact, None))
    }

    /// In which modes XDP is tried on an interface, the best first.
    fn xdp_modes(&self, interface: &Interface) -> &'static [(XdpMode, Hook)] {
        match self.datapath {
            Datapath::Xdp => &[(XdpMode::Driver, Hook::XdpDriver), (XdpMode::Skb, Hook::XdpGeneric)],
            Datapath::Auto if is_physical(&interface.name) => &[(XdpMode::Driver, Hook::XdpDriver)],
            _ => &[],
        }
    }

    fn attach_xdp(
        &self,
        xdp: &mut Xdp,
        interface: &Interface,
        modes: &[(XdpMode, Hook)],
    ) -> Result<(Hook, PinnedLink), AttachError> {
        let path = self.pins.xdp_link(interface.index);
        let mut failure = None;
        if let Some(link) = update_xdp(xdp, &path) {
            let hook = modes.first().map_or(Hook::XdpDriver, |(_, hook)| *hook);
            return Ok((hook, link));
        }
        for (mode, hook) in modes {
            match create_xdp(xdp, interface, *mode, &path) {
                Ok(link) => return Ok((*hook, link)),
                Err(error) if error.is_occupied() => {
                    return Err(AttachError::Occupied(interface.name.clone()));
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| Failure::Program(ProgramError::NotAttached)).about(interface))
    }
}

/// Nothing is lost if this fails: a dead link steers nothing, and the next attachment replaces it.
fn unpin(path: &Path) {
    let _ = fs::remove_file(path);
}

/// Why an attachment failed.
enum Failure {
    Program(ProgramError),
    Link(LinkError),
    Pin(String),
}

impl From<ProgramError> for Failure {
    fn from(error: ProgramError) -> Self {
        Self::Program(error)
    }
}

impl Failure {
    fn is_unknown(&self) -> bool {
        matches!(self, Self::Program(ProgramError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::EINVAL))
    }

    /// Of XDP: somebody else's program is there, in the mode that was tried or in the other one.
    fn is_occupied(&self) -> bool {
        matches!(self, Self::Program(ProgramError::SyscallError(error))
            if matches!(error.io_error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)))
    }

    fn about(self, interface: &Interface) -> AttachError {
        let name = interface.name.clone();
        match self {
            Self::Program(error) => AttachError::Refused { interface: name, reason: chain(&error) },
            Self::Link(error) => AttachError::Unpinned { interface: name, reason: error.to_string() },
            Self::Pin(reason) => AttachError::Unpinned { interface: name, reason },
        }
    }
}

/// An error with what caused it: the outer one names the system call alone.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}

/// Replaces the program of a pinned link. `None` when there is no link, or one of a device that is gone.
fn update_tcx(classifier: &mut SchedClassifier, path: &Path) -> Option<PinnedLink> {
    let old = PinnedLink::from_pin(path).ok()?;
    let link = SchedClassifierLink::try_from(FdLink::from(old)).ok()?;
    let id = classifier.attach_to_link(link).ok()?;
    // Out of aya's hands, which would detach it when the program is dropped.
    drop(classifier.take_link(id).ok()?);
    PinnedLink::from_pin(path).ok()
}

fn create_tcx(
    classifier: &mut SchedClassifier,
    interface: &Interface,
    place: TcAttachType,
    path: &Path,
) -> Result<PinnedLink, Failure> {
    clear(path)?;
    let order = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = classifier.attach_with_options(&interface.name, place, order)?;
    let link: FdLink = classifier.take_link(id)?.try_into().map_err(Failure::Link)?;
    link.pin(path).map_err(|error| Failure::Pin(error.to_string()))
}

fn update_xdp(xdp: &mut Xdp, path: &Path) -> Option<PinnedLink> {
    let old = PinnedLink::from_pin(path).ok()?;
    let link = XdpLink::try_from(FdLink::from(old)).ok()?;
    let id = xdp.attach_to_link(link).ok()?;
    drop(xdp.take_link(id).ok()?);
    PinnedLink::from_pin(path).ok()
}

fn create_xdp(
    xdp: &mut Xdp,
    interface: &Interface,
    mode: XdpMode,
    path: &Path,
) -> Result<PinnedLink, Failure> {
    clear(path)?;
    let id = xdp.attach_to_if_index(interface.index, mode)?;
    let link: FdLink = xdp.take_link(id)?.try_into().map_err(Failure::Link)?;
    link.pin(path).map_err(|error| Failure::Pin(error.to_string()))
}

/// A pin in the way is one of a link that cannot be updated.
fn clear(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::Pin(error.to_string())),
        _ => Ok(()),
    }
}

/// Puts a filter below the clsact qdisc of an interface, in place of the one of an agent before this one.
fn attach_clsact(
    classifier: &mut SchedClassifier,
    interface: &str,
    place: TcAttachType,
) -> Result<(), ProgramError> {
    match qdisc_add_clsact(interface) {
        Ok(()) | Err(TcError::AlreadyAttached) => {}
        Err(error) if is_present(&error) => {}
        Err(error) => return Err(error.into()),
    }
    let old = SchedClassifierLink::attached(interface, place, FILTER_PRIORITY, FILTER_HANDLE, None);
    let replaced = old.ok().and_then(|old| classifier.attach_to_link(old).ok());
    let id = if let Some(id) = replaced {
        id
    } else {
        let options = NlOptions { priority: FILTER_PRIORITY, handle: FILTER_HANDLE, ..NlOptions::default() };
        classifier.attach_with_options(interface, place, TcAttachOptions::Netlink(options))?
    };
    // The filter stays without us; dropping the link would remove it.
    std::mem::forget(classifier.take_link(id)?);
    Ok(())
}

/// Whether somebody had removed the qdisc, and our filter with it: the only way to ask is to put it back.
fn put_clsact_back(interface: &str) -> bool {
    qdisc_add_clsact(interface).is_ok()
}

fn is_present(error: &TcError) -> bool {
    let TcError::NetlinkError(error) = error else { return false };
    error.raw_os_error() == Some(libc::EEXIST)
}

/// Removes our filters below clsact qdiscs. Best effort: most interfaces have none.
pub fn detach_clsact(interfaces: &BTreeMap<u32, Interface>) {
    for interface in interfaces.values() {
        for (name, place) in FILTERS {
            let _ = tc::qdisc_detach_program(&interface.name, place, name);
        }
    }
}

/// Whether an interface is a card whose driver does XDP without loss: one with a device behind it, but no virtual
/// machine's.
fn is_physical(interface: &str) -> bool {
    let device = Path::new("/sys/class/net").join(interface).join("device");
    let driver = fs::read_link(device.join("driver")).ok();
    let driver = driver.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    driver.is_some_and(|driver| !VIRTUAL_CARDS.contains(&driver))
}
