//! Blocks on their way into the tree: those that came, and those that are made here.

use crate::allowance::in_memory;
use crate::halt::Halt;
use crate::job::{Build, BuiltDone, Execute, Job, Unproven};
use crate::passage::{is_members, maker};
use crate::replica::Replica;
use crate::waiting::{Building, Waiting};
use alloy_primitives::{B256, Bytes, U256};
use landfall_chain::{Attributes, Begin, Executed, ImportError};
use landfall_consensus::{
    Input, SealedHeader, Tree, TreeBlock, Verdict, lottery, planted, pow, protocol,
};
use landfall_types::{Block, Epoch, Extension, Height, Kind, NodeId, Time};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Unexecuted headers of branches that contradict finality, at most.
const RIVAL_HEADERS: usize = 2_048;

impl Replica {
    /// A block came from a peer: who sealed it, and who signed what its extension carries, is
    /// recovered first.
    pub(crate) fn receive_block(&mut self, from: NodeId, block: Block) {
        let hash = block.hash();
        let known = self.tree.has(&hash)
            || self.blocks.is_waiting(&hash)
            || self.blocks.invalid_hashes.contains(&hash);
        if known {
            return;
        }
        let Some(header) = Self::header_of(&block) else {
            self.penalise(from, "a block whose extension is malformed, or not that of its header");
            return;
        };
        let votes = header.votes();
        if votes.len() > self.config.schedule.largest_committee() {
            self.penalise(from, "a block that carries more votes than a committee has members");
            return;
        }
        self.recover(from, votes, Unproven::Block(block, header));
    }

    /// Its signers are known. A signature of somebody else in its extension, which is inside the
    /// hash, makes the block invalid for ever.
    pub(crate) fn recovered_block(
        &mut self,
        now: Time,
        from: NodeId,
        block: Block,
        header: SealedHeader,
        genuine: bool,
    ) -> Result<(), Halt> {
        if self.is_of_work(&header) && !block.seal.is_empty() {
            // It is not in the hash, and would be kept and served with the block.
            self.penalise(from, "a seal on a block whose seal is its work");
            return Ok(());
        }
        if self.is_of_work(&header) && !pow::meets(&header.header) {
            // Before its parent is looked for: what did not cost its work is not kept.
            self.penalise(from, "a block without its work");
            return Ok(());
        }
        let agreement = self.agreement_of(&header);
        let (known, guilty) = (agreement.is_some(), maker(from, &header, agreement));
        if agreement.is_some_and(|epoch| !is_members(epoch, &header)) {
            // Only members make blocks, so only members make us keep some.
            self.penalise(from, "a block with a wrong seal");
            return Ok(());
        }
        if genuine {
            return self.park(now, from, block, header);
        }
        let hash = block.hash();
        self.penalise(guilty, "a block with a signature that is not of the node it names");
        // What anybody can make without end is not worth remembering.
        if !known || self.tree.has(&hash) || self.blocks.is_waiting(&hash) {
            return Ok(());
        }
        self.reject(now, hash, "a signature that it carries is not of the node it names".into())
    }

