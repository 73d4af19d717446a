//! What a person does to a node of proof of work that has stopped because a branch with more work
//! contradicts what it took for final: `landfall db reorg --to HASH`, and a start.

use crate::host::{Machine, chain_options};
use crate::scenario::Setup;
use crate::world::{Event, World};
use alloy_primitives::B256;
use landfall_chain::Chain;

impl World<'_> {
    /// Moves a stopped node back to the newest block that both branches have.
    pub(crate) fn reorganise(&mut self, slot: usize, ancestor: B256, rival: B256) {
        let it = &self.slots[slot];
        let machine = Machine { disk: &it.disk, views: &it.views, signer: &it.signer, id: it.id };
        let gone_back = go_back(&machine, &self.setup, ancestor);
        match gone_back {
            Ok(Some(height)) => {
                self.tell(|| format!("node {slot} goes back to {height}, to follow {rival}"));
                self.checker.step_back(slot, height, ancestor);
                self.slots[slot].disk.restart();
                self.queue.push(self.now + 1_000, Event::Boot { slot });
            }
            other => {
                let what = format!("going back to {ancestor} is refused: {other:?}");
                self.fail(Some(slot), "reorg", what);
            }
        }
    }
}

/// The height of the ancestor, where the chain ends then.
fn go_back(machine: &Machine<'_>, setup: &Setup, ancestor: B256) -> Result<Option<u64>, String> {
    let options = || chain_options(machine, setup);
    let chain = Chain::open(options()).map_err(|error| error.to_string())?;
    let head = chain.reader().head();
    // What it stopped over was not durable, and the crash has taken it back.
    if head.block.block.hash() == ancestor {
        return Ok(Some(head.number()));
    }
    drop((chain, head));
    let (chain, _) = landfall_chain::reorganise(options(), ancestor).map_err(|e| e.to_string())?;
    chain.reader().number_of(ancestor).map_err(|error| error.to_string())
}
