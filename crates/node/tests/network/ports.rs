//! Ports for a network: a base with which all ports of all nodes are free.
//!
//! They lie below the ports that the system gives out by itself, so nobody takes one by chance; and
//! a network holds the port in front of its base, so that no other test takes the same range.

use std::net::TcpListener;

/// From RPC to p2p, and from p2p to operations: as `landfall up` counts.
pub const STEP: u16 = 1_000;
/// Bases that are tried, and their distance.
const BASES: u16 = 90;
const DISTANCE: u16 = 10;
/// The first base. Bases end below 22,000, operations below 25,000; the system gives out ports
/// from 32,768.
const FIRST: u16 = 21_011;

/// A reserved range of ports.
pub struct Ports {
    /// RPC of the first node.
    pub base: u16,
    _guard: TcpListener,
}

impl Ports {
    /// Ports for so many nodes, at most nine.
    pub fn reserve(nodes: u16) -> Self {
        assert!(nodes < DISTANCE, "too many nodes for one range");
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).ok();
        for number in 0..BASES {
            let base = FIRST + number * DISTANCE;
            let Some(guard) = free(base - 1) else { continue };
            let mut all =
                (0..nodes).flat_map(|node| (0..3).map(move |step| base + node + step * STEP));
            if all.all(|port| free(port).is_some()) {
                return Self { base, _guard: guard };
            }
        }
        panic!("no range of ports below {} is free", FIRST + BASES * DISTANCE);
    }
}
