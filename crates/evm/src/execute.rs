//! Running a whole block, or one transaction alone.

use crate::{
    Invalid, TransactionError,
    cache::{Cache, ReadError},
    environment::{BlockEvm, block_evm, environment, fork_of},
    requests, system,
};
use alloy_consensus::{Header, Transaction as _, constants::ETH_TO_WEI};
use alloy_eips::{eip4895::Withdrawal, eip7685::Requests};
use alloy_evm::{
    Evm, FromRecoveredTx,
    block::calc::{block_reward, ommer_reward},
    eth::dao_fork,
};
use alloy_primitives::{Address, B256, Bloom, U256};
use landfall_types::{
    Block, ChainSpec, Fork, Receipt, StateChanges, StateError, StateReader, Transaction,
};
use revm::{
    DatabaseCommit,
    context::TxEnv,
    context_interface::result::{EVMError, InvalidTransaction, ResultAndState},
};

/// What a block did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// One for each transaction.
    pub receipts: Vec<Receipt>,
    /// EIP-7685; empty before Prague.
    pub requests: Requests,
    /// By all transactions.
    pub gas_used: u64,
    /// By all transactions.
    pub blob_gas_used: u64,
    /// The difference from the parent's state.
    pub changes: StateChanges,
    /// Of all logs.
    pub logs_bloom: Bloom,
    /// As the header has it. Before Byzantium, when receipts held state roots, it is not what
    /// headers have, and it is not compared.
    pub receipts_root: B256,
}

/// Why a block was not executed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecutionError {
    /// The block breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The parent's state could not be read. Never a fault of the block.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<ReadError> for ExecutionError {
    fn from(error: ReadError) -> Self {
        Self::State(error.0)
    }
}

/// An error of the EVM that is no fault of a transaction.
pub(crate) fn evm_failure(error: EVMError<ReadError>) -> ExecutionError {
    match error {
        EVMError::Database(error) => error.into(),
        // The environment is made from a checked header, and no precompile of ours fails so.
        other => panic!("the EVM failed outside a transaction: {other}"),
    }
}

/// Executes a block on the state of its parent and compares the outcome with the header; the
/// state root alone is left to the caller. `senders` are those of the transactions, in order.
///
/// The header and the body must have passed [`validate_header`](crate::validate_header) and
/// [`validate_body`](crate::validate_body).
pub fn execute(
    spec: &ChainSpec,
    block: &Block,
    senders: &[Address],
    state: &dyn StateReader,
) -> Result<Outcome, ExecutionError> {
    let transactions = &block.body.transactions;
    assert_eq!(transactions.len(), senders.len(), "every transaction has one sender");
    let mut executor = Executor::new(spec, &block.header, state);
    executor.receipts.reserve(transactions.len());
    executor.begin(&block.header)?;
    for (index, (transaction, sender)) in transactions.iter().zip(senders).enumerate() {
        executor.transact(transaction, *sender).map_err(|error| match error {
            TransactError::Refused(reason) => Invalid::Transaction { index, reason }.into(),
            TransactError::State(error) => ExecutionError::State(error),
        })?;
    }
    let withdrawals = block.body.withdrawals.as_deref().map_or(&[][..], |w| w);
    let outcome = executor.finish(&block.body.ommers, withdrawals)?;
    compare(fork_of(spec, &block.header), &block.header, &outcome)?;
    Ok(outcome)
}

fn compare(fork: Fork, header: &Header, outcome: &Outcome) -> Result<(), Invalid> {
    if outcome.gas_used != header.gas_used {
        return Err(Invalid::GasUsed { header: header.gas_used, execution: outcome.gas_used });
    }
    if outcome.logs_bloom != header.logs_bloom {
        return Err(Invalid::LogsBloom);
    }
    if fork >= Fork::Byzantium && outcome.receipts_root != header.receipts_root {
        let (header, execution) = (header.receipts_root, outcome.receipts_root);
        return Err(Invalid::ReceiptsRoot { header, execution });
    }
    if let Some(want) = header.blob_gas_used
        && want != outcome.blob_gas_used
    {
        return Err(Invalid::BlobGasUsed { header: want, body: outcome.blob_gas_used });
    }
    if let Some(want) = header.requests_hash {
        let have = outcome.requests.requests_hash();
        if want != have {
            return Err(Invalid::RequestsHash { header: want, execution: have });
        }
    }
    Ok(())
}

