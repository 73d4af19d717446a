//! What one peer may make this node do at a time: recover signatures, and answer.

use crate::limits::Limits;
use landfall_types::{Block, NodeId, Span, Time};
use std::collections::BTreeMap;

/// The time over which answers are counted.
const SECOND: Span = Span(1_000);
/// What a question and each block of an answer cost beside the bytes, in bytes: they are looked for,
/// found or not.
const LOOK: usize = 4 << 10;

/// How large a block is, about.
pub(crate) fn size(block: &Block) -> usize {
    block.ethereum_rlp_length() + block.extension.len() + block.seal.len()
}

/// What a transaction takes in memory, at most, beside its own bytes.
const TRANSACTION: usize = 320;

/// How much memory a block takes, about: decoded, many small transactions take more than their bytes.
pub(crate) fn in_memory(block: &Block) -> usize {
    size(block) + TRANSACTION * block.body.transactions.len()
}

/// What one peer has of the recoveries.
struct Share {
    messages: usize,
    /// Of blocks among them.
    bytes: usize,
    /// It was no member when the first of them came.
    stranger: bool,
}

/// Messages whose signers are being recovered, by who sent them.
#[derive(Default)]
pub(crate) struct Recoveries {
    total: usize,
    of_strangers: usize,
    /// Nobody has an empty share.
    shares: BTreeMap<NodeId, Share>,
}

impl Recoveries {
    pub fn len(&self) -> usize {
        self.total
    }

    /// Takes a place for a message, with so many bytes of a block, if the peer may have one.
    pub fn begin(&mut self, from: NodeId, member: bool, bytes: usize, limits: &Limits) -> bool {
        let held = self.shares.get(&from);
        let stranger = held.map_or(!member, |share| share.stranger);
        let full = held.is_some_and(|share| {
            share.messages >= limits.recovering_of_peer
                || (share.bytes > 0 && share.bytes + bytes > limits.recovering_bytes)
        });
        let crowd = stranger && self.of_strangers >= limits.recovering_of_strangers;
        // A member always has one place, so that some of them cannot shut out the others.
        let all = self.total >= limits.recovering && (stranger || held.is_some());
        if full || crowd || all {
            return false;
        }
        let share = self.shares.entry(from).or_insert(Share { messages: 0, bytes: 0, stranger });
        (share.messages, share.bytes) = (share.messages + 1, share.bytes + bytes);
        self.total += 1;
        self.of_strangers += usize::from(stranger);
        true
    }

    /// Gives the place back.
    pub fn end(&mut self, from: NodeId, bytes: usize) {
        let share = self.shares.get_mut(&from).expect("what ends has begun");
        (share.messages, share.bytes) = (share.messages - 1, share.bytes - bytes);
        self.total -= 1;
        self.of_strangers -= usize::from(share.stranger);
        if share.messages == 0 {
            self.shares.remove(&from);
        }
    }
}

/// What peers were answered lately: since when it is counted, and the bytes.
#[derive(Default)]
pub(crate) struct Answers(BTreeMap<NodeId, (Time, usize)>);

impl Answers {
    /// Whether a question is answered.
    pub fn may_answer(&mut self, now: Time, peer: NodeId, limits: &Limits) -> bool {
        let (since, bytes) = self.0.entry(peer).or_insert((now, 0));
        // A clock that jumped back begins anew too.
        if *since > now || now.since(*since) >= SECOND {
            (*since, *bytes) = (now, 0);
        }
        let may = *bytes < limits.answer_bytes;
        *bytes += LOOK;
        may
    }

    /// A peer is answered with a block of so many bytes.
    pub fn note(&mut self, peer: NodeId, bytes: usize) {
        if let Some((_, answered)) = self.0.get_mut(&peer) {
            *answered += LOOK + bytes;
        }
    }

    /// Forgets who has not asked lately.
    pub fn forget(&mut self, now: Time) {
        self.0.retain(|_, (since, _)| *since <= now && now.since(*since) < SECOND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_without_a_place_gets_one_though_others_have_them_all() {
        let limits = Limits::default();
        let mut recoveries = Recoveries::default();
        let name = |number: usize| NodeId::from([number as u8; 20]);
        let liars = limits.recovering / limits.recovering_of_peer;
        for liar in 0..liars {
            for _ in 0..limits.recovering_of_peer {
                assert!(recoveries.begin(name(liar), true, 0, &limits));
            }
        }
        assert_eq!(recoveries.len(), limits.recovering);
        assert!(recoveries.begin(name(100), true, 0, &limits));
        assert!(!recoveries.begin(name(100), true, 0, &limits), "one is enough then");
        assert!(!recoveries.begin(name(101), false, 0, &limits), "a stranger");
        recoveries.end(name(100), 0);
        assert_eq!(recoveries.len(), limits.recovering);
    }
}
