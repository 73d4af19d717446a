//! Blocks outside the tree: those that wait, those that are invalid, and the one that is made.

use crate::limits::Limits;
use alloy_primitives::{B256, Bytes, U256};
use landfall_chain::Executed;
use landfall_consensus::{SealedHeader, Tree};
use landfall_types::{Block, NodeId, Span, Time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A block that is not in the tree yet.
pub(crate) struct Waiting {
    pub block: Block,
    pub header: SealedHeader,
    /// Who brought it.
    pub from: NodeId,
    /// Whose share it takes of: the member that sealed it, or who brought it.
    pub holder: NodeId,
    pub bytes: usize,
    pub executing: bool,
    pub since: Time,
}

impl Waiting {
    /// What it takes of the bounds: bytes, and its place counted as bytes.
    fn cost(&self, limits: &Limits) -> usize {
        self.bytes + limits.waiting_bytes / limits.waiting_blocks
    }
}

pub(crate) struct Building {
    pub id: u64,
    pub parent: B256,
    pub extension: Bytes,
    pub difficulty: Option<U256>,
    pub superseded: Arc<AtomicBool>,
}

/// Blocks outside the tree.
#[derive(Default)]
pub(crate) struct Blocks {
    pub waiting: BTreeMap<B256, Waiting>,
    /// Hashes of invalid blocks and why, the newest last.
    pub invalid: VecDeque<(B256, String)>,
    pub invalid_hashes: BTreeSet<B256>,
    pub building: Option<Building>,
    pub builds: u64,
    /// A tree with the headers of branches that contradict what is final.
    pub rivals: Option<Tree>,
    /// In the tree and not in the log: only with a bug that was planted.
    pub held: Vec<Executed>,
}

impl Blocks {
    pub fn len(&self) -> usize {
        self.waiting.len() + self.invalid.len() + self.rivals.as_ref().map_or(0, Tree::len)
    }

    pub fn is_waiting(&self, hash: &B256) -> bool {
        self.waiting.contains_key(hash)
    }

    /// Why a block is invalid here, if it is.
    pub fn why_invalid(&self, hash: &B256) -> Option<&str> {
        let found = || self.invalid.iter().find(|(known, _)| known == hash);
        self.invalid_hashes.contains(hash).then(found)?.map(|(_, why)| why.as_str())
    }

    /// Whether a block stands on another one, through blocks that wait, or is it.
    pub fn leads_to(&self, hash: B256, below: B256) -> bool {
        let mut at = hash;
        while at != below {
            let Some(waiting) = self.waiting.get(&at) else { return false };
            at = waiting.block.parent();
        }
        true
    }

    /// Forgets what has waited too long, or came at a time that the clock has left.
    pub fn expire(&mut self, now: Time, after: Span) {
        self.waiting
            .retain(|_, it| it.executing || (it.since <= now && now.since(it.since) < after));
    }

    /// Makes room for a block of a peer: blocks give way of who has the most. If
    /// that is this one, or if it has its share, its own give way that are higher.
    pub fn make_room(
        &mut self,
        holder: NodeId,
        number: u64,
        bytes: usize,
        limits: &Limits,
    ) -> bool {
        let share = |it: &Self| it.waiting.values().filter(|it| it.holder == holder).count();
        while share(self) >= limits.waiting_of_peer {
            if !self.give_way(holder, Some(number)) {
                return false;
            }
        }
        loop {
            let held: usize = self.waiting.values().map(|it| it.bytes).sum();
            if self.waiting.len() < limits.waiting_blocks && held + bytes <= limits.waiting_bytes {
                return true;
            }
            let mut shares: BTreeMap<NodeId, usize> = BTreeMap::new();
            for it in self.waiting.values() {
                *shares.entry(it.holder).or_default() += it.cost(limits);
            }
            let own = shares.get(&holder).copied().unwrap_or_default();
            let Some((greediest, most)) = shares.iter().max_by_key(|(_, share)| **share) else {
                return false;
            };
            let (peer, above) =
                if *most > own { (*greediest, None) } else { (holder, Some(number)) };
            if !self.give_way(peer, above) {
                return false;
            }
        }
    }

    /// Lets go of the highest idle block of a peer, if it is above a height: what is lower is needed
    /// before it.
    fn give_way(&mut self, peer: NodeId, above: Option<u64>) -> bool {
        let idle = self.waiting.iter().filter(|(_, it)| it.holder == peer && !it.executing);
        let highest = idle.map(|(hash, it)| (it.block.number(), *hash)).max();
        match highest.filter(|(number, _)| above.is_none_or(|above| *number > above)) {
            Some((_, hash)) => self.waiting.remove(&hash).is_some(),
            None => false,
        }
    }

    /// The missing block below a waiting one.
    pub fn root_of(&self, hash: &B256) -> B256 {
        let mut at = *hash;
        while let Some(waiting) = self.waiting.get(&at) {
            at = waiting.block.parent();
        }
        at
    }
}
