//! Making a block, transaction by transaction.

use crate::{
    ExecutionError, Invalid, MAX_RLP_BLOCK_SIZE, Outcome, TransactionError,
    environment::{fork_of, next_excess_blob_gas},
    execute::{Executor, TransactError},
    header::{GAS_LIMIT_DIVISOR, MIN_GAS_LIMIT, parent_gas_limit},
    next_base_fee,
};
use alloy_consensus::{
    EMPTY_OMMER_ROOT_HASH, Header,
    proofs::{calculate_transaction_root, calculate_withdrawals_root},
};
use alloy_eips::eip4895::{Withdrawal, Withdrawals};
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_rlp::Encodable;
use landfall_types::{
    Block, Body, ChainSpec, Extension, Fork, Receipt, Rules, StateError, StateReader,
    TRANSACTIONS_MAX, Transaction,
};

/// The gas of the smallest transaction.
const MIN_TRANSACTION_GAS: u64 = 21_000;
/// What header, list prefixes and ommers take of a block's RLP, rounded up.
const RLP_OVERHEAD: usize = 2_048;

/// What the maker of a block decides.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// Who gets the fees.
    pub beneficiary: Address,
    /// The gas limit to reach; a block moves towards it by less than 1/1024 of its parent's.
    pub gas_limit: u64,
    /// `mixHash`.
    pub prev_randao: B256,
    /// At most 32 bytes.
    pub extra_data: Bytes,
    /// Paid after the transactions; must be empty before Shanghai.
    pub withdrawals: Vec<Withdrawal>,
    /// What the nonce will have to meet, on a chain of work; else zero.
    pub difficulty: U256,
    /// What consensus says. Its time is raised to the first that may follow the parent's, if it
    /// is not later; under Ethereum's rules nothing else of it is used.
    pub extension: Extension,
}

/// What a transaction did that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// By this transaction alone.
    pub gas_used: u64,
    /// Whether it ran to its end, as its receipt says.
    pub success: bool,
}

/// Why a transaction was not pushed. The block stays as it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PushError {
    /// This transaction cannot stand here; the next may.
    #[error(transparent)]
    Refused(#[from] TransactionError),
    /// No transaction fits any more.
    #[error("the block is full")]
    Full,
    /// The parent's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// A finished block that waits for its state root.
#[derive(Clone, Debug)]
pub struct Built {
    /// The header; its state root is zero.
    pub header: Header,
    /// The body.
    pub body: Body,
    /// Of the transactions, in order.
    pub senders: Vec<Address>,
    /// The extension that the header commits to; empty under Ethereum's rules.
    pub extension: Bytes,
    /// What executing it did.
    pub outcome: Outcome,
}

/// A block in the making: [`new`](Self::new), [`push`](Self::push) any number of times,
/// [`finish`](Self::finish).
pub struct BlockBuilder<'a> {
    executor: Executor<'a>,
    header: Header,
    extension: Bytes,
    withdrawals: Vec<Withdrawal>,
    transactions: Vec<Transaction>,
    senders: Vec<Address>,
    /// Bytes of RLP that transactions may still take.
    room: usize,
}

impl<'a> BlockBuilder<'a> {
    /// Starts a block on `state`, the state after the parent.
    ///
    /// # Panics
    ///
    /// If the parent is a block of work: after the merge no such block is made, and before it
    /// this node makes none.
    pub fn new(
        spec: &ChainSpec,
        parent: &Block,
        next: Attributes,
        state: &'a dyn StateReader,
    ) -> Result<Self, ExecutionError> {
        assert!(
            spec.rules == Rules::Landfall || spec.can_merge(),
            "under Ethereum's rules, a chain that never merges has no blocks without work"
        );
        let (header, extension) = header(spec, parent, &next)?;
        let mut executor = Executor::new(spec, &header, state);
        executor.begin(&header)?;
        let overhead = RLP_OVERHEAD + next.withdrawals.length();
        let room = if fork_of(spec, &header) >= Fork::Osaka {
            MAX_RLP_BLOCK_SIZE.saturating_sub(overhead)
        } else {
            usize::MAX
        };
        Ok(Self {
            executor,
            header,
            extension,
            withdrawals: next.withdrawals,
            transactions: Vec::new(),
            senders: Vec::new(),
            room,
        })
    }

    /// The header so far: number, time, base fee and gas limit are final.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The gas that is left for transactions.
    pub fn gas_left(&self) -> u64 {
        self.header.gas_limit.saturating_sub(self.executor.gas_used)
    }

