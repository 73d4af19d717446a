//! The interpreter of outputs: what is logged when it is said, and what waits for the disk.

use crate::halt::Halt;
use crate::job::{Effect, Job, Sign, SignedDone};
use crate::recent::Recent;
use crate::replica::Replica;
use crate::signer::Refused;
use crate::wire::{To, Wire};
use alloy_primitives::B256;
use landfall_chain::{Adopted, Chain, FlushDone, Position, SyncDone};
use landfall_consensus::{
    Body, Evidence, FinalityProof, ForkChoice, Input, Output, Recipients, Record, planted, protocol,
};
use landfall_types::{Signature, SignedVote, Step, Time, Vote};
use std::collections::{BTreeSet, VecDeque};

/// Own signatures that are kept for retransmission.
const KEPT_SIGNATURES: usize = 256;
/// Outputs that wait for the disk: an engine says a few per step, and a sync takes milliseconds.
const QUEUED: usize = 65_536;

/// What waits for the disk.
enum Act {
    Send { to: Recipients, vote: Option<Vote>, body: Body },
    Publish(B256),
    Show { choice: ForkChoice, proof: Option<FinalityProof>, logged: bool },
}

struct Queued {
    /// The log must be durable up to here first.
    after: Position,
    epoch: u64,
    act: Act,
}

/// What was said and has not left, and how far the log is.
pub(crate) struct Outbox {
    queue: VecDeque<Queued>,
    /// The end of the newest record: nothing said later leaves before it is durable.
    need: Position,
    durable: Position,
    syncing: bool,
    /// The last fork choice in the log.
    pub logged: ForkChoice,
    pub flushed: Option<FlushDone>,
    flushing: bool,
    /// Own votes, signed.
    signed: Recent<Vote, Signature>,
    signing: BTreeSet<Vote>,
}

impl Outbox {
    pub fn new(chain: &Chain) -> Self {
        let head = chain.reader().head();
        Self {
            queue: VecDeque::new(),
            need: chain.durable(),
            durable: chain.durable(),
            syncing: false,
            logged: ForkChoice {
                head: head.block.block.hash(),
                safe: head.safe.1,
                finalized: head.finalized.1,
            },
            flushed: None,
            flushing: false,
            signed: Recent::new(KEPT_SIGNATURES),
            signing: BTreeSet::new(),
        }
    }

    /// Drops the fork choices of the instance that ends: they would come after the next one's.
    pub fn end_of_epoch(&mut self) {
        self.queue.retain(|queued| !matches!(queued.act, Act::Show { .. }));
    }

    /// Stands on what the chain shows, after it was changed outside consensus.
    pub fn stand(&mut self, chain: &Chain) {
        assert!(self.queue.is_empty(), "nothing waits when a development chain is changed");
        let Self { signed, signing, flushed, flushing, .. } =
            std::mem::replace(self, Self::new(chain));
        (self.signed, self.signing) = (signed, signing);
        (self.flushed, self.flushing) = (flushed, flushing);
    }

    pub fn is_syncing(&self) -> bool {
        self.syncing
    }

    pub fn len(&self) -> usize {
        self.queue.len() + self.signed.len() + self.signing.len()
    }
}

impl Replica {
    /// Takes what an instance said, in order.
    pub(crate) fn outputs(&mut self, now: Time, epoch: u64, out: Vec<Output>) -> Result<(), Halt> {
        let mut step = Position::START;
        for output in out {
            match output {
                Output::Persist(record) => {
                    self.log_record(epoch, &record)?;
                    self.outbox.need = self.chain.end();
                    step = self.outbox.need;
                }
                Output::Send { to, vote, body } => {
                    self.enqueue(epoch, step, Act::Send { to, vote, body });
                }
                Output::Publish { hash } => {
                    // Only what is durable is shown to anybody: the block is in the log by now.
                    let after = self.chain.end();
                    self.outbox.queue.push_back(Queued { after, epoch, act: Act::Publish(hash) });
                }
                Output::Adopt { choice, proof } => {
                    self.log_choice(epoch, self.held(choice), proof)?;
                }
                Output::Build { parent, time, extension, difficulty } => {
                    self.begin_build(parent, time, extension, difficulty)?;
                }
                Output::Fetch { hash, from } => self.want(now, hash, from, None),
                Output::Report(evidence) => self.report(evidence),
            }
        }
        assert!(
            self.outbox.queue.len() < QUEUED,
            "an engine says more than a disk can keep up with"
        );
        Ok(())
    }