    /// Keeps a block until its parent, its epoch and its time are there.
    fn park(
        &mut self,
        now: Time,
        from: NodeId,
        block: Block,
        header: SealedHeader,
    ) -> Result<(), Halt> {
        let (hash, parent) = (block.hash(), block.parent());
        if self.tree.has(&hash) || self.blocks.is_waiting(&hash) {
            return Ok(());
        }
        let missing = !self.is_known(&parent)? && !self.blocks.is_waiting(&parent);
        // Of an agreement, what is not above the finalised block matters only if it is final too.
        let floor = self.height(&self.shown.finalized);
        if missing && Height(block.number()) <= floor && self.epoch().kind().is_agreement() {
            return self.check_beside_final(&block);
        }
        let bytes = in_memory(&block);
        // Whoever carries a block has not made it: it takes of the share of who answers for it.
        let holder = maker(from, &header, self.agreement_of(&header));
        // What our engine or a proof needs is not refused: it is bounded where it is asked for.
        let needed = self.is_needed(&hash);
        if !needed {
            let (number, limits) = (block.number(), &self.config.limits);
            if self.has_its_siblings(&header)
                || !self.blocks.make_room(holder, number, bytes, limits)
            {
                return Ok(());
            }
        }
        let waiting = Waiting { block, header, from, holder, bytes, executing: false, since: now };
        self.blocks.waiting.insert(hash, waiting);
        if missing {
            // Below a block that our engine needs, its maker answers for what is missing: there may be
            // no end to it.
            let proven = self.sync.proven().any(|proven| self.blocks.leads_to(*proven, hash));
            self.want(now, parent, Some(from), Some(holder).filter(|_| !proven));
        }
        // Nothing else can move before it does: looking at all that waits is what a flood would cost.
        if self.pump_one(now, hash)? {
            self.pump(now)?;
        }
        Ok(())
    }

    /// Whether our engine or a proof needs a block, or a proof one that waits for it.
    fn is_needed(&self, hash: &B256) -> bool {
        self.sync.needed().any(|it| it == hash)
            || self.sync.proven().any(|it| self.blocks.root_of(it) == *hash)
    }

    /// The epoch that a block names, if it is known and an agreement.
    fn agreement_of(&self, header: &SealedHeader) -> Option<&Epoch> {
        let number = usize::try_from(header.extension.epoch).ok()?;
        self.epochs.get(number).filter(|epoch| epoch.kind().is_agreement())
    }

    fn is_of_work(&self, header: &SealedHeader) -> bool {
        let number = usize::try_from(header.extension.epoch).unwrap_or(usize::MAX);
        self.epochs.get(number).is_some_and(|epoch| epoch.kind() == Kind::Pow)
    }

    /// Whether a member of an agreement has made as many blocks on one parent as we take unasked:
    /// each is executed, and stays in the log.
    fn has_its_siblings(&self, header: &SealedHeader) -> bool {
        let (parent, proposer) = (header.header.parent_hash, header.extension.proposer);
        let waiting = self.blocks.waiting.values().filter(|it| {
            let same = it.block.parent() == parent && it.header.extension.proposer == proposer;
            // Of an epoch that is not known, anybody may have written the name.
            same && self.agreement_of(&it.header).is_some()
        });
        let entered = self.tree.get(&parent).map_or(0, |below| {
            let above = self.tree.above(below.height);
            let next = above.take_while(|it| it.height == below.height.next());
            next.filter(|it| it.parent == parent && it.proposer == proposer).count()
        });
        self.agreement_of(header).is_some()
            && waiting.count() + entered >= self.config.limits.siblings_of_member
    }

    /// Whether a member of an agreement has as many blocks in execution as it may: whoever makes many
    /// must not keep the others' waiting.
    fn is_executing_enough(&self, header: &SealedHeader) -> bool {
        let of_maker = |it: &&Waiting| it.executing && it.header.sealer == header.sealer;
        let running = self.blocks.waiting.values().filter(of_maker).count();
        self.agreement_of(header).is_some() && running >= self.config.limits.executing_of_member
    }

    /// Of an agreement, what waits at or below the finalised height can matter only on the way to a
    /// block that a proof makes final.
    pub(crate) fn let_go_of_the_late(&mut self, finalized: Height) {
        let late = self.blocks.waiting.iter().filter(|(hash, it)| {
            let below = Height(it.block.number()) <= finalized && !it.executing;
            below
                && self.agreement_of(&it.header).is_some()
                && !self.sync.proven().any(|proven| self.blocks.leads_to(*proven, **hash))
        });
        let late: Vec<B256> = late.map(|(hash, _)| *hash).collect();
        for hash in late {
            self.blocks.waiting.remove(&hash);
        }
    }

