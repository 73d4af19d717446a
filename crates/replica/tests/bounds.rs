//! What a hostile peer can make a node keep and do is bounded, and what it does is held against it and
//! nobody else. The attacks on real nodes are in `crates/node/tests/hostile`; each found one of these.

mod cluster;

use alloy_consensus::{Header, Sealed, proofs::calculate_withdrawals_root};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{B256, Bytes, U256, keccak256};
use cluster::{Cluster, PATIENCE, id, key, settled};
use landfall_consensus::{Body, FinalityProof, pbft};
use landfall_replica::{
    Effect, Event, JobKind, KeySigner, Limits, Passage, Signer, To, Wire, passage, seal_digest,
};
use landfall_types::{
    Block, Certificate, Extension, Height, NodeId, Position, SignedVote, SignerSignature, Span,
    Step, Vote,
};

/// Somebody with a key that is no member's.
fn stranger(number: u64) -> KeySigner {
    KeySigner::new(&keccak256(number.to_be_bytes()).0).expect("a key")
}

fn vote(step: Step, height: u64, round: u64) -> Vote {
    let position = Position { epoch: 0, step, height: Height(height), round };
    Vote { position, hash: B256::repeat_byte(7), context: B256::ZERO }
}

fn signed(it: &Cluster, signer: &KeySigner, vote: Vote) -> SignedVote {
    let signature = signer.sign_digest(vote.digest(it.reader(0).genesis_hash()));
    SignedVote { vote, signer: signer.id(), signature }
}

/// A certificate of genuine signatures by strangers.
fn stuffed(it: &Cluster, vote: Vote, signatures: u64) -> Certificate {
    let one = |number| {
        let SignedVote { signer, signature, .. } = signed(it, &stranger(number), vote);
        SignerSignature { signer, signature }
    };
    Certificate { vote, signatures: (0..signatures).map(one).collect() }
}

fn engine(vote: SignedVote, message: pbft::Message) -> Wire {
    Wire::Engine { epoch: 0, vote: Some(vote), body: Body::Pbft(message) }
}

/// A block on a parent that nobody has, sealed by a key under a name.
fn orphan(it: &Cluster, number: u64, seal: &KeySigner, proposer: NodeId, bytes: usize) -> Block {
    let mut block = it.block_at(0, it.finalized(0));
    let mut extension = Extension::from_bytes(&block.extension).expect("it is ours");
    extension.proposer = proposer;
    block.extension = extension.to_bytes();
    let mut header = block.header.inner().clone();
    header.number += 1_000;
    header.parent_hash = keccak256(number.to_be_bytes());
    header.parent_beacon_block_root = Some(Extension::commitment(&block.extension));
    // Bytes of the body are as good as any: nobody looks at them before the parent is here.
    header.extra_data = vec![1; bytes].into();
    block.header = Sealed::new(header);
    let digest = seal_digest(block.hash(), it.reader(0).genesis_hash());
    block.seal = Bytes::copy_from_slice(&seal.sign_digest(digest).0);
    block
}

#[test]
fn a_proof_with_more_signatures_than_members_is_refused_before_any_is_recovered() {
    let mut it = settled(cluster::pbft(), 4);
    it.hold(1, JobKind::Recover);
    let certificate = stuffed(&it, vote(Step::Commit, 1_000, 0), 5);
    let before = it.holds(1);
    it.inject(0, 1, &Wire::Proof(FinalityProof { certificate }));
    assert_eq!(it.holds(1), before, "signatures are recovered");
    assert!(it.nodes[1].penalties[0].contains("more signatures than a committee has members"));
    assert_eq!(it.nodes[1].guilty, [id(0)]);
}

#[test]
fn a_message_that_carries_more_votes_than_needed_is_refused_before_any_is_recovered() {
    let mut it = settled(cluster::pbft(), 4);
    it.hold(1, JobKind::Recover);
    let before = it.holds(1);
    let prepared = Some(stuffed(&it, vote(Step::Prepare, 1, 0), 9));
    let said = signed(&it, &key(0), vote(Step::RoundChange, 1_000, 2));
    it.inject(0, 1, &engine(said, pbft::Message::RoundChange { prepared }));
    assert_eq!(it.holds(1), before, "signatures are recovered");
    assert!(it.nodes[1].penalties[0].contains("more votes than any member needs"));
}