    /// How many transactions stand in the block.
    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    /// Whether no transaction stands in the block.
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// The receipts of the transactions so far.
    pub fn receipts(&self) -> &[Receipt] {
        &self.executor.receipts
    }

    /// Executes a transaction and appends it, or says why it cannot stand here.
    pub fn push(&mut self, tx: &Transaction, sender: Address) -> Result<Pushed, PushError> {
        let size = tx.length();
        let many = self.transactions.len() >= TRANSACTIONS_MAX;
        if self.gas_left() < MIN_TRANSACTION_GAS || size > self.room || many {
            return Err(PushError::Full);
        }
        let before = self.executor.gas_used;
        let receipt = self.executor.transact(tx, sender).map_err(|error| match error {
            TransactError::Refused(reason) => PushError::Refused(reason),
            TransactError::State(error) => PushError::State(error),
        })?;
        let pushed =
            Pushed { gas_used: receipt.cumulative_gas_used - before, success: receipt.success };
        self.room -= size;
        self.transactions.push(tx.clone());
        self.senders.push(sender);
        Ok(pushed)
    }

    /// Pays the withdrawals, collects the requests and fills in the header.
    pub fn finish(self) -> Result<Built, ExecutionError> {
        let Self { executor, mut header, extension, withdrawals, transactions, senders, .. } = self;
        let outcome = executor.finish(&[], &withdrawals)?;
        header.transactions_root = calculate_transaction_root(&transactions);
        header.receipts_root = outcome.receipts_root;
        header.logs_bloom = outcome.logs_bloom;
        header.gas_used = outcome.gas_used;
        header.blob_gas_used = header.blob_gas_used.map(|_| outcome.blob_gas_used);
        header.requests_hash = header.requests_hash.map(|_| outcome.requests.requests_hash());
        let withdrawals = header.withdrawals_root.map(|_| Withdrawals::new(withdrawals));
        let body = Body { transactions, ommers: Vec::new(), withdrawals };
        Ok(Built { header, body, senders, extension, outcome })
    }
}

/// The header and the extension of the next block, without what its transactions decide.
fn header(spec: &ChainSpec, above: &Block, next: &Attributes) -> Result<(Header, Bytes), Invalid> {
    let parent: &Header = &above.header;
    let number = parent.number + 1;
    let (timestamp, extension) = time(spec.rules, above, next)?;
    let fork = spec.fork_at(number, timestamp, U256::ZERO);
    let cancun = fork >= Fork::Cancun;
    let beacon_root = match spec.rules {
        Rules::Landfall => Extension::commitment(&extension),
        Rules::Ethereum => B256::ZERO,
    };
    let header = Header {
        parent_hash: above.hash(),
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: next.beneficiary,
        number,
        gas_limit: towards(parent_gas_limit(fork, parent), next.gas_limit),
        timestamp,
        extra_data: next.extra_data.clone(),
        mix_hash: next.prev_randao,
        difficulty: if spec.rules == Rules::Landfall { next.difficulty } else { U256::ZERO },
        base_fee_per_gas: next_base_fee(spec, parent, number, timestamp, U256::ZERO),
        withdrawals_root: (fork >= Fork::Shanghai)
            .then(|| calculate_withdrawals_root(&next.withdrawals)),
        blob_gas_used: cancun.then_some(0),
        excess_blob_gas: next_excess_blob_gas(spec, parent, fork, timestamp),
        parent_beacon_block_root: cancun.then_some(beacon_root),
        requests_hash: (fork >= Fork::Prague).then_some(B256::ZERO),
        ..Header::default()
    };
    Ok((header, extension))
}

fn time(rules: Rules, parent: &Block, next: &Attributes) -> Result<(u64, Bytes), Invalid> {
    let wanted = next.extension.milliseconds;
    match rules {
        Rules::Ethereum => {
            let first = parent.header.timestamp + 1;
            Ok((first.max(wanted / 1_000), Bytes::new()))
        }
        Rules::Landfall => {
            let before = Extension::from_bytes(&parent.extension)
                .map_err(|_| Invalid::Extension("the parent's is not the RLP of an extension"))?;
            let milliseconds = wanted.max(before.milliseconds + 1);
            let extension = Extension { milliseconds, ..next.extension.clone() };
            Ok((milliseconds / 1_000, extension.to_bytes()))
        }
    }
}

