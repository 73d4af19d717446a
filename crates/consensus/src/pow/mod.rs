//! Proof of work.
//!
//! Rules, and where they are from:
//! 1. A block's nonce makes its work hash no greater than its target (Nakamoto §4; [`meets`]).
//!    Only the 64-bit nonce is searched; `mixHash` and the extension are fixed before execution.
//! 2. The target follows from the parent alone, by aserti3-2d in milliseconds, anchored where the
//!    epoch begins ([`difficulty_after`]). The header's `difficulty` is the target's work, exactly.
//! 3. The branch of most work wins; the one seen first among equals (§5). See [`crate::lottery`].
//! 4. A block's time is after its parent's. One that is further ahead of this node's own clock
//!    than `clock_drift` waits: it is early, not invalid. Not if it is the least time that may follow
//!    the parent's, which may be of another protocol.
//! 5. A block pays its maker a subsidy as its one withdrawal (§6; EIP-4895), by a schedule.
//! 6. `finalized` is a depth, a parameter of the genesis: probable, never certain (§11).
//! 7. Anybody may make blocks; the committee of the epoch does not matter.
//!
//! Deviations from the paper:
//! - The difficulty has no window of its own: aserti3-2d is absolute. Since it takes the *parent's*
//!   time, a block's own time does not change its own difficulty, and there is no time to warp.
//! - Our clock is the node's own, not a median of peers, which peers could move.
//! - Difficulty is the work, not the compact target; a nonce must meet the easiest target of that
//!   work ([`target_of`]), so that a header can be checked alone. The rounding is below one part in
//!   `difficulty`.
//! - A block is begun anew when transactions come and now and then, not for each transaction.
//!
//! It persists nothing: a lottery binds nobody, and its blocks are in the log.

mod asert;
mod seal;
mod subsidy;

pub use asert::Asert;
pub use landfall_types::{target_of, work_of};
pub use seal::{meets, search, work_hash};
pub use subsidy::{subsidy_at, supply_at, withdrawals_at};

use crate::engine::{Engine, Output, Protocol, SealedHeader, Start, Verdict};
use crate::lottery::{Heaviest, HeaviestParams, Lottery, Ticket};
use crate::solo::check_ours;
use crate::{Evidence, InvalidEvidence, Tree, TreeBlock};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, U256};
use landfall_types::{Epoch, Height, NodeId, Params, PowParams, Span, Time};

/// The stateless half.
pub(crate) struct PowProtocol;

/// The difficulty that a block on `parent` must have, in an epoch of proof of work. The block of
/// height `epoch.first` has the work of `first_target`; it is the anchor of the schedule, and the
/// block that the epoch stands on is the anchor's parent.
pub fn difficulty_after(epoch: &Epoch, parent: &TreeBlock) -> U256 {
    let params = params_of(epoch);
    let asert = Asert {
        anchor_target: params.first_target,
        ideal_block_time: params.block_interval.0,
        half_life: params.half_life.0,
        max_target: U256::MAX,
    };
    let time_delta = i128::from(parent.time.0) - i128::from(epoch.anchor_time().0);
    let height_delta = i128::from(parent.height.0) - i128::from(epoch.first.0);
    work_of(asert.next_target(time_delta, height_delta))
}

fn params_of(epoch: &Epoch) -> &PowParams {
    match &epoch.params {
        Params::Pow(params) => params,
        _ => unreachable!("an epoch of proof of work has its parameters"),
    }
}

impl Protocol for PowProtocol {
    fn verify(&self, epoch: &Epoch, sealed: &SealedHeader, tree: &Tree, now: Time) -> Verdict {
        let (header, params) = (sealed.header.inner(), params_of(epoch));
        // First, and before the parent is looked for: what did not cost its work is not kept.
        if !meets(header) {
            return Verdict::Invalid("the nonce does not meet the difficulty");
        }
        let ours = check_ours(epoch, sealed, tree);
        if ours != Verdict::Valid {
            return ours;
        }
        if header.difficulty != difficulty_after(epoch, tree.block(&header.parent_hash)) {
            return Verdict::Invalid("the difficulty is not the one that follows from the parent");
        }
        if sealed.extension.data.len() > size_of::<u64>() {
            return Verdict::Invalid("the extension's data is longer than a template's number");
        }
        let paid = subsidy::withdrawals_root(params, Height(header.number), header.beneficiary);
        if header.withdrawals_root != Some(paid) {
            return Verdict::Invalid("the withdrawals are not the block's subsidy");
        }
        let time = Time(sealed.extension.milliseconds);
        let least = tree.block(&header.parent_hash).time + Span(1);
        if time > (now + params.clock_drift).max(least) {
            return Verdict::NotYet;
        }
        Verdict::Valid
    }

    fn verify_evidence(&self, _: &Epoch, _: &Evidence) -> Result<NodeId, InvalidEvidence> {
        Err(InvalidEvidence::Unknown)
    }

    fn withdrawals(&self, epoch: &Epoch, height: Height, beneficiary: Address) -> Vec<Withdrawal> {
        withdrawals_at(params_of(epoch), height, beneficiary)
    }

    fn start(&self, start: Start<'_>, out: &mut Vec<Output>) -> Box<dyn Engine> {
        let params = params_of(start.epoch);
        let heaviest = HeaviestParams {
            safe_depth: params.safe_depth.min(params.final_depth),
            final_depth: params.final_depth,
            block_interval: params.block_interval,
            renewal_max: params.half_life,
        };
        let lottery = Box::new(Work { epoch: start.epoch.clone() });
        Box::new(Heaviest::start(&start, heaviest, lottery, out))
    }
}

/// Weight is work, and a ticket is for anybody who works.
struct Work {
    epoch: Epoch,
}

impl Lottery for Work {
    fn weight(&self, block: &TreeBlock) -> U256 {
        block.difficulty
    }

    fn ticket(&self, parent: &TreeBlock, now: Time) -> Option<Ticket> {
        Some(Ticket { at: now, difficulty: Some(difficulty_after(&self.epoch, parent)) })
    }
}

#[cfg(test)]
mod tests;
