//! `db reorg`: going back behind what was final, by a person's word.
//!
//! On a chain of work a block becomes final by depth, which is probable and no more. Where a branch
//! with more work contradicts it, the node stops; a person who wants to follow that branch makes
//! the last block of both the newest one again. The log keeps all that it had; the branch that was
//! left is not taken again, and the node finds the other one by itself.

use crate::chain::Chain;
use crate::ledger::{self, ReorgRecord};
use crate::open::{ChainOptions, OpenError, inconsistent};
use crate::store::views::Table;
use alloy_primitives::B256;
use landfall_types::ForkChoice;

/// What a reorganisation by hand did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reorganised {
    /// Number of the block that is head, safe and final now.
    pub number: u64,
    /// The number of the newest block before.
    pub head: u64,
    /// The number of the final block before.
    pub finalized: u64,
}

/// Makes a canonical block of a stopped chain head, safe and final again, and leaves what stands
/// on it. The views are made anew if they stand above it.
///
/// # Errors
/// [`OpenError::Reorganisation`] if that block is not canonical, or the newest one already; nothing
/// is changed then.
pub fn reorganise(options: ChainOptions, to: B256) -> Result<(Chain, Reorganised), OpenError> {
    let again = ChainOptions {
        genesis: None,
        place: options.place.clone(),
        rebuild: false,
        segment_bytes: options.segment_bytes,
        progress: None,
        flush_blocks: options.flush_blocks,
        caches: options.caches,
        senders: options.senders.clone(),
    };
    let mut chain = Chain::open(options)?;
    let reader = chain.reader();
    let refused = |what: String| Err(OpenError::Reorganisation(what));
    let Some(number) = reader.number_of(to)? else {
        return refused(format!("block {to} is not known here"));
    };
    if reader.hash_at(number)? != Some(to) {
        return refused(format!("block {number} {to} is not canonical"));
    }
    let head = reader.head();
    let Some(left) = reader.hash_at(number + 1)? else {
        return refused(format!("block {number} {to} is the head already"));
    };
    let done = Reorganised { number, head: head.number(), finalized: head.finalized.0 };
    let record = ReorgRecord { number, hash: to, left };
    chain.log.append(ledger::REORG, &alloy_rlp::encode(record))?;
    chain.log.sync()?;
    drop((chain, reader, head));
    Ok((Chain::open(again)?, done))
}

impl Chain {
    /// Does what a record of a reorganisation says; its block is the views' own or above.
    pub(crate) fn go_back(&mut self, record: &ReorgRecord) -> Result<(), OpenError> {
        let ReorgRecord { number, hash, left } = *record;
        let layer = self.shared.tree.read().block_layer(&hash).ok_or_else(|| {
            inconsistent(format!("the log goes back to block {number} {hash}, which is not there"))
        })?;
        self.logged = (number, hash);
        self.proof = self.proof_of(number)?;
        self.shared.proofs.write().split_off(&(number + 1));
        self.unshown.clear();
        self.show_layer(ForkChoice { head: hash, safe: hash, finalized: hash }, layer)?;
        self.forget_above(layer);
        // Only the newest word counts: the branch that was left before may be the heavier one now.
        self.left.retain(|_, at| *at != number + 1);
        self.left.insert(left, number + 1);
        Ok(())
    }

