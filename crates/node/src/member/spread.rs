//! Transactions on their way to the other nodes.
//!
//! What clients bring is gossiped in batches: the first one waits a moment for company, so that
//! thousands a second cost a few hundred messages. Gossip may be lost, and a node that has just
//! started has an empty pool; so what clients brought to *this* node is repeated while it waits in
//! the pool, with pauses that grow. Whoever has a transaction already lets it pass.

use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_primitives::bytes::Bytes;
use alloy_rlp::{Decodable, Encodable, Header};
use landfall_network::{Network, Topic};
use landfall_replica::Mempool;
use landfall_types::{Transaction, transaction_hash};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Transactions that wait to be spread.
pub const QUEUED: usize = 65_536;
/// Transactions in a batch.
const BATCH: usize = 512;
/// Transactions in a batch that a peer made: the smallest have a hundred bytes.
const BATCH_DECODED: usize = 4_096;
/// Bytes of a batch: far below what the network takes.
const BATCH_BYTES: usize = 256 << 10;
/// How long the first transaction of a batch waits for others.
const LINGER: Duration = Duration::from_millis(3);
/// The first pause before a transaction is repeated; each is twice as long as the one before.
const REPEAT: Duration = Duration::from_secs(2);
/// The longest pause.
const REPEAT_MAX: Duration = Duration::from_secs(32);
/// Own transactions that are remembered for repetition.
const REMEMBERED: usize = 65_536;
/// Transactions that are repeated at once.
const REPEATED: usize = 2_048;

struct Waiting {
    transaction: Arc<Transaction>,
    due: Instant,
    pause: Duration,
}

/// Takes transactions from the door and gossips them, until the door is gone.
pub async fn run(
    mut fresh: mpsc::Receiver<Arc<Transaction>>,
    network: Network,
    mempool: Arc<Mempool>,
) {
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    let mut count = 0;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let first = tokio::time::timeout(REPEAT / 4, fresh.recv()).await;
        match first {
            Ok(None) => return,
            Ok(Some(transaction)) => {
                batch.push(transaction);
                tokio::time::sleep(LINGER).await;
                while batch.len() < BATCH
                    && let Ok(transaction) = fresh.try_recv()
                {
                    batch.push(transaction);
                }
            }
            Err(_) => {}
        }
        let now = Instant::now();
        remember(&mut waiting, &batch, now);
        let again = due_again(&mut waiting, &mempool, now);
        for chunk in [&batch, &again] {
            for bytes in encode_all(chunk, &mut count) {
                network.gossip(Topic::Transactions, bytes);
            }
        }
        batch.clear();
    }
}

fn remember(waiting: &mut VecDeque<Waiting>, batch: &[Arc<Transaction>], now: Instant) {
    let due = now + REPEAT;
    let entries = batch.iter().cloned();
    waiting.extend(entries.map(|transaction| Waiting { transaction, due, pause: REPEAT }));
    // The oldest go: they have been repeated most.
    waiting.drain(..waiting.len().saturating_sub(REMEMBERED));
}

/// What is due and waits still; what has left the pool is forgotten.
fn due_again(
    waiting: &mut VecDeque<Waiting>,
    mempool: &Mempool,
    now: Instant,
) -> Vec<Arc<Transaction>> {
    let mut again = Vec::new();
    let pool = mempool.pool.lock();
    waiting.retain_mut(|it| {
        if it.due > now || again.len() >= REPEATED {
            return true;
        }
        let waits = pool.contains(&transaction_hash(&it.transaction));
        if waits {
            again.push(it.transaction.clone());
            it.pause = (it.pause * 2).min(REPEAT_MAX);
            it.due = now + it.pause;
        }
        waits
    });
    again
}

/// Batches as bytes. The count makes each message another one: peers drop a repeated message unread.
fn encode_all(transactions: &[Arc<Transaction>], count: &mut u64) -> Vec<Bytes> {
    let mut messages = Vec::new();
    let mut payload = Vec::new();
    let mut finish = |payload: &mut Vec<u8>| {
        if payload.is_empty() {
            return;
        }
        *count += 1;
        messages.push(encode_message(*count, payload));
        payload.clear();
    };
    for transaction in transactions {
        let size = transaction.encode_2718_len();
        if payload.len() + size > BATCH_BYTES {
            finish(&mut payload);
        }
        Header { list: false, payload_length: size }.encode(&mut payload);
        transaction.encode_2718(&mut payload);
    }
    finish(&mut payload);
    messages
}