/// One transaction alone on a state: no system call, reward or withdrawal around it. Ethereum's
/// state tests ask for this.
pub fn execute_transaction(
    spec: &ChainSpec,
    header: &Header,
    transaction: &Transaction,
    sender: Address,
    state: &dyn StateReader,
) -> Result<Result<(Receipt, StateChanges), TransactionError>, StateError> {
    let mut executor = Executor::new(spec, header, state);
    match executor.transact(transaction, sender) {
        Ok(_) => {}
        Err(TransactError::Refused(reason)) => return Ok(Err(reason)),
        Err(TransactError::State(error)) => return Err(error),
    }
    let receipt = executor.receipts.pop().expect("a transaction that ran has a receipt");
    Ok(Ok((receipt, executor.evm.into_db().into_changes()?)))
}

pub(crate) enum TransactError {
    Refused(TransactionError),
    State(StateError),
}

/// A block in the making: begin, transact any number of times, finish.
pub(crate) struct Executor<'a> {
    fork: Fork,
    number: u64,
    beneficiary: Address,
    deposit_contract: Address,
    dao_block: Option<u64>,
    max_blob_gas: u64,
    evm: BlockEvm<'a>,
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) gas_used: u64,
    blob_gas_used: u64,
}

impl<'a> Executor<'a> {
    pub(crate) fn new(spec: &ChainSpec, header: &Header, state: &'a dyn StateReader) -> Self {
        let fork = fork_of(spec, header);
        let blobs = if fork >= Fork::Cancun { spec.blob_params(header.timestamp) } else { None };
        let config = spec.config();
        Self {
            fork,
            number: header.number,
            beneficiary: header.beneficiary,
            deposit_contract: spec.deposit_contract,
            dao_block: config.dao_fork_block.filter(|_| config.dao_fork_support),
            max_blob_gas: blobs.map_or(0, |p| p.max_blob_gas_per_block()),
            evm: block_evm(Cache::new(state), environment(spec, header)),
            receipts: Vec::new(),
            gas_used: 0,
            blob_gas_used: 0,
        }
    }

    /// What happens before the first transaction.
    pub(crate) fn begin(&mut self, header: &Header) -> Result<(), ExecutionError> {
        if self.dao_block == Some(self.number) {
            self.move_dao()?;
        }
        if self.number > 0 && self.fork >= Fork::Cancun {
            let root = header.parent_beacon_block_root.unwrap_or_default();
            system::store_beacon_root(&mut self.evm, root)?;
        }
        if self.number > 0 && self.fork >= Fork::Prague {
            system::store_parent_hash(&mut self.evm, header.parent_hash)?;
        }
        Ok(())
    }

    /// The irregular state change of the DAO fork, before the block's transactions.
    fn move_dao(&mut self) -> Result<(), ReadError> {
        let cache = self.evm.db_mut();
        for address in dao_fork::DAO_HARDFORK_ACCOUNTS {
            let balance = cache.drain(address)?;
            cache.credit(dao_fork::DAO_HARDFORK_BENEFICIARY, balance)?;
        }
        Ok(())
    }

