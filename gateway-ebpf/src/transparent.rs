//! Sockets of the gateway's own that speak to backends under their clients' addresses (`IP_TRANSPARENT`). An answer to
//! one has the client's address as its destination, which is not this node's: it gets a mark, by which a rule of the
//! agent's has the routing table deliver it here. Which sockets there are the kernel itself is asked: nobody else would
//! know them to their last acknowledgement, beyond a close and beyond the agent's death.

use gateway_common::{Direction, ListenerKey, flow::NO_PORTS};

use crate::{
    flow::Found,
    maps::{self, Maps},
    parse::{Family, Segment},
    skb::Skb,
    socket,
};

/// Marks a packet that is for such a socket, and tells whether it is. The segment's tuple is that of an answer to the
/// socket: of the packet itself, or of one that an ICMP error is about. A function of its own for the sake of the stack.
#[inline(never)]
pub(crate) fn claim<A: Family>(packet: &mut Skb<'_>, segment: &Segment<A>) -> bool {
    let Some(config) = maps::config() else { return false };
    if config.mark == 0 {
        return false;
    }
    let backend = ListenerKey::new(segment.key.source, segment.key.source_port);
    let is_ours = maps::answers(&backend) && socket::has_peer(packet, &segment.key);
    if is_ours {
        packet.mark(config.mark, config.mark_mask);
    }
    is_ours
}

/// Whether such a socket has the tuple that a new flow would have towards its backend, because the same port of the
/// client's came by another listener. Likewise.
#[inline(never)]
pub(crate) fn has_taken<A: Maps>(packet: &mut Skb<'_>, found: &Found<A>) -> bool {
    let Some(config) = maps::config() else { return false };
    if config.mark == 0 || found.record.ports() != NO_PORTS {
        return false;
    }
    let answer = found.record.arriving(Direction::ToClient);
    socket::has_peer(packet, &answer)
}
