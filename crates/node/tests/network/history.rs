//! The history that clients see: every recorded call, and the rules that no answer may break.
//!
//! A call has a beginning and an end. One is *before* another if it ended before the other began;
//! of calls that overlap nothing is concluded. An answer about a height is judged if the node had
//! shown that height as final before it was asked: until then a node may be behind, or on a branch
//! that it will leave.
//!
//! The rules are those of [`Violation`]. The checker knows nothing of protocols.

use alloy_primitives::map::HashMap;
use alloy_primitives::{B256, U256};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Violations that are kept: the first says what went wrong.
const VIOLATIONS_MAX: usize = 16;
/// Calls that are shown with a violation.
const SHOWN: usize = 12;

/// A receipt in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Hash of its transaction.
    pub transaction: B256,
    /// Hash of its block.
    pub block: B256,
    /// The first bytes of the hash of all of it.
    pub digest: u64,
}

/// What a node answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `eth_getBlockByNumber("finalized")`.
    Finalized { number: u64, hash: B256 },
    /// `eth_getBlockByNumber(number)`: the hash.
    Block { number: u64, found: Option<B256> },
    /// `eth_getBlockReceipts(number)`.
    Receipts { number: u64, found: Option<Arc<[Receipt]>> },
    /// `eth_getTransactionReceipt(transaction)`: number of the block, receipt.
    Receipt { transaction: B256, found: Option<(u64, Receipt)> },
    /// `eth_getBalance` and `eth_getTransactionCount` at a number: the sum over all accounts, and
    /// the nonces of those who send.
    Accounts { number: u64, total: U256, nonces: Box<[u64]> },
    /// `eth_getTransactionCount(account, "finalized")`.
    Nonce { account: usize, nonce: u64 },
}

/// A recorded call; times in microseconds since the recording began.
#[derive(Clone, Debug)]
pub struct Call {
    pub node: usize,
    pub begun: u64,
    pub ended: u64,
    pub answer: Answer,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |micros: u64| micros as f64 / 1e6;
        let (begun, ended) = (seconds(self.begun), seconds(self.ended));
        write!(f, "{begun:.3}..{ended:.3} node {}: ", self.node + 1)?;
        match &self.answer {
            Answer::Receipts { number, found: Some(all) } => {
                write!(f, "{} receipts of block {number}", all.len())
            }
            other => write!(f, "{other:?}"),
        }
    }
}

/// A broken rule. Nodes are counted from 0 here and shown from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("finalized went back at node {}: from {from} to {to}", .node + 1)]
    FinalizedWentBack { node: usize, from: u64, to: u64 },
    #[error("final height {number} has two hashes: {} at node {}, {} at node {}",
        .first.1, .first.0 + 1, .second.1, .second.0 + 1)]
    TwoHashes { number: u64, first: (usize, B256), second: (usize, B256) },
    #[error("block {number} is final, and node {} does not have it", .node + 1)]
    BlockVanished { node: usize, number: u64 },
    #[error("a receipt of final block {number} is another one at node {}: {transaction}", .node + 1)]
    ReceiptChanged { node: usize, number: u64, transaction: B256 },
    #[error("a receipt of final block {number} is gone at node {}: {transaction}", .node + 1)]
    ReceiptVanished { node: usize, number: u64, transaction: B256 },
    #[error("all balances at block {number} sum up to {found} at node {}, not to {expected}", .node + 1)]
    TotalNotConserved { node: usize, number: u64, expected: U256, found: U256 },
    #[error("the nonce of account {account} went back at node {}: from {from} to {to}", .node + 1)]
    NonceWentBack { node: usize, account: usize, from: u64, to: u64 },
}

impl Violation {
    /// Whether a call belongs to the story of this violation.
    fn concerns(&self, call: &Call) -> bool {
        let height = match &call.answer {
            Answer::Finalized { number, .. }
            | Answer::Block { number, .. }
            | Answer::Receipts { number, .. }
            | Answer::Accounts { number, .. } => Some(*number),
            Answer::Receipt { found, .. } => found.map(|(number, _)| number),
            Answer::Nonce { .. } => None,
        };
        match self {
            Self::FinalizedWentBack { node, from, to } => {
                let shown = matches!(call.answer, Answer::Finalized { .. });
                shown && call.node == *node && [Some(*from), Some(*to)].contains(&height)
            }
            Self::TwoHashes { number, .. }
            | Self::BlockVanished { number, .. }
            | Self::ReceiptChanged { number, .. }
            | Self::ReceiptVanished { number, .. }
            | Self::TotalNotConserved { number, .. } => height == Some(*number),
            Self::NonceWentBack { node, account, .. } => {
                let same = |it: &usize| it == account && call.node == *node;
                match &call.answer {
                    Answer::Nonce { account, .. } => same(account),
                    Answer::Accounts { .. } => call.node == *node,
                    _ => false,
                }
            }
        }
    }
}

