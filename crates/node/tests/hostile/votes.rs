//! Attacks with votes, most of them by the validator that the hostile program is.

use crate::arena::{Arena, HONEST};
use crate::attack::{Met, met};
use crate::forge::{garbage_signature, message, noise, signed, signed_by, vote};
use crate::peer::{Lane, Peer};
use landfall_consensus::{Body, pbft};
use landfall_replica::{KeySigner, Wire};
use landfall_types::{Certificate, SignedVote, SignerSignature, Step};
use std::time::Duration;
use tokio::time::sleep;

const STEP: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn open_height(arena: &Arena, node: usize) -> u64 {
    tokio::task::block_in_place(|| arena.nodes[node].finalized()) + 1
}

/// Sends what `make` makes of 0, 1, 2 ..., up to `per_step` each millisecond, while it may.
async fn flood(
    arena: &Arena,
    peer: &mut Peer,
    per_step: u64,
    mut make: impl FnMut(u64) -> Wire,
) -> u64 {
    let mut sent = 0;
    while !arena.is_over() && !peer.is_closed() {
        for _ in 0..per_step {
            if peer.send(Lane::Votes, &make(sent)).await.is_err() {
                return sent;
            }
            sent += 1;
        }
        sleep(STEP).await;
    }
    sent
}

pub async fn garbage_signatures(arena: &Arena) -> Met {
    let mut peer = Peer::member(arena, 0).await;
    let height = open_height(arena, peer.node);
    let sent = flood(arena, &mut peer, 4, |number| {
        let vote = vote(Step::Prepare, height, number, noise(number));
        let signature = garbage_signature(number);
        message(SignedVote { vote, signer: arena.member.id, signature })
    })
    .await;
    met(arena, peer).await.noting(format!("{sent} votes"))
}

pub async fn votes_of_nobody(arena: &Arena) -> Met {
    let mut peer = Peer::stranger(arena, 0).await;
    let height = open_height(arena, 0);
    let key = KeySigner::new(&noise(77).0).expect("a key");
    let sent = flood(arena, &mut peer, 3, |number| {
        message(signed_by(&key, arena.genesis, vote(Step::Commit, height, 0, noise(number))))
    })
    .await;
    met(arena, peer).await.noting(format!("{sent} votes"))
}

pub async fn votes_of_another(arena: &Arena) -> Met {
    let mut peer = Peer::member(arena, 1).await;
    let height = open_height(arena, peer.node);
    let key = KeySigner::new(&noise(78).0).expect("a key");
    let sent = flood(arena, &mut peer, 4, |number| {
        message(signed_by(&key, arena.genesis, vote(Step::Commit, height, 0, noise(number))))
    })
    .await;
    met(arena, peer).await.noting(format!("{sent} votes"))
}

pub async fn old_votes(arena: &Arena) -> Met {
    let mut peer = Peer::member(arena, 2).await;
    let old = open_height(arena, peer.node).saturating_sub(5).max(1);
    let said = message(signed(arena, vote(Step::Prepare, old, 0, noise(1))));
    let sent = flood(arena, &mut peer, 3, |_| said.clone()).await;
    met(arena, peer).await.noting(format!("{sent} votes"))
}

pub async fn future_heights(arena: &Arena) -> Met {
    let mut peer = Peer::member(arena, 0).await;
    let height = open_height(arena, peer.node) + 1_000;
    let sent = flood(arena, &mut peer, 4, |number| {
        message(signed(arena, vote(Step::Prepare, height + number, 0, noise(number))))
    })
    .await;
    met(arena, peer).await.noting(format!("{sent} votes"))
}

pub async fn future_rounds(arena: &Arena) -> Met {
    let mut peer = Peer::member(arena, 1).await;
    let height = open_height(arena, peer.node);
    let sent = flood(arena, &mut peer, 4, |number| {
        // The height moves on; that of the message is followed closely enough.
        message(signed(arena, vote(Step::RoundChange, height + number / 50, 1 + number, noise(0))))
    })
    .await;
    met(arena, peer).await.noting(format!("{sent} votes"))
}

/// Two proposals, two prepares and two commits at each position.
pub async fn equivocation(arena: &Arena) -> Met {
    let mut peer = Peer::member(arena, 2).await;
    let mut positions = 0;
    while !arena.is_over() && !peer.is_closed() {
        let height = open_height(arena, peer.node);
        for step in [Step::Proposal, Step::Prepare, Step::Commit] {
            for hash in [noise(1), noise(2)] {
                let said = message(signed(arena, vote(step, height, 0, hash)));
                let _ = peer.send(Lane::Votes, &said).await;
            }
            positions += 1;
        }
        sleep(STEP * 100).await;
    }
    met(arena, peer).await.noting(format!("{positions} positions"))
}