    /// Whether a block is in the tree, among the rivals, or on our branch below the tree.
    fn is_known(&self, hash: &B256) -> Result<bool, Halt> {
        if self.tree.has(hash) || self.blocks.rivals.as_ref().is_some_and(|tree| tree.has(hash)) {
            return Ok(true);
        }
        let canonical = self.reader.is_canonical(*hash);
        canonical.map_err(|error| Halt::Store(error.to_string()))
    }

    /// Starts every execution that can start. A block waits for its parent, its epoch or its time;
    /// none of these makes it invalid.
    pub(crate) fn pump(&mut self, now: Time) -> Result<(), Halt> {
        loop {
            let mut changed = false;
            let idle = self.blocks.waiting.iter().filter(|(_, waiting)| !waiting.executing);
            let idle: Vec<B256> = idle.map(|(hash, _)| *hash).collect();
            for hash in idle {
                changed |= self.pump_one(now, hash)?;
            }
            if !changed {
                return Ok(());
            }
        }
    }

    /// True if something left the waiting room, so that others may move.
    fn pump_one(&mut self, now: Time, hash: B256) -> Result<bool, Halt> {
        let Some(waiting) = self.blocks.waiting.get(&hash) else { return Ok(false) };
        let parent = waiting.block.parent();
        if self.blocks.invalid_hashes.contains(&parent) {
            self.reject(now, hash, "its parent is invalid".into())?;
            return Ok(true);
        }
        if self.tree.has(&hash) {
            self.blocks.waiting.remove(&hash);
            return Ok(true);
        }
        if !self.tree.has(&parent) {
            return self.pump_rival(now, hash);
        }
        if !self.tree.descends(parent, self.outbox.logged.finalized) {
            return self.pump_rival(now, hash);
        }
        let waiting = &self.blocks.waiting[&hash];
        let number = if planted!(RulesOfRunningInstance) {
            self.epoch().number
        } else {
            waiting.header.extension.epoch
        };
        let epoch = usize::try_from(number).ok().and_then(|number| self.epochs.get(number));
        let Some(epoch) = epoch else {
            if planted!(BusyIsInvalid) {
                self.reject(now, hash, "its epoch is not here".into())?;
            }
            return Ok(false);
        };
        match protocol(epoch.kind()).verify(epoch, &waiting.header, &self.tree, now) {
            Verdict::Valid if self.is_executing_enough(&waiting.header) => Ok(false),
            Verdict::Valid => self.execute(now, hash),
            Verdict::NotYet if planted!(BusyIsInvalid) => {
                self.reject(now, hash, "not yet".into())?;
                Ok(true)
            }
            Verdict::NotYet => Ok(false),
            Verdict::BadSeal => {
                let waiting = self.blocks.waiting.remove(&hash).expect("it is there");
                self.penalise(waiting.from, "a block with a wrong seal");
                Ok(true)
            }
            Verdict::Invalid(why) => {
                self.reject(now, hash, why.into())?;
                Ok(true)
            }
        }
    }

    fn execute(&mut self, now: Time, hash: B256) -> Result<bool, Halt> {
        let waiting = self.blocks.waiting.get_mut(&hash).expect("it waits");
        match self.chain.begin_execute(waiting.block.clone()) {
            Ok(Begin::Job(job)) => {
                waiting.executing = true;
                self.job(Job::Execute(Execute { hash, job }));
                Ok(false)
            }
            Ok(Begin::Known(_)) => {
                self.blocks.waiting.remove(&hash);
                Ok(true)
            }
            Err(error) => self.not_executed(now, hash, error),
        }
    }

    /// True if the block left the waiting room.
    fn not_executed(&mut self, now: Time, hash: B256, error: ImportError) -> Result<bool, Halt> {
        match error {
            ImportError::Unknown(_) => Ok(false),
            ImportError::Finalized(_) => {
                self.blocks.waiting.remove(&hash);
                Ok(true)
            }
            fatal if fatal.is_fatal() => Err(fatal.into()),
            invalid => {
                self.reject(now, hash, invalid.to_string())?;
                Ok(true)
            }
        }
    }

