//! PBFT's words: `proposal r1 b changes 1,2:a@0,3 prepared a@0 by 1,2,3`, `prepare r1 b`,
//! `commit r1 b`, `change r1`, `change r2 prepared a@0 by 1,2,3`. `h5` after the first word names
//! another height than the open one. A prepare names the last proposal seen in its round.

use super::{Words, World, certificate, hash, numbers, sign};
use alloy_primitives::{B256, U256};
use landfall_consensus::Body;
use landfall_consensus::pbft::{Justification, Message};
use landfall_types::{Certificate, Height, Position, SignedVote, Step, Vote};

pub(super) fn message(world: &mut World, words: &mut Words<'_>) -> (Option<Vote>, Body) {
    let kind = words.next();
    let height = words.0.next_if(|word| word.starts_with('h'));
    let height = height.map_or(world.height(), |word| Height(word[1..].parse().unwrap()));
    let round: u64 = words.next().strip_prefix('r').expect("r and the round").parse().unwrap();
    let place = |step| Position { epoch: 0, step, height, round };
    let (vote, message) = match kind {
        "proposal" => {
            let block = hash(words.next());
            let justification = justification(world, words, place(Step::RoundChange));
            let digest = justification.digest();
            world.digests.insert(round, digest);
            let vote = Vote { position: place(Step::Proposal), hash: block, context: digest };
            (vote, Message::Proposal { justification })
        }
        "prepare" => {
            let digest = digest(world, round);
            let hash = hash(words.next());
            (Vote { position: place(Step::Prepare), hash, context: digest }, Message::Prepare)
        }
        "commit" => {
            let hash = hash(words.next());
            (Vote { position: place(Step::Commit), hash, context: B256::ZERO }, Message::Commit)
        }
        "change" => {
            let prepared = prepared(world, words, height);
            let claim = prepared.as_ref().map(|it| (it.vote.hash, it.vote.position.round));
            let message = Message::RoundChange { prepared };
            (change(place(Step::RoundChange), claim), message)
        }
        other => panic!("no message {other}"),
    };
    (Some(vote), Body::Pbft(message))
}

fn digest(world: &World, round: u64) -> B256 {
    let empty = Justification { round_changes: vec![], prepared: None };
    world.digests.get(&round).copied().unwrap_or(empty.digest())
}

fn change(position: Position, claim: Option<(B256, u64)>) -> Vote {
    let context = B256::from(U256::from(claim.map_or(0, |(_, round)| round + 1)));
    Vote { position, hash: claim.map_or(B256::ZERO, |(hash, _)| hash), context }
}

/// `a@0`
fn claim(text: &str) -> (B256, u64) {
    let (name, round) = text.split_once('@').expect("a block and a round");
    (hash(name), round.parse().expect("a round"))
}

fn justification(world: &World, words: &mut Words<'_>, place: Position) -> Justification {
    let one = |text: &str| -> SignedVote {
        let (n, prepared) = text.split_once(':').map_or((text, None), |(n, it)| (n, Some(it)));
        sign(n.parse().expect("a member"), change(place, prepared.map(claim)))
    };
    let changes = words.after("changes").map(|list| list.split(',').map(one).collect());
    let prepared = prepared(world, words, place.height);
    Justification { round_changes: changes.unwrap_or_default(), prepared }
}

fn prepared(world: &World, words: &mut Words<'_>, height: Height) -> Option<Certificate> {
    let (hash, round) = claim(words.after("prepared")?);
    let signers = numbers(words.after("by").expect("by whom"));
    let position = Position { epoch: 0, step: Step::Prepare, height, round };
    Some(certificate(&signers, Vote { position, hash, context: digest(world, round) }))
}
