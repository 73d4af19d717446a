//! Attacks with transactions, all of them by gossip: who forwards them is known, who made them not.

use crate::arena::Arena;
use crate::attack::{Met, met};
use crate::load::{accounts, transfer};
use crate::peer::Peer;
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::keccak256;
use alloy_rlp::{Encodable, Header};
use landfall_types::Transaction;
use std::time::Duration;
use tokio::time::sleep;

/// Transactions in a batch, and the pause after it: about 2,500 a second.
const BATCH: u64 = 100;
const PAUSE: Duration = Duration::from_millis(40);
/// The attackers' funded account; the load does not use it.
const OURS: usize = 9;

/// A batch as nodes gossip it: a number that makes it another message, and the transactions.
fn batch(number: u64, transactions: &[Vec<u8>]) -> Vec<u8> {
    let mut list = Vec::new();
    transactions.iter().for_each(|one| one.as_slice().encode(&mut list));
    let inner = Header { list: true, payload_length: list.len() };
    let payload_length = number.length() + inner.length() + list.len();
    let mut out = Vec::new();
    Header { list: true, payload_length }.encode(&mut out);
    number.encode(&mut out);
    inner.encode(&mut out);
    out.extend(list);
    out
}

async fn gossip(arena: &Arena, node: usize, per_batch: u64, make: impl Fn(u64) -> Vec<u8>) -> Met {
    let mut peer = Peer::stranger(arena, node).await;
    let mut sent = 0;
    while !arena.is_over() && !peer.is_closed() {
        let all: Vec<Vec<u8>> = (sent..sent + per_batch).map(&make).collect();
        if peer.gossip(arena, "transactions", &batch(sent, &all)).await.is_err() {
            break;
        }
        sent += per_batch;
        sleep(PAUSE).await;
    }
    met(arena, peer).await.noting(format!("{sent} transactions"))
}

fn bytes(transaction: &Transaction) -> Vec<u8> {
    transaction.encoded_2718()
}

/// The secret of somebody who has nothing.
fn poor(number: u64) -> [u8; 32] {
    keccak256([b"poor".as_slice(), &number.to_be_bytes()].concat()).0
}

fn ours() -> [u8; 32] {
    *accounts().signers()[OURS].secret()
}

pub async fn forged_signatures(arena: &Arena) -> Met {
    let good = bytes(&transfer(&ours(), arena.spec.chain_id, 0, 1, 0));
    gossip(arena, 0, BATCH, |number| {
        let mut forged = good.clone();
        // The last bytes are s: above half of the order it is refused, whatever it recovers to.
        let end = forged.len();
        forged[end - 32..end - 8].fill(0xff);
        forged[end - 8..].copy_from_slice(&number.to_be_bytes());
        forged
    })
    .await
}

pub async fn other_chain(arena: &Arena) -> Met {
    let key = ours();
    gossip(arena, 1, BATCH, |number| bytes(&transfer(&key, 1, number, 1, 0))).await
}

pub async fn cannot_pay(arena: &Arena) -> Met {
    let chain = arena.spec.chain_id;
    gossip(arena, 2, BATCH, |number| bytes(&transfer(&poor(number), chain, 0, 1, 0))).await
}

pub async fn nonce_gaps(arena: &Arena) -> Met {
    let chain = arena.spec.chain_id;
    let rich = accounts();
    gossip(arena, 0, BATCH, |number| {
        let key = *rich.signers()[8 + number as usize % 2].secret();
        bytes(&transfer(&key, chain, 1_000 + number, 1, 0))
    })
    .await
}

pub async fn oversized_data(arena: &Arena) -> Met {
    let (key, chain) = (ours(), arena.spec.chain_id);
    gossip(arena, 1, 2, |number| bytes(&transfer(&key, chain, number, 1, 200 << 10))).await
}

pub async fn duplicates(arena: &Arena) -> Met {
    let one = bytes(&transfer(&ours(), arena.spec.chain_id, 5, 1, 0));
    gossip(arena, 2, BATCH, |_| one.clone()).await
}

/// Each bids one wei more than the one before: none raises the bid by the tenth that is asked.
pub async fn cheap_replacements(arena: &Arena) -> Met {
    let (key, chain) = (ours(), arena.spec.chain_id);
    gossip(arena, 0, BATCH, |number| {
        bytes(&transfer(&key, chain, 6, 1_000_000 + u128::from(number), 0))
    })
    .await
}

pub async fn malformed_batches(arena: &Arena) -> Met {
    gossip(arena, 1, 4, |number| vec![0x02, 0xc0, number as u8]).await
}

/// A batch of more transactions than any node sends, in one message.
pub async fn giant_batch(arena: &Arena) -> Met {
    let one = bytes(&transfer(&ours(), arena.spec.chain_id, 7, 1, 0));
    gossip(arena, 2, 5_000, |_| one.clone()).await
}
