//! PBFT, every order of events within bounds, over the engine's own `step`.
//!
//! Bounds: four members of equal weight, of which one lies; one height; rounds 0 and 1. Three
//! searches, by who lies: the leader of round 0, that of round 1, or another; a fourth has a crash
//! of any honest member between any two outputs, beside a liar that leads no round.
//!
//! The liar's menu (`exhaustive/liar.rs`): two proposals in a round that it leads; prepares and
//! commits for everything that was proposed, in both rounds; a round change without a certificate,
//! and one with each certificate that exists; as leader of round 1 also proposals by too few round
//! changes, by none, and of a block to which its justification does not bind. Of the valid
//! justifications that bind to the same block it uses one.
//!
//! Checked at every transition: no two honest nodes decide different blocks; none casts two votes
//! at one position in all its lives; every decision comes with a proof that verifies and proves
//! that very block; all evidence verifies and names the liar.
//!
//! Reductions, and why each loses nothing:
//! - *Determinism; outputs at once; blocks come with the messages that name them*: as in
//!   `exhaustive_raft.rs`.
//! - *Messages of one kind as sets.* A delivery after which a node says, writes and asks for
//!   nothing is not a step of its own: the same message is delivered together with those that make
//!   the node act. Of prepares and of commits that say the same, one least set stands for all, as
//!   an engine asks for their weight alone; of round changes all least sets are tried.
//! - *Certificates are known by what they prove*: the first one of a vote stands for those of other
//!   signers, as they are valid alike.
//! - *Round changes go to the leader of round 1 only*: to others they say that they may enter the
//!   round, and the timeout, which may be over at any moment, says so already.
//! - *Time.* The timeout of round 0 may be over at any moment, repetition comes at any moment; no
//!   timer is part of a state. No block's time is ahead of a clock.
//! - *The liar has no state*: it may have said to anybody all that its menu allows.
//! - *Proofs are not delivered*: a node that decides by one falls silent, and so does one to which
//!   nothing is delivered. A node that decided does nothing more: its state is its decision.
//!
//! What a local state's text leaves out is audited: each step is taken again from another node
//! with the same text, and must end the same.

mod exhaustive;
mod network;

use exhaustive::explore;
use exhaustive::pbft::{Bounds, Cluster};

/// More means that a bound is wrong.
const MOST: usize = 4_000_000;

fn is_safe(liar: u8, crashes: u8) {
    let bounds = Bounds { liar, crashes };
    let mut cluster = Cluster::new(bounds);
    match explore(&mut cluster, MOST) {
        Ok(size) => {
            let (nodes, messages, sets) = cluster.parts();
            println!(
                "{bounds:?}: {size:?}, {nodes} local states, {messages} messages in {sets} sets"
            );
            let audited = cluster.audit();
            println!("{audited} steps taken again from another node with the same text");
            assert!(audited > 0);
        }
        Err(violation) => panic!("{}\n{}", violation.what, violation.path.join("\n")),
    }
    assert!(cluster.proven.iter().eq(&[0, 1]), "something is decided in both rounds");
}

#[test]
fn a_liar_that_leads_no_round_is_harmless_in_every_order() {
    is_safe(1, 0);
}

#[test]
fn a_liar_that_leads_round_0_is_harmless_in_every_order() {
    is_safe(2, 0);
}

#[test]
fn a_liar_that_leads_round_1_is_harmless_in_every_order() {
    is_safe(3, 0);
}

#[test]
fn a_crash_beside_a_liar_that_leads_no_round_is_harmless_in_every_order() {
    is_safe(1, 1);
}

#[cfg(feature = "planted")]
mod bugs {
    use super::*;
    use exhaustive::expect_found;
    use landfall_consensus::Bug;

    fn within(liar: u8, crashes: u8) -> Cluster {
        Cluster::new(Bounds { liar, crashes })
    }

    #[test]
    fn finds_a_quorum_that_is_one_short() {
        expect_found(Bug::QuorumOffByOne, within(1, 0), "bad proof");
    }

    #[test]
    fn finds_votes_that_are_counted_by_signature() {
        expect_found(Bug::VotesBySignature, within(1, 0), "bad proof");
    }

    #[test]
    fn finds_a_certificate_that_a_round_change_does_not_carry() {
        expect_found(Bug::PbftForgetsPrepared, within(1, 0), "two blocks are final");
    }

    #[test]
    fn finds_a_justification_that_is_not_checked() {
        expect_found(Bug::PbftJustificationUnchecked, within(3, 0), "accuses");
    }

    #[test]
    fn finds_a_prepare_that_is_sent_before_it_is_written_down() {
        expect_found(Bug::PbftNoPersistBeforePrepare, within(2, 1), "two things");
    }
}
