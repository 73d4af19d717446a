//! PBFT: Byzantine agreement, one height at a time (Castro and Liskov, OSDI '99, §4; in the shape
//! of QBFT, whose views are rounds of a height).
//!
//! Fewer than a third of the weight may lie. `q` is [`Committee::byzantine_quorum`], `h` is
//! [`Committee::honest_minimum`]. What follows holds for one height; a decision opens the next.
//!
//! 1. *Leader* (§4.1). Of a round: the member whose turn it is, round robin over height + round
//!    among the members whose commit is in a certificate that one of the last 2n blocks carries
//!    (rule 11); among all while the epoch has fewer such blocks. In round 0 it builds when a block
//!    is due: transactions wait (or blocks are made without) and the block interval has passed.
//! 2. *Proposal* (§4.2, pre-prepare; §4.4, new-view). Names a block; carries a justification,
//!    which is empty in round 0.
//! 3. *Prepare* (§4.2). A member accepts the first proposal of its round, or of a higher round,
//!    that the round's leader signed, whose justification allows the block, whose block is here
//!    and stands on the last decision, and, if the block is fresh, whose time is not ahead of its
//!    clock by more than the drift. It writes down what it accepted, then sends a prepare.
//! 4. *Commit* (§4.2). With prepares of weight q for what it accepted in its round, it writes the
//!    certificate down, then sends a commit. Never for a round below its own.
//! 5. *Decision* (§4.2). Commits of weight q of one round, whatever the own round: the block is
//!    final, and the commits are the proof. Later ones of this round are gathered for rule 11.
//! 6. *Timeout* (§4.5.2, §4.4). It moves to the next round, writes that down, and sends a round
//!    change with the certificate that it prepared last. The timer doubles with each round up to a
//!    bound. In round 0 it runs only while a block is due or a proposal is on the table; in later
//!    rounds only once members of weight q are in that round or above.
//! 7. *Catching up* (§4.5.2). When members of weight h are in rounds above its own, it moves to the
//!    highest round that members of weight h have reached.
//! 8. *New view* (§4.4). The leader of a later round that holds round changes of weight q to it
//!    proposes the block of the latest certificate among them, and a fresh one if there is none.
//!    The round changes and that certificate are the justification.
//! 9. *Repetition.* The newest message of each kind is sent again while it is of use.
//! 10. *Proofs.* A proof for this height or a later one decides, in whatever round the node is.
//! 11. *Certificates*. A block, but the first of an epoch, carries in its extension the commits of
//!     its parent of one round: those of weight q that decided, and all more that its maker has
//!     when it begins. Of members alone, each once, in order of addresses.
//!
//! Durable before it is said: the round and its certificate before a round change; the accepted
//! proposal (and its block) before a prepare; the certificate before a commit; the built block and
//! the own proposal before both are shown.
//!
//! Deviations from the paper:
//! - One height at a time instead of a window of sequence numbers: every decision is a stable
//!   checkpoint, so there are no checkpoint messages and no null requests, and a view change
//!   carries at most one certificate.
//! - The leader rotates with every block, not only when it fails, and a member that seems to be
//!   dead is passed over. It votes on all the same, and so comes back.
//! - Signatures instead of MACs; the leader's prepare counts, and is needed, like anybody's.
//! - Quorums are weights, `ceil(2W/3)`, not `2f + 1`, which is too few when `W` is not `3f + 1`.
//! - A prepare names the digest of the justification, so that it can be held against its signer.
//! - The timeout is bounded, and messages are repeated, here and not in a transport.
//! - Catching up goes to the highest round with weight h instead of the smallest above: a view
//!   change to a view is one to all below. Any vote of a round counts, not only round changes.
//! - Clients, their requests and replies are the chain's matter.
//!
//! [`Committee::byzantine_quorum`]: landfall_types::Committee::byzantine_quorum
//! [`Committee::honest_minimum`]: landfall_types::Committee::honest_minimum

mod instance;
mod justification;
mod message;
mod parent;
mod proposal;
mod timing;
mod turns;
mod votes;

#[cfg(test)]
mod testing;

#[doc(hidden)]
pub use instance::Pbft;
pub use justification::Justification;
pub use message::{Accepted, Message, OwnProposal, Record};
pub use parent::carried;
pub use turns::{Turns, window};

use crate::engine::{Engine, Output, Protocol, SealedHeader, Start, Verdict};
use crate::evidence::is_amnesia;
use crate::solo::check_ours;
use crate::{Evidence, InvalidEvidence, Tree};
use landfall_types::{Epoch, NodeId, Step, Time};

/// No honest member gets to a higher round: at a thousand a second it would take weeks of one
/// height. What is said of higher ones is not heard, so that rounds can be added to.
const MAX_ROUND: u64 = u32::MAX as u64;

/// The stateless half.
pub(crate) struct PbftProtocol;

impl Protocol for PbftProtocol {
    /// Any member may have made a block: the round, and so whose turn it was, is not in it. The
    /// time is judged when a proposal is accepted, not here: what a quorum decided is valid.
    fn verify(&self, epoch: &Epoch, header: &SealedHeader, tree: &Tree, _now: Time) -> Verdict {
        match check_ours(epoch, header, tree) {
            Verdict::Valid => {}
            verdict => return verdict,
        }
        if !epoch.has_member(&header.extension.proposer) {
            return Verdict::Invalid("the proposer is no member of the epoch");
        }
        let parent = tree.block(&header.header.parent_hash);
        if let Err(why) = parent::check(epoch, parent, &header.extension.data) {
            return Verdict::Invalid(why);
        }
        if header.sealer != Some(header.extension.proposer) {
            return Verdict::BadSeal;
        }
        Verdict::Valid
    }

    fn verify_evidence(&self, epoch: &Epoch, it: &Evidence) -> Result<NodeId, InvalidEvidence> {
        let (accused, number) = it.accused();
        if number != epoch.number {
            return Err(InvalidEvidence::Epoch(number));
        }
        if !epoch.has_member(&accused) {
            return Err(InvalidEvidence::NoMember(accused));
        }
        let proven = match it {
            Evidence::DoubleVote { a, b } => {
                return Evidence::verify_double_vote(a, b, epoch.number, &epoch.committee);
            }
            Evidence::Amnesia { commit, change } if commit.signer != change.signer => {
                return Err(InvalidEvidence::TwoSigners);
            }
            Evidence::Amnesia { commit, change } => is_amnesia(commit, change),
            Evidence::UnjustifiedPrepare { prepare, justification } => {
                let place = prepare.vote.position;
                place.step == Step::Prepare
                    && justification.digest() == prepare.vote.context
                    && !justification.allows(epoch, place.height, place.round, prepare.vote.hash)
            }
        };
        if proven { Ok(accused) } else { Err(InvalidEvidence::NoContradiction) }
    }

    fn start(&self, start: Start<'_>, out: &mut Vec<Output>) -> Box<dyn Engine> {
        Box::new(instance::Pbft::new(&start, out))
    }
}
