//! Attacks with blocks, proofs, and what sync asks and answers.

use crate::arena::{Arena, HONEST};
use crate::attack::{Met, met};
use crate::forge::{Draft, child, newest, noise, orphan, sealed, signed, signed_by, vote, wall};
use crate::peer::{Lane, Peer};
use landfall_consensus::FinalityProof;
use landfall_replica::{KeySigner, Wire};
use landfall_types::{Block, Certificate, Height, SignedVote, SignerSignature, Step};
use std::time::Duration;
use tokio::time::sleep;

const STEP: Duration = Duration::from_millis(1);

/// Sends blocks by the member that are wrong in what `change` changes, each on the newest final
/// block. Which peer brings them is no matter: the member's seal is under them.
async fn wrong_blocks(arena: &Arena, node: usize, change: impl Fn(&mut Draft)) -> Met {
    let mut peer = Peer::member(arena, node).await;
    let mut sent = 0;
    while !arena.is_over() && !peer.is_closed() {
        let Some(parent) = newest(arena, &mut peer).await else { continue };
        for number in 0..3_u64 {
            let block = child(arena, &parent, |draft| {
                draft.header.gas_limit -= number;
                change(draft);
            });
            let _ = peer.send(Lane::Sync, &Wire::Block(block)).await;
            sent += 1;
        }
        sleep(STEP * 20).await;
    }
    met(arena, peer).await.noting(format!("{sent} blocks"))
}

pub async fn wrong_state_root(arena: &Arena) -> Met {
    wrong_blocks(arena, 0, |draft| draft.header.state_root = noise(3)).await
}

pub async fn far_future(arena: &Arena) -> Met {
    wrong_blocks(arena, 1, |draft| draft.extension.milliseconds += 3_600_000).await
}

pub async fn gas_above_limit(arena: &Arena) -> Met {
    wrong_blocks(arena, 2, |draft| draft.header.gas_limit *= 2).await
}

pub async fn no_parent_certificate(arena: &Arena) -> Met {
    wrong_blocks(arena, 0, |draft| draft.extension.data = Vec::new().into()).await
}

/// A block by the member with another extension than its header commits to.
fn another_extension(arena: &Arena, parent: &(Block, FinalityProof), number: u64) -> Block {
    let mut block = child(arena, parent, |draft| draft.header.gas_limit -= number);
    block.extension = vec![0xc1, number as u8].into();
    block
}

/// A block by the member with another body than its header commits to. The hash and the seal do not
/// cover it.
fn another_body(arena: &Arena, parent: &(Block, FinalityProof), number: u64) -> Block {
    let mut block = child(arena, parent, |draft| draft.header.gas_limit -= number);
    block.body.ommers.push(Default::default());
    block
}

type Make = fn(&Arena, &(Block, FinalityProof), u64) -> Block;

async fn sent(arena: &Arena, node: usize, make: Make) -> Met {
    let mut peer = Peer::stranger(arena, node).await;
    let Some(parent) = newest(arena, &mut peer).await else { return met(arena, peer).await };
    for number in 0..4 {
        let _ = peer.send(Lane::Sync, &Wire::Block(make(arena, &parent, number))).await;
    }
    met(arena, peer).await
}

/// The header commits to another extension than comes with it.
pub async fn wrong_extension(arena: &Arena) -> Met {
    sent(arena, 1, another_extension).await
}

/// The header commits to another body than comes with it.
pub async fn wrong_body(arena: &Arena) -> Met {
    sent(arena, 2, another_body).await
}

async fn gossiped(arena: &Arena, node: usize, blocks: Vec<Block>) -> Met {
    let mut peer = Peer::stranger(arena, node).await;
    let mut sent = 0;
    for block in blocks {
        if peer.gossip(arena, "blocks", &Wire::Block(block).encode()).await.is_err() {
            break;
        }
        sent += 1;
        sleep(STEP * 20).await;
    }
    met(arena, peer).await.noting(format!("{sent} blocks"))
}

async fn parent(arena: &Arena, node: usize) -> (Block, FinalityProof) {
    let mut peer = Peer::stranger(arena, node).await;
    for _ in 0..20 {
        if let Some(found) = newest(arena, &mut peer).await {
            return found;
        }
    }
    panic!("an honest node answers")
}

