//! The index of executed, valid blocks that engines read and the replica keeps.

use alloy_primitives::{B256, Bytes, U256};
use landfall_types::{Block, BlockError, Extension, Height, NodeId, Time};
use std::collections::{BTreeMap, BTreeSet};

/// What engines see of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeBlock {
    /// Its hash.
    pub hash: B256,
    /// Its parent's.
    pub parent: B256,
    /// Its number.
    pub height: Height,
    /// When it was made, by its maker's clock.
    pub time: Time,
    /// The epoch it belongs to.
    pub epoch: u64,
    /// Who made it, as it says.
    pub proposer: NodeId,
    /// As in the header: the work it stands for; zero without proof of work.
    pub difficulty: U256,
    /// The protocol's own data.
    pub data: Bytes,
}

impl TreeBlock {
    /// What engines see of a block. One under Ethereum's rules has no extension: a development
    /// chain may be such a chain.
    pub fn new(block: &Block) -> Result<Self, BlockError> {
        let header = block.header.inner();
        let extension = if block.extension.is_empty() {
            let milliseconds = header.timestamp.saturating_mul(1_000);
            Extension { milliseconds, proposer: header.beneficiary, ..Extension::default() }
        } else {
            Extension::from_bytes(&block.extension)?
        };
        Ok(Self {
            hash: block.hash(),
            parent: block.parent(),
            height: Height(block.number()),
            time: Time(extension.milliseconds),
            epoch: extension.epoch,
            proposer: extension.proposer,
            difficulty: header.difficulty,
            data: extension.data,
        })
    }
}

/// Executed blocks: all above the finalised one, and some of the finalised branch below it.
#[derive(Clone, Debug)]
pub struct Tree {
    blocks: BTreeMap<B256, TreeBlock>,
    by_height: BTreeSet<(Height, B256)>,
}

impl Tree {
    /// A tree of one block, which needs no parent.
    pub fn new(root: TreeBlock) -> Self {
        let by_height = BTreeSet::from([(root.height, root.hash)]);
        Self { blocks: BTreeMap::from([(root.hash, root)]), by_height }
    }

    /// Adds a block whose parent is here.
    pub fn insert(&mut self, block: TreeBlock) {
        let parent = self.block(&block.parent);
        assert_eq!(parent.height.next(), block.height, "a block stands one above its parent");
        self.by_height.insert((block.height, block.hash));
        self.blocks.insert(block.hash, block);
    }

    /// Whether a block is here.
    pub fn has(&self, hash: &B256) -> bool {
        self.blocks.contains_key(hash)
    }

    /// A block, if it is here.
    pub fn get(&self, hash: &B256) -> Option<&TreeBlock> {
        self.blocks.get(hash)
    }

    /// A block that is known to be here.
    pub fn block(&self, hash: &B256) -> &TreeBlock {
        self.get(hash).unwrap_or_else(|| panic!("block {hash} is not in the tree"))
    }

    /// The height of a block that is known to be here.
    pub fn height(&self, hash: &B256) -> Height {
        self.block(hash).height
    }

    /// The ancestor of a block (or itself) at a height; `None` if that is above it or below the
    /// tree.
    pub fn ancestor(&self, hash: B256, height: Height) -> Option<B256> {
        let mut at = self.get(&hash)?;
        while at.height > height {
            at = self.get(&at.parent)?;
        }
        (at.height == height).then_some(at.hash)
    }

    /// Whether `ancestor` is `hash` or below it.
    pub fn descends(&self, hash: B256, ancestor: B256) -> bool {
        self.get(&ancestor).is_some_and(|block| self.ancestor(hash, block.height) == Some(ancestor))
    }

    /// The blocks above a height, parents first.
    pub fn above(&self, height: Height) -> impl Iterator<Item = &TreeBlock> {
        self.by_height.range((height.next(), B256::ZERO)..).map(|(_, hash)| &self.blocks[hash])
    }

    /// Drops what is beside `finalized`, and of its branch what is more than `keep` below it.
    pub fn prune(&mut self, finalized: B256, keep: u64) {
        let top = self.height(&finalized);
        let floor = Height(top.0.saturating_sub(keep));
        let mut at = self.block(&finalized);
        // From the finalised block down.
        let mut branch = vec![finalized];
        while at.height > floor
            && let Some(parent) = self.get(&at.parent)
        {
            branch.push(parent.hash);
            at = parent;
        }
        // Parents come first, so one pass finds everything that stands on the finalised block.
        let mut above = BTreeSet::from([finalized]);
        for block in self.above(top) {
            if above.contains(&block.parent) {
                above.insert(block.hash);
            }
        }
        let blocks = &mut self.blocks;
        self.by_height.retain(|(height, hash)| {
            let kept = match top.0.checked_sub(height.0) {
                Some(below) => {
                    usize::try_from(below).is_ok_and(|below| branch.get(below) == Some(hash))
                }
                None => above.contains(hash),
            };
            if !kept {
                blocks.remove(hash);
            }
            kept
        });
    }

    /// The number of blocks.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Never: a tree has a root.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(name: u8, parent: u8, height: u64) -> TreeBlock {
        TreeBlock {
            hash: B256::repeat_byte(name),
            parent: B256::repeat_byte(parent),
            height: Height(height),
            time: Time(height),
            epoch: 0,
            proposer: NodeId::ZERO,
            difficulty: U256::ZERO,
            data: Bytes::new(),
        }
    }

    fn name(n: u8) -> B256 {
        B256::repeat_byte(n)
    }

    #[test]
    fn pruning_keeps_the_finalised_branch_and_what_stands_on_it() {
        // 0 - 1 - 2 - 3, and 0 - 11 - 12, and 2 - 23
        let mut tree = Tree::new(block(0, 99, 0));
        for (n, parent, height) in
            [(1, 0, 1), (2, 1, 2), (3, 2, 3), (11, 0, 1), (12, 11, 2), (23, 2, 3)]
        {
            tree.insert(block(n, parent, height));
        }
        assert!(tree.descends(name(3), name(1)) && !tree.descends(name(12), name(1)));
        assert_eq!(tree.ancestor(name(12), Height(1)), Some(name(11)));
        assert_eq!(tree.above(Height(1)).count(), 4);
        tree.prune(name(2), 1);
        let left: Vec<_> = tree.above(Height(0)).map(|block| block.hash).collect();
        assert_eq!(left, [name(1), name(2), name(3), name(23)]);
        assert!(!tree.has(&name(0)));
        assert_eq!(tree.ancestor(name(3), Height(0)), None);
    }
}