#[test]
fn votes_of_heights_far_ahead_and_of_strangers_are_not_kept() {
    let mut it = settled(cluster::pbft(), 4);
    let (before, height) = (it.replica(1).archive().len(), it.finalized(1));
    let far = height + Limits::default().evidence_window + 1;
    for number in 0..200 {
        let said = signed(&it, &key(0), vote(Step::Prepare, far + number, 0));
        it.inject(0, 1, &engine(said, pbft::Message::Prepare));
    }
    let certificate = stuffed(&it, vote(Step::Commit, height + 1, 0), 4);
    it.inject(0, 1, &Wire::Proof(FinalityProof { certificate }));
    assert_eq!(it.replica(1).archive().len(), before);
    // At a height that is at hand a lie is seen.
    for round in [0, 1] {
        let mut said = vote(Step::Prepare, height + 5, 0);
        said.context = U256::from(round).into();
        let said = signed(&it, &key(0), said);
        it.inject(0, 1, &engine(said, pbft::Message::Prepare));
    }
    assert_eq!(it.nodes[1].accused, [id(0)]);
}

#[test]
fn a_peer_that_floods_leaves_room_for_the_votes_of_others() {
    let mut it = settled(cluster::pbft(), 4);
    it.hold(1, JobKind::Recover);
    let limits = Limits::default();
    for number in 0..2 * limits.recovering as u64 {
        let said = signed(&it, &key(0), vote(Step::Prepare, 1_000 + number, 0));
        it.inject(0, 1, &engine(said, pbft::Message::Prepare));
    }
    assert!(it.holds(1) <= limits.recovering_of_peer + 8, "{} of one peer", it.holds(1));
    let before = it.holds(1);
    let said = signed(&it, &key(2), vote(Step::Prepare, 1_000, 0));
    it.inject(2, 1, &engine(said, pbft::Message::Prepare));
    assert_eq!(it.holds(1), before + 1, "there is no room for another peer");
    it.release(1);
    let height = it.finalized(0) + 2;
    it.expect_final(&[0, 1, 2, 3], height, PATIENCE);
}

#[test]
fn a_block_that_no_member_sealed_is_not_kept_and_costs_its_sender() {
    let mut it = settled(cluster::pbft(), 4);
    let before = it.replica(1).queued();
    for number in 0..3 {
        let forged = orphan(&it, number, &stranger(1), id(2), 0);
        it.inject(0, 1, &Wire::Block(forged));
        let foreign = orphan(&it, number, &stranger(1), stranger(1).id(), 0);
        it.inject(0, 1, &Wire::Block(foreign));
    }
    assert_eq!(it.replica(1).queued(), before, "blocks of nobody wait");
    assert_eq!(it.nodes[1].guilty, [id(0); 6]);
}

#[test]
fn a_peer_that_sends_orphans_fills_its_own_share_and_nobody_elses() {
    let mut it = settled(cluster::pbft(), 4);
    let (limits, before) = (Limits::default(), it.replica(1).queued());
    for number in 0..600 {
        let block = orphan(&it, number, &key(0), id(0), 0);
        it.inject(0, 1, &Wire::Block(block));
    }
    let held = it.replica(1).queued() - before;
    assert!(held <= limits.waiting_of_peer + limits.wanted_of_peer, "{held} of one peer");
    let other = orphan(&it, 10_000, &key(2), id(2), 0);
    it.inject(2, 1, &Wire::Block(other));
    assert!(it.replica(1).queued() - before > held, "there is no room for another peer");
}

#[test]
fn large_blocks_that_wait_are_bounded_in_bytes_and_the_greedy_give_way() {
    let mut it = settled(cluster::pbft(), 4);
    let limits = Limits::default();
    let large = 6 << 20;
    let fit = (limits.waiting_bytes / large) as u64;
    let before = it.replica(1).queued();
    for number in 0..3 * fit {
        let block = orphan(&it, number, &key(0), id(0), large);
        it.inject(0, 1, &Wire::Block(block));
    }
    // A block that waits, and that its parent is asked for.
    assert!(it.replica(1).queued() - before <= 2 * fit as usize, "more bytes wait than may");
    let queued = it.replica(1).queued();
    let other = orphan(&it, 20_000, &key(2), id(2), large);
    it.inject(2, 1, &Wire::Block(other));
    assert_eq!(
        it.replica(1).queued(),
        queued + 1,
        "one gave way, and one parent more is asked for"
    );
}