/// As before, by gossip: whoever passes such a block on must not be held to have made it.
pub async fn gossiped_extension(arena: &Arena) -> Met {
    let parent = parent(arena, 0).await;
    let block = |number| another_extension(arena, &parent, number);
    gossiped(arena, 0, (0..8).map(block).collect()).await
}

/// And with another body.
pub async fn gossiped_body(arena: &Arena) -> Met {
    let parent = parent(arena, 2).await;
    gossiped(arena, 2, (0..8).map(|number| another_body(arena, &parent, number)).collect()).await
}

/// Blocks with the seal of no member, by gossip.
pub async fn gossiped_seal(arena: &Arena) -> Met {
    let parent = parent(arena, 1).await;
    let block = |number: u64| {
        let mut block = child(arena, &parent, |draft| draft.header.gas_limit -= number);
        block.seal = vec![3; 65].into();
        block
    };
    gossiped(arena, 1, (0..8).map(block).collect()).await
}

/// Blocks with the member's own good seal that are invalid when executed, by gossip of a stranger.
pub async fn gossiped_invalid(arena: &Arena) -> Met {
    let mut peer = Peer::stranger(arena, 2).await;
    let mut sent = 0;
    while !arena.is_over() && !peer.is_closed() {
        let Some(parent) = newest(arena, &mut peer).await else { continue };
        for number in 0..3_u64 {
            let block = child(arena, &parent, |draft| {
                draft.header.state_root = noise(wall() + number);
            });
            let _ = peer.gossip(arena, "blocks", &Wire::Block(block).encode()).await;
            sent += 1;
        }
        sleep(STEP * 50).await;
    }
    met(arena, peer).await.noting(format!("{sent} blocks"))
}

/// 40 blocks of 10 MiB that stand on nothing: each would be kept until its parent comes.
pub async fn huge_orphans(arena: &Arena) -> Met {
    let mut peer = Peer::stranger(arena, 0).await;
    let Some(parent) = newest(arena, &mut peer).await else { return met(arena, peer).await };
    let mut sent = 0;
    while !arena.is_over() && !peer.is_closed() && sent < 40 {
        let block = orphan(arena, &parent, sent, 10 << 20);
        if peer.send(Lane::Sync, &Wire::Block(block)).await.is_err() {
            break;
        }
        sent += 1;
    }
    met(arena, peer).await.noting(format!("{sent} blocks of 10 MiB"))
}

/// More small blocks on nothing than a node keeps.
pub async fn many_orphans(arena: &Arena) -> Met {
    let mut peer = Peer::stranger(arena, 1).await;
    let Some(parent) = newest(arena, &mut peer).await else { return met(arena, peer).await };
    let mut sent = 0;
    while !arena.is_over() && !peer.is_closed() && sent < 1_500 {
        let block = sealed(arena, orphan(arena, &parent, 10_000 + sent, 0));
        if peer.send(Lane::Sync, &Wire::Block(block)).await.is_err() {
            break;
        }
        sent += 1;
    }
    met(arena, peer).await.noting(format!("{sent} blocks"))
}

/// What is final long since, again and again.
pub async fn old_blocks(arena: &Arena) -> Met {
    let mut peer = Peer::stranger(arena, 2).await;
    let _ = peer.send(Lane::Sync, &Wire::Range { after: Height(0) }).await;
    let mut old = Vec::new();
    while let Some(wire) = peer.hear(STEP * 1_000).await {
        match wire {
            Wire::Block(block) => old.push(block),
            Wire::Proof(_) => break,
            _ => {}
        }
    }
    assert!(!old.is_empty(), "an honest node answers");
    let mut sent = 0;
    'all: while !arena.is_over() && !peer.is_closed() {
        for block in &old {
            if peer.send(Lane::Sync, &Wire::Block(block.clone())).await.is_err() {
                break 'all;
            }
            sent += 1;
        }
        sleep(STEP * 50).await;
    }
    met(arena, peer).await.noting(format!("{sent} blocks"))
}