    /// The job of a block is done.
    pub(crate) fn executed(
        &mut self,
        now: Time,
        hash: B256,
        result: Result<Box<Executed>, ImportError>,
    ) -> Result<(), Halt> {
        let Some(waiting) = self.blocks.waiting.get_mut(&hash) else { return Ok(()) };
        waiting.executing = false;
        let executed = match result {
            Ok(executed) => executed,
            Err(error) => {
                self.not_executed(now, hash, error)?;
                return self.pump(now);
            }
        };
        let waiting = self.blocks.waiting.remove(&hash).expect("looked at above");
        // Finality may have left its branch behind while it was executed.
        let parent = waiting.block.parent();
        if !self.tree.has(&parent) || !self.tree.descends(parent, self.outbox.logged.finalized) {
            return self.pump(now);
        }
        if planted!(BodyNotDurable | RecordWithoutBlocks) {
            self.blocks.held.push(*executed);
        } else if !self.insert(*executed)? {
            return self.pump(now);
        }
        self.enter(seen(&waiting.block)?);
        if waiting.header.extension.epoch == self.epoch().number {
            self.feed(now, Input::Block { hash })?;
        }
        self.after_block(now, hash)
    }

    /// Puts an executed block into the log; false if finality has left it behind.
    fn insert(&mut self, executed: Executed) -> Result<bool, Halt> {
        match self.chain.insert(executed) {
            Ok(_) => Ok(true),
            Err(ImportError::Finalized(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn enter(&mut self, block: TreeBlock) {
        self.sync.arrived(&block.hash);
        if !self.tree.has(&block.hash) {
            self.tree.insert(block);
        }
    }

    /// What waited for a block: its proof, and its children.
    fn after_block(&mut self, now: Time, hash: B256) -> Result<(), Halt> {
        if let Some(proof) = self.sync.take_proof(&hash) {
            self.take_proof(now, proof)?;
        }
        self.pump(now)
    }

    fn reject(&mut self, now: Time, hash: B256, why: String) -> Result<(), Halt> {
        if let Some(waiting) = self.blocks.waiting.remove(&hash) {
            let guilty = maker(waiting.from, &waiting.header, self.agreement_of(&waiting.header));
            self.penalise(guilty, &format!("an invalid block: {why}"));
        }
        self.sync.arrived(&hash);
        if let Some(proof) = self.sync.take_proof(&hash) {
            return Err(Halt::Divergence { height: proof.height(), hash, why });
        }
        if self.blocks.invalid_hashes.insert(hash) {
            self.blocks.invalid.push_back((hash, why));
        }
        if self.blocks.invalid.len() > self.config.limits.invalid_blocks {
            let oldest = self.blocks.invalid.pop_front().expect("it has entries");
            self.blocks.invalid_hashes.remove(&oldest.0);
        }
        self.feed(now, Input::Rejected { hash })
    }

    /// A block of a branch that leaves ours below what is final. Of an agreement it can never
    /// matter; of a lottery its work is counted, and if it outweighs ours, a person must decide.
    fn pump_rival(&mut self, now: Time, hash: B256) -> Result<bool, Halt> {
        let parent = self.blocks.waiting[&hash].block.parent();
        // What is logged will be shown first: until then our own branch may seem a rival.
        if self.outbox.logged != self.shown || !self.stands_beside(parent)? {
            return Ok(false);
        }
        let waiting = &self.blocks.waiting[&hash];
        let number = usize::try_from(waiting.header.extension.epoch).unwrap_or(usize::MAX);
        let epoch = self.epochs.get(number).filter(|epoch| epoch.kind() == Kind::Pow);
        let (Some(epoch), Some(rivals)) = (epoch, &mut self.blocks.rivals) else {
            self.check_beside_final(&waiting.block)?;
            self.blocks.waiting.remove(&hash);
            return Ok(true);
        };
        match protocol(epoch.kind()).verify(epoch, &waiting.header, rivals, now) {
            Verdict::NotYet => return Ok(false),
            Verdict::Valid => {}
            _ => {
                self.reject(now, hash, "it breaks the rules of its epoch".into())?;
                return Ok(true);
            }
        }
        if !rivals.has(&hash) {
            rivals.insert(seen(&waiting.block)?);
        }
        self.blocks.waiting.remove(&hash);
        self.sync.arrived(&hash);
        self.weigh_rival(hash)?;
        Ok(true)
    }

    /// A block beside what is final here, on the way down from a block that a proof makes final:
    /// then two branches are final.
    fn check_beside_final(&self, block: &Block) -> Result<(), Halt> {
        let hash = block.hash();
        if !self.sync.proven().any(|proven| self.blocks.leads_to(*proven, hash)) {
            return Ok(());
        }
        let (number, finalized) = (Height(block.number()), self.height(&self.shown.finalized));
        let height = number.min(finalized);
        let below = || self.tree.ancestor(block.parent(), height).unwrap_or(hash);
        let theirs = if number <= finalized { hash } else { below() };
        let ours = self.reader.hash_at(height.0).map_err(|e| Halt::Store(e.to_string()))?;
        match ours.filter(|ours| *ours != theirs) {
            Some(ours) => Err(Halt::ConflictingProofs { height, ours, theirs }),
            None => Ok(()),
        }
    }

    /// Whether a block is known on a branch beside what is final, or is where such a branch leaves
    /// ours; the rivals' tree then holds it.
    fn stands_beside(&mut self, parent: B256) -> Result<bool, Halt> {
        let store = |error: landfall_types::StateError| Halt::Store(error.to_string());
        let room = |rivals: &Tree| rivals.len() < RIVAL_HEADERS;
        if self.blocks.rivals.as_ref().is_some_and(|rivals| rivals.has(&parent) && room(rivals)) {
            return Ok(true);
        }
        if !self.reader.is_canonical(parent).map_err(store)? {
            return Ok(self.tree.has(&parent));
        }
        let stored = self.reader.block(parent).map_err(store)?;
        let Some(stored) = stored else { return Ok(false) };
        self.blocks.rivals = Some(Tree::new(seen(&stored.block)?));
        Ok(true)
    }

    /// Compares the work of a rival branch with ours, both from where they part.
    fn weigh_rival(&self, rival: B256) -> Result<(), Halt> {
        let store = |error: landfall_types::StateError| Halt::Store(error.to_string());
        let Some(rivals) = &self.blocks.rivals else { return Ok(()) };
        let (mut theirs, mut at) = (Vec::new(), rivals.block(&rival));
        while !self.reader.is_canonical(at.hash).map_err(store)? {
            theirs.push(at.difficulty);
            let Some(parent) = rivals.get(&at.parent) else { return Ok(()) };
            at = parent;
        }
        let (ancestor, head) = (at.hash, self.reader.head());
        let mut unread = None;
        let ours = (at.height.0 + 1..=head.number()).map_while(|number| {
            let stored = self.reader.block_at(number).map_err(|error| unread = Some(error)).ok()?;
            Some(stored.map_or(U256::ZERO, |stored| stored.block.header.difficulty))
        });
        let outweighs = lottery::outweighs(theirs, ours);
        if let Some(error) = unread {
            return Err(store(error));
        }
        if outweighs {
            return Err(Halt::FinalityConflict { ours: head.hash(), rival, ancestor });
        }
        Ok(())
    }

    pub(crate) fn begin_build(
        &mut self,
        parent: B256,
        time: Time,
        extension: Bytes,
        difficulty: Option<U256>,
    ) -> Result<(), Halt> {
        if !self.config.builds {
            return Ok(());
        }
        let same = self.blocks.building.as_ref().is_some_and(|running| {
            (running.parent, &running.extension, running.difficulty)
                == (parent, &extension, difficulty)
        });
        if same && !planted!(BuildRestarts) {
            return Ok(());
        }
        self.stop_building();
        let chosen = self.sync.take_randao();
        let epoch = self.epoch();
        let height = self.height(&parent).next();
        let withdrawals =
            protocol(epoch.kind()).withdrawals(epoch, height, self.config.beneficiary);
        let attributes = Attributes {
            beneficiary: self.config.beneficiary,
            gas_limit: self.config.gas_limit,
            prev_randao: chosen.unwrap_or_else(|| prev_randao(parent, time)),
            extra_data: self.config.extra_data.clone(),
            withdrawals,
            difficulty: difficulty.unwrap_or_default(),
            extension: Extension {
                milliseconds: time.0,
                epoch: epoch.number,
                proposer: self.config.me,
                data: extension.clone(),
            },
        };
        let job = match self.chain.begin_build(parent, attributes) {
            Ok(job) => job,
            // Finality left the parent behind since the engine was told of it.
            Err(ImportError::Unknown(_) | ImportError::Finalized(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.blocks.builds += 1;
        let (id, superseded) = (self.blocks.builds, Arc::new(AtomicBool::new(false)));
        self.blocks.building =
            Some(Building { id, parent, extension, difficulty, superseded: superseded.clone() });
        self.job(Job::Build(Box::new(Build {
            id,
            job,
            difficulty,
            chain: self.reader.genesis_hash(),
            mempool: self.mempool.clone(),
            superseded,
        })));
        Ok(())
    }

    /// What is being built is not wanted any more.
    pub(crate) fn stop_building(&mut self) {
        if let Some(building) = self.blocks.building.take() {
            building.superseded.store(true, Relaxed);
        }
    }

    pub(crate) fn built(&mut self, now: Time, done: BuiltDone) -> Result<(), Halt> {
        {
            let mut pool = self.mempool.pool.lock();
            for hash in &done.hopeless {
                pool.remove(hash);
            }
        }
        if self.blocks.building.as_ref().is_none_or(|building| building.id != done.id) {
            return Ok(());
        }
        self.blocks.building = None;
        let executed = match done.result {
            None | Some(Err(ImportError::Finalized(_) | ImportError::Unknown(_))) => return Ok(()),
            Some(Err(error)) if error.is_fatal() => return Err(error.into()),
            Some(Err(error)) => {
                return Err(Halt::Broken(format!("a block of our own cannot be built: {error}")));
            }
            Some(Ok(executed)) => executed,
        };
        let block = seen(executed.block())?;
        let (hash, parent) = (block.hash, block.parent);
        if !self.tree.has(&parent) || !self.tree.descends(parent, self.outbox.logged.finalized) {
            return Ok(());
        }
        if planted!(BuiltNotLogged | RecordWithoutBlocks) {
            self.blocks.held.push(*executed);
        } else if !self.insert(*executed)? {
            return Ok(());
        }
        self.enter(block);
        self.feed(now, Input::Built { hash })?;
        self.after_block(now, hash)
    }

    /// With a planted bug, blocks enter the log late.
    pub(crate) fn insert_held(&mut self) -> Result<(), Halt> {
        for executed in std::mem::take(&mut self.blocks.held) {
            self.insert(executed)?;
        }
        Ok(())
    }
}

/// A block as engines see it: one that was executed here is well-formed.
fn seen(block: &Block) -> Result<TreeBlock, Halt> {
    TreeBlock::new(block).map_err(|error| Halt::Broken(error.to_string()))
}

/// Known to everybody beforehand: not for contracts that need a secret.
fn prev_randao(parent: B256, time: Time) -> B256 {
    alloy_primitives::keccak256([parent.as_slice(), &time.0.to_be_bytes()].concat())
}
