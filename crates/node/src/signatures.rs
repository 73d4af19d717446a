//! The workers that recover who signed: the dearest part of taking a transaction in, so it is done
//! once per transaction, on as many threads as cores, behind a bounded queue.
//!
//! [`Signatures::recover`] splits a batch among the workers and returns the outcomes in order.
//! Senders are remembered with the chain ([`Senders`]), so that a transaction which comes again (in
//! a block, from a peer, from a client that retries) costs nothing.

use landfall_chain::Senders;
use landfall_chain::pool::{self, PoolError, Recovered};
use landfall_types::{Transaction, transaction_hash};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Pieces of batches that wait for a worker; more make the senders of batches wait.
const QUEUED_PIECES: usize = 512;
/// Transactions in a piece: about a millisecond of work.
const PIECE: usize = 16;

/// A transaction with its sender, or why it has none.
pub type Outcome = Result<Recovered, PoolError>;

struct Piece {
    transactions: Vec<Transaction>,
    reply: oneshot::Sender<Vec<Outcome>>,
}

/// A handle to the workers; they end when the last handle is gone.
pub struct Signatures {
    queue: mpsc::Sender<Piece>,
}

impl Signatures {
    /// Starts the workers.
    pub fn start(chain_id: u64, senders: &Senders) -> Self {
        let (queue, pieces) = mpsc::channel(QUEUED_PIECES);
        let pieces = Arc::new(Mutex::new(pieces));
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        for number in 0..threads {
            let (pieces, senders) = (pieces.clone(), senders.clone());
            std::thread::Builder::new()
                .name(format!("signatures-{number}"))
                .spawn(move || work(&pieces, &senders, chain_id))
                .expect("the system starts a thread");
        }
        Self { queue }
    }

    /// Recovers the senders of a batch; the outcomes are in its order.
    pub async fn recover(&self, mut transactions: Vec<Transaction>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(transactions.len());
        let mut replies = Vec::with_capacity(transactions.len().div_ceil(PIECE));
        while !transactions.is_empty() {
            let rest = transactions.split_off(transactions.len().min(PIECE));
            let (reply, answer) = oneshot::channel();
            let piece = Piece { transactions, reply };
            assert!(self.queue.send(piece).await.is_ok(), "the workers live as long as the handle");
            replies.push(answer);
            transactions = rest;
        }
        for answer in replies {
            outcomes.extend(answer.await.expect("a worker answers every piece"));
        }
        outcomes
    }
}

fn work(pieces: &Mutex<mpsc::Receiver<Piece>>, senders: &Senders, chain_id: u64) {
    loop {
        // Taken in a statement of its own: the lock must not be held while recovering.
        let piece = pieces.lock().blocking_recv();
        let Some(Piece { transactions, reply }) = piece else { return };
        let one = |transaction| recover_once(transaction, senders, chain_id);
        // Who asked may be gone.
        let _ = reply.send(transactions.into_iter().map(one).collect());
    }
}

fn recover_once(transaction: Transaction, senders: &Senders, chain_id: u64) -> Outcome {
    let hash = transaction_hash(&transaction);
    if let Some(sender) = senders.of(&hash) {
        return Ok(Recovered::new(transaction, sender));
    }
    let recovered = pool::recover(transaction, chain_id)?;
    senders.note(&recovered);
    Ok(recovered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::crypto::secp256k1::sign_message;
    use alloy_consensus::{SignableTransaction, TxEip1559};
    use alloy_primitives::B256;

    fn signed(nonce: u64, chain_id: u64) -> Transaction {
        let unsigned = TxEip1559 { chain_id, nonce, gas_limit: 21_000, ..TxEip1559::default() };
        let signature = sign_message(B256::repeat_byte(1), unsigned.signature_hash()).unwrap();
        unsigned.into_signed(signature).into()
    }

    #[tokio::test]
    async fn batch_comes_back_in_order_with_its_refusals() {
        let signatures = Signatures::start(7, &Senders::default());
        let batch: Vec<_> = (0..100).map(|n| signed(n, if n == 50 { 8 } else { 7 })).collect();
        for _ in 0..2 {
            let outcomes = signatures.recover(batch.clone()).await;
            assert_eq!(outcomes.len(), 100);
            for (nonce, outcome) in outcomes.iter().enumerate() {
                match outcome {
                    Ok(recovered) => assert_eq!(recovered.nonce(), nonce as u64),
                    Err(error) => assert!(nonce == 50, "{nonce}: {error}"),
                }
            }
        }
        assert!(signatures.recover(Vec::new()).await.is_empty());
    }
}
