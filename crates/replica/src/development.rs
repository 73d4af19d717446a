//! What only a development chain does: it changes the state outside transactions, goes back, and
//! chooses what a chain among equals could not.
//!
//! All of this is done between two events, when no job is out.

use crate::halt::Halt;
use crate::replica::{Replica, grown, keep_below_final};
use alloy_primitives::{Address, B256, TxHash};
use landfall_chain::{Adopted, ImportError, Mark, Patch};
use landfall_types::{Height, Time};

impl Replica {
    /// The time of the newest block that was made, shown or not.
    pub fn newest_time(&self) -> Time {
        self.tree.block(&self.outbox.logged.head).time
    }

    /// Who gets the fees of the next blocks.
    pub fn set_beneficiary(&mut self, beneficiary: Address) {
        self.config.beneficiary = beneficiary;
    }

    /// The gas limit that blocks move towards.
    pub fn set_gas_limit(&mut self, gas_limit: u64) {
        self.config.gas_limit = gas_limit;
    }

    /// PREVRANDAO of the next block alone.
    pub fn set_prev_randao(&mut self, value: B256) {
        self.sync.set_randao(value);
    }

    /// `safe` and `finalized` stay at or below this height from now on.
    pub fn set_ceiling(&mut self, ceiling: Option<Height>) {
        let floor = self.height(&self.shown.finalized);
        self.ceiling = ceiling.map(|ceiling| ceiling.max(floor));
    }

    /// Where the state stands, for [`Self::revert`].
    pub fn mark(&self) -> Mark {
        self.chain.mark()
    }

    /// Changes the state on top of the head; durable and visible on return, as are the
    /// transactions that it made executable.
    pub fn patch(&mut self, now: Time, patch: Patch) -> Result<Vec<TxHash>, ImportError> {
        let address = match &patch {
            Patch::Balance { address, .. }
            | Patch::Nonce { address, .. }
            | Patch::Code { address, .. }
            | Patch::Storage { address, .. } => *address,
        };
        self.assert_idle();
        self.chain.patch(patch)?;
        self.outbox.stand(&self.chain);
        let touched = Some(vec![address]);
        Ok(self.mempool.refresh(touched, Vec::new(), &self.reader, now)?)
    }

    /// Makes a marked place the head again. What stood on it is gone.
    pub fn revert(
        &mut self,
        now: Time,
        mark: Mark,
    ) -> Result<Result<(Adopted, Vec<TxHash>), ImportError>, Halt> {
        self.assert_idle();
        self.stop_building();
        let finalized = self.shown.finalized;
        let keeps_safe = self.tree.descends(mark.block, self.shown.safe);
        let safe = if keeps_safe { self.shown.safe } else { finalized };
        let adopted = match self.chain.revert(mark, safe, finalized) {
            Ok(adopted) => adopted,
            Err(error) => return Ok(Err(error)),
        };
        self.outbox.stand(&self.chain);
        self.shown = self.outbox.logged;
        self.tree = grown(&self.chain, &self.reader, keep_below_final(&self.config.schedule))?;
        self.restart(now)?;
        // What was in the blocks that are left is gone: that is what a revert is for.
        let promoted = self.mempool.refresh(None, Vec::new(), &self.reader, now);
        let promoted = promoted.map_err(|error| Halt::Store(error.to_string()))?;
        Ok(Ok((adopted, promoted)))
    }

    fn assert_idle(&self) {
        let idle = self.chain.jobs_out() == 0 && !self.is_syncing();
        assert!(idle, "a development chain is changed between two events, not during a job");
    }
}