pub async fn unjustified_proposals(arena: &Arena) -> Met {
    let mut peer = Peer::member(arena, 0).await;
    let mut sent = 0;
    while !arena.is_over() && !peer.is_closed() {
        let height = open_height(arena, peer.node);
        for round in 1..=7 {
            let said = vote(Step::Proposal, height, round, noise(round));
            let _ = peer.send(Lane::Votes, &message(signed(arena, said))).await;
            sent += 1;
        }
        sleep(STEP * 50).await;
    }
    met(arena, peer).await.noting(format!("{sent} proposals"))
}

pub async fn commits_for_nothing(arena: &Arena) -> Met {
    let mut peer = Peer::member(arena, 1).await;
    let mut sent = 0;
    while !arena.is_over() && !peer.is_closed() {
        let height = open_height(arena, peer.node);
        for ahead in 0..3 {
            let said = vote(Step::Commit, height + ahead, 0, noise(height + ahead));
            let _ = peer.send(Lane::Votes, &message(signed(arena, said))).await;
            sent += 1;
        }
        sleep(STEP * 20).await;
    }
    met(arena, peer).await.noting(format!("{sent} commits"))
}

/// A round change whose certificate is filled with signatures of strangers, all of them genuine:
/// each costs the node a recovery.
pub async fn stuffed_certificates(arena: &Arena) -> Met {
    let mut peer = Peer::member(arena, 2).await;
    let prepared = vote(Step::Prepare, 1, 0, noise(5));
    let sign = |number: u64| {
        let key = KeySigner::new(&noise(9_000 + number).0).expect("a key");
        let SignedVote { signer, signature, .. } = signed_by(&key, arena.genesis, prepared);
        SignerSignature { signer, signature }
    };
    let signatures: Vec<_> = (0..2_500).map(sign).collect();
    let certificate = Certificate { vote: prepared, signatures };
    // Signing takes a busy machine as long as the attack.
    arena.begin(2 * SECOND);
    let sent = flood(arena, &mut peer, 1, |number| {
        let mut said = vote(Step::RoundChange, 1_000_000, 1 + number, prepared.hash);
        said.context = alloy_primitives::U256::ONE.into();
        let body = Body::Pbft(pbft::Message::RoundChange { prepared: Some(certificate.clone()) });
        Wire::Engine { epoch: 0, vote: Some(signed(arena, said)), body }
    })
    .await;
    met(arena, peer).await.noting(format!("{sent} messages of 2,500 signatures"))
}

/// Waits until blocks are made above those in which the hostile member is held to be alive.
async fn settle(arena: &Arena) {
    let height = open_height(arena, 0);
    for _ in 0..120 {
        if open_height(arena, 0) > height + 10 {
            return;
        }
        sleep(STEP * 100).await;
    }
}

/// Votes for everything, so that it is held to be alive and gets its turns; in each it proposes a
/// block that it gives to nobody. The others wait for a round's timeout.
pub async fn withheld_blocks(arena: &Arena) -> Met {
    let mut peers = Vec::new();
    for node in 0..HONEST {
        // In another try it may be banned somewhere.
        peers.extend(Peer::join(arena, node, arena.member.node_key).await);
    }
    assert!(!peers.is_empty(), "the validator is refused by all nodes");
    let (mut seen, mut turns) = (0, 0);
    while !arena.is_over() {
        let Some(wire) = peers[0].hear(STEP * 100).await else { continue };
        let Wire::Engine { vote: Some(heard), .. } = wire else { continue };
        let place = heard.vote.position;
        if place.step != Step::Proposal || (place.height.0, place.round) <= (seen, 0) {
            continue;
        }
        seen = place.height.0;
        let prepare = vote(Step::Prepare, seen, place.round, heard.vote.hash);
        let commit = vote(Step::Commit, seen, place.round, heard.vote.hash);
        let nothing = vote(Step::Proposal, seen + 1, 0, noise(seen));
        turns += 1;
        for said in [prepare, commit, nothing] {
            let said = message(signed(arena, said));
            for peer in &mut peers {
                let _ = peer.send(Lane::Votes, &said).await;
            }
        }
    }
    // Its last turns come when it is gone: they belong to the attack.
    settle(arena).await;
    met(arena, peers.swap_remove(0)).await.noting(format!("{turns} heights"))
}