/// The gas limit nearest to `target` that may follow `parent`.
fn towards(parent: u64, target: u64) -> u64 {
    let step = (parent / GAS_LIMIT_DIVISOR).saturating_sub(1);
    target.clamp(parent - step, parent.saturating_add(step)).max(MIN_GAS_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{execute, memory::MemoryState, tests::*, validate_body, validate_header};
    use alloy_primitives::{TxKind, hex};
    use landfall_types::FeeRules;

    const SENDER: Address = Address::with_last_byte(0xa1);
    const RECIPIENT: Address = Address::with_last_byte(0xb2);

    fn state() -> MemoryState {
        let wealth = U256::from(10).pow(U256::from(20));
        MemoryState::default().with_system_contracts().with_balance(SENDER, wealth)
    }

    fn transfer(nonce: u64) -> Transaction {
        transaction(nonce, TxKind::Call(RECIPIENT), 1, Bytes::new())
    }

    #[test]
    fn built_block_passes_import_and_makes_the_same_changes() {
        for spec in [ethereum_spec(), landfall_spec()] {
            let (parent, state) = (genesis(&spec), state());
            let withdrawal = Withdrawal { address: RECIPIENT, amount: 3, ..Withdrawal::default() };
            let next = Attributes { withdrawals: vec![withdrawal], ..next_block(1_000_000_000) };
            let mut builder = BlockBuilder::new(&spec, &parent, next, &state).unwrap();
            for nonce in 0..10 {
                let pushed = builder.push(&transfer(nonce), SENDER).unwrap();
                assert_eq!(pushed, Pushed { gas_used: 21_000, success: true });
            }
            // SSTORE(0, 1), LOG0, return no code.
            let init = Bytes::from(hex!("600160005560006000a000").to_vec());
            assert!(
                builder.push(&transaction(10, TxKind::Create, 0, init), SENDER).unwrap().success
            );
            let built = builder.finish().unwrap();
            let (outcome, senders) = (built.outcome.clone(), built.senders.clone());
            let block = seal(built);
            let (old, new) = (&parent, &block);
            validate_header(&spec, &new.header, &new.extension, &old.header, &old.extension)
                .unwrap();
            validate_body(&spec, &block).unwrap();
            let executed = execute(&spec, &block, &senders, &state).unwrap();
            assert_eq!(executed.changes, outcome.changes);
            assert_eq!(executed.receipts, outcome.receipts);
            assert_eq!(executed.receipts.len(), 11);
            let mut after = state.clone();
            after.apply(&executed.changes);
            let wei = U256::from(10 + 3_000_000_000_u64);
            assert_eq!(after.accounts[&RECIPIENT].balance, wei);
            let created = SENDER.create(10);
            assert_eq!(after.slots[&(created, U256::ZERO)], U256::from(1));
        }
    }

    #[test]
    fn contract_sees_prevrandao_and_no_difficulty_in_a_block_of_work() {
        let (spec, contract) = (landfall_spec(), Address::repeat_byte(0xcc));
        let parent = genesis(&spec);
        // SSTORE(0, PREVRANDAO)
        let state = state().with_code(contract, Bytes::from_static(&hex!("445f5500")));
        let extension = Extension {
            milliseconds: 1,
            epoch: 3,
            proposer: SENDER,
            data: Bytes::from_static(b"round"),
        };
        let next = Attributes {
            prev_randao: B256::repeat_byte(5),
            difficulty: U256::from(1_000),
            extension: extension.clone(),
            ..next_block(0)
        };
        let mut builder = BlockBuilder::new(&spec, &parent, next, &state).unwrap();
        let call = transaction(0, TxKind::Call(contract), 0, Bytes::from_static(&[1]));
        assert!(builder.push(&call, SENDER).unwrap().success);
        let built = builder.finish().unwrap();
        assert_eq!(built.header.difficulty, U256::from(1_000));
        let said = Extension::from_bytes(&built.extension).unwrap();
        assert_eq!(Extension { milliseconds: 1, ..said.clone() }, extension);
        let first = Extension::from_bytes(&parent.extension).unwrap().milliseconds + 1;
        assert_eq!(said.milliseconds, first, "raised to the first that may follow");
        let block = seal(built);
        let outcome = execute(&spec, &block, &[SENDER], &state).unwrap();
        let stored = &outcome.changes.accounts[&contract].storage[&U256::ZERO];
        assert_eq!(stored.after, U256::from_be_bytes([5; 32]));
    }

    #[test]
    fn free_gas_takes_transactions_of_accounts_without_money_and_moves_none() {
        let free = spec_with(FeeRules { free_gas: true, ..FeeRules::default() });
        let poor = Address::repeat_byte(0x77);
        let state = MemoryState::default().with_system_contracts();
        let build = |spec: &ChainSpec| {
            let parent = genesis(spec);
            let mut builder =
                BlockBuilder::new(spec, &parent, next_block(2_000_000), &state).unwrap();
            let pushed = builder.push(&free_transaction(0, TxKind::Call(RECIPIENT)), poor);
            pushed.map(|_| builder.finish().unwrap())
        };
        let built = build(&free).unwrap();
        assert_eq!(built.outcome.receipts.len(), 1);
        let accounts = built.outcome.changes.accounts.values();
        let after = accounts.filter_map(|it| it.account.after.as_ref());
        assert!(after.map(|it| it.balance).all(|balance| balance.is_zero()));
        let block = seal(built);
        let check = |spec: &ChainSpec| {
            let parent = genesis(spec);
            let (header, before) = (&block.header, &parent.header);
            validate_header(spec, header, &block.extension, before, &parent.extension)
        };
        check(&free).unwrap();
        execute(&free, &block, &[poor], &state).unwrap();
        // Where gas has a price the transaction is refused, and the block invalid.
        let refused = build(&landfall_spec()).unwrap_err().to_string();
        assert!(refused.starts_with("max fee per gas less than block base fee"), "{refused}");
        let invalid = check(&landfall_spec()).unwrap_err().to_string();
        assert!(invalid.contains("invalid baseFee"), "{invalid}");
    }

    #[test]
    fn refused_transaction_leaves_no_trace() {
        let (spec, state) = (landfall_spec(), state());
        let parent = genesis(&spec);
        let build = |try_bad: bool| {
            let mut builder =
                BlockBuilder::new(&spec, &parent, next_block(5_000_000), &state).unwrap();
            if try_bad {
                let nonce = builder.push(&transfer(1), SENDER).unwrap_err().to_string();
                assert!(nonce.starts_with("nonce too high: address 0x"), "{nonce}");
                let funds = builder.push(&transfer(0), RECIPIENT).unwrap_err().to_string();
                assert!(funds.starts_with("insufficient funds for gas * price + value"), "{funds}");
            }
            builder.push(&transfer(0), SENDER).unwrap();
            builder.finish().unwrap()
        };
        let (clean, tried) = (build(false), build(true));
        assert_eq!(clean.header, tried.header);
        assert_eq!(clean.outcome.changes, tried.outcome.changes);
    }

    #[test]
    fn full_block_takes_nothing_more() {
        let (spec, state) = (landfall_spec(), state());
        let mut parent = genesis(&spec);
        let mut header = parent.header.inner().clone();
        header.gas_limit = 5_120;
        parent = Block { extension: parent.extension, ..Block::ethereum(header, parent.body) };
        let next = Attributes { gas_limit: 50_000, ..next_block(2_000_000) };
        let mut builder = BlockBuilder::new(&spec, &parent, next, &state).unwrap();
        assert_eq!(builder.header().gas_limit, 5_124);
        assert!(matches!(builder.push(&transfer(0), SENDER), Err(PushError::Full)));
    }

    #[test]
    fn wrong_header_is_named_at_import() {
        let (spec, state) = (landfall_spec(), state());
        let parent = genesis(&spec);
        let mut builder = BlockBuilder::new(&spec, &parent, next_block(5_000_000), &state).unwrap();
        builder.push(&transfer(0), SENDER).unwrap();
        let built = builder.finish().unwrap();
        let refusal = |edit: fn(&mut Header)| {
            let mut built = built.clone();
            edit(&mut built.header);
            execute(&spec, &seal(built), &[SENDER], &state).map(|_| ()).unwrap_err().to_string()
        };
        assert!(refusal(|h| h.gas_used += 1).contains("invalid gas used"));
        assert!(refusal(|h| h.receipts_root = B256::ZERO).contains("invalid receipt root hash"));
        assert!(refusal(|h| h.requests_hash = Some(B256::ZERO)).contains("invalid requests hash"));
        assert!(refusal(|h| h.logs_bloom.0[0] = 1).contains("invalid bloom"));
        assert!(
            refusal(|h| h.base_fee_per_gas = Some(3_000_000_000)).contains("could not apply tx 0")
        );
    }
}
