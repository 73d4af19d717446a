//! What this node knows of consensus, kept ready for whoever asks: the driver writes it down as it
//! goes, and nobody who reads it holds the driver up.

use crate::ops::metrics;
use landfall_chain::Adopted;
use landfall_consensus::Evidence;
use landfall_replica::{Halt, Mempool, Replica, Wire};
use landfall_rpc::{ConsensusView, LastVote, MemberSeen, RoundTrace, TracedVote, credible_height};
use landfall_types::{Epoch, Height, NodeId, SignedVote, Span, Time};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Rounds that are remembered.
const ROUNDS: usize = 256;
/// Votes of one round that are remembered: four of each member of a large committee.
const VOTES: usize = 1_024;
/// Peers that are remembered.
const KNOWN: usize = 4_096;
/// A view is made anew when something moved, and after this in any case.
const FRESH: Span = Span(250);
/// Views follow each other by this at least.
const PAUSE: Span = Span(20);

/// See the module.
pub struct Observer {
    view: RwLock<Arc<ConsensusView>>,
    epochs: RwLock<Vec<Epoch>>,
    seen: Mutex<Seen>,
    /// Why this node does not vote, if it does not.
    silent: Option<String>,
}

#[derive(Default)]
struct Seen {
    members: BTreeMap<NodeId, MemberSeen>,
    /// The height that each peer said is final with it; it may go down.
    claimed: BTreeMap<NodeId, Height>,
    /// The newest last.
    rounds: VecDeque<RoundTrace>,
    /// The height that is being decided here.
    open: Height,
    /// The highest at which a vote was heard; a liar moves it one above the open height at most.
    voted: Height,
    now: Time,
}

impl Observer {
    /// Of a replica that has just been opened. `names` are those of the genesis; `votes` says why
    /// this node does not vote, if it does not.
    pub fn new(
        replica: &Replica,
        me: NodeId,
        names: BTreeMap<NodeId, String>,
        votes: Result<(), String>,
        now: Time,
    ) -> Self {
        let height = open_height(replica);
        let (progress, silent) = (replica.progress(), votes.err());
        let view = ConsensusView {
            taken: now,
            epoch: Arc::new(replica.epoch().clone()),
            names: Arc::new(names),
            me,
            height,
            height_since: now,
            round: progress.round,
            round_since: now,
            leader: progress.leader,
            waiting_since: None,
            members: BTreeMap::new(),
            claimed: None,
            describe: replica.describe(),
            halted: None,
            silent: silent.clone(),
        };
        Self {
            view: RwLock::new(Arc::new(view)),
            epochs: RwLock::new(replica.epochs().to_vec()),
            seen: Mutex::new(Seen { now, open: height, ..Seen::default() }),
            silent,
        }
    }

    /// The newest view.
    pub fn view(&self) -> Arc<ConsensusView> {
        self.view.read().clone()
    }

    /// Why this node does not vote, if it does not.
    pub fn silent(&self) -> Option<&str> {
        self.silent.as_deref()
    }

    /// The epoch of a height, if it has begun.
    pub fn epoch_at(&self, height: Height) -> Option<Epoch> {
        self.epochs.read().iter().find(|epoch| epoch.contains(height)).cloned()
    }

    /// The height that a peer last said is final with it.
    pub fn claimed_by(&self, peer: &NodeId) -> Option<Height> {
        self.seen.lock().claimed.get(peer).copied()
    }

    /// The newest rounds, newest first.
    pub fn trace(&self, limit: usize) -> Vec<RoundTrace> {
        self.seen.lock().rounds.iter().rev().take(limit).cloned().collect()
    }

    /// A peer is gone: what it said of its height no longer counts.
    pub fn gone(&self, peer: &NodeId) {
        let is_member = self.view.read().epoch.has_member(peer);
        let mut seen = self.seen.lock();
        seen.claimed.remove(peer);
        if !is_member {
            seen.members.remove(peer);
        }
    }

    /// After the driver took something in.
    pub(super) fn look(&self, replica: &Replica, mempool: &Mempool, now: Time) {
        let before = self.view();
        let (height, progress) = (open_height(replica), replica.progress());
        self.seen.lock().open = height;
        let moved = (before.height, before.round, before.leader, before.epoch.number)
            != (height, progress.round, progress.leader, replica.epoch().number);
        // A clock that jumped back makes a view at once.
        let pause = if moved { PAUSE } else { FRESH };
        if before.taken <= now && now.since(before.taken) < pause {
            return;
        }
        let same_height = before.height == height;
        let same_round = same_height && before.round == progress.round;
        let same_epoch = before.epoch.number == replica.epoch().number;
        if !same_epoch {
            *self.epochs.write() = replica.epochs().to_vec();
        }
        let waits = mempool.something_waits();
        let mut seen = self.seen.lock();
        seen.now = now;
        let view = ConsensusView {
            taken: now,
            epoch: if same_epoch {
                before.epoch.clone()
            } else {
                Arc::new(replica.epoch().clone())
            },
            height,
            height_since: if same_height { before.height_since } else { now },
            round: progress.round,
            round_since: if same_round { before.round_since } else { now },
            leader: progress.leader,
            waiting_since: waits.then(|| before.waiting_since.unwrap_or(now)),
            members: seen.members.clone(),
            claimed: credible_height(&replica.epoch().committee, &seen.claimed),
            describe: replica.describe(),
            ..(*before).clone()
        };
        drop(seen);
        metrics().moved(&before, &view);
        *self.view.write() = Arc::new(view);
    }