    fn log_record(&mut self, epoch: u64, record: &Record) -> Result<(), Halt> {
        self.chain.log_record(epoch, &alloy_rlp::encode(record))?;
        Ok(())
    }

    fn enqueue(&mut self, epoch: u64, step: Position, act: Act) {
        let mut after = if planted!(BarrierPerStep) { step } else { self.outbox.need };
        if planted!(SendBeforeSync) {
            after = Position::START;
        }
        self.outbox.queue.push_back(Queued { after, epoch, act });
    }

    /// A fork choice enters the log when it is said, in order with the records: logged when it is
    /// performed, a record of the next height could be durable and this not.
    fn log_choice(
        &mut self,
        epoch: u64,
        choice: ForkChoice,
        proof: Option<FinalityProof>,
    ) -> Result<(), Halt> {
        self.check_choice(epoch, &choice, proof.as_ref())?;
        if planted!(FinalityNotLogged | FinalityLoggedLate) {
            self.outbox.logged = choice;
            self.enqueue(epoch, Position::START, Act::Show { choice, proof, logged: false });
            return Ok(());
        }
        if planted!(BodyNotDurable) {
            self.insert_held()?;
        }
        if choice != self.outbox.logged || proof.is_some() {
            let bytes = proof.as_ref().map(|proof| (epoch, alloy_rlp::encode(proof).into()));
            self.chain.log_choice(choice, bytes)?;
            self.outbox.logged = choice;
        }
        let after = self.chain.end();
        let act = Act::Show { choice, proof, logged: true };
        self.outbox.queue.push_back(Queued { after, epoch, act });
        Ok(())
    }

    /// What an engine may never say: a fork choice that is no branch, or takes back what is final.
    fn check_choice(
        &self,
        epoch: u64,
        choice: &ForkChoice,
        proof: Option<&FinalityProof>,
    ) -> Result<(), Halt> {
        let (tree, before) = (&self.tree, self.outbox.logged.finalized);
        let broken = |what: &str| {
            let state = self.describe();
            Err(Halt::Broken(format!(
                "{what}: {choice:?} after {before} in epoch {epoch}: {state}"
            )))
        };
        if !tree.descends(choice.head, choice.safe) || !tree.descends(choice.safe, choice.finalized)
        {
            return broken("head, safe and finalized are not one branch");
        }
        if !tree.descends(choice.finalized, before) {
            return broken("finality moved back");
        }
        let epoch = self.epoch();
        if choice.finalized != before {
            if tree.height(&choice.finalized) > epoch.last {
                return broken("finality above the end of the epoch");
            }
            let proven = proof.is_some_and(|proof| {
                let of = self.epochs.get(usize::try_from(proof.epoch()).unwrap_or(usize::MAX));
                proof.hash() == choice.finalized
                    && of.is_some_and(|of| protocol(of.kind()).verify_proof(of, proof).is_ok())
            });
            if epoch.kind().is_agreement() && !proven {
                return broken("finality without a proof of it");
            }
        }
        Ok(())
    }

    /// A development chain with an open snapshot keeps `safe` and `finalized` at or below it.
    fn held(&self, choice: ForkChoice) -> ForkChoice {
        let Some(ceiling) = self.ceiling else { return choice };
        let lower = |hash: B256| {
            if self.tree.height(&hash) <= ceiling {
                return hash;
            }
            self.tree.ancestor(hash, ceiling).expect("a snapshot is not below finality")
        };
        ForkChoice {
            head: choice.head,
            safe: lower(choice.safe),
            finalized: lower(choice.finalized),
        }
    }