    fn proof_of(&self, number: u64) -> Result<Option<(u64, alloy_primitives::Bytes)>, OpenError> {
        if let Some(proof) = self.shared.proofs.read().get(&number) {
            return Ok(Some(proof.clone()));
        }
        let row = self.shared.views.get(Table::Proofs, &number.to_be_bytes())?;
        row.map(|row| ledger::decode_proof(&row).map_err(inconsistent)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs_tests::{attributes, genesis, grow, open};
    use crate::store::{Disk, MemoryViews, TestDisk};
    use crate::{ImportError, Place, verify};
    use alloy_primitives::Bytes;
    use std::sync::Arc;

    /// A trunk of 30 blocks, final up to 20, with the views at `flushed`.
    fn grown(chain: &mut Chain, flushed: u64) -> Vec<B256> {
        let mut trunk = vec![chain.reader().genesis_hash()];
        for number in 1..=30_u64 {
            let head = grow(chain, trunk[trunk.len() - 1], 1);
            trunk.push(head);
            let finalized = trunk[number.saturating_sub(10) as usize];
            let choice = ForkChoice { head, safe: finalized, finalized };
            let proof = (number % 4 == 0).then(|| (0, Bytes::from(number.to_be_bytes())));
            chain.log_choice(choice, proof).unwrap();
            chain.log_record(0, &number.to_be_bytes()).unwrap();
            chain.sync().unwrap();
            chain.show(choice).unwrap();
            if flushed + 10 == number {
                chain.flush().unwrap();
            }
        }
        trunk
    }

    fn options(place: &Place) -> ChainOptions {
        ChainOptions::new(Some(genesis()), place.clone())
    }

    /// The chain stands at block 12, takes a rival of block 13 and never the old one.
    fn follows_the_rival(
        mut chain: Chain,
        place: &Place,
        trunk: &[B256],
        old: landfall_types::Block,
    ) {
        let head = chain.reader().head();
        assert_eq!((head.hash(), head.finalized), (trunk[12], (12, trunk[12])));
        assert_eq!(chain.reader().hash_at(13).unwrap(), None);
        assert!(matches!(chain.import(old.clone()), Err(ImportError::Finalized(_))));
        let state = chain.reader().latest_state();
        assert_eq!(state.block(), (12, trunk[12]));
        chain.reader().prove(trunk[12], alloy_primitives::Address::repeat_byte(0xcc), &[]).unwrap();
        assert_eq!(&chain.records()[&0][..], &30_u64.to_be_bytes(), "records are not undone");
        let proof = chain.reader().proof_at_or_above(3).unwrap();
        assert!(proof.as_ref().is_none_or(|(number, ..)| *number <= 12), "{proof:?}");

        let mut branch = vec![trunk[12]];
        for _ in 0..30 {
            branch.push(grow(&mut chain, branch[branch.len() - 1], 2));
        }
        let choice = |head: usize| {
            let finalized = branch[head - 5];
            ForkChoice { head: branch[head], safe: finalized, finalized }
        };
        chain.adopt(choice(20)).unwrap();
        chain.flush().unwrap();
        chain.adopt(choice(30)).unwrap();
        drop(chain);
        for rebuild in [false, true] {
            let mut chain = Chain::open(ChainOptions { rebuild, ..options(place) }).unwrap();
            assert_eq!(chain.reader().head().hash(), branch[30]);
            assert_eq!(chain.reader().hash_at(13).unwrap(), Some(branch[1]));
            assert!(matches!(chain.import(old.clone()), Err(ImportError::Finalized(_))));
            chain.flush().unwrap();
        }
    }

    fn old_block(chain: &Chain, trunk: &[B256]) -> landfall_types::Block {
        chain.reader().block(trunk[13]).unwrap().unwrap().block.clone()
    }

    #[test]
    fn chain_goes_back_behind_what_was_final_wherever_the_views_stand() {
        for flushed in [5, 12, 13, 20] {
            let disk: Arc<dyn Disk> = Arc::new(TestDisk::new(1));
            let place = Place::Kept(disk, MemoryViews::default());
            let mut chain = Chain::open(options(&place)).unwrap();
            let trunk = grown(&mut chain, flushed);
            let old = old_block(&chain, &trunk);
            drop(chain);
            let (chain, done) = reorganise(options(&place), trunk[12]).unwrap();
            assert_eq!(done, Reorganised { number: 12, head: 30, finalized: 20 });
            assert!(chain.reader().flushed() <= 12);
            follows_the_rival(chain, &place, &trunk, old);
        }
    }

    #[test]
    fn crash_between_the_record_and_the_new_views_is_repaired_at_the_next_start() {
        let (disk, views) = (TestDisk::new(1), MemoryViews::default());
        let mut chain = open(&disk, &views);
        let trunk = grown(&mut chain, 20);
        let old = old_block(&chain, &trunk);
        let record = ReorgRecord { number: 12, hash: trunk[12], left: trunk[13] };
        chain.log.append(ledger::REORG, &alloy_rlp::encode(record)).unwrap();
        chain.log.sync().unwrap();
        drop(chain);
        let place = Place::Kept(Arc::new(disk), views);
        follows_the_rival(Chain::open(options(&place)).unwrap(), &place, &trunk, old);
    }

    #[test]
    fn verification_accepts_a_chain_that_went_back_twice() {
        let directory = std::env::temp_dir().join(format!("landfall-reorg-{}", std::process::id()));
        let place = Place::Directory(directory.clone());
        let mut chain = Chain::open(options(&place)).unwrap();
        let trunk = grown(&mut chain, 20);
        drop(chain);
        let (mut chain, _) = reorganise(options(&place), trunk[12]).unwrap();
        let rival = grow(&mut chain, trunk[12], 2);
        chain.adopt(ForkChoice { head: rival, safe: rival, finalized: rival }).unwrap();
        chain.flush().unwrap();
        drop(chain);
        let (mut chain, done) = reorganise(options(&place), trunk[3]).unwrap();
        assert_eq!(done, Reorganised { number: 3, head: 13, finalized: 13 });
        let third = chain.build(trunk[3], attributes(3), |_| ()).unwrap().block.hash();
        chain.adopt(ForkChoice { head: third, safe: third, finalized: third }).unwrap();
        chain.flush().unwrap();
        drop(chain);
        let found = verify(&directory, None).unwrap();
        assert_eq!((found.head, found.blocks), (4, 32), "every block is executed again");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn block_that_is_no_ancestor_of_the_head_is_refused_and_nothing_changes() {
        let (disk, views) = (TestDisk::new(1), MemoryViews::default());
        let mut chain = open(&disk, &views);
        let trunk = grown(&mut chain, 5);
        let beside = grow(&mut chain, trunk[28], 7);
        chain.sync().unwrap();
        let end = chain.end();
        drop(chain);
        let place = Place::Kept(Arc::new(disk.clone()), views.clone());
        for (to, why) in
            [(trunk[30], "the head already"), (beside, "not canonical"), (B256::ZERO, "not known")]
        {
            let refused = reorganise(options(&place), to).err().unwrap().to_string();
            assert!(refused.contains(why), "{refused}");
        }
        let chain = open(&disk, &views);
        assert_eq!((chain.reader().head().hash(), chain.end()), (trunk[30], end));
    }
}
