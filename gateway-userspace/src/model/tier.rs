//! How near to the kernel an opaque connection is carried, and why no nearer.

use std::fmt;

use serde::{Deserialize, Serialize};

/// From the dearest to the cheapest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// User space reads every byte and writes it again.
    Copy,
    /// User space moves bytes from socket to socket without a look at them: splice(2).
    Splice,
    /// User space accepted the connection and handed it over: eBPF translates between its two halves.
    Handoff,
    /// eBPF has steered it from its first packet on.
    Kernel,
}

/// When an opaque connection is handed over to the kernel plane, if it may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ascent {
    /// At once as long as the plane has much room; then as [`Self::WhenLasting`].
    #[default]
    WithRoom,
    /// At once.
    AtOnce,
    /// When it has carried much or has been quiet for a while; at once where connections mostly carry much.
    WhenLasting,
    /// After some number of bytes, another for each: for tests.
    AtRandom,
}

impl Tier {
    const ALL: [Self; 4] = [Self::Copy, Self::Splice, Self::Handoff, Self::Kernel];

    /// What people call it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Splice => "splice",
            Self::Handoff => "handoff",
            Self::Kernel => "kernel",
        }
    }

    /// A number for an atomic.
    pub(super) fn code(self) -> u8 {
        self as u8
    }

    /// What has this number.
    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.words())
    }
}

/// Why a connection stays below the tier it might reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Below {
    /// It has carried too little to be worth more.
    FewBytes,
    /// Its TLS ends here, so its bytes are not those of the socket.
    TerminatesTls,
    /// Its backend is spoken to by TLS.
    UpstreamTls,
    /// Its backend is probed while it is silent, by the socket that it is relayed to.
    Keepalive,
    /// It is closed after a time, by whoever relays it.
    MaxDuration,
    /// One of its sides is no plain socket.
    NotPlainSockets,
    /// `--tier` allows no more.
    Limited,
    /// There is no kernel plane to hand it over to.
    NoKernelPlane,
    /// The kernel plane cannot send to its backend.
    Backend,
    /// The kernel plane is not where its client comes in.
    Client,
    /// Its client asked for another address, which the node's netfilter translates behind the kernel plane.
    Translated,
    /// The two sides agreed on different options of TCP.
    Options,
    /// Segments of one side would not fit the other's link.
    SegmentSize,
    /// No source port, record or translation was free.
    NoRoom,
    /// Too much of it is under way at any time.
    Busy,
    /// One of its ends has closed.
    HalfClosed,
    /// The kernel refused to let go of a socket.
    KernelRefused,
}

impl Below {
    const ALL: [Self; 17] = [
        Self::FewBytes,
        Self::TerminatesTls,
        Self::UpstreamTls,
        Self::Keepalive,
        Self::MaxDuration,
        Self::NotPlainSockets,
        Self::Limited,
        Self::NoKernelPlane,
        Self::Backend,
        Self::Client,
        Self::Translated,
        Self::Options,
        Self::SegmentSize,
        Self::NoRoom,
        Self::Busy,
        Self::HalfClosed,
        Self::KernelRefused,
    ];

    /// What people are told.
    pub fn words(self) -> &'static str {
        match self {
            Self::FewBytes => "few bytes yet",
            Self::TerminatesTls => "terminates TLS",
            Self::UpstreamTls => "speaks TLS to the backend",
            Self::Keepalive => "probes its backend",
            Self::MaxDuration => "lasts for a limited time",
            Self::NotPlainSockets => "no plain sockets",
            Self::Limited => "limited by --tier",
            Self::NoKernelPlane => "no kernel plane",
            Self::Backend => "backend out of the kernel plane's reach",
            Self::Client => "client out of the kernel plane's reach",
            Self::Translated => "translated by the node, as kube-proxy does",
            Self::Options => "TCP options differ between the sides",
            Self::SegmentSize => "segments too large for the other side",
            Self::NoRoom => "no room in the kernel's tables",
            Self::Busy => "too much in flight",
            Self::HalfClosed => "half-closed",
            Self::KernelRefused => "refused by the kernel",
        }
    }

    /// A number for an atomic; 0 stands for none.
    pub(super) fn code(below: Option<Self>) -> u8 {
        below.map_or(0, |below| below as u8 + 1)
    }

    /// What has this number.
    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

impl fmt::Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tier_and_reason_has_a_number_of_its_own() {
        for tier in Tier::ALL {
            assert_eq!(Tier::from_code(tier.code()), Some(tier));
        }
        for below in Below::ALL.map(Some).into_iter().chain([None]) {
            assert_eq!(Below::from_code(Below::code(below)), below);
        }
        assert!(Tier::ALL.is_sorted());
    }
}