/// The largest value that calls had shown by a moment.
#[derive(Debug, Default)]
struct Reached(Vec<(u64, u64)>);

impl Reached {
    /// By calls that ended before this moment.
    fn before(&self, moment: u64) -> Option<u64> {
        let earlier = self.0.partition_point(|(ended, _)| *ended < moment);
        earlier.checked_sub(1).map(|last| self.0[last].1)
    }

    /// Calls come in the order of their ends.
    fn note(&mut self, ended: u64, value: u64) {
        if self.0.last().is_none_or(|(_, largest)| *largest < value) {
            self.0.push((ended, value));
        }
    }

    fn latest(&self) -> Option<u64> {
        self.0.last().map(|(_, largest)| *largest)
    }
}

#[derive(Debug)]
struct Final {
    hash: B256,
    shown_by: usize,
    receipts: Option<Arc<[Receipt]>>,
}

/// Judges calls one after the other, in the order of their ends.
pub struct Checker {
    total: Box<dyn Fn(u64) -> U256 + Send>,
    finalized: Vec<Reached>,
    finals: BTreeMap<u64, Final>,
    acknowledged: HashMap<B256, (u64, Receipt)>,
    /// By height, acknowledged one by one before all receipts of the block were seen.
    singly: BTreeMap<u64, Vec<B256>>,
    nonces: BTreeMap<u64, Box<[u64]>>,
    nonces_by_tag: HashMap<(usize, usize), Reached>,
}

impl Checker {
    /// For so many nodes; `total` is the sum of all balances after the block of a number.
    pub fn new(nodes: usize, total: impl Fn(u64) -> U256 + Send + 'static) -> Self {
        Self {
            total: Box::new(total),
            finalized: (0..nodes).map(|_| Reached::default()).collect(),
            finals: BTreeMap::new(),
            acknowledged: HashMap::default(),
            singly: BTreeMap::new(),
            nonces: BTreeMap::new(),
            nonces_by_tag: HashMap::default(),
        }
    }

    /// The highest height that a node has shown as final.
    pub fn finalized(&self, node: usize) -> u64 {
        self.finalized[node].latest().unwrap_or_default()
    }

    /// Transactions with a receipt that was seen at or below `finalized`.
    pub fn acknowledged(&self) -> &HashMap<B256, (u64, Receipt)> {
        &self.acknowledged
    }

    /// Judges a call. What is equal to something known already is shared with it.
    pub fn judge(&mut self, call: &mut Call) -> Result<(), Violation> {
        let (node, begun, ended) = (call.node, call.begun, call.ended);
        let final_at = |number: u64, it: &Self| {
            it.finalized[node].before(begun).is_some_and(|finalized| number <= finalized)
        };
        match &mut call.answer {
            Answer::Finalized { number, hash } => {
                let (number, hash) = (*number, *hash);
                if let Some(from) = self.finalized[node].before(begun).filter(|it| *it > number) {
                    return Err(Violation::FinalizedWentBack { node, from, to: number });
                }
                self.finalized[node].note(ended, number);
                self.one_hash(node, number, hash)
            }
            Answer::Block { number, found } if final_at(*number, self) => match *found {
                Some(hash) => self.one_hash(node, *number, hash),
                None => Err(Violation::BlockVanished { node, number: *number }),
            },
            Answer::Receipts { number, found } if final_at(*number, self) => match found {
                Some(receipts) => self.all_receipts(node, *number, receipts),
                None => Err(Violation::BlockVanished { node, number: *number }),
            },
            Answer::Receipt { transaction, found } => {
                let (transaction, found) = (*transaction, *found);
                match self.acknowledged.get(&transaction) {
                    Some(known) if final_at(known.0, self) => unchanged(node, *known, found),
                    Some(_) => Ok(()),
                    None => match found {
                        Some((number, receipt)) if final_at(number, self) => {
                            self.one_receipt(node, number, receipt)
                        }
                        _ => Ok(()),
                    },
                }
            }
            Answer::Accounts { number, total, nonces } if final_at(*number, self) => {
                let expected = (self.total)(*number);
                if *total != expected {
                    let (number, found) = (*number, *total);
                    return Err(Violation::TotalNotConserved { node, number, expected, found });
                }
                self.nonces_at(node, *number, nonces)
            }
            Answer::Nonce { account, nonce } => {
                let (account, to) = (*account, *nonce);
                let reached = self.nonces_by_tag.entry((node, account)).or_default();
                if let Some(from) = reached.before(begun).filter(|from| *from > to) {
                    return Err(Violation::NonceWentBack { node, account, from, to });
                }
                reached.note(ended, to);
                Ok(())
            }
            Answer::Block { .. } | Answer::Receipts { .. } | Answer::Accounts { .. } => Ok(()),
        }
    }