#[test]
fn an_invalid_block_is_its_makers_fault_whoever_passes_it_on() {
    let (mut it, block) = one_behind();
    let bad = changed(&it, &block, |_, header| header.state_root = B256::repeat_byte(0xbd));
    let maker = maker_of(&block);
    let carrier = (0..3).find(|other| *other != maker).expect("three nodes");
    it.inject(carrier, 3, &Wire::Block(bad));
    assert_eq!(it.nodes[3].guilty, [id(maker)]);
}

#[test]
fn strangers_with_many_names_leave_room_for_the_votes_of_members() {
    let mut it = settled(cluster::pbft(), 4);
    let limits = Limits::default();
    it.hold(1, JobKind::Recover);
    let before = it.holds(1);
    let block = orphan(&it, 1, &stranger(1), id(2), 0);
    for number in 0..2 * limits.recovering as u64 {
        it.inject_as(stranger(number % 50).id(), 1, Wire::Block(block.clone()));
    }
    let held = it.holds(1) - before;
    assert_eq!(held, limits.recovering_of_strangers);
    let said = signed(&it, &key(2), vote(Step::Prepare, 1_000, 0));
    it.inject(2, 1, &engine(said, pbft::Message::Prepare));
    assert_eq!(it.holds(1), before + held + 1, "there is no room for a member");
}

#[test]
fn a_peer_that_asks_for_ranges_without_end_is_answered_at_a_pace() {
    let mut it = settled(cluster::pbft(), 4);
    it.run_for(Span(2_000));
    let limits = Limits::default();
    let asks = |peer: usize, it: &mut Cluster| {
        let event = Event::Wire { from: id(peer), wire: Wire::Range { after: Height(0) } };
        let replica = it.nodes[1].replica.as_mut().expect("it runs");
        replica.handle(it.now, event).expect("it goes on").len()
    };
    let answer = asks(0, &mut it);
    assert!(answer > 2);
    // Each block counts for four KiB at least.
    let most = limits.answer_bytes / (4 << 10) / (answer - 1) + 1;
    let answered = (0..2 * most).filter(|_| asks(0, &mut it) > 0).count();
    assert!(answered < most, "{answered} answers at once");
    assert_eq!(asks(0, &mut it), 0);
    assert_eq!(asks(2, &mut it), answer, "another peer has its own pace");
    it.run_for(Span(1_000));
    assert!(asks(0, &mut it) > 0, "it is answered again");
}

/// Node 3 comes back, and the block that it needs next.
fn one_behind() -> (Cluster, Block) {
    let mut it = settled(cluster::pbft(), 4);
    it.part(&[3]);
    let next = it.finalized(3) + 1;
    it.expect_final(&[0, 1, 2], next, PATIENCE);
    it.heal();
    let block = it.block_at(0, next);
    (it, block)
}

/// The hash covers the header alone: whoever carries a copy with another body could make the honest
/// hash invalid, and a finality proof for it would stop the node.
#[test]
fn a_copy_with_another_body_costs_its_sender_and_says_nothing_about_the_hash() {
    let (mut it, block) = one_behind();
    let mut bad = block.clone();
    bad.body.ommers.push(Default::default());
    assert_eq!(bad.hash(), block.hash());
    assert_eq!(passage(&bad, it.replica(0).epoch()), Passage::Refuse);
    it.inject(0, 3, &Wire::Block(bad));
    assert_eq!(it.nodes[3].guilty, [id(0)]);
    let height = block.number() + 1;
    it.expect_final(&[0, 1, 2, 3], height, PATIENCE);
}

#[test]
fn what_is_needed_next_comes_in_though_its_sender_has_filled_its_share() {
    let (mut it, block) = one_behind();
    for number in 0..2 * Limits::default().waiting_of_peer as u64 {
        let far = orphan(&it, number, &key(0), id(0), 0);
        it.inject(0, 3, &Wire::Block(far));
    }
    let hash = block.hash();
    it.inject(0, 3, &Wire::Block(block));
    assert!(it.replica(3).tree().has(&hash), "it was not let in");
}

