//! Following the blocks: when was each transaction first seen in one.

use super::client::{BlockSummary, Client, ReceiptSummary};
use super::prepare::Signed;
use crate::failure::Failure;
use alloy_primitives::map::HashMap;
use alloy_primitives::{B256, U64};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often the head is asked for.
const POLL: Duration = Duration::from_millis(10);
/// Included transactions whose receipts are looked at.
const SAMPLE: usize = 500;

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// When each transaction was seen in a block, by its place in the order.
    pub when: Vec<Option<Instant>>,
    /// Numbers of the blocks that hold any of them.
    pub blocks: Vec<u64>,
    /// Whether watching ended before all accepted transactions were seen.
    pub gave_up: bool,
}

/// Which blocks count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// Up to the head.
    Latest,
    /// Final ones.
    Finalized,
}

/// What the watcher shares with the sending side.
#[derive(Clone, Default)]
pub struct Progress {
    /// Transactions that the node has taken.
    pub accepted: Arc<AtomicUsize>,
    /// Transactions seen in blocks.
    pub included: Arc<AtomicUsize>,
    /// Everything was sent.
    pub all_sent: Arc<AtomicBool>,
}

/// Follows the chain from `from` until everything accepted was seen, or nothing new was for
/// `patience` after the last was sent.
pub async fn watch(
    client: Client,
    (from, counts): (u64, Counts),
    places: HashMap<B256, usize>,
    progress: Progress,
    patience: Duration,
) -> Result<Seen, Failure> {
    let mut seen = Seen { when: vec![None; places.len()], ..Seen::default() };
    let mut next = from;
    let mut count = 0;
    let mut last_news = Instant::now();
    loop {
        let head = match counts {
            Counts::Latest => client.block_number().await?,
            Counts::Finalized => client.finalized_number().await?,
        };
        while next <= head {
            let Some(block) = client.block(next).await? else { break };
            let new = note(&mut seen, &block, &places);
            if new > 0 {
                count += new;
                last_news = Instant::now();
                progress.included.store(count, Ordering::Relaxed);
            }
            next += 1;
        }
        if !progress.all_sent.load(Ordering::Acquire) {
            last_news = Instant::now();
        } else if count >= progress.accepted.load(Ordering::Relaxed) {
            return Ok(seen);
        } else if last_news.elapsed() > patience {
            seen.gave_up = true;
            return Ok(seen);
        }
        tokio::time::sleep(POLL).await;
    }
}

fn note(seen: &mut Seen, block: &BlockSummary, places: &HashMap<B256, usize>) -> usize {
    let now = Instant::now();
    let mut new = 0;
    for place in block.transactions.iter().filter_map(|hash| places.get(hash)) {
        if seen.when[*place].replace(now).is_none() {
            new += 1;
        }
    }
    if new > 0 {
        seen.blocks.push(block.number.to());
    }
    new
}

/// After the measurement: how many of a sample of the included transactions failed in execution.
/// Not all of them: some nodes take minutes to give the receipts of a large block.
pub async fn failed(client: &Client, signed: &[Signed], seen: &Seen) -> Result<usize, Failure> {
    let included: Vec<&Signed> =
        signed.iter().zip(&seen.when).filter(|(_, when)| when.is_some()).map(|(s, _)| s).collect();
    let step = included.len().div_ceil(SAMPLE).max(1);
    let asked: Vec<Vec<Value>> = included
        .iter()
        .step_by(step)
        .map(|signed| vec![Value::from(signed.hash.to_string())])
        .collect();
    let receipts: Vec<Option<ReceiptSummary>> =
        client.call_many("eth_getTransactionReceipt", &asked).await?;
    let bad = |receipt: &&ReceiptSummary| receipt.status != U64::ONE;
    Ok(receipts.iter().flatten().filter(bad).count())
}