/// A list of the count and of the list of transactions, each a string of its EIP-2718 bytes.
fn encode_message(count: u64, transactions: &[u8]) -> Bytes {
    let inner = Header { list: true, payload_length: transactions.len() };
    let payload_length = count.length() + inner.length() + transactions.len();
    let mut out = Vec::with_capacity(payload_length + 5);
    Header { list: true, payload_length }.encode(&mut out);
    count.encode(&mut out);
    inner.encode(&mut out);
    out.extend_from_slice(transactions);
    out.into()
}

/// Reads a batch that a peer made.
///
/// # Errors
/// If the bytes are no list of well-formed transactions, or of more than a batch may hold.
pub fn decode(mut bytes: &[u8]) -> alloy_rlp::Result<Vec<Transaction>> {
    let mut fields = Header::decode_bytes(&mut bytes, true)?;
    u64::decode(&mut fields)?;
    let mut list = Header::decode_bytes(&mut fields, true)?;
    if !fields.is_empty() || !bytes.is_empty() {
        return Err(alloy_rlp::Error::UnexpectedLength);
    }
    let mut transactions = Vec::new();
    while !list.is_empty() {
        if transactions.len() == BATCH_DECODED {
            return Err(alloy_rlp::Error::Custom("more transactions than a batch may hold"));
        }
        let mut one = Header::decode_bytes(&mut list, false)?;
        let transaction = Transaction::decode_2718(&mut one)
            .map_err(|_| alloy_rlp::Error::Custom("a malformed transaction"))?;
        if !one.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength);
        }
        transactions.push(transaction);
    }
    Ok(transactions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::crypto::secp256k1::sign_message;
    use alloy_consensus::{SignableTransaction, TxEip1559};
    use alloy_primitives::B256;

    fn signed(nonce: u64, input: usize) -> Arc<Transaction> {
        let unsigned =
            TxEip1559 { chain_id: 7, nonce, input: vec![7; input].into(), ..TxEip1559::default() };
        let signature = sign_message(B256::repeat_byte(1), unsigned.signature_hash()).unwrap();
        Arc::new(unsigned.into_signed(signature).into())
    }

    #[test]
    fn batches_are_read_as_they_were_written_and_stay_below_their_bound() {
        let all: Vec<_> = (0..20).map(|nonce| signed(nonce, 30_000)).collect();
        let messages = encode_all(&all, &mut 0);
        assert!(messages.len() > 1);
        assert!(messages.iter().all(|message| message.len() < BATCH_BYTES + 100));
        let read: Vec<_> = messages.iter().flat_map(|message| decode(message).unwrap()).collect();
        assert!(read.iter().eq(all.iter().map(|transaction| &**transaction)));
    }

    #[test]
    fn the_same_batch_again_is_another_message() {
        let (batch, mut count) = ([signed(0, 0)], 0);
        assert_ne!(encode_all(&batch, &mut count), encode_all(&batch, &mut count));
    }

    #[test]
    fn bytes_that_are_no_batch_are_refused() {
        let whole = encode_all(&[signed(0, 5)], &mut 0).pop().unwrap();
        for end in 0..whole.len() {
            assert!(decode(&whole[..end]).is_err(), "cut at {end}");
        }
        let mut longer = whole.to_vec();
        longer.push(0);
        assert!(decode(&longer).is_err());
        let empty_strings = vec![0x80; BATCH_DECODED + 1];
        assert!(decode(&encode_message(1, &empty_strings)).is_err());
    }

    #[test]
    fn own_transactions_that_are_remembered_are_bounded() {
        let mut waiting = VecDeque::new();
        let batch = vec![signed(0, 0); REMEMBERED / 2 + 1];
        for _ in 0..3 {
            remember(&mut waiting, &batch, Instant::now());
        }
        assert_eq!(waiting.len(), REMEMBERED);
    }
}