/// A block as its maker could have made it, with something else in it.
fn changed(it: &Cluster, block: &Block, change: impl FnOnce(&mut Block, &mut Header)) -> Block {
    let mut copy = block.clone();
    let mut header = block.header.inner().clone();
    change(&mut copy, &mut header);
    header.parent_beacon_block_root = Some(Extension::commitment(&copy.extension));
    copy.header = Sealed::new(header);
    let maker = maker_of(block);
    let seal = key(maker).sign_block(copy.hash(), it.reader(0).genesis_hash());
    copy.seal = Bytes::copy_from_slice(&seal.0);
    copy
}

fn maker_of(block: &Block) -> usize {
    let maker = Extension::from_bytes(&block.extension).expect("it is ours").proposer;
    (0..4).find(|number| id(*number) == maker).expect("a member")
}

/// Withdrawals are money from nowhere, and everybody would agree on them.
#[test]
fn a_member_cannot_pay_itself() {
    let (mut it, block) = one_behind();
    let greedy = changed(&it, &block, |copy, header| {
        let gift = Withdrawal { amount: u64::MAX, ..Withdrawal::default() };
        header.withdrawals_root = Some(calculate_withdrawals_root(&[gift]));
        copy.body.withdrawals = Some(vec![gift].into());
    });
    it.inject(0, 3, &Wire::Block(greedy));
    assert_eq!(it.nodes[3].guilty, [id(maker_of(&block))]);
    assert!(it.nodes[3].penalties[0].contains("pays nobody"), "{:?}", it.nodes[3].penalties);
}

/// It would be refused by whoever gets it next, and who passed it on would be blamed.
#[test]
fn a_block_that_carries_more_votes_than_members_is_not_passed_on() {
    let (it, block) = one_behind();
    let certificate = stuffed(&it, vote(Step::Commit, block.number() - 1, 0), 5);
    let heavy = changed(&it, &block, |copy, _| {
        let mut extension = Extension::from_bytes(&copy.extension).expect("it is ours");
        extension.data = alloy_rlp::encode(&certificate).into();
        copy.extension = extension.to_bytes();
    });
    assert_eq!(passage(&block, it.replica(0).epoch()), Passage::Forward);
    assert_eq!(passage(&heavy, it.replica(0).epoch()), Passage::Refuse);
}

#[test]
fn a_member_that_floods_through_another_peer_fills_its_own_share() {
    let (mut it, block) = one_behind();
    let liar = (0..3).find(|number| *number != maker_of(&block)).expect("three");
    for number in 0..2 * Limits::default().waiting_of_peer as u64 {
        let far = orphan(&it, number, &key(liar), id(liar), 0);
        let low = changed(&it, &far, |_, header| header.number = block.number());
        it.inject(maker_of(&block), 3, &Wire::Block(low));
    }
    let hash = block.hash();
    it.inject(maker_of(&block), 3, &Wire::Block(block));
    assert!(it.replica(3).tree().has(&hash), "it was not let in");
}

/// A block that names an epoch which nobody knows, with another header.
fn of_unknown_epoch(it: &Cluster, block: &Block, change: impl FnOnce(&mut Header)) -> Block {
    changed(it, block, |copy, header| {
        let mut extension = Extension::from_bytes(&copy.extension).expect("it is ours");
        extension.epoch = 999;
        copy.extension = extension.to_bytes();
        change(header);
    })
}

#[test]
fn blocks_of_an_unknown_epoch_are_nobodys_siblings() {
    let (mut it, block) = one_behind();
    for number in 0..20_u8 {
        let foreign = of_unknown_epoch(&it, &block, |it| it.extra_data = vec![number].into());
        it.inject_as(stranger(1).id(), 3, Wire::Block(foreign));
    }
    let hash = block.hash();
    it.inject(0, 3, &Wire::Block(block));
    assert!(it.replica(3).tree().has(&hash), "it was not let in");
}