    /// Performs what no longer waits for the disk, in order.
    pub(crate) fn drain(&mut self, now: Time) -> Result<(), Halt> {
        let mut at = 0;
        while at < self.outbox.queue.len() {
            if self.outbox.queue[at].after > self.outbox.durable {
                at += 1;
                continue;
            }
            let Queued { epoch, act, .. } = self.outbox.queue.remove(at).expect("looked at above");
            match act {
                Act::Send { to, vote, body } => self.send(now, epoch, to, vote, body)?,
                Act::Publish(hash) => self.publish(hash)?,
                Act::Show { choice, proof, logged } if planted!(FinalityLoggedLate) && !logged => {
                    let bytes = proof.as_ref().map(|it| (epoch, alloy_rlp::encode(it).into()));
                    self.chain.log_choice(choice, bytes)?;
                    let act = Act::Show { choice, proof, logged: true };
                    self.outbox.queue.push_back(Queued { after: self.chain.end(), epoch, act });
                }
                Act::Show { choice, .. } => {
                    self.show(now, epoch, choice)?;
                    // The end of an epoch may have taken entries out of the queue.
                    at = 0;
                }
            }
        }
        Ok(())
    }

    fn send(
        &mut self,
        now: Time,
        epoch: u64,
        to: Recipients,
        vote: Option<Vote>,
        body: Body,
    ) -> Result<(), Halt> {
        let to = match to {
            Recipients::All => To::Members,
            Recipients::One(id) => To::One(id),
        };
        let Some(vote) = vote else {
            if to != To::One(self.config.me) {
                self.effects
                    .push(Effect::Send { to, wire: Wire::Engine { epoch, vote: None, body } });
            }
            return Ok(());
        };
        if self.is_left_behind(&vote) {
            return Ok(());
        }
        if let Some(signature) = self.outbox.signed.get(&vote).copied() {
            return self.speak(now, epoch, to, vote, signature, body);
        }
        if self.outbox.signing.insert(vote) {
            let chain = self.reader.genesis_hash();
            self.job(Job::Sign(Sign { epoch, to, vote, body, chain }));
        }
        Ok(())
    }

    /// Whether finality has left the block of a vote behind while the vote waited for the disk. Nobody
    /// needs it then, and the block may be gone before it is signed.
    fn is_left_behind(&self, vote: &Vote) -> bool {
        let (height, finalized) = (vote.position.height, self.outbox.logged.finalized);
        let of_block = vote.position.step != Step::Grant && !vote.hash.is_zero();
        of_block
            && height <= self.height(&finalized)
            && self.tree.ancestor(finalized, height).is_some_and(|ours| ours != vote.hash)
    }

    pub(crate) fn signed(&mut self, now: Time, done: SignedDone) -> Result<(), Halt> {
        let SignedDone { epoch, to, vote, body, result } = done;
        self.outbox.signing.remove(&vote);
        let signature = match result {
            Ok(signature) => signature,
            Err(refused @ Refused::Contradiction(_)) => {
                let state = self.describe();
                return Err(Halt::Broken(format!("the signer refused: {refused}; {state}")));
            }
            Err(refused @ Refused::Unavailable(_)) => {
                self.effects.push(Effect::Unsigned { vote, why: refused.to_string() });
                return Ok(());
            }
        };
        self.outbox.signed.insert(vote, signature);
        self.speak(now, epoch, to, vote, signature, body)
    }