    /// A peer said something, authenticated by its connection.
    pub(super) fn heard(&self, from: NodeId, wire: &Wire, now: Time) {
        let is_member = self.view.read().epoch.has_member(&from);
        let mut seen = self.seen.lock();
        // Others may be members of the next epoch; they are forgotten when they leave.
        if is_member || seen.members.len() < KNOWN || seen.members.contains_key(&from) {
            seen.members.entry(from).or_default().heard = Some(now);
        }
        match wire {
            Wire::Status { finalized, .. }
                if seen.claimed.len() < KNOWN || seen.claimed.contains_key(&from) =>
            {
                seen.claimed.insert(from, *finalized);
            }
            // Its signature has not been looked at, but it speaks for the peer alone.
            Wire::Engine { vote: Some(vote), .. } if is_member && vote.signer == from => {
                metrics().voted(vote, false);
                seen.count(from, vote.vote.position.height);
                seen.vote(vote, now);
            }
            _ => {}
        }
    }

    /// This node says something.
    pub(super) fn said(&self, wire: &Wire, now: Time) {
        if let Wire::Engine { vote: Some(vote), .. } = wire {
            metrics().voted(vote, true);
            self.seen.lock().vote(vote, now);
        }
    }

    /// A fork choice is shown.
    pub(super) fn shown(&self, adopted: &Adopted, now: Time) {
        let mut seen = self.seen.lock();
        for stored in &adopted.added {
            metrics().decided(Height(stored.block.number()));
            let height = Height(stored.block.number());
            let round = seen.rounds.iter_mut().rev().find(|round| round.height == height);
            if let Some(round) = round {
                round.decided = Some((stored.block.hash(), now));
            }
        }
    }

    /// A member lied: said aloud even where nobody logs.
    pub(super) fn evidence(&self, evidence: &Evidence) {
        let (member, epoch) = evidence.accused();
        metrics().consensus.evidence.increment();
        tracing::error!(%member, epoch, ?evidence, "a member has lied; here is the proof");
    }

    /// The replica cannot go on.
    pub(super) fn halted(&self, halt: &Halt) {
        let mut view = self.view.write();
        *view = Arc::new(ConsensusView { halted: Some(halt.to_string()), ..(**view).clone() });
    }
}

impl Seen {
    /// Counts the heights at which the others vote and a member does not.
    fn count(&mut self, signer: NodeId, height: Height) {
        if height > self.voted && height <= self.open.next() {
            self.voted = height;
            self.members.values_mut().for_each(|member| member.missed += 1);
        }
        if let Some(member) = self.members.get_mut(&signer) {
            member.missed = member.missed.min(self.voted.0.saturating_sub(height.0));
        }
    }

    fn vote(&mut self, signed: &SignedVote, now: Time) {
        let place = signed.vote.position;
        let traced =
            TracedVote { signer: signed.signer, step: place.step, hash: signed.vote.hash, at: now };
        let last = LastVote { height: place.height, round: place.round, step: place.step, at: now };
        if let Some(member) = self.members.get_mut(&signed.signer) {
            member.vote = Some(last);
        }
        let known = self.rounds.iter_mut().rev();
        let mut known = known.take(16);
        let round = known.find(|it| (it.height, it.round) == (place.height, place.round));
        if let Some(round) = round {
            let same = |it: &TracedVote| (it.signer, it.step) == (signed.signer, place.step);
            if round.votes.len() < VOTES && !round.votes.iter().any(same) {
                round.votes.push(traced);
            }
            return;
        }
        if self.rounds.len() == ROUNDS {
            self.rounds.pop_front();
        }
        self.rounds.push_back(RoundTrace {
            height: place.height,
            round: place.round,
            opened: now,
            votes: vec![traced],
            decided: None,
        });
    }
}

/// The height that is being decided; in a lottery, the one above the head.
fn open_height(replica: &Replica) -> Height {
    let choice = replica.choice();
    let agreement = replica.epoch().kind().is_agreement();
    let on = if agreement { choice.finalized } else { choice.head };
    replica.tree().height(&on).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::repeat_byte(n)
    }

    fn missed(seen: &Seen) -> Vec<u64> {
        seen.members.values().map(|member| member.missed).collect()
    }

    #[test]
    fn heights_count_at_which_others_vote_and_no_others() {
        let members = (1..=3).map(|n| (id(n), MemberSeen::default())).collect();
        let mut seen = Seen { open: Height(5), members, ..Seen::default() };
        for height in 5..8 {
            seen.open = Height(height);
            seen.count(id(1), Height(height));
            seen.count(id(2), Height(height));
        }
        assert_eq!(missed(&seen), [0, 0, 3]);
        // This node was away and caught up by proofs: a jump is one height.
        seen.open = Height(900);
        seen.count(id(1), Height(900));
        assert_eq!(missed(&seen), [0, 1, 4]);
        // Votes of long ago are no votes, those of the height before are nearly as good as new.
        seen.count(id(3), Height(5));
        seen.count(id(2), Height(899));
        assert_eq!(missed(&seen), [0, 1, 4]);
        // A liar runs ahead alone.
        (901..2_000).for_each(|height| seen.count(id(1), Height(height)));
        assert_eq!(missed(&seen), [0, 2, 5]);
        seen.count(id(3), Height(901));
        assert_eq!(missed(&seen), [0, 2, 0]);
    }
}