#[test]
fn what_strangers_make_a_node_want_does_not_make_it_flood_its_peers() {
    let (mut it, block) = one_behind();
    for number in 0..512_u64 {
        let parent = keccak256(number.to_be_bytes());
        let foreign = of_unknown_epoch(&it, &block, |it| it.parent_hash = parent);
        it.inject_as(stranger(number / 64).id(), 3, Wire::Block(foreign));
    }
    let honest = orphan(&it, 10_000, &key(0), id(0), 0);
    let parent = honest.parent();
    it.inject(0, 3, &Wire::Block(honest));
    let (mut asked, mut most, mut heard) = (0, 0, false);
    for _ in 0..100 {
        it.now += Span(100);
        let replica = it.nodes[3].replica.as_mut().expect("it runs");
        let effects = replica.handle(it.now, Event::Wake).expect("it goes on");
        let gets = effects.iter().filter_map(|effect| match effect {
            Effect::Send { to, wire: Wire::Get(hash) } => Some((*to, *hash)),
            _ => None,
        });
        let gets: Vec<(To, B256)> = gets.collect();
        asked += gets.len();
        most = most.max(gets.iter().filter(|(to, _)| *to == To::Everyone).count());
        heard |= gets.contains(&(To::Everyone, parent));
    }
    assert!(asked > 1_000, "only {asked} questions: the attack does not work any more");
    assert!((1..=9).contains(&most), "{most} questions to everybody at once");
    assert!(heard, "what a member spoke of is not asked for aloud");
}

#[test]
fn strangers_that_speak_of_blocks_without_end_leave_room_for_another() {
    let (mut it, block) = one_behind();
    let asks = |it: &mut Cluster, from: u64, parent: B256| {
        let foreign = of_unknown_epoch(it, &block, |it| it.parent_hash = parent);
        it.inject_as(stranger(from).id(), 3, Wire::Block(foreign));
        it.now += Span(500);
        let replica = it.nodes[3].replica.as_mut().expect("it runs");
        let effects = replica.handle(it.now, Event::Wake).expect("it goes on");
        let get = |effect: &Effect| matches!(effect, Effect::Send { wire: Wire::Get(hash), .. } if *hash == parent);
        effects.iter().any(get)
    };
    let limits = Limits::default();
    for number in 0..limits.wanted_of_strangers as u64 {
        let parent = keccak256(number.to_be_bytes());
        let foreign = of_unknown_epoch(&it, &block, |it| it.parent_hash = parent);
        it.inject_as(stranger(number / limits.wanted_of_peer as u64).id(), 3, Wire::Block(foreign));
    }
    for number in 1_000..1_010 {
        assert!(asks(&mut it, 100, keccak256([number as u8; 5])), "the place of nobody");
    }
    assert!(!asks(&mut it, 0, keccak256([7; 9])), "who has most gets no more");
}

/// A proposal names a block, its maker sends that and one below the other, and none of them can ever be
/// executed.
#[test]
fn a_chain_below_a_proposed_block_is_on_its_makers_account() {
    let mut it = settled(cluster::pbft(), 4);
    let liar = it.proposer(1);
    let victim = (liar + 1) % 4;
    it.part(&[victim]);
    let length = 3 * Limits::default().waiting_of_peer as u64;
    let mut chain = vec![orphan(&it, 1, &key(liar), id(liar), 0)];
    for _ in 1..length {
        let below = chain.last().expect("there is one").clone();
        let next = changed(&it, &below, |_, header| {
            header.number += 1;
            header.parent_hash = below.hash();
        });
        chain.push(next);
    }
    let top = chain.last().expect("there is one").hash();
    let height = it.finalized(victim) + 1;
    let said = Vote {
        hash: top,
        context: pbft::Justification::empty().digest(),
        ..vote(Step::Proposal, height, 0)
    };
    let message = pbft::Message::Proposal { justification: pbft::Justification::empty() };
    let said = engine(signed(&it, &key(liar), said), message);
    let before = it.replica(victim).queued();
    it.inject_as(id(liar), victim, said);
    for block in chain.into_iter().rev() {
        it.inject_as(id(liar), victim, Wire::Block(block));
    }
    let limits = Limits::default();
    let (kept, most) =
        (it.replica(victim).queued() - before, limits.waiting_of_peer + limits.wanted_of_peer);
    assert!(kept > 0, "the proposal was not taken");
    assert!(kept <= most + 8, "{kept} are kept");
}

#[test]
fn what_waits_is_let_go_when_finality_has_passed_it() {
    let mut it = settled(cluster::pbft(), 4);
    let before = it.replica(1).queued();
    let height = it.finalized(1) + 2;
    for number in 0..20 {
        let far = orphan(&it, number, &key(0), id(0), 0);
        let low = changed(&it, &far, |_, header| header.number = height);
        it.inject(0, 1, &Wire::Block(low));
    }
    assert!(it.replica(1).queued() >= before + 20);
    it.expect_final(&[1, 2], height, PATIENCE);
    it.run_for(Span(2 * Limits::default().fetch_expiry.0));
    // The other node never had them.
    let (kept, other) = (it.replica(1).queued(), it.replica(2).queued());
    assert!(kept < other + 20, "{kept} are kept, {other} elsewhere");
}

