//! What one peer may make this node do at a time: recover signatures, and answer.

use crate::limits::Limits;
use landfall_types::{Block, NodeId, Span, Time};
use std::collections::BTreeMap;

/// The time over which answers are counted.
const SECOND: Span = Span(1_000);
/// What looking for a block costs, whether or not it is found, in bytes of answers.
const LOOK: usize = 1 << 10;

/// How large a block is, about.
pub(crate) fn size(block: &Block) -> usize {
    block.ethereum_rlp_length() + block.extension.len() + block.seal.len()
}

/// Messages whose signers are being recovered, by who sent them.
#[derive(Default)]
pub(crate) struct Recoveries {
    total: usize,
    /// How many, and the bytes of blocks among them. Nobody has none.
    by_peer: BTreeMap<NodeId, (usize, usize)>,
}

impl Recoveries {
    pub fn len(&self) -> usize {
        self.total
    }

    /// Takes a place for a message, with so many bytes of a block, if the peer may have one.
    pub fn begin(&mut self, from: NodeId, bytes: usize, limits: &Limits) -> bool {
        let (count, held) = self.by_peer.get(&from).copied().unwrap_or_default();
        let fits = held == 0 || held + bytes <= limits.recovering_bytes;
        if self.total >= limits.recovering || count >= limits.recovering_of_peer || !fits {
            return false;
        }
        self.total += 1;
        self.by_peer.insert(from, (count + 1, held + bytes));
        true
    }

    /// Gives the place back.
    pub fn end(&mut self, from: NodeId, bytes: usize) {
        let held = self.by_peer.get_mut(&from).expect("what ends has begun");
        *held = (held.0 - 1, held.1 - bytes);
        if held.0 == 0 {
            self.by_peer.remove(&from);
        }
        self.total -= 1;
    }
}

/// What a peer was answered lately.
struct Answered {
    since: Time,
    bytes: usize,
    range: Option<Time>,
}

/// What peers were answered lately.
#[derive(Default)]
pub(crate) struct Answers(BTreeMap<NodeId, Answered>);

impl Answers {
    /// Whether a question for a block is answered.
    pub fn may_answer(&mut self, now: Time, peer: NodeId, limits: &Limits) -> bool {
        let it = self.0.entry(peer).or_insert(Answered { since: now, bytes: 0, range: None });
        // A clock that jumped back begins anew too.
        if it.since > now || now.since(it.since) >= SECOND {
            (it.since, it.bytes) = (now, 0);
        }
        let may = it.bytes < limits.answer_bytes;
        it.bytes += LOOK;
        may
    }

    /// Whether a question for a range is answered.
    pub fn may_answer_range(&mut self, now: Time, peer: NodeId, limits: &Limits) -> bool {
        if !self.may_answer(now, peer, limits) {
            return false;
        }
        let last = &mut self.0.get_mut(&peer).expect("entered above").range;
        let soon = |at: Time| at <= now && now.since(at) < limits.range_pause;
        if last.is_some_and(soon) {
            return false;
        }
        *last = Some(now);
        true
    }

    /// A peer is answered with so many bytes.
    pub fn note(&mut self, peer: NodeId, bytes: usize) {
        if let Some(it) = self.0.get_mut(&peer) {
            it.bytes += bytes;
        }
    }

    /// Forgets who has not asked lately.
    pub fn forget(&mut self, now: Time) {
        self.0.retain(|_, it| it.since <= now && now.since(it.since) < SECOND);
    }
}