    /// Sends a signed vote, and hands it to the own engine like anybody's.
    fn speak(
        &mut self,
        now: Time,
        epoch: u64,
        to: To,
        vote: Vote,
        signature: Signature,
        body: Body,
    ) -> Result<(), Halt> {
        let me = self.config.me;
        let signed = SignedVote { vote, signer: me, signature };
        if to != To::One(me) {
            let wire = Wire::Engine { epoch, vote: Some(signed), body: body.clone() };
            self.effects.push(Effect::Send { to, wire });
        }
        if epoch == self.epoch().number {
            self.archive.note(&signed);
            self.feed(now, Input::Message { from: me, vote: Some(signed), body })?;
        }
        Ok(())
    }

    fn publish(&mut self, hash: B256) -> Result<(), Halt> {
        if planted!(BuiltNotLogged) {
            self.insert_held()?;
        }
        if self.config.alone {
            return Ok(());
        }
        let block = self.reader.block(hash).map_err(|error| Halt::Store(error.to_string()))?;
        if let Some(stored) = block {
            let wire = Wire::Block(stored.block.clone());
            self.effects.push(Effect::Send { to: To::Everyone, wire });
        }
        Ok(())
    }

    /// Makes a durable fork choice visible, and ends the epoch with its last block.
    fn show(&mut self, now: Time, epoch: u64, choice: ForkChoice) -> Result<(), Halt> {
        let moved = choice.finalized != self.shown.finalized;
        self.shown = choice;
        let adopted = if planted!(FinalityNotLogged) {
            Adopted::default()
        } else {
            self.chain.show(choice)?
        };
        let followed = self.mempool.follow(&adopted, &self.reader, now);
        let promoted = followed.map_err(|error| Halt::Store(error.to_string()))?;
        self.effects.push(Effect::Shown { adopted, promoted });
        let last = self.epoch().last;
        if self.height(&choice.finalized) >= last && self.epoch().number == epoch {
            self.next_epoch(now, choice.finalized)?;
        } else {
            self.tell_pending(now)?;
        }
        if moved {
            self.prune();
            self.ask_on(now);
        }
        Ok(())
    }

    /// Hands evidence to the host, once checked: nobody may be framed by a peer.
    pub(crate) fn report(&mut self, evidence: Evidence) {
        let (_, number) = evidence.accused();
        let epoch = usize::try_from(number).ok().and_then(|number| self.epochs.get(number));
        let genuine = epoch
            .is_some_and(|epoch| protocol(epoch.kind()).verify_evidence(epoch, &evidence).is_ok());
        if genuine && self.sync.is_new_evidence(&evidence) {
            self.effects.push(Effect::Report(evidence));
        }
    }

    /// Starts making the log durable, if there is something in it that is not.
    pub(crate) fn begin_sync(&mut self) -> Result<(), Halt> {
        if !self.outbox.syncing && self.chain.end() > self.chain.durable() {
            self.outbox.syncing = true;
            let job = self.chain.begin_sync().map_err(|error| Halt::Store(error.to_string()))?;
            self.job(Job::Sync(job));
        }
        Ok(())
    }

    pub(crate) fn synced(&mut self, done: SyncDone) -> Result<(), Halt> {
        let durable = self.chain.finish_sync(done);
        self.outbox.durable = durable.map_err(|error| Halt::Store(error.to_string()))?;
        self.outbox.syncing = false;
        if planted!(RecordWithoutBlocks) {
            self.insert_held()?;
        }
        Ok(())
    }

    /// Lets go of what a finished flush moved to the views, and begins one that is due.
    pub(crate) fn settle_views(&mut self) -> Result<(), Halt> {
        let store = |error: landfall_types::StateError| Halt::Store(error.to_string());
        if let Some(done) = self.outbox.flushed.take() {
            self.chain.finish_flush(done).map_err(store)?;
            self.outbox.flushing = false;
        }
        if !self.outbox.flushing
            && self.chain.flush_due()
            && let Some(job) = self.chain.begin_flush()
        {
            self.outbox.flushing = true;
            self.job(Job::Flush(job));
        }
        Ok(())
    }
}
