//! Raft's words: `append t3 b`, `append t3 b proof a by 1,2 round 3`, `ack t3 b`, `heard t3`,
//! `prevote t3 last 2 5` (stamp and height), `pregrant t3`, `candidacy t3 for 2 last 2 5`,
//! `grant t3 for 1`. A tip that is not in the tree needs its height: `append t3 b h2`.

use super::{Words, World, hash, id};
use alloy_primitives::B256;
use landfall_consensus::Body;
use landfall_consensus::raft::{Last, Message};
use landfall_types::{Height, Position, Step, Vote};

pub(super) fn message(world: &mut World, words: &mut Words<'_>) -> (Option<Vote>, Body) {
    let kind = words.next();
    let term: u64 = words.next().strip_prefix('t').expect("t and the term").parse().unwrap();
    let (vote, message) = match kind {
        "append" => {
            let vote = ack(world, words, term);
            let proof = words.after("proof").map(|name| world.proof(name, words));
            (Some(vote), Message::Append { proof })
        }
        "ack" => (Some(ack(world, words, term)), Message::Ack),
        "heard" => (None, Message::Heard { term }),
        "prevote" => (None, Message::PreVote { term, last: last(words) }),
        "pregrant" => (None, Message::PreGrant { term }),
        "candidacy" => {
            let vote = grant(words, term);
            (Some(vote), Message::Candidacy { last: last(words) })
        }
        "grant" => (Some(grant(words, term)), Message::Grant),
        other => panic!("no message {other}"),
    };
    (vote, Body::Raft(message))
}

fn ack(world: &World, words: &mut Words<'_>, term: u64) -> Vote {
    let tip = hash(words.next());
    let said = words.0.next_if(|word| word.starts_with('h'));
    let height = match said {
        Some(word) => Height(word[1..].parse().expect("h and the height")),
        None => world.tree.height(&tip),
    };
    let position = Position { epoch: 0, step: Step::Ack, height, round: term };
    Vote { position, hash: tip, context: B256::ZERO }
}

fn grant(words: &mut Words<'_>, term: u64) -> Vote {
    let candidate = words.number("for").expect("for whom");
    let position = Position { epoch: 0, step: Step::Grant, height: Height(0), round: term };
    let hash = id(u8::try_from(candidate).unwrap()).into_word();
    Vote { position, hash, context: B256::ZERO }
}

fn last(words: &mut Words<'_>) -> Last {
    let stamp = words.number("last").expect("the log");
    Last { stamp, height: Height(words.next().parse().expect("a height")) }
}
