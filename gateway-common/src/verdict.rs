//! What became of a packet. One list that the programs count by and people read.

/// Declares the verdicts together with their words, so that none can lack them.
macro_rules! verdicts {
    ($($(#[doc = $doc:literal])+ $name:ident => $label:literal, $words:literal;)+) => {
        /// What a program decided about one packet. All but the first three leave it to the node's own stack,
        /// where user space serves it.
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum Verdict {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Verdict {
            /// Every verdict, at the index that `VERDICTS` counts it by.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Label for metrics and tables, `snake_case`.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// Explanation for people.
            pub const fn words(self) -> &'static str {
                match self { $(Self::$name => $words,)+ }
            }
        }
    };
}

verdicts! {
    /// Redirected by an entry.
    Forwarded => "forwarded", "belongs to a steered flow: rewritten and redirected";
    /// A SYN that got a backend.
    Steered => "steered", "new flow: backend chosen, rewritten and redirected";
    /// A SYN on the tuple of a flow that was over.
    Replaced => "replaced", "new flow on the tuple of a finished one: rewritten and redirected";
    /// Neither IPv4 nor IPv6.
    NotIp => "not_ip", "neither IPv4 nor IPv6";
    /// VLAN tag, in the frame or beside it.
    Vlan => "vlan", "carries a VLAN tag";
    /// UDP, ICMP and all else.
    NotTcp => "not_tcp", "IP, but not TCP";
    /// IPv4 header longer than 20 bytes.
    IpOptions => "ip_options", "IPv4 with options";
    /// IPv6 header not followed by TCP at once.
    ExtensionHeader => "extension_header", "IPv6 with an extension header";
    /// Part of a datagram.
    Fragment => "fragment", "fragment of a datagram";
    /// Fewer bytes than the headers claim.
    Truncated => "truncated", "shorter than its headers claim";
    /// A header that contradicts itself.
    Malformed => "malformed", "header contradicts itself";
    /// No listener on its destination.
    NotSteered => "not_steered", "destination is no steered listener";
    /// To a steered listener, not a SYN, no entry.
    Miss => "miss", "for a steered listener, but of no flow known here";
    /// The listener's table names none that exists.
    NoBackend => "no_backend", "new flow, but the listener has no backend";
    /// `FLOWS` is full.
    TableFull => "table_full", "new flow, but the flow table is full";
    /// No free source port towards the backend was found.
    PortsExhausted => "ports_exhausted", "new flow, but no free source port towards the backend";
    /// Hop limit used up.
    HopLimit => "hop_limit", "time to live or hop limit used up";
    /// The agent has written no `CONFIG` yet.
    Unconfigured => "unconfigured", "new flow before the agent had configured the program";
}

impl Verdict {
    /// Number of verdicts: elements of `VERDICTS`.
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// Index in `VERDICTS`.
    #[inline]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// Whether the packet was sent on by the kernel plane.
    #[inline]
    pub const fn is_redirect(self) -> bool {
        matches!(self, Self::Forwarded | Self::Steered | Self::Replaced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_counted_at_their_own_index() {
        for (index, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(verdict.index() as usize, index);
        }
    }
}
