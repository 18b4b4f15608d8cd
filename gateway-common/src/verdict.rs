//! What became of a packet. One list that the programs count by and people read.

/// Declares the verdicts together with their words, so that none can lack them.
macro_rules! verdicts {
    ($($(#[doc = $doc:literal])+ $name:ident => $action:ident, $label:literal, $words:literal;)+) => {
        /// What a program decided about one packet. As wide as a pointer: where a result may be either, the compiler
        /// would else move the pointer in halves, which the kernel's verifier does not allow.
        #[repr(u64)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum Verdict {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Verdict {
            /// Every verdict, at the index that `VERDICTS` counts it by.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The verdict at an index.
            #[inline]
            pub const fn at(index: u32) -> Option<Self> {
                match index {
                    $(index if index == Self::$name as u32 => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// What becomes of the packet.
            #[inline]
            pub const fn action(self) -> Action {
                match self { $(Self::$name => Action::$action,)+ }
            }

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
    /// Sent on by the record of a flow.
    Forwarded => Send, "forwarded", "belongs to a steered flow: rewritten and redirected";
    /// A SYN that got a backend.
    Steered => Send, "steered", "new flow: backend chosen, rewritten and redirected";
    /// A SYN on the tuple of a flow that was over.
    Replaced => Send, "replaced", "new flow on the tuple of a finished one: rewritten and redirected";
    /// A SYN sent again that got another backend than the silent one before.
    Retried => Send, "retried", "handshake that its backend did not answer: given another backend";
    /// The ACK that completes a handshake.
    Established => Send, "established", "completed a handshake: the flow is among the established ones";
    /// An ICMP error about a packet of a flow.
    IcmpError => Send, "icmp_error", "ICMP error about a steered flow: translated and redirected";
    /// A packet of a flow whose backend is gone.
    Reset => Send, "reset", "backend is gone: answered by a reset";
    /// A SYN on the tuple of a handed-over connection that is not over.
    Challenged => Send, "challenged", "SYN within a handed-over connection: answered by what that has acknowledged";
    /// A SYN that found every handshake only just begun. The ACK of a client that means it passes as [`Verdict::Miss`].
    CookieSent => Send, "cookie_sent", "too many handshakes at once: answered by a SYN cookie, for user space to serve";
    /// A segment of a connection that is just being taken over from user space.
    Withheld => Drop, "withheld", "came while its connection was being handed over: its sender sends it again";
    /// An acknowledgement of what the gateway's own socket of a handed-over connection still sends.
    Owed => Pass, "owed", "acknowledges what user space sent before it handed the connection over: left to its socket";
    /// What the gateway's own socket of a handed-over connection still sends.
    Amended => Pass, "amended", "sent by user space before it handed the connection over: acknowledges for the other end";
    /// From the gateway's own socket of a handed-over connection, and not for the other end.
    Guarded => Drop, "guarded", "of user space's socket of a handed-over connection, which has no say any more";
    /// An answer of a backend to the gateway's own socket under a client's address.
    Transparent => Pass, "transparent", "for user space's socket under the client's own address: marked and left to it";
    /// From a prefix on the deny list.
    Denied => Drop, "denied", "source is on the deny list";
    /// A SYN of a source that opens more flows than it may.
    SourceLimited => Drop, "source_limited", "source opened more flows in this second than one may";
    /// A SYN to a listener that has as many flows as it may.
    ListenerFull => Send, "listener_full", "listener has as many flows as it may: answered by a reset";
    /// A SYN to a listener that got as many flows in this second as it may.
    ListenerLimited => Send, "listener_limited", "listener got as many flows in this second as it may: answered by a reset";
    /// The same SYN was being handled by another CPU.
    Raced => Drop, "raced", "the same SYN was being handled by another CPU";
    /// Hop limit used up within a flow.
    Expired => Drop, "expired", "belongs to a steered flow, but its hop limit is used up";
    /// A reset that a backend answered a SYN with.
    HeldBack => Drop, "held_back", "backend refused: the client's next SYN goes to another one";
    /// Neither IPv4 nor IPv6.
    NotIp => Pass, "not_ip", "neither IPv4 nor IPv6";
    /// VLAN tag, in the frame or beside it.
    Vlan => Pass, "vlan", "carries a VLAN tag: left to the VLAN's own interface";
    /// UDP, ICMP and all else.
    NotTcp => Pass, "not_tcp", "IP, but not TCP";
    /// An IPv4 option that a router must act on.
    IpOptions => Pass, "ip_options", "IPv4 options that a router must act on";
    /// IPv6 header not followed by TCP at once.
    ExtensionHeader => Pass, "extension_header", "IPv6 with an extension header";
    /// Part of a datagram.
    Fragment => Pass, "fragment", "fragment of a datagram";
    /// Fewer bytes than the headers claim.
    Truncated => Pass, "truncated", "shorter than its headers claim";
    /// A header that contradicts itself.
    Malformed => Pass, "malformed", "header contradicts itself";
    /// No listener on its destination.
    NotSteered => Pass, "not_steered", "destination is no steered listener";
    /// To a steered listener, not a SYN, no flow.
    Miss => Pass, "miss", "for a steered listener, but of no flow known here";
    /// The listener's table names none that exists.
    NoBackend => Pass, "no_backend", "new flow, but the listener has no backend";
    /// No record is free.
    TableFull => Pass, "table_full", "new flow, but the flow table is full";
    /// Every handshake that there is room for has only just begun, and the kernel made no cookie: by
    /// `net.ipv4.tcp_syncookies` or for want of a listener, or because it saw no flood yet.
    HandshakesFull => Pass, "handshakes_full", "new flow, but too many handshakes at once (SYN flood?)";
    /// No free source port towards the backend was found.
    PortsExhausted => Pass, "ports_exhausted", "new flow, but no free source port towards the backend";
    /// The client's own port towards the backend is taken by a flow through another listener.
    PortTaken => Pass, "port_taken", "new flow, but the client's port is in use towards the backend";
    /// From an address that is no other host's: nobody there can be answered.
    Martian => Pass, "martian", "new flow, but no other host can have its source address";
    /// Hop limit used up.
    HopLimit => Pass, "hop_limit", "time to live or hop limit used up";
    /// XDP cannot send the packet on; tc can.
    NoNeighbour => Pass, "no_neighbour", "XDP knows no way on: left to tc";
    /// The agent has written no `CONFIG` yet.
    Unconfigured => Pass, "unconfigured", "new flow before the agent had configured the program";
    /// A packet of a flow whose backend is gone, and none that a reset can answer.
    Unanswered => Drop, "unanswered", "backend is gone, and the packet is itself a reset, or cannot be cut to one";
}

/// What a verdict means for the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Sent on (or back) by the programs.
    Send,
    /// Gone.
    Drop,
    /// Left to the node's own stack, where user space serves it.
    Pass,
}

impl Verdict {
    /// Number of verdicts: elements of `VERDICTS`.
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// Index in `VERDICTS`.
    #[inline]
    pub const fn index(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_counted_at_their_own_index() {
        for (index, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(verdict.index() as usize, index);
            assert_eq!(Verdict::at(verdict.index()), Some(*verdict));
        }
    }
}
