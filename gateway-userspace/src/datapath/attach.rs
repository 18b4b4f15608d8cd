//! The classifier on the interfaces: links of tcx (Linux 6.6), pinned so that they outlive the agent, and updated in
//! place by the next one, without a packet between the old program and the new.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};

use super::interfaces::Interface;
use super::pin::Pins;

/// Why the classifier is not on an interface.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Packets without an Ethernet header.
    #[error("{0} carries no Ethernet")]
    NotEthernet(String),
    /// The routing table or somebody's flag names an interface that is not there.
    #[error("no interface {0}")]
    NoInterface(u32),
    /// The kernel has no tcx.
    #[error("cannot attach to {0}: needs Linux 6.6 or later (tcx)")]
    TooOld(String),
    /// The kernel refused.
    #[error("cannot attach to {interface}: {source}")]
    Refused {
        /// Which.
        interface: String,
        /// Why.
        source: ProgramError,
    },
    /// The link cannot be pinned.
    #[error("cannot pin the link of {interface}: {reason}")]
    Unpinned {
        /// Which.
        interface: String,
        /// Why.
        reason: String,
    },
}

/// The interfaces that the classifier is on. Dropping it detaches nothing: the pins hold the links.
#[derive(Debug)]
pub struct Attached {
    pins: Pins,
    links: BTreeMap<u32, PinnedLink>,
}

impl Attached {
    /// Takes over the links that an agent before this one pinned, each with the program of this one. Links whose
    /// interface is gone are removed.
    pub fn adopt(
        pins: &Pins,
        classifier: &mut SchedClassifier,
        interfaces: &BTreeMap<u32, Interface>,
    ) -> Result<Self, AttachError> {
        let mut attached = Self { pins: pins.clone(), links: BTreeMap::new() };
        for index in pins.linked() {
            match interfaces.get(&index) {
                Some(interface) => attached.attach(classifier, interface)?,
                None => attached.forget(index),
            }
        }
        Ok(attached)
    }

    /// Names of the interfaces.
    pub fn indices(&self) -> impl Iterator<Item = u32> {
        self.links.keys().copied()
    }

    /// Whether the classifier is on an interface.
    pub fn contains(&self, index: u32) -> bool {
        self.links.contains_key(&index)
    }

    /// Puts the classifier on an interface, unless it is there.
    pub fn attach(
        &mut self,
        classifier: &mut SchedClassifier,
        interface: &Interface,
    ) -> Result<(), AttachError> {
        if self.contains(interface.index) {
            return Ok(());
        }
        if !interface.ethernet {
            return Err(AttachError::NotEthernet(interface.name.clone()));
        }
        let link = match self.update(classifier, interface.index) {
            Some(link) => link,
            None => self.create(classifier, interface)?,
        };
        self.links.insert(interface.index, link);
        Ok(())
    }

    /// Lets go of an interface that is gone; its number may come again for another one.
    pub fn forget(&mut self, index: u32) {
        self.links.remove(&index);
        // Nothing is lost if this fails: a dead link steers nothing, and the next attachment replaces it.
        let _ = fs::remove_file(self.pins.link(index));
    }

    /// Replaces the program of a pinned link. `None` when there is no link, or one of a device that is gone.
    fn update(&self, classifier: &mut SchedClassifier, index: u32) -> Option<PinnedLink> {
        let path = self.pins.link(index);
        let old = PinnedLink::from_pin(&path).ok()?;
        let link = SchedClassifierLink::try_from(FdLink::from(old)).ok()?;
        let id = classifier.attach_to_link(link).ok()?;
        // Out of aya's hands, which would detach it when the program is dropped.
        drop(classifier.take_link(id).ok()?);
        PinnedLink::from_pin(&path).ok()
    }

    fn create(
        &self,
        classifier: &mut SchedClassifier,
        interface: &Interface,
    ) -> Result<PinnedLink, AttachError> {
        let name = &interface.name;
        let path = self.pins.link(interface.index);
        let unpinned = |reason: String| AttachError::Unpinned { interface: name.clone(), reason };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unpinned(error.to_string())),
            _ => {}
        }
        let order = TcAttachOptions::TcxOrder(LinkOrder::default());
        let id = classifier
            .attach_with_options(name, TcAttachType::Ingress, order)
            .map_err(|source| refused(name, source))?;
        let link = classifier.take_link(id).map_err(|source| refused(name, source))?;
        let link: FdLink = link.try_into().map_err(|error: LinkError| unpinned(error.to_string()))?;
        link.pin(&path).map_err(|error| unpinned(error.to_string()))
    }
}

fn refused(interface: &str, source: ProgramError) -> AttachError {
    // A kernel without tcx does not know the attach type.
    let too_old = matches!(&source, ProgramError::SyscallError(error)
        if error.io_error.raw_os_error() == Some(libc::EINVAL));
    if too_old {
        AttachError::TooOld(interface.to_owned())
    } else {
        AttachError::Refused { interface: interface.to_owned(), source }
    }
}