    /// The one hash of a final height, whoever shows it.
    fn one_hash(&mut self, node: usize, number: u64, hash: B256) -> Result<(), Violation> {
        let first = Final { hash, shown_by: node, receipts: None };
        let known = self.finals.entry(number).or_insert(first);
        if known.hash == hash {
            return Ok(());
        }
        let first = (known.shown_by, known.hash);
        Err(Violation::TwoHashes { number, first, second: (node, hash) })
    }

    fn all_receipts(
        &mut self,
        node: usize,
        number: u64,
        receipts: &mut Arc<[Receipt]>,
    ) -> Result<(), Violation> {
        if let Some(first) = receipts.first() {
            self.one_hash(node, number, first.block)?;
        }
        let known = self.finals.get(&number).and_then(|block| block.receipts.clone());
        if let Some(known) = known {
            if let Some(at) =
                (0..known.len().max(receipts.len())).find(|at| known.get(*at) != receipts.get(*at))
            {
                let transaction =
                    known.get(at).or(receipts.get(at)).expect("one has it").transaction;
                return Err(Violation::ReceiptChanged { node, number, transaction });
            }
            *receipts = known;
            return Ok(());
        }
        for transaction in self.singly.remove(&number).unwrap_or_default() {
            if !receipts.iter().any(|receipt| receipt.transaction == transaction) {
                return Err(Violation::ReceiptVanished { node, number, transaction });
            }
        }
        for receipt in receipts.iter() {
            let known = *self.acknowledged.entry(receipt.transaction).or_insert((number, *receipt));
            unchanged(node, known, Some((number, *receipt)))?;
        }
        if let Some(block) = self.finals.get_mut(&number) {
            block.receipts = Some(receipts.clone());
        }
        Ok(())
    }

    /// A receipt of a final block that nobody has seen before.
    fn one_receipt(&mut self, node: usize, number: u64, receipt: Receipt) -> Result<(), Violation> {
        let transaction = receipt.transaction;
        self.one_hash(node, number, receipt.block)?;
        if self.finals[&number].receipts.is_some() {
            // All receipts of that block are known, and this is none of them.
            return Err(Violation::ReceiptChanged { node, number, transaction });
        }
        self.acknowledged.insert(transaction, (number, receipt));
        self.singly.entry(number).or_default().push(transaction);
        Ok(())
    }

    /// Nonces grow with the height, whoever shows them.
    fn nonces_at(&mut self, node: usize, number: u64, nonces: &[u64]) -> Result<(), Violation> {
        let below = self.nonces.range(..=number).next_back();
        let above = self.nonces.range(number..).next();
        let back = |lower: &[u64], upper: &[u64]| {
            let account = lower.iter().zip(upper).position(|(lower, upper)| lower > upper)?;
            let (from, to) = (lower[account], upper[account]);
            Some(Violation::NonceWentBack { node, account, from, to })
        };
        let broken = below
            .and_then(|(_, lower)| back(lower, nonces))
            .or_else(|| above.and_then(|(_, upper)| back(nonces, upper)));
        self.nonces.entry(number).or_insert_with(|| nonces.into());
        broken.map_or(Ok(()), Err)
    }
}

fn unchanged(
    node: usize,
    (number, receipt): (u64, Receipt),
    found: Option<(u64, Receipt)>,
) -> Result<(), Violation> {
    let transaction = receipt.transaction;
    match found {
        Some(found) if found == (number, receipt) => Ok(()),
        Some(_) => Err(Violation::ReceiptChanged { node, number, transaction }),
        None => Err(Violation::ReceiptVanished { node, number, transaction }),
    }
}

/// All calls and what is wrong with them.
pub struct History {
    calls: Vec<Call>,
    checker: Checker,
    violations: Vec<Violation>,
}

impl History {
    /// Empty.
    pub fn new(checker: Checker) -> Self {
        Self { calls: Vec::new(), checker, violations: Vec::new() }
    }

    /// Calls come in the order of their ends.
    pub fn record(&mut self, mut call: Call) {
        let verdict = self.checker.judge(&mut call);
        self.calls.push(call);
        if let Err(violation) = verdict
            && self.violations.len() < VIOLATIONS_MAX
        {
            self.violations.push(violation);
        }
    }

    /// What is known so far.
    pub fn checker(&self) -> &Checker {
        &self.checker
    }

    /// How many calls there are.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// The broken rules, each with the calls about it; `None` if there is none.
    pub fn complaint(&self) -> Option<String> {
        let tell = |violation: &Violation| {
            let about = self.calls.iter().filter(|call| violation.concerns(call));
            let mut about: Vec<String> = about.map(|call| format!("\n    {call}")).collect();
            let cut = about.len().saturating_sub(SHOWN);
            about.drain(..cut);
            format!("{violation}{}", about.concat())
        };
        let told: Vec<String> = self.violations.iter().map(tell).collect();
        (!told.is_empty()).then(|| told.join("\n"))
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