    /// Runs a transaction and keeps what it did, or refuses it and leaves no trace.
    pub(crate) fn transact(
        &mut self,
        transaction: &Transaction,
        sender: Address,
    ) -> Result<&Receipt, TransactError> {
        let refused = |reason| Err(TransactError::Refused(reason));
        let limit = transaction.gas_limit();
        let available = self.evm.block().gas_limit.saturating_sub(self.gas_used);
        // A limit above the cap of one transaction is the more specific reason.
        if limit > available && limit <= self.evm.cfg.tx_gas_limit_cap.unwrap_or(u64::MAX) {
            return refused(TransactionError::BlockGas { available, limit });
        }
        let blob_gas = transaction.blob_gas_used().unwrap_or_default();
        let available = self.max_blob_gas - self.blob_gas_used;
        let too_many_blobs = self.fork >= Fork::Cancun && blob_gas > available;
        self.evm.db_mut().set_sender(sender);
        let tx = TxEnv::from_recovered_tx(transaction, sender);
        let ResultAndState { result, state } = match self.evm.transact_raw(tx) {
            // More than one transaction may have is revm's to refuse, before this.
            Ok(_) if too_many_blobs => {
                let wants = blob_gas;
                return refused(TransactionError::BlockBlobGas { available, wants });
            }
            Ok(done) => done,
            Err(EVMError::Transaction(reason)) => {
                let error = self.refusal(reason);
                // What the journal loaded must not outlive a withdrawal or a reward.
                self.evm.ctx_mut().journaled_state.finalize();
                return refused(error);
            }
            Err(EVMError::Database(error)) => return Err(TransactError::State(error.0)),
            Err(other) => panic!("the EVM failed in a transaction: {other}"),
        };
        self.evm.db_mut().commit(state);
        self.gas_used += result.tx_gas_used();
        self.blob_gas_used += blob_gas;
        let success = result.is_success();
        let logs = if success { result.into_logs() } else { Vec::new() };
        let tx_type = transaction.tx_type();
        let cumulative_gas_used = self.gas_used;
        self.receipts.push(Receipt { tx_type, success, cumulative_gas_used, logs });
        Ok(self.receipts.last().expect("it was pushed just now"))
    }

    fn refusal(&self, reason: InvalidTransaction) -> TransactionError {
        let context = self.evm.ctx();
        TransactionError::new(reason, &context.tx, &context.block, context.cfg.chain_id)
    }

    /// What happens after the last transaction.
    pub(crate) fn finish(
        mut self,
        ommers: &[Header],
        withdrawals: &[Withdrawal],
    ) -> Result<Outcome, ExecutionError> {
        if self.fork < Fork::Paris {
            self.reward(ommers)?;
        }
        for withdrawal in withdrawals {
            self.evm.db_mut().credit(withdrawal.address, withdrawal.amount_wei())?;
        }
        let requests = if self.fork >= Fork::Prague {
            requests::collect(&mut self.evm, self.deposit_contract, &self.receipts)?
        } else {
            Requests::default()
        };
        let mut logs_bloom = Bloom::default();
        for log in self.receipts.iter().flat_map(|r| &r.logs) {
            logs_bloom.accrue_log(log);
        }
        Ok(Outcome {
            requests,
            gas_used: self.gas_used,
            blob_gas_used: self.blob_gas_used,
            changes: self.evm.into_db().into_changes()?,
            logs_bloom,
            receipts_root: Receipt::calculate_receipt_root_no_memo(&self.receipts),
            receipts: self.receipts,
        })
    }

    fn reward(&mut self, ommers: &[Header]) -> Result<(), ReadError> {
        let base = match self.fork {
            fork if fork >= Fork::Constantinople => 2,
            fork if fork >= Fork::Byzantium => 3,
            _ => 5,
        } * ETH_TO_WEI;
        let cache = self.evm.db_mut();
        for ommer in ommers {
            // An ommer that no honest block can have earns nothing here; its ancestry is judged
            // elsewhere.
            if ommer.number < self.number && ommer.number + 8 > self.number {
                let wei = ommer_reward(base, self.number, ommer.number);
                cache.credit(ommer.beneficiary, U256::from(wei))?;
            }
        }
        cache.credit(self.beneficiary, U256::from(block_reward(base, ommers.len())))
    }
}
