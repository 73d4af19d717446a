//! Raft, all of it within bounds.

mod exhaustive;
mod network;

use exhaustive::explore;
use exhaustive::raft::{Bounds, Cluster};

/// More means that a bound is wrong.
const MOST: usize = 20_000_000;

#[test]
fn three_nodes_two_heights_three_terms_and_a_crash() {
    let n = |name: &str, or: u64| std::env::var(name).ok().map_or(or, |v| v.parse().unwrap());
    let bounds = Bounds { terms: n("T", 2), heights: n("H", 1), crashes: n("C", 0) as u8 };
    let mut cluster = Cluster::new(bounds);
    let begun = std::time::Instant::now();
    match explore(&mut cluster, MOST) {
        Ok(size) => println!("{bounds:?}: {size:?} {:?} {:?}", cluster.parts(), begun.elapsed()),
        Err(violation) => panic!("{}\n{}", violation.what, violation.path.join("\n")),
    }
}
