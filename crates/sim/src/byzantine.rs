//! Members that lie. A liar runs the real replica; what it says is bent on its way out, and some
//! things are said that no replica would say.

use crate::class::Class;
use crate::host::{Host, Wire, genesis_hash};
use crate::queue::Moment;
use crate::world::World;
use alloy_consensus::{Header, Sealed};
use alloy_primitives::{B256, Bytes};
use landfall_chain::store::TestDisk;
use landfall_consensus::{Body, FinalityProof, pbft};
use landfall_replica::Signer;
use landfall_types::{
    Block, Certificate, Height, Kind, Position, SignedVote, SignerSignature, Step, Vote,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Old messages that a liar keeps.
const KEPT: usize = 48;
/// Messages of one burst of spam.
const BURST: u64 = 250;

/// How a liar lies.
#[derive(Default)]
pub(crate) struct Conduct {
    /// The second of two twins.
    twin: bool,
    /// Says nothing until healed and after.
    mute: bool,
    until: BTreeMap<Class, Moment>,
    /// Drawn anew for each lie that is told to some only.
    side: u64,
    past: VecDeque<(usize, Arc<Wire>)>,
    /// The newest block that it made.
    pub own: Option<Block>,
    /// What it proposes in place of that.
    pub cut: Option<Block>,
    /// The height at which it helps, and what it has done there.
    help: Option<Help>,
}

/// How far a liar has come that helps to prepare blocks, and then is silent.
#[derive(Clone, Copy)]
struct Help {
    place: (u64, Height),
    /// Rounds in which it still helps.
    left: u64,
    /// The last round in which it did.
    round: Option<u64>,
}

/// Rounds of a height in which a liar helps at most.
const ROUNDS_OF_HELP: u64 = 3;

impl Conduct {
    /// Honest so far.
    pub fn new(twin: bool) -> Self {
        Self { twin, side: u64::MAX, mute: twin, ..Self::default() }
    }

    /// From now on it follows the rules, or says nothing; a twin says nothing.
    pub fn behave(&mut self, silent: bool) {
        self.until.clear();
        self.help = None;
        self.side = u64::MAX;
        self.mute = silent || self.twin;
    }

    fn tells(&self, class: Class, now: Moment) -> bool {
        self.until.get(&class).is_some_and(|until| now < *until)
    }

    fn sides_with(&self, slot: usize) -> bool {
        self.side >> slot & 1 == 1
    }
}

impl World<'_> {
    /// Makes the liars tell lies of a class for a while.
    pub(crate) fn begin_to_lie(&mut self, class: Class, until: Moment) -> bool {
        let liars: Vec<usize> =
            (0..self.slots.len()).filter(|slot| self.slots[*slot].liar.is_some()).collect();
        let side = self.lies.next_u64();
        for slot in &liars {
            let conduct = self.slots[*slot].liar.as_mut().expect("a liar");
            conduct.until.insert(class, until);
            conduct.side = side;
            if class == Class::Twins {
                // Each honest node hears one of the two.
                conduct.mute = false;
                conduct.side = if conduct.twin { !side } else { side };
            }
        }
        for slot in &liars {
            match class {
                Class::Amnesia => self.forget_everything(*slot),
                Class::Spam => self.spam(*slot),
                Class::Replay => self.replay(*slot),
                Class::FalseSync => self.false_sync(*slot),
                Class::BadJustification => self.propose_without_reason(*slot),
                _ => {}
            }
        }
        !liars.is_empty()
    }

    fn forget_everything(&mut self, slot: usize) {
        let seed = self.lies.next_u64();
        self.stats.told.insert(Class::Amnesia);
        self.crash(slot, true, true);
        self.slots[slot].disk = TestDisk::new(seed);
        self.slots[slot].views.clear();
    }

    /// What a liar's replica wants to say, bent.
    pub(crate) fn lie(&mut self, slot: usize, recipients: &[usize], wire: Wire) {
        let now = self.now;
        let conduct = self.slots[slot].liar.as_mut().expect("a liar");
        if conduct.mute {
            return;
        }
        if conduct.tells(Class::Silent, now) {
            self.stats.told.insert(Class::Silent);
            return;
        }
        if let Wire::Block(block) = &wire
            && recipients.len() > 1
        {
            conduct.own = Some(block.clone());
            let cuts = conduct.tells(Class::CutCertificate, now);
            let cut = if cuts { self.with_cut_certificate(slot, block) } else { None };
            if let Some(cut) = &cut {
                self.tell(|| format!("node {slot} cuts a certificate: {}", cut.hash()));
            }
            self.slots[slot].liar.as_mut().expect("a liar").cut = cut;
        }
        if let Some(told) = self.help(slot, recipients, &wire) {
            self.stats.told.insert(Class::HelpAndLeave);
            for (to, wire) in told {
                self.say(slot, to, wire);
            }
            return;
        }
        let conduct = self.slots[slot].liar.as_mut().expect("a liar");
        let told = |class: &Class| conduct.tells(*class, now);
        let selective = [Class::SelectiveSilence, Class::Twins].into_iter().filter(told);
        let selective: Vec<Class> = selective.collect();
        let hears = |to: &usize| selective.is_empty() || conduct.sides_with(*to);
        let heard: Vec<usize> = recipients.iter().copied().filter(hears).collect();
        if heard.len() < recipients.len() {
            self.stats.told.extend(selective);
        }
        if matches!(wire, Wire::Block(_)) && told(&Class::WithheldBody) {
            self.stats.told.insert(Class::WithheldBody);
            return;
        }
        let wire = Arc::new(wire);
        if let Wire::Engine { .. } | Wire::Proof(_) = &*wire {
            conduct.past.extend(heard.iter().map(|to| (*to, wire.clone())));
            while conduct.past.len() > KEPT {
                conduct.past.pop_front();
            }
        }
        for to in heard {
            let (sides, conduct) = {
                let conduct = self.slots[slot].liar.as_ref().expect("a liar");
                (conduct.sides_with(to), conduct)
            };
            let cut = self.for_the_cut_block(slot, conduct, &wire);
            let cut = cut.map(|wires| (Class::CutCertificate, wires));
            let bent = cut.or_else(|| if sides { None } else { self.bend(slot, conduct, &wire) });
            match bent {
                Some((class, others)) => {
                    self.stats.told.insert(class);
                    for other in others {
                        self.say(slot, to, other);
                    }
                }
                None => self.transmit(slot, to, &wire),
            }
            self.repeat_with_other_signatures(slot, to, &wire);
        }
    }

    /// What is told in place of a vote while the liar helps at its height: a proposal goes to all
    /// but one, a prepare to one only, a round change forgets what was prepared, commits are kept
    /// back, and so is all that follows the last round of help. `None`: it does not help.
    fn help(
        &mut self,
        slot: usize,
        recipients: &[usize],
        wire: &Wire,
    ) -> Option<Vec<(usize, Wire)>> {
        let Wire::Engine { epoch, vote: Some(vote), body: Body::Pbft(body) } = wire else {
            return None;
        };
        let Position { height, round, .. } = vote.vote.position;
        let place = (*epoch, height);
        let conduct = self.slots[slot].liar.as_mut().expect("a liar");
        if conduct.help.is_none_or(|help| help.place != place) {
            let begins = conduct.tells(Class::HelpAndLeave, self.now);
            let left = 1 + (conduct.side ^ height.0) % ROUNDS_OF_HELP;
            conduct.help = begins.then_some(Help { place, left, round: None });
        }
        let side = conduct.side;
        let help = conduct.help.as_mut()?;
        let counts =
            matches!(body, pbft::Message::Prepare) && help.round.is_none_or(|it| it < round);
        if counts && help.left > 0 {
            (help.left, help.round) = (help.left - 1, Some(round));
        }
        let over = help.left == 0 && help.round.is_none_or(|last| last < round);
        let honest = recipients.iter().filter(|to| self.slots[**to].liar.is_none()).copied();
        let mut honest: Vec<usize> = honest.collect();
        if over || honest.is_empty() {
            return Some(Vec::new());
        }
        // Another one in each round, the same whenever something is said again.
        let turn = (height.0 ^ (7 * round)) % 64;
        let first = side.rotate_left(turn as u32) % honest.len() as u64;
        honest.rotate_left(first as usize);
        let (told, wire) = match body {
            pbft::Message::Proposal { .. } => (&honest[1..], wire.clone()),
            pbft::Message::Prepare => (&honest[1..honest.len().min(2)], wire.clone()),
            pbft::Message::Commit => (&honest[..0], wire.clone()),
            pbft::Message::RoundChange { .. } => {
                let vote = Vote { hash: B256::ZERO, context: B256::ZERO, ..vote.vote };
                let body = pbft::Message::RoundChange { prepared: None };
                (&honest[..], self.engine_message(slot, *epoch, vote, body)?)
            }
        };
        Some(told.iter().map(|to| (*to, wire.clone())).collect())
    }

    fn say(&mut self, slot: usize, to: usize, wire: Wire) {
        if let Wire::Block(block) = &wire
            && block.header.extra_data.as_ref() == BROKEN
        {
            self.checker.invalid.insert(block.hash());
        }
        self.transmit(slot, to, &Arc::new(wire));
    }

    /// What some are told in place of a message, and which lie it is; `None`: the truth.
    fn bend(&self, slot: usize, conduct: &Conduct, wire: &Wire) -> Option<(Class, Vec<Wire>)> {
        let told = |class| conduct.tells(class, self.now);
        let Wire::Engine { epoch, vote: Some(vote), body: Body::Pbft(body) } = wire else {
            return None;
        };
        let own = conduct.own.as_ref()?;
        if own.number() != vote.vote.position.height.0 {
            return None;
        }
        let signed = |vote, body| self.engine_message(slot, *epoch, vote, body);
        match body {
            pbft::Message::Proposal { .. } if told(Class::InvalidBlock) => {
                let block = self.rebuilt(slot, own, |header| {
                    header.state_root = B256::repeat_byte(0xbd);
                    header.extra_data = Bytes::from_static(BROKEN);
                })?;
                let vote = Vote { hash: block.hash(), ..vote.vote };
                let wires = vec![signed(vote, body.clone())?, Wire::Block(block)];
                Some((Class::InvalidBlock, wires))
            }
            pbft::Message::Proposal { .. } if told(Class::EquivocatingProposer) => {
                let block = self.rebuilt(slot, own, |header| header.gas_limit -= 1)?;
                let vote = Vote { hash: block.hash(), ..vote.vote };
                let wires = vec![signed(vote, body.clone())?, Wire::Block(block)];
                Some((Class::EquivocatingProposer, wires))
            }
            pbft::Message::Proposal { justification } if told(Class::BadJustification) => {
                let forged = self.bad_justification(justification);
                let context = forged.digest();
                let body = pbft::Message::Proposal { justification: forged };
                let wires = vec![signed(Vote { context, ..vote.vote }, body)?];
                Some((Class::BadJustification, wires))
            }
            pbft::Message::Prepare | pbft::Message::Commit if told(Class::EquivocatingVoter) => {
                let block = self.rebuilt(slot, own, |header| header.gas_limit -= 1)?;
                let hash = if vote.vote.hash == own.hash() { block.hash() } else { own.hash() };
                let wires = vec![signed(Vote { hash, ..vote.vote }, body.clone())?];
                Some((Class::EquivocatingVoter, wires))
            }
            pbft::Message::RoundChange { .. } if told(Class::EquivocatingVoter) => {
                let vote = Vote { hash: B256::ZERO, context: B256::ZERO, ..vote.vote };
                let wires = vec![signed(vote, pbft::Message::RoundChange { prepared: None })?];
                Some((Class::EquivocatingVoter, wires))
            }
            _ => None,
        }
    }

    /// One of the ways in which a justification can be wrong.
    fn bad_justification(&self, true_one: &pbft::Justification) -> pbft::Justification {
        let mut forged = true_one.clone();
        let signers = forged.round_changes.len();
        match self.now % 4 {
            0 => forged = pbft::Justification::empty(),
            1 => forged.prepared = None,
            2 if signers > 1 => forged.round_changes[1] = forged.round_changes[0],
            _ => drop(forged.round_changes.pop()),
        }
        forged
    }

    /// The same block with another header, sealed by the liar.
    fn rebuilt(
        &self,
        slot: usize,
        block: &Block,
        change: impl FnOnce(&mut Header),
    ) -> Option<Block> {
        let host = self.slots[slot].host.as_ref()?;
        let mut header = block.header.inner().clone();
        change(&mut header);
        let mut block = Block { header: Sealed::new(header), ..block.clone() };
        let seal = self.slots[slot].signer.sign_block(block.hash(), genesis_hash(host));
        block.seal = Bytes::copy_from_slice(&seal.0);
        Some(block)
    }

    pub(crate) fn engine_message(
        &self,
        slot: usize,
        epoch: u64,
        vote: Vote,
        body: pbft::Message,
    ) -> Option<Wire> {
        let it = &self.slots[slot];
        let signature = it.signer.forge(&vote, genesis_hash(it.host.as_ref()?));
        let vote = Some(SignedVote { vote, signer: it.id, signature });
        Some(Wire::Engine { epoch, vote, body: Body::Pbft(body) })
    }

    fn repeat_with_other_signatures(&mut self, slot: usize, to: usize, wire: &Wire) {
        let it = &self.slots[slot];
        let conduct = it.liar.as_ref().expect("a liar");
        let Wire::Engine { epoch, vote: Some(signed), body } = wire else { return };
        let (Some(host), true) = (&it.host, conduct.tells(Class::SecondSignature, self.now)) else {
            return;
        };
        let digest = signed.vote.digest(genesis_hash(host));
        let others: Vec<Wire> = (0..4)
            .map(|nonce| {
                let signature = it.signer.sign_again(digest, nonce);
                let vote = Some(SignedVote { signature, ..*signed });
                Wire::Engine { epoch: *epoch, vote, body: body.clone() }
            })
            .collect();
        self.stats.told.insert(Class::SecondSignature);
        for other in others {
            self.say(slot, to, other);
        }
    }

    /// The height that is open, where a liar can still do harm.
    fn open_height(&self, slot: usize) -> Option<(u64, Height)> {
        let host: &Host = self.slots[slot].host.as_ref()?;
        (host.epoch().kind() == Kind::Pbft).then(|| (host.epoch().number, host.finalized().next()))
    }

    fn broadcast(&mut self, class: Class, slot: usize, wire: Option<Wire>) {
        let Some(wire) = wire else { return };
        self.stats.told.insert(class);
        let wire = Arc::new(wire);
        for to in 0..self.slots.len() {
            if self.slots[to].id != self.slots[slot].id {
                self.transmit(slot, to, &wire);
            }
        }
    }

    /// Votes for rounds and heights that nobody has come to.
    fn spam(&mut self, slot: usize) {
        let Some((epoch, height)) = self.open_height(slot) else { return };
        for _ in 0..BURST {
            let (draw, hash) = (self.lies.next_u64(), nothing(self.lies.next_u64()));
            let step = [Step::Prepare, Step::Commit, Step::RoundChange][(draw % 3) as usize];
            let round = draw >> 8 & 0x3ff;
            let ahead = [0, 1, draw >> 32 & 0x3f, draw >> 24][(draw >> 4 & 3) as usize];
            let height = Height(height.0.saturating_add(ahead));
            let hash = if step == Step::RoundChange { B256::ZERO } else { hash };
            let position = Position { epoch, step, height, round };
            let vote = Vote { position, hash, context: B256::ZERO };
            let body = match step {
                Step::Prepare => pbft::Message::Prepare,
                Step::Commit => pbft::Message::Commit,
                _ => pbft::Message::RoundChange { prepared: None },
            };
            let wire = self.engine_message(slot, epoch, vote, body);
            self.broadcast(Class::Spam, slot, wire);
        }
    }

    fn replay(&mut self, slot: usize) {
        let conduct = self.slots[slot].liar.as_ref().expect("a liar");
        let past: Vec<_> = conduct.past.iter().cloned().collect();
        for (to, wire) in past {
            self.stats.told.insert(Class::Replay);
            self.transmit(slot, to, &wire);
        }
    }

    /// Heights that nobody has, and a proof that is one signature many times.
    fn false_sync(&mut self, slot: usize) {
        let Some((epoch, height)) = self.open_height(slot) else { return };
        let (draw, hash) = (self.lies.next_u64(), nothing(self.lies.next_u64()));
        let finalized = Height(if draw & 1 == 0 { 1 << 40 } else { 0 });
        self.broadcast(Class::FalseSync, slot, Some(Wire::Status { finalized, head: hash }));
        let position = Position { epoch, step: Step::Commit, height, round: 0 };
        let own = self.slots[slot].liar.as_ref().and_then(|conduct| conduct.own.as_ref());
        let hash = own.map_or(hash, Block::hash);
        let vote = Vote { position, hash, context: B256::ZERO };
        let it = &self.slots[slot];
        let Some(host) = &it.host else { return };
        let digest = vote.digest(genesis_hash(host));
        let mut signatures: Vec<SignerSignature> = (0..4)
            .map(|nonce| SignerSignature {
                signer: it.id,
                signature: it.signer.sign_again(digest, nonce),
            })
            .collect();
        signatures.push(SignerSignature {
            signer: it.id,
            signature: it.signer.forge(&vote, genesis_hash(host)),
        });
        let proof = FinalityProof { certificate: Certificate { vote, signatures } };
        self.broadcast(Class::FalseSync, slot, Some(Wire::Proof(proof)));
    }

    /// A block of its own for later rounds, with no reason why it may be proposed there.
    fn propose_without_reason(&mut self, slot: usize) {
        let Some((epoch, height)) = self.open_height(slot) else { return };
        let own = self.slots[slot].liar.as_ref().and_then(|conduct| conduct.own.clone());
        let Some(own) = own.filter(|own| own.number() == height.0) else { return };
        let justification = pbft::Justification::empty();
        for round in 1..6 {
            let position = Position { epoch, step: Step::Proposal, height, round };
            let vote = Vote { position, hash: own.hash(), context: justification.digest() };
            let body = pbft::Message::Proposal { justification: justification.clone() };
            let wire = self.engine_message(slot, epoch, vote, body);
            self.broadcast(Class::BadJustification, slot, wire);
        }
        self.broadcast(Class::BadJustification, slot, Some(Wire::Block(own)));
    }
}

/// Marks a block that a liar made invalid.
pub(crate) const BROKEN: &[u8] = b"broken";

/// The hash of nothing that anybody knows.
fn nothing(seed: u64) -> B256 {
    alloy_primitives::keccak256(seed.to_le_bytes())
}
