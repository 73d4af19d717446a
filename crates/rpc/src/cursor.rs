//! A place on the chain from which a filter or a subscription goes on: which blocks were left
//! and which were entered since, across reorganisations.

use crate::errors::{Outcome, unreadable};
use alloy_primitives::B256;
use landfall_chain::{ChainReader, StoredBlock};
use std::sync::Arc;

/// Blocks of one branch that are told as removed.
const MOST_REMOVED: usize = 1_024;

/// The newest block that was told.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    number: u64,
    hash: B256,
}

/// What happened between two looks.
#[derive(Debug, Default)]
pub struct Steps {
    /// Blocks that are no longer canonical, highest first.
    pub removed: Vec<Arc<StoredBlock>>,
    /// Blocks that became canonical, lowest first.
    pub added: Vec<Arc<StoredBlock>>,
}

impl Cursor {
    /// At the head as it is now.
    pub fn at_head(chain: &ChainReader) -> Self {
        Self::after(&chain.head().block)
    }

    fn after(block: &StoredBlock) -> Self {
        Self { number: block.block.number(), hash: block.block.hash() }
    }

    /// Moves to the head, entering at most `limit` blocks at a time. A branch that was left and
    /// thrown away cannot be told any more; its blocks are missing from `removed` then, and so are
    /// those beyond [`MOST_REMOVED`].
    pub fn advance(&mut self, chain: &ChainReader, limit: usize) -> Outcome<Steps> {
        let mut steps = Steps::default();
        let head = chain.head();
        if head.block.block.hash() == self.hash {
            return Ok(steps);
        }
        while chain.hash_at(self.number).map_err(unreadable)? != Some(self.hash) {
            match chain.block(self.hash).map_err(unreadable)? {
                Some(left) if self.number > 0 => {
                    *self = Self { number: self.number - 1, hash: left.block.parent() };
                    if steps.removed.len() < MOST_REMOVED {
                        steps.removed.push(left);
                    }
                }
                _ => {
                    let number = self.number.saturating_sub(1).min(head.block.block.number());
                    let Some(hash) = chain.hash_at(number).map_err(unreadable)? else { break };
                    *self = Self { number, hash };
                }
            }
        }
        while steps.added.len() < limit {
            let Some(next) = chain.block_at(self.number + 1).map_err(unreadable)? else { break };
            if next.block.parent() != self.hash {
                break;
            }
            *self = Self::after(&next);
            steps.added.push(next);
        }
        Ok(steps)
    }
}
