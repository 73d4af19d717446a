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

#[cfg(feature = "planted")]
#[test]
fn bugs() {
    use landfall_consensus::{Bug, plant};
    for bug in [Bug::QuorumOffByOne, Bug::VotesBySignature, Bug::RaftForgetsVote, Bug::RaftNoLogComparison, Bug::RaftNoCurrentTerm, Bug::RaftTermInBlock] {
        for (terms, heights, crashes) in [(2,1,0),(3,1,1),(4, 1, 0)] {
            plant(Some(bug));
            let mut cluster = Cluster::new(Bounds { terms, heights, crashes });
            let begun = std::time::Instant::now();
            let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| explore(&mut cluster, 1_000_000)));
            plant(None);
            let t = begun.elapsed();
            match found {
                Err(_) => println!("{bug:?} {terms} {heights} {crashes}: too many {t:?}"),
                Ok(Ok(size)) => println!("{bug:?} {terms} {heights} {crashes}: not found {size:?} {t:?}"),
                Ok(Err(v)) => println!("{bug:?} {terms} {heights} {crashes}: {} after {} states, {} steps {t:?}", v.what, v.states, v.path.len()),
            }
        }
    }
}

#[cfg(feature = "planted")]
#[test]
fn guided() {
    use exhaustive::Model;
    landfall_consensus::plant(Some(landfall_consensus::Bug::RaftNoCurrentTerm));
    let mut c = Cluster::new(Bounds { terms: 4, heights: 1, crashes: 0 });
    let mut s = c.initial();
    for (n, what) in [(0,"Campaign"),(1,"Hear"),(0,"Hear"),(0,"Built"),(2,"Heard(1)"),(2,"Campaign"),(1,"Hear("),(2,"Hear("),(2,"Built"),(0,"Heard(2)"),(0,"Campaign"),(1,"Hear("),(0,"Hear("),(1,"Hear("),(0,"Hear("),(2,"Heard(3)"),(2,"Campaign"),(1,"Hear("),(2,"Hear("),(1,"Hear("),(2,"Hear(")] {
        let next = match c.next(s) { Ok(n) => n, Err(e) => panic!("{e:?}") };
        let found: Vec<_> = next.iter().filter(|(a, _)| a.0 == n && format!("{:?}", a.1).starts_with(what)).collect();
        println!("--- {n} {what}: {} of {:?}", found.len(), next.iter().map(|x| format!("{:?}", x.0)).collect::<Vec<_>>());
        s = found.last().unwrap().1;
        println!("{}", c.show(s));
    }
}
