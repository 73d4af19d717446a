//! PBFT, all of it within bounds.

mod exhaustive;
mod network;

use exhaustive::explore;
use exhaustive::pbft::{Bounds, Cluster};

/// More means that a bound is wrong.
const MOST: usize = 20_000_000;

#[test]
fn four_nodes_of_which_one_lies() {
    let n = |name: &str, or: u64| std::env::var(name).ok().map_or(or, |v| v.parse().unwrap());
    let bounds = Bounds { liar: n("L", 2) as u8, crashes: n("C", 0) as u8 };
    let mut cluster = Cluster::new(bounds);
    let begun = std::time::Instant::now();
    match explore(&mut cluster, MOST) {
        Ok(size) => println!("{bounds:?}: {size:?} {:?} {:?}", cluster.parts(), begun.elapsed()),
        Err(violation) => panic!("{}\n{}", violation.what, violation.path.join("\n")),
    }
}

#[cfg(feature = "planted")]
#[test]
fn bugs() {
    use landfall_consensus::{Bug, plant};
    for bug in [Bug::QuorumOffByOne, Bug::VotesBySignature, Bug::PbftForgetsPrepared, Bug::PbftJustificationUnchecked, Bug::PbftNoPersistBeforePrepare, Bug::ProposalInSeal, Bug::PbftLocksForever] {
        for (liar, crashes) in [(1,0),(2, 0), (3, 0), (1, 1), (2, 1)] {
            plant(Some(bug));
            let mut cluster = Cluster::new(Bounds { liar, crashes });
            let begun = std::time::Instant::now();
            let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| explore(&mut cluster, 200_000)));
            plant(None);
            let t = begun.elapsed();
            match found {
                Err(_) => println!("{bug:?} {liar} {crashes}: too many {t:?}"),
                Ok(Ok(size)) => println!("{bug:?} {liar} {crashes}: not found {size:?} {t:?}"),
                Ok(Err(v)) => println!("{bug:?} {liar} {crashes}: {} after {} states, {} steps {t:?}", v.what, v.states, v.path.len()),
            }
        }
    }
}