/// Copies of a block that differ in what is free, all sealed by its maker.
fn siblings(it: &Cluster, block: &Block, count: u8) -> Vec<Block> {
    let copy = |extra| changed(it, block, |_, header| header.extra_data = vec![extra].into());
    (0..count).map(copy).collect()
}

#[test]
fn a_member_has_two_blocks_in_execution_and_sixteen_on_one_parent() {
    let (mut it, block) = one_behind();
    it.hold(3, JobKind::Execute);
    let before = it.holds(3);
    for (carrier, copy) in (0..3).cycle().zip(siblings(&it, &block, 40)) {
        it.inject(carrier, 3, &Wire::Block(copy));
    }
    assert_eq!(it.holds(3), before + 2);
    it.release(3);
    let height = Height(block.number());
    let on_parent = it.replica(3).tree().above(Height(height.0 - 1));
    let on_parent = on_parent.filter(|it| it.height == height).count();
    // The one that the others have made final is asked for.
    assert!(on_parent <= 17, "{on_parent} blocks of one member on one parent");
    // What the others have made final comes in nevertheless.
    it.expect_final(&[0, 1, 2, 3], height.0 + 1, PATIENCE);
}

#[test]
fn votes_of_long_ago_are_not_kept() {
    let mut it = settled(cluster::pbft(), 4);
    let window = Limits::default().evidence_window;
    it.expect_final(&[0, 1, 2, 3], window + 10, Span(20 * PATIENCE.0));
    let before = it.replica(1).archive().len();
    for height in 1..=5 {
        let said = signed(&it, &key(0), vote(Step::Prepare, height, 7));
        it.inject(0, 1, &engine(said, pbft::Message::Prepare));
    }
    assert_eq!(it.replica(1).archive().len(), before);
}

#[test]
fn a_proof_that_cannot_prove_anything_is_refused_before_a_signature_is_recovered() {
    let mut it = settled(cluster::pbft(), 4);
    it.hold(1, JobKind::Recover);
    let before = it.holds(1);
    let mut later = vote(Step::Commit, 1_000, 0);
    later.position.epoch = 5;
    for vote in [later, vote(Step::Commit, 1_000, 0)] {
        let certificate = stuffed(&it, vote, 4);
        it.inject(0, 1, &Wire::Proof(FinalityProof { certificate }));
    }
    assert_eq!(it.holds(1), before, "signatures are recovered");
    assert_eq!(it.nodes[1].guilty, [id(0)], "of strangers; an epoch may have begun elsewhere");
}

/// Without that a stranger that claims to be ahead takes every turn to be asked, and the node never
/// hears those who know.
#[test]
fn a_peer_that_claims_and_gives_nothing_does_not_keep_a_node_behind() {
    let (mut it, block) = one_behind();
    let height = block.number();
    let claim = Wire::Status { finalized: Height(1 << 60), head: B256::repeat_byte(9) };
    for _ in 0..400 {
        it.inject_as(stranger(1).id(), 3, claim.clone());
        it.run_for(Span(25));
    }
    assert!(it.finalized(3) >= height, "{}", it.describe());
}

#[test]
fn gossip_is_passed_on_when_a_member_has_sealed_it() {
    let it = settled(cluster::pbft(), 4);
    let epoch = it.replica(0).epoch();
    let good = it.block_at(0, 1);
    assert_eq!(passage(&good, epoch), Passage::Forward);
    let unsealed = Block { seal: Bytes::new(), ..good.clone() };
    assert_eq!(passage(&unsealed, epoch), Passage::Refuse);
    let foreign = orphan(&it, 1, &stranger(1), stranger(1).id(), 0);
    assert_eq!(passage(&foreign, epoch), Passage::Refuse);
    let other = Block { extension: Bytes::from_static(&[0xc0]), ..good.clone() };
    assert_eq!(passage(&other, epoch), Passage::Refuse);
    let mut later = epoch.clone();
    later.number += 1;
    assert_eq!(passage(&good, &later), Passage::Keep);
}
