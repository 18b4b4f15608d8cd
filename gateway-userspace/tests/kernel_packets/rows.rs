//! How many rules there are: rows of the tables, each of which is held against both families, where both have it, and
//! against both directions, where they differ.

use crate::{
    forged, guard, handover, handshake, icmp, limits, mss, options, passing, reset, shapes, strange, sums,
};

/// As many as there must be.
const LEAST: usize = 600;

#[test]
fn there_is_a_row_for_every_rule() {
    let codes: usize = icmp::CODES.iter().copied().flatten().map(|(_, last)| usize::from(*last) + 1).sum();
    let tables = [
        ("ends of flows, by their numbers", forged::ENDS.len()),
        ("acknowledgements, by their numbers", forged::ACKS.len()),
        ("numbers of handed-over flows", handover::NUMBERS.len()),
        ("their windows", handover::WINDOWS.len()),
        ("their marks of congestion", handover::MARKS.len()),
        ("their options", handover::LAYOUTS.len()),
        ("their segments while they are frozen", handover::FROZEN.len()),
        ("while a socket owes something", handover::OWED.len()),
        ("what was taken before", handover::REPEATED.len()),
        ("segments of their sockets", guard::GUARDED.len()),
        ("handshakes", handshake::SCRIPTS.len()),
        ("errors of ICMP", icmp::ERRORS.len()),
        ("codes of errors", codes),
        ("other messages of ICMP", icmp::OTHERS.len()),
        ("the deny list", limits::DENIED.len()),
        ("segment sizes", mss::VALUES.len()),
        ("places of the segment size", mss::PLACES.len()),
        ("options of IPv4", options::IPV4.len()),
        ("extension headers of IPv6", options::IPV6.len()),
        ("bytes of Ethernet", passing::ETHERNET.len()),
        ("bytes of IPv4", passing::IPV4.len()),
        ("bytes of IPv6", passing::IPV6.len()),
        ("bytes of TCP", passing::TCP.len()),
        ("answers", reset::ANSWERS.len()),
        ("shapes of segments", shapes::SHAPES.len()),
        ("shapes of SYNs", shapes::OPENINGS.len()),
        ("sources", strange::SOURCES.len()),
        ("destinations", strange::DESTINATIONS.len()),
        ("super-packets", sums::SUPER_PACKETS.len()),
        ("tags", strange::TAGS.len()),
    ];
    for (table, rows) in tables {
        println!("{rows:4} {table}");
    }
    let rows: usize = tables.iter().map(|(_, rows)| rows).sum();
    println!("{rows:4} in all");
    assert!(rows >= LEAST, "{rows} rows");
}