/// Sends messages of `make`, so many and then a pause of a millisecond.
async fn asks(arena: &Arena, node: usize, at_once: u64, make: impl Fn(u64) -> Wire) -> Met {
    let mut peer = Peer::stranger(arena, node).await;
    let mut sent = 0_u64;
    while !arena.is_over() && !peer.is_closed() {
        if peer.send(Lane::Sync, &make(sent)).await.is_err() {
            break;
        }
        sent += 1;
        if sent.is_multiple_of(at_once) {
            sleep(STEP).await;
        }
    }
    let mebibytes = peer.bytes_in() >> 20;
    met(arena, peer).await.noting(format!("{sent} asked, {mebibytes} MiB answered"))
}

pub async fn flood_of_gets(arena: &Arena) -> Met {
    asks(arena, 0, 4, |number| Wire::Get(noise(number))).await
}

pub async fn flood_of_ranges(arena: &Arena) -> Met {
    asks(arena, 1, 4, |_| Wire::Range { after: Height(0) }).await
}

/// As often as an honest node may say where it is, and untrue.
pub async fn false_status(arena: &Arena) -> Met {
    let mut peer = Peer::stranger(arena, 2).await;
    let mut said = 0;
    while !arena.is_over() && !peer.is_closed() {
        let wire = Wire::Status { finalized: Height(1 << 60), head: noise(said) };
        let _ = peer.send(Lane::Sync, &wire).await;
        said += 1;
        sleep(STEP * 20).await;
    }
    met(arena, peer).await.noting(format!("said {said} times"))
}

/// One good signature as often as there are members: it weighs no more than once.
pub async fn repeated_signature(arena: &Arena) -> Met {
    let mut peer = Peer::stranger(arena, 0).await;
    while !arena.is_over() && !peer.is_closed() {
        let Some((_, proof)) = newest(arena, &mut peer).await else { continue };
        let mut vote = proof.certificate.vote;
        vote.position.height = Height(vote.position.height.0 + 1_000);
        let SignedVote { signer, signature, .. } = signed(arena, vote);
        let one = SignerSignature { signer, signature };
        let proof = FinalityProof { certificate: Certificate { vote, signatures: vec![one; 4] } };
        let _ = peer.send(Lane::Sync, &Wire::Proof(proof)).await;
    }
    met(arena, peer).await
}

/// A proof with genuine signatures of keys that nobody knows.
fn stuffed(arena: &Arena, round: u64) -> Wire {
    let vote = vote(Step::Commit, 1_000_000, round, noise(6));
    let sign = |number: u64| {
        let key = KeySigner::new(&noise(50_000 + number).0).expect("a key");
        let SignedVote { signer, signature, .. } = signed_by(&key, arena.genesis, vote);
        SignerSignature { signer, signature }
    };
    let certificate = Certificate { vote, signatures: (0..2_000).map(sign).collect() };
    Wire::Proof(FinalityProof { certificate })
}

/// Each signature costs a node that looks at it a twentieth of a millisecond.
pub async fn stuffed_proofs(arena: &Arena) -> Met {
    let mut peer = Peer::stranger(arena, 1).await;
    let proofs: Vec<Wire> = (0..4).map(|round| stuffed(arena, round)).collect();
    // Signing takes a busy machine as long as the attack.
    arena.begin(Duration::from_secs(2));
    let mut sent = 0;
    for proof in &proofs {
        if arena.is_over() || peer.send(Lane::Sync, proof).await.is_err() {
            break;
        }
        sent += 1;
    }
    met(arena, peer).await.noting(format!("{sent} proofs of 2,000 signatures"))
}

/// Proofs of epochs that have not begun, with a signature each.
pub async fn unknown_epochs(arena: &Arena) -> Met {
    let key = KeySigner::new(&noise(88).0).expect("a key");
    let make = |number: u64| {
        let mut vote = vote(Step::Commit, 1_000 + number, 0, noise(number));
        vote.position.epoch = 7 + number;
        let SignedVote { signer, signature, .. } = signed_by(&key, arena.genesis, vote);
        let signatures = vec![SignerSignature { signer, signature }];
        let certificate = Certificate { vote, signatures };
        Wire::Proof(FinalityProof { certificate })
    };
    asks(arena, HONEST - 1, 4, make).await
}
