//! Sync: what peers say, what is asked of them, what they are told.
//!
//! Votes are repeated by engines; blocks, fetches and proofs are repeated here. A peer's claims are
//! hints: what it says of its height only leads to a question.

use crate::allowance::{Answers, Recoveries, size};
use crate::halt::Halt;
use crate::job::{Effect, Job, Recover, RecoveredDone, Unproven};
use crate::replica::Replica;
use crate::wire::{To, Wire};
use alloy_primitives::{B256, Bytes};
use alloy_rlp::Decodable;
use landfall_chain::StoredBlock;
use landfall_consensus::{Body, Evidence, FinalityProof, Input, SealedHeader, planted, protocol};
use landfall_types::{Height, NodeId, SignedVote, Span, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Proofs whose blocks are on their way.
const PENDING_PROOFS: usize = 64;
/// For so many times the pause between two ranges a peer that gave nothing is not asked.
const SILENT: u64 = 10;
/// Accusations that were passed on.
const KNOWN_EVIDENCE: usize = 1_024;

#[derive(Clone, Copy)]
struct Asked {
    peer: NodeId,
    claimed: Height,
    after: Height,
}

/// Blocks, and their bytes.
type Blocks = (Vec<Arc<StoredBlock>>, usize);

struct Wanted {
    /// When to ask again.
    retry: Time,
    /// When to forget it.
    expiry: Time,
    asked: u32,
    /// Of whose share it is; of nobody's if our engine or a proof needs it.
    holder: Option<NodeId>,
}

/// What is asked for and what waits for an answer.
pub(crate) struct Sync {
    due: Time,
    wanted: BTreeMap<B256, Wanted>,
    /// Verified proofs whose block is not in the tree.
    proofs: BTreeMap<B256, FinalityProof>,
    recoveries: Recoveries,
    answers: Answers,
    /// Not to ask for another range before.
    range_after: Time,
    /// The peer that was asked for a range, how far it said that it is, and from where it was asked.
    asked: Option<Asked>,
    /// Peers from which nothing came, and until when they are not asked: others have a word too.
    silent: BTreeMap<NodeId, Time>,
    accused: BTreeSet<(NodeId, u64, Height)>,
    randao: Option<B256>,
}

impl Sync {
    pub fn new(now: Time) -> Self {
        Self {
            due: now,
            wanted: BTreeMap::new(),
            proofs: BTreeMap::new(),
            recoveries: Recoveries::default(),
            answers: Answers::default(),
            range_after: now,
            asked: None,
            silent: BTreeMap::new(),
            accused: BTreeSet::new(),
            randao: None,
        }
    }

    pub fn due(&self) -> Time {
        self.due
    }

    pub fn len(&self) -> usize {
        self.wanted.len() + self.proofs.len() + self.recoveries.len() + self.accused.len()
    }

    /// The blocks that our engine or a proof needs.
    pub fn needed(&self) -> impl Iterator<Item = &B256> {
        self.wanted.iter().filter(|(_, wanted)| wanted.holder.is_none()).map(|(hash, _)| hash)
    }

    /// A block is here, or is not worth having.
    pub fn arrived(&mut self, hash: &B256) {
        self.wanted.remove(hash);
    }

    /// The blocks whose verified proofs wait for them.
    pub fn proven(&self) -> impl Iterator<Item = &B256> {
        self.proofs.keys()
    }

    pub fn take_proof(&mut self, hash: &B256) -> Option<FinalityProof> {
        self.proofs.remove(hash)
    }

    /// PREVRANDAO of the next block, on a development chain where somebody chose it.
    pub fn take_randao(&mut self) -> Option<B256> {
        self.randao.take()
    }

    /// Chooses PREVRANDAO of the next block.
    pub fn set_randao(&mut self, value: B256) {
        self.randao = Some(value);
    }

    /// Whether nobody was accused of this yet.
    pub fn is_new_evidence(&mut self, evidence: &Evidence) -> bool {
        if self.accused.len() >= KNOWN_EVIDENCE {
            self.accused.pop_first();
        }
        let (who, epoch) = evidence.accused();
        self.accused.insert((who, epoch, evidence.height()))
    }
}

impl Replica {
    pub(crate) fn receive(&mut self, now: Time, from: NodeId, wire: Wire) -> Result<(), Halt> {
        match wire {
            Wire::Engine { epoch, vote, body } => self.hear(now, from, epoch, vote, body),
            Wire::Block(block) => {
                self.receive_block(from, block);
                Ok(())
            }
            Wire::Get(hash) => self.answer_get(now, from, hash),
            Wire::Status { finalized, head } => {
                if finalized > self.height(&self.shown.finalized) {
                    self.ask_range(now, from, finalized);
                }
                let lottery = !self.epoch().kind().is_agreement();
                // A head that waits is wanted too: what is missing below it is asked for then.
                if lottery && !self.tree.has(&head) {
                    self.want(now, head, Some(from), Some(from));
                }
                Ok(())
            }
            Wire::Range { after } => self.answer_range(now, from, after),
            Wire::Proof(proof) => {
                self.receive_proof(now, from, proof);
                Ok(())
            }
        }
    }

    /// What can be said of a proof is said before a signature is looked at: each costs as much as ten
    /// transactions.
    fn receive_proof(&mut self, now: Time, from: NodeId, proof: FinalityProof) {
        let height = self.height(&self.shown.finalized);
        let ours = self.reader.hash_at(proof.height().0).ok().flatten();
        if proof.height() <= height && ours == Some(proof.hash()) {
            return;
        }
        let signatures = proof.certificate.signatures.len();
        if signatures > self.config.schedule.largest_committee() {
            self.penalise(from, "a proof with more signatures than a committee has members");
            return;
        }
        let epoch = usize::try_from(proof.epoch()).ok().and_then(|n| self.epochs.get(n));
        let Some(epoch) = epoch else {
            self.ask_range(now, from, self.known_height().next());
            return;
        };
        if protocol(epoch.kind()).verify_proof(epoch, &proof).is_err() {
            self.penalise(from, "a finality proof that proves nothing");
            return;
        }
        let votes = proof.certificate.votes().collect();
        self.recover(from, votes, Unproven::Proof(proof));
    }

    /// A message of an engine. Only members speak, and in an agreement only members listen: the
    /// others follow by blocks and proofs.
    fn hear(
        &mut self,
        now: Time,
        from: NodeId,
        epoch: u64,
        vote: Option<SignedVote>,
        body: Body,
    ) -> Result<(), Halt> {
        let running = self.epoch();
        if epoch < running.number {
            let status = self.status();
            self.effects.push(Effect::Send { to: To::One(from), wire: status });
            return Ok(());
        }
        if epoch > running.number {
            self.ask_range(now, from, self.known_height().next());
            return Ok(());
        }
        let agreement = running.kind().is_agreement();
        let listens =
            running.has_member(&from) && (running.has_member(&self.config.me) || !agreement);
        if !listens && !planted!(NoFilterOfMembers) {
            return Ok(());
        }
        if vote.is_some_and(|vote| vote.signer != from) {
            self.penalise(from, "a vote of somebody else");
            return Ok(());
        }
        let mut votes = body.votes();
        votes.extend(vote);
        // A justification has the round changes and the prepares of a committee, what Raft carries
        // is a proof; and the vote.
        let carried = if matches!(body, Body::Pbft(_)) { 2 } else { 1 };
        if votes.len() > carried * self.config.schedule.largest_committee() + 1 {
            self.penalise(from, "a message that carries more votes than any member needs");
            return Ok(());
        }
        if votes.is_empty() {
            return self.feed(now, Input::Message { from, vote, body });
        }
        self.recover(from, votes, Unproven::Message { epoch, vote, body });
        Ok(())
    }

    pub(crate) fn recover(&mut self, from: NodeId, votes: Vec<SignedVote>, what: Unproven) {
        let bytes = match &what {
            Unproven::Block(block, _) => size(block),
            Unproven::Message { .. } | Unproven::Proof(_) => 0,
        };
        let member = self.epoch().has_member(&from);
        if self.sync.recoveries.begin(from, member, bytes, &self.config.limits) {
            // Each signature once: a block carries commits that came as messages before.
            let votes = votes.into_iter().filter(|vote| !self.archive.has(vote)).collect();
            let chain = self.reader.genesis_hash();
            self.job(Job::Recover(Box::new(Recover { from, votes, chain, what, bytes })));
        }
    }

    /// The signers are known: votes are compared with those seen, and what they came with goes on.
    pub(crate) fn recovered(&mut self, now: Time, done: RecoveredDone) -> Result<(), Halt> {
        self.sync.recoveries.end(done.from, done.bytes);
        for vote in done.votes.iter().filter(|_| done.genuine) {
            if !self.is_of_use(vote) {
                continue;
            }
            if let Some(evidence) = self.archive.note(vote) {
                self.report(evidence);
            }
        }
        match done.what {
            Unproven::Block(..) if !done.whole => {
                self.penalise(done.from, "a block with another body than its header commits to");
                Ok(())
            }
            Unproven::Block(block, header) => {
                let header = SealedHeader { sealer: done.sealer, ..header };
                self.recovered_block(now, done.from, block, header, done.genuine)
            }
            _ if !done.genuine => {
                self.penalise(done.from, "a signature that is not of the node it names");
                Ok(())
            }
            Unproven::Message { epoch, vote, body } if epoch == self.epoch().number => {
                self.feed(now, Input::Message { from: done.from, vote, body })
            }
            Unproven::Message { .. } => Ok(()),
            Unproven::Proof(proof) => self.proven(now, done.from, proof),
        }
    }

    /// Whether a vote is worth keeping as evidence: by a member, of a height that is at hand. Others
    /// could be made without end.
    fn is_of_use(&self, signed: &SignedVote) -> bool {
        let place = signed.vote.position;
        let epoch = usize::try_from(place.epoch).ok().and_then(|number| self.epochs.get(number));
        let (finalized, window) =
            (self.height(&self.shown.finalized).0, self.config.limits.evidence_window);
        // Elections have no height.
        let at_hand = place.height.0 == 0
            || (place.height.0 >= finalized.saturating_sub(window).max(1)
                && place.height.0 <= finalized.saturating_add(window));
        at_hand && epoch.is_some_and(|epoch| epoch.has_member(&signed.signer))
    }

    /// A proof that its signers have signed.
    fn proven(&mut self, now: Time, from: NodeId, proof: FinalityProof) -> Result<(), Halt> {
        let hash = proof.hash();
        if let Some(why) = self.blocks.why_invalid(&hash) {
            let (height, why) = (proof.height(), why.to_owned());
            return Err(Halt::Divergence { height, hash, why });
        }
        let height = self.height(&self.shown.finalized);
        if proof.height() <= height {
            return self.compare_proof(&proof);
        }
        if self.tree.has(&hash) {
            return if planted!(ProofOnlyWithBlock) { Ok(()) } else { self.take_proof(now, proof) };
        }
        self.want(now, hash, Some(from), None);
        self.sync.proofs.insert(hash, proof);
        if self.sync.proofs.len() > PENDING_PROOFS {
            // The highest one leads to all the others.
            let lowest = self.sync.proofs.iter().min_by_key(|(_, proof)| proof.height());
            let lowest = *lowest.expect("it has entries").0;
            self.sync.proofs.remove(&lowest);
        }
        Ok(())
    }

    /// A proof for a height that is final here must be for the same block.
    fn compare_proof(&self, proof: &FinalityProof) -> Result<(), Halt> {
        let height = proof.height();
        let ours = self.reader.hash_at(height.0).map_err(|e| Halt::Store(e.to_string()))?;
        match ours {
            Some(ours) if ours != proof.hash() => {
                Err(Halt::ConflictingProofs { height, ours, theirs: proof.hash() })
            }
            _ => Ok(()),
        }
    }

    /// A verified proof whose block is in the tree.
    pub(crate) fn take_proof(&mut self, now: Time, proof: FinalityProof) -> Result<(), Halt> {
        let finalized = self.outbox.logged.finalized;
        if !self.tree.descends(proof.hash(), finalized) {
            if self.tree.descends(finalized, proof.hash()) {
                return Ok(());
            }
            let height = proof.height().min(self.height(&finalized));
            let at = |hash| self.tree.ancestor(hash, height).unwrap_or(hash);
            let (ours, theirs) = (at(finalized), at(proof.hash()));
            return Err(Halt::ConflictingProofs { height, ours, theirs });
        }
        if proof.epoch() == self.epoch().number {
            self.feed(now, Input::Proof(proof))?;
        }
        Ok(())
    }

    fn status(&self) -> Wire {
        Wire::Status { finalized: self.height(&self.shown.finalized), head: self.shown.head }
    }

    /// Up to where this node has its branch. In a lottery that is the head, for `finalized` may
    /// trail it by more than one answer holds; if the peer is on another branch, its first block
    /// does not stand on ours, and what is below is asked for block by block.
    fn known_height(&self) -> Height {
        let agreement = self.epoch().kind().is_agreement();
        self.height(if agreement { &self.shown.finalized } else { &self.shown.head })
    }

    /// What a peer that is ahead was asked for is final here: the next part, without waiting for
    /// its next announcement.
    pub(crate) fn ask_on(&mut self, now: Time) {
        // Something came: whoever was slow is not silent.
        self.sync.silent.clear();
        let Some(Asked { peer, claimed, .. }) = self.sync.asked else { return };
        if claimed > self.height(&self.shown.finalized) {
            self.sync.range_after = now;
            self.ask_range(now, peer, claimed);
        } else {
            self.sync.asked = None;
        }
    }

    /// Asks a peer that says that it is ahead what follows here; not more often than it can be
    /// answered, and for a while not who was asked and gave nothing.
    fn ask_range(&mut self, now: Time, from: NodeId, claimed: Height) {
        let retry = self.config.limits.fetch_retry;
        let jumped_back = self.sync.range_after > now + retry;
        if now < self.sync.range_after && !jumped_back {
            return;
        }
        let after = self.known_height();
        let in_vain = self.sync.asked.take().filter(|asked| asked.after >= after);
        if let Some(Asked { peer, .. }) = in_vain {
            self.sync.silent.insert(peer, now + Span(SILENT * retry.0));
        }
        if self.sync.silent.contains_key(&from) {
            return;
        }
        self.sync.range_after = now + retry;
        self.sync.asked = Some(Asked { peer: from, claimed, after });
        self.effects.push(Effect::Send { to: To::One(from), wire: Wire::Range { after } });
    }

    fn answer_get(&mut self, now: Time, from: NodeId, hash: B256) -> Result<(), Halt> {
        if !self.sync.answers.may_answer(now, from, &self.config.limits) {
            return Ok(());
        }
        let found = self.reader.block(hash).map_err(|error| Halt::Store(error.to_string()))?;
        if let Some(stored) = found {
            self.send_block(from, &stored);
        }
        Ok(())
    }

    fn send_block(&mut self, to: NodeId, stored: &Arc<StoredBlock>) {
        self.sync.answers.note(to, size(&stored.block));
        let wire = Wire::Block(stored.block.clone());
        self.effects.push(Effect::Send { to: To::One(to), wire });
    }

    /// Blocks of one epoch and the newest proof among them, so that the asker can check it with
    /// the committee that it knows.
    fn answer_range(&mut self, now: Time, from: NodeId, after: Height) -> Result<(), Halt> {
        if !self.sync.answers.may_answer(now, from, &self.config.limits) {
            return Ok(());
        }
        let finalized = self.height(&self.shown.finalized);
        if after >= finalized.max(self.known_height()) {
            return Ok(());
        }
        let first = after.next();
        let Some(epoch) = self.epochs.iter().find(|epoch| epoch.contains(first)) else {
            return Ok(());
        };
        let most = Height(after.0.saturating_add(self.config.limits.range_blocks));
        let last = most.min(epoch.last);
        let (blocks, newest) = if epoch.kind().is_agreement() {
            self.proven_range(epoch.number, first, last.min(finalized))?
        } else {
            let head = self.height(&self.shown.head);
            (self.blocks_between(first, last.min(head))?.0, None)
        };
        for stored in blocks {
            self.send_block(from, &stored);
        }
        if let Some(bytes) = newest {
            let proof = FinalityProof::decode(&mut &bytes[..])
                .map_err(|error| Halt::Store(format!("a finality proof is malformed: {error}")))?;
            self.effects.push(Effect::Send { to: To::One(from), wire: Wire::Proof(proof) });
        }
        Ok(())
    }

    /// Blocks of an epoch from a height up to one that has a proof, and that proof: the first proof
    /// at all, then each that still fits.
    fn proven_range(
        &self,
        epoch: u64,
        first: Height,
        last: Height,
    ) -> Result<(Vec<Arc<StoredBlock>>, Option<Bytes>), Halt> {
        let store = |error: landfall_types::StateError| Halt::Store(error.to_string());
        let (mut blocks, mut newest, mut at) = (Vec::new(), None, first);
        let mut room = self.config.limits.range_bytes;
        while let Some(found) = self.reader.proof_at_or_above(at.0).map_err(store)? {
            let (number, of, proof) = found;
            if of != epoch || (newest.is_some() && number > last.0) {
                break;
            }
            let (more, bytes) = self.blocks_between(at, Height(number))?;
            if newest.is_some() && bytes > room {
                break;
            }
            room = room.saturating_sub(bytes);
            blocks.extend(more);
            (at, newest) = (Height(number).next(), Some(proof));
        }
        if newest.is_none() {
            blocks.clear();
        }
        Ok((blocks, newest))
    }

    /// Our blocks of some heights, or the first of them that fill an answer, and their bytes.
    fn blocks_between(&self, first: Height, last: Height) -> Result<Blocks, Halt> {
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        for number in first.0..=last.0 {
            let stored = self.reader.block_at(number);
            let stored = stored.map_err(|error| Halt::Store(error.to_string()))?;
            bytes += stored.as_ref().map_or(0, |stored| size(&stored.block));
            blocks.extend(stored);
            if bytes > self.config.limits.range_bytes {
                break;
            }
        }
        Ok((blocks, bytes))
    }

    /// Wants a block: asks `from` once now, then others again until it is here or nobody says so any
    /// more. What is of nobody's share is needed, and peers' claims take no place of it.
    pub(crate) fn want(
        &mut self,
        now: Time,
        hash: B256,
        from: Option<NodeId>,
        holder: Option<NodeId>,
    ) {
        if self.tree.has(&hash) || self.blocks.why_invalid(&hash).is_some() {
            return;
        }
        let limits = &self.config.limits;
        let (retry, expiry) = (now + limits.fetch_retry, now + limits.fetch_expiry);
        if let Some(wanted) = self.sync.wanted.get_mut(&hash) {
            wanted.expiry = wanted.expiry.max(expiry);
            wanted.holder = wanted.holder.and(holder);
            return;
        }
        let same = self.sync.wanted.values().filter(|wanted| wanted.holder == holder).count();
        if same >= limits.wanted_of_peer || !self.has_room_to_want(holder, same) {
            return;
        }
        self.sync.wanted.insert(hash, Wanted { retry, expiry, asked: 1, holder });
        if !self.blocks.is_waiting(&hash) {
            let to = from.filter(|id| *id != self.config.me).map_or(To::Any, To::One);
            self.effects.push(Effect::Send { to, wire: Wire::Get(hash) });
        }
    }

    /// Makes room for a block that somebody answers for who has some already: one gives way of who has
    /// most, the one that was asked for in vain most often. Strangers together leave room for members.
    fn has_room_to_want(&mut self, holder: Option<NodeId>, held: usize) -> bool {
        let Some(holder) = holder else { return true };
        let is_stranger = |id: &NodeId| !self.epoch().has_member(id);
        let mut shares: BTreeMap<NodeId, usize> = BTreeMap::new();
        for claimer in self.sync.wanted.values().filter_map(|wanted| wanted.holder) {
            *shares.entry(claimer).or_default() += 1;
        }
        let claimed: usize = shares.values().sum();
        let strangers = shares.iter().filter(|(id, _)| is_stranger(id));
        let of_strangers: usize = strangers.map(|(_, share)| share).sum();
        let crowded =
            is_stranger(&holder) && of_strangers >= self.config.limits.wanted_of_strangers;
        if !crowded && claimed < self.config.limits.wanted_blocks {
            return true;
        }
        shares.retain(|id, share| *share > held + 1 && (!crowded || is_stranger(id)));
        let Some((greediest, _)) = shares.into_iter().max_by_key(|(_, share)| *share) else {
            return false;
        };
        let theirs = self.sync.wanted.iter().filter(|(_, it)| it.holder == Some(greediest));
        let (vainest, _) = theirs.max_by_key(|(_, it)| it.asked).expect("it has more than one");
        let vainest = *vainest;
        self.sync.wanted.remove(&vainest);
        true
    }

    /// Repeats what is due: fetches, the announcement, blocks whose time has come.
    pub(crate) fn sync_tick(&mut self, now: Time) -> Result<(), Halt> {
        let limits = self.config.limits.clone();
        // A clock that jumped back must not silence us for the length of the jump.
        if now < self.sync.due && self.sync.due <= now + limits.status_interval {
            return Ok(());
        }
        self.sync.due = now + limits.status_interval;
        self.blocks.expire(now, limits.waiting_expiry);
        self.sync.answers.forget(now);
        let longest = now + Span(SILENT * limits.fetch_retry.0);
        self.sync.silent.retain(|_, until| *until > now && *until <= longest);
        self.pump(now)?;
        let horizon = now + limits.fetch_expiry;
        self.sync.wanted.retain(|_, wanted| wanted.expiry > now && wanted.expiry <= horizon);
        // How often each was asked for, and of whose share it is.
        let mut roots: BTreeMap<B256, (u32, Option<NodeId>)> = BTreeMap::new();
        let retry_horizon = now + limits.fetch_retry;
        for (hash, wanted) in &mut self.sync.wanted {
            if wanted.retry > now && wanted.retry <= retry_horizon {
                continue;
            }
            wanted.retry = retry_horizon;
            wanted.asked += 1;
            let root = self.blocks.root_of(hash);
            if !self.tree.has(&root) && self.blocks.why_invalid(&root).is_none() {
                let (asked, holder) = roots.entry(root).or_insert((0, wanted.holder));
                *asked = wanted.asked.max(*asked);
                *holder = holder.and(wanted.holder);
            }
        }
        if !planted!(FetchOnce) {
            let mut loud = BTreeSet::new();
            for (hash, (asked, holder)) in roots {
                // One peer first; when that is in vain, all. But of what somebody made us want, all are
                // asked for one block at a time: they must not take us for one that floods them.
                let quiet = asked <= 2 || holder.is_some_and(|holder| !loud.insert(holder));
                let to = if quiet { To::Any } else { To::Everyone };
                self.effects.push(Effect::Send { to, wire: Wire::Get(hash) });
            }
        }
        if !planted!(NoStatus) {
            let status = self.status();
            self.effects.push(Effect::Send { to: To::Everyone, wire: status });
        }
        Ok(())
    }

    pub(crate) fn penalise(&mut self, peer: NodeId, why: &str) {
        self.effects.push(Effect::Penalise { peer, why: why.to_owned() });
    }
}
