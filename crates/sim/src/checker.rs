//! The invariants (`S`: safety, `L`: liveness, `A`: accountability, `M`: resources), looked at
//! after every event.
//!
//! The strongest compare a node with itself over all its lives; see `promises.rs` for those about
//! votes, and `audit.rs` for what is checked at the end of a history.

use crate::durable::Durable;
use crate::host::{Host, MOST_QUEUED, Wire};
use crate::keys::HistorySigner;
use crate::promises::Promises;
use crate::report::Stats;
use crate::scenario::{Adversary, Network as Topology, Scenario, Setup};
use crate::world::Slot;
use alloy_consensus::Header;
use alloy_primitives::B256;
use landfall_chain::store::TestDisk;
use landfall_consensus::{Evidence, FinalityProof, protocol};
use landfall_light::verify_signed_proof_by;
use landfall_replica::Signer;
use landfall_types::{Epoch, Height, NodeId, SignedVote, Step, Vote, Weight};
use std::collections::{BTreeMap, BTreeSet};

/// A rule and what broke it.
pub(crate) type Broken = (&'static str, String);

/// Votes that are kept where forks are expected.
const TRANSCRIPT: usize = 400_000;
/// Looks at a node between two looks at the size of its queues.
const LOOKS: u64 = 64;

/// What is known of a node over all its lives.
#[derive(Default)]
struct Watched {
    shown: u64,
    shown_hash: B256,
    choice: Option<(B256, B256)>,
    epochs: usize,
    durable: Durable,
}

/// See the module.
pub(crate) struct Checker {
    watched: Vec<Watched>,
    /// Who lost its disk, and that disk as it was.
    former: Option<(NodeId, TestDisk, Durable)>,
    canonical: BTreeMap<u64, B256>,
    epochs: BTreeMap<u64, Epoch>,
    promises: Promises,
    /// What any proof that verifies says of a height.
    proven: BTreeMap<u64, B256>,
    /// Blocks that a liar made invalid.
    pub invalid: BTreeSet<B256>,
    /// Two blocks of one height are final, or proven to be.
    pub forked: Option<u64>,
    pub(crate) agreement: bool,
    /// Blocks that somebody took for final may be left, after a person has said so.
    tolerant: bool,
    third: bool,
    looks: u64,
    /// Every vote that came to an honest node, while forks are expected.
    pub(crate) transcript: Vec<landfall_types::SignedVote>,
}

impl Checker {
    /// Nothing seen.
    pub fn new(scenario: &Scenario, slots: usize) -> Self {
        Self {
            watched: (0..slots).map(|_| Watched::default()).collect(),
            former: None,
            canonical: BTreeMap::new(),
            epochs: BTreeMap::new(),
            promises: Promises::default(),
            proven: BTreeMap::new(),
            invalid: BTreeSet::new(),
            forked: None,
            agreement: scenario.is_agreement(),
            tolerant: scenario.topology == Topology::Long,
            third: scenario.adversary == Adversary::Third,
            looks: 0,
            transcript: Vec::new(),
        }
    }

    /// The highest height that is final anywhere.
    pub fn top(&self) -> u64 {
        self.canonical.last_key_value().map_or(0, |(height, _)| *height)
    }

    /// The height that a node has shown as final.
    pub fn shown(&self, slot: usize) -> u64 {
        self.watched[slot].shown
    }

    /// A node's disk is another one.
    pub fn forget(&mut self, slot: usize, id: NodeId, disk: TestDisk) {
        let durable = std::mem::take(&mut self.watched[slot]).durable;
        self.former = Some((id, disk, durable));
    }

    /// A person has told a node to leave what it took for final above a block.
    pub fn step_back(&mut self, slot: usize, height: u64, hash: B256) {
        let watched = &mut self.watched[slot];
        (watched.shown, watched.shown_hash) = (height, hash);
    }

    /// After every event of a node.
    pub fn look(
        &mut self,
        slot: usize,
        slots: &mut [Slot],
        stats: &mut Stats,
    ) -> Result<(), Broken> {
        let Some(host) = &slots[slot].host else { return Ok(()) };
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS) {
            let queued = host.queued();
            stats.queued_most = stats.queued_most.max(queued);
            if queued > MOST_QUEUED {
                return Err(("M1", format!("{queued} entries are held; {}", host.describe())));
            }
        }
        let choice = (host.choice().head, host.choice().finalized);
        if slots[slot].liar.is_some() || self.watched[slot].choice == Some(choice) {
            return Ok(());
        }
        self.watched[slot].choice = Some(choice);
        self.note_epochs(slot, host)?;
        let top = host.finalized().0;
        if top < self.watched[slot].shown {
            let shown = self.watched[slot].shown;
            return Err(("S2", format!("finality moved back from {shown} to {top}")));
        }
        let fresh = self.finalise(slot, host, top)?;
        for (height, hash) in fresh {
            self.first_final(height, hash, slots)?;
        }
        Ok(())
    }

    fn note_epochs(&mut self, slot: usize, host: &Host) -> Result<(), Broken> {
        let epochs = host.epochs();
        if self.watched[slot].epochs == epochs.len() {
            return Ok(());
        }
        self.watched[slot].epochs = epochs.len();
        for epoch in epochs {
            let known = self.epochs.entry(epoch.number).or_insert_with(|| epoch.clone());
            if known != epoch && !self.third {
                return Err(("S9", format!("two configurations of epoch {}", epoch.number)));
            }
        }
        Ok(())
    }

    /// Compares what a node shows as final with what anybody showed; what nobody showed yet.
    fn finalise(&mut self, slot: usize, host: &Host, top: u64) -> Result<Vec<(u64, B256)>, Broken> {
        let (reader, mut fresh) = (host.reader(), Vec::new());
        let hash_at = |number: u64| {
            let found = reader.hash_at(number).map_err(|e| ("S2", e.to_string()))?;
            found.ok_or_else(|| ("S2", format!("height {number} is final and not there")))
        };
        let before = (self.watched[slot].shown, self.watched[slot].shown_hash);
        if before.0 > 0 && hash_at(before.0)? != before.1 {
            return Err(("S2", format!("height {} was final and is another block now", before.0)));
        }
        for height in before.0 + 1..=top {
            let hash = hash_at(height)?;
            match self.canonical.get(&height) {
                Some(known) if *known == hash => {}
                Some(_) if self.tolerant => {}
                Some(_) if self.third => {
                    self.forked.get_or_insert(height);
                }
                Some(known) => {
                    let what = format!("height {height}: {hash} is final here, {known} elsewhere");
                    return Err(("S1", what));
                }
                None => {
                    self.canonical.insert(height, hash);
                    fresh.push((height, hash));
                }
            }
        }
        if top > before.0 {
            (self.watched[slot].shown, self.watched[slot].shown_hash) = (top, hash_at(top)?);
        }
        Ok(fresh)
    }

    /// A height is final for the first time: is the block valid, of its epoch, and durable at a
    /// quorum?
    fn first_final(&mut self, height: u64, hash: B256, slots: &[Slot]) -> Result<(), Broken> {
        if self.invalid.contains(&hash) {
            return Err(("S4", format!("an invalid block is final at height {height}")));
        }
        if let Some(proven) = self.proven.get(&height)
            && *proven != hash
            && !self.third
        {
            return Err(("S5", format!("height {height}: final is {hash}, proven is {proven}")));
        }
        if !self.agreement {
            return Ok(());
        }
        let epoch = self.epochs.values().find(|epoch| epoch.contains(Height(height))).cloned();
        let Some(epoch) = epoch else {
            return Err(("S9", format!("height {height} is final and belongs to no epoch")));
        };
        let Some(header) = header_of(hash, slots) else {
            return Err(("S8", format!("height {height} is final and nobody has it")));
        };
        let quorum = match epoch.kind() {
            landfall_types::Kind::Pbft => epoch.committee.byzantine_quorum(),
            _ => epoch.committee.majority(),
        };
        let mut holders: BTreeSet<NodeId> = BTreeSet::new();
        // To find that a disk does not hold a block all of it must be searched: not if others do.
        for search in [Durable::holds_near, Durable::holds] {
            for (slot, it) in slots.iter().enumerate() {
                let durable = &mut self.watched[slot].durable;
                if it.liar.is_some() || search(durable, &it.disk, hash, &header) {
                    holders.insert(it.id);
                }
            }
            // A member that lost its disk since held what it voted for before.
            if let Some((id, disk, durable)) = &mut self.former
                && search(durable, disk, hash, &header)
            {
                holders.insert(*id);
            }
            if epoch.committee.weight_of_all(&holders) >= quorum {
                return Ok(());
            }
        }
        let held: Weight = epoch.committee.weight_of_all(&holders);
        let what = format!("height {height} is final, but durable at weight {} only", held.0);
        Err(("S8", what))
    }

    /// After a start: nothing that was shown is gone.
    pub fn came_back(&mut self, slot: usize, slots: &mut [Slot]) -> Result<(), Broken> {
        self.watched[slot].choice = None;
        self.watched[slot].epochs = 0;
        let Some(host) = &slots[slot].host else { return Ok(()) };
        let (shown, hash) = (self.watched[slot].shown, self.watched[slot].shown_hash);
        if slots[slot].liar.is_some() || shown == 0 {
            return Ok(());
        }
        let now = host.finalized().0;
        if now < shown {
            return Err((
                "S2",
                format!("height {shown} was shown as final, {now} after a restart"),
            ));
        }
        let found = host.reader().hash_at(shown).map_err(|e| ("S2", e.to_string()))?;
        if found != Some(hash) {
            return Err(("S2", format!("height {shown} is another block after a restart")));
        }
        Ok(())
    }

    /// An honest node has signed a vote.
    pub fn voted(
        &mut self,
        slot: usize,
        slots: &[Slot],
        vote: &Vote,
        stats: &mut Stats,
    ) -> Result<(), Broken> {
        let it = &slots[slot];
        let outside =
            self.epochs.get(&vote.position.epoch).is_some_and(|it_is| !it_is.has_member(&it.id));
        if outside {
            return Err(("S9", format!("{} votes and is no member: {vote:?}", it.id)));
        }
        stats.view_changes += u64::from(self.promises.is_new_round(vote));
        let kept = self.promises.note(it.id, vote);
        // With a third lying, two blocks of a round may well be prepared.
        kept.or_else(|broken| if self.third && broken.0 == "S10" { Ok(()) } else { Err(broken) })?;
        if vote.hash.is_zero() || vote.position.step == Step::Grant {
            return Ok(());
        }
        let Some(host) = &it.host else { return Ok(()) };
        let header = match host.reader().block(vote.hash) {
            Ok(stored) => stored.map(|stored| stored.block.header.inner().clone()),
            // Power was lost in an operation of its disk, and the node does not know it yet.
            Err(_) if it.disk.stopped() => match header_of(vote.hash, slots) {
                None => return Ok(()),
                found => found,
            },
            Err(error) => return Err(("S7", error.to_string())),
        };
        let durable = &mut self.watched[slot].durable;
        match header {
            Some(header) if durable.holds(&it.disk, vote.hash, &header) => Ok(()),
            Some(_) => Err(("S7", format!("the disk could lose the block voted for: {vote:?}"))),
            None => Err(("S7", format!("a vote for a block that is not shown here: {vote:?}"))),
        }
    }

    /// A message comes to an honest node, which keeps the votes in it.
    pub fn heard(&mut self, wire: &Wire) {
        if !self.third || self.transcript.len() > TRANSCRIPT {
            return;
        }
        match wire {
            Wire::Engine { vote, body, .. } => {
                self.transcript.extend(vote);
                self.transcript.extend(body.votes());
            }
            Wire::Proof(proof) => self.transcript.extend(proof.certificate.votes()),
            _ => {}
        }
    }

    /// An honest node has sent a message.
    pub fn said(&mut self, slot: usize, slots: &[Slot], wire: &Wire) -> Result<(), Broken> {
        match wire {
            Wire::Engine { epoch, vote: Some(vote), .. } => {
                if vote.signer != slots[slot].id || *epoch != vote.vote.position.epoch {
                    return Err(("S6", format!("a vote of somebody else is sent: {vote:?}")));
                }
                Ok(())
            }
            Wire::Proof(proof) => self.proven(proof, &slots[slot].signer),
            _ => Ok(()),
        }
    }

    /// A proof that an honest node passes on.
    fn proven(&mut self, proof: &FinalityProof, table: &HistorySigner) -> Result<(), Broken> {
        let (height, hash) = (proof.height().0, proof.hash());
        if self.proven.get(&height) == Some(&hash) {
            return Ok(());
        }
        let Some(epoch) = self.epochs.get(&proof.epoch()) else { return Ok(()) };
        let is_signed = |it: &SignedVote| {
            table.recover(it.vote.digest(epoch.chain), &it.signature) == Some(it.signer)
        };
        if let Err(error) = verify_signed_proof_by(epoch, proof, is_signed) {
            return Err(("S5", format!("an honest node passes on a proof of nothing: {error}")));
        }
        let other = self.canonical.get(&height).or(self.proven.get(&height)).copied();
        if let Some(other) = other.filter(|other| *other != hash) {
            if self.third {
                self.forked.get_or_insert(height);
                return Ok(());
            }
            return Err(("S5", format!("height {height}: proofs of {other} and of {hash}")));
        }
        self.proven.insert(height, hash);
        Ok(())
    }

    /// Evidence is sound, and names a liar.
    pub fn accused(&mut self, evidence: &Evidence, setup: &Setup) -> Result<(), Broken> {
        let (who, number) = evidence.accused();
        let Some(epoch) = self.epochs.get(&number) else {
            return Err(("A2", format!("evidence of an epoch that is not: {number}")));
        };
        if let Err(error) = protocol(epoch.kind()).verify_evidence(epoch, evidence) {
            return Err(("A2", format!("evidence that proves nothing: {error}: {evidence:?}")));
        }
        let lies = setup.liars.iter().any(|liar| crate::keys::node(*liar) == who);
        if lies { Ok(()) } else { Err(("A2", format!("honest {who} is accused: {evidence:?}"))) }
    }

    /// The epoch of a number, as far as it began.
    pub(crate) fn epoch(&self, number: u64) -> Option<&Epoch> {
        self.epochs.get(&number)
    }

    /// How many epochs began.
    pub(crate) fn epochs_begun(&self) -> usize {
        self.epochs.len()
    }
}

/// The header of a block that some node has.
fn header_of(hash: B256, slots: &[Slot]) -> Option<Header> {
    let hosts = slots.iter().filter_map(|it| it.host.as_ref());
    let mut found = hosts.filter_map(|host| host.reader().block(hash).ok().flatten());
    found.next().map(|stored| stored.block.header.inner().clone())
}
