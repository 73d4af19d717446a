//! Raft, every order of events within bounds, over the engine's own `step`.
//!
//! Bounds: three members, two heights (the epoch ends at the second), terms up to 3, and one crash
//! of any member between any two outputs, followed by a start from what was durable. Messages are
//! delivered at any time after they were sent, in any order, more than once, or never.
//!
//! Checked at every transition: no two nodes hold different final blocks, at any height, and
//! finality never moves back; no member casts two votes at one position in all its lives; no term
//! has two leaders; every decision comes with a proof that verifies and proves that very block; no
//! record takes back what an earlier one bound its member to.
//!
//! Reductions, and why each loses nothing:
//! - *Determinism.* A step is computed once for a local state and an input.
//! - *Outputs at once.* What is said stays in the network and may be heard at any later time, so
//!   saying it as soon as its record is durable loses no order of events. Steps of which nothing
//!   was performed are steps that a crash undoes; so a crash between any two outputs of the last
//!   step, with all earlier ones performed, is every crash. Own votes come back at once: a late one
//!   is a vote of another member that comes sooner.
//! - *Time.* A timer may be due at any moment. The lease of rule 5 is over whenever a candidacy is
//!   delivered: a node that still heard its leader ignores it, which is a message not delivered. A
//!   heartbeat adds nothing to a network that forgets nothing. So no timer is part of a state.
//! - *Check of the quorum.* A leader may always find that it hears nobody; whom it heard is no part
//!   of a state.
//! - *Pre-votes* bind nobody: whoever seeks election may be granted them. More can happen than in
//!   truth.
//! - *Terms are raised late.* A node that hears of a higher term and does nothing else may do less
//!   than one that did not hear it, except to stand for the term after it, and to vote or take a
//!   branch in it: so it hears of a term right before it stands, and with the messages that it
//!   answers. A message that would only raise the term is not delivered, nor a candidacy whose
//!   candidate stands no more: a vote for it only keeps its voter from another.
//! - *Blocks come with the messages that name them*: a message whose block is missing waits for it,
//!   and is one that comes later. So one tree serves all.
//! - *Proofs travel alone*, not within an `Append`: which is the same two inputs one after another.
//!   A proof is known by what it proves, not by who signed it, once it was checked.
//! - *Dead messages.* A message that nobody can answer any more is dropped; but not if its sender
//!   could still contradict it and its durable record does not say what it said.
//! - *A crash that changes nothing* else leads to no more than its absence does.
//! - *Symmetry.* Of members that never said or heard anything, the first acts first.
//! - *The end.* A node whose last height is final does nothing more; its state is its decision.
//!
//! What a local state's text leaves out is audited: each step is taken again from another node
//! with the same text, and must end the same.

mod exhaustive;
mod network;

use exhaustive::explore;
use exhaustive::raft::{Bounds, Cluster};

/// More means that a bound is wrong.
const MOST: usize = 4_000_000;

#[test]
fn three_nodes_two_heights_three_terms_and_a_crash_are_safe_in_every_order() {
    let bounds = Bounds { terms: 3, heights: 2, crashes: 1 };
    let mut cluster = Cluster::new(bounds);
    match explore(&mut cluster, MOST) {
        Ok(size) => {
            let (nodes, messages) = cluster.parts();
            println!("{bounds:?}: {size:?}, {nodes} local states, {messages} messages");
            let audited = cluster.audit();
            println!("{audited} steps taken again from another node with the same text");
            assert!(audited > 0);
        }
        Err(violation) => panic!("{}\n{}", violation.what, violation.path.join("\n")),
    }
    let proven: Vec<_> = cluster.proven.iter().copied().collect();
    let all = [1, 2, 3].map(|term| [(term, 1), (term, 2)]);
    assert_eq!(proven, all.as_flattened(), "both heights are decided in every term");
}

#[cfg(feature = "planted")]
mod bugs {
    use super::*;
    use exhaustive::expect_found;
    use landfall_consensus::Bug;

    /// Terms, heights, crashes: the least that shows the bug.
    fn within(terms: u64, heights: u64, crashes: u8) -> Cluster {
        Cluster::new(Bounds { terms, heights, crashes })
    }

    #[test]
    fn finds_a_quorum_that_is_one_short() {
        expect_found(Bug::QuorumOffByOne, within(1, 1, 0), "bad proof");
    }

    #[test]
    fn finds_votes_that_are_counted_by_signature() {
        expect_found(Bug::VotesBySignature, within(1, 1, 0), "bad proof");
    }

    #[test]
    fn finds_a_vote_that_is_not_in_the_record() {
        expect_found(Bug::RaftForgetsVote, within(1, 1, 1), "two things");
    }

    #[test]
    fn finds_a_vote_for_a_shorter_log() {
        expect_found(Bug::RaftNoLogComparison, within(2, 1, 0), "takes back its word");
    }

    #[test]
    fn finds_a_branch_of_an_earlier_term_that_is_not_taken_anew() {
        expect_found(Bug::RaftNoCurrentTerm, within(4, 1, 0), "takes back its word");
    }
}
