//! `eth_call`: what a transaction would do that nobody signs.

use crate::{
    TransactionError,
    cache::{Cache, ReadError},
    environment::environment,
    overrides::{override_block, override_state},
};
use alloy_consensus::Header;
use alloy_evm::{
    Evm,
    eth::{EthEvm, EthEvmBuilder, EthEvmContext},
    precompiles::PrecompilesMap,
};
use alloy_primitives::{Bytes, Log, TxKind, U256};
use alloy_rpc_types_eth::{BlockOverrides, TransactionRequest, state::StateOverride};
use landfall_types::{ChainSpec, StateError, StateReader};
use revm::{
    Inspector,
    context::{CfgEnv, TxEnv},
    context_interface::{
        either::Either,
        result::{EVMError, ExecutionResult, HaltReason, OutOfGasError},
    },
    inspector::NoOpInspector,
};

/// Where a call happens.
#[derive(Clone, Copy)]
pub struct CallContext<'a> {
    /// The rules.
    pub spec: &'a ChainSpec,
    /// The block that the call sees as its own.
    pub header: &'a Header,
    /// The state that it runs on.
    pub state: &'a dyn StateReader,
    /// Accounts that differ from the state.
    pub state_overrides: Option<&'a StateOverride>,
    /// Fields that differ from the header.
    pub block_overrides: Option<&'a BlockOverrides>,
    /// The most gas that a call may have, whatever it asks for.
    pub gas_cap: u64,
}

/// What a call did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// It ran to its end.
    Success {
        /// The return data, or the code of a created contract.
        output: Bytes,
        /// After refunds.
        gas_used: u64,
        /// In order.
        logs: Vec<Log>,
    },
    /// It reverted.
    Revert {
        /// The revert data.
        output: Bytes,
        /// After refunds.
        gas_used: u64,
    },
    /// It failed and burned its gas.
    Halt {
        /// In geth's words.
        reason: String,
        /// All that it had.
        gas_used: u64,
    },
}

/// Why there is no answer to a call. The messages are geth's.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// As a transaction it would be invalid.
    #[error("err: {reason} (supplied gas {gas})")]
    Transaction {
        /// The rule that it breaks.
        reason: TransactionError,
        /// The gas limit that it ran with.
        gas: u64,
    },
    /// The request contradicts itself.
    #[error("{0}")]
    Request(String),
    /// No gas limit that the sender can pay for, or that is allowed, suffices.
    #[error("gas required exceeds allowance ({0})")]
    GasAllowance(u64),
    /// The transaction whose gas was to be estimated reverts.
    #[error("execution reverted")]
    Revert(Bytes),
    /// The transaction whose gas was to be estimated fails.
    #[error("{0}")]
    Halt(String),
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<ReadError> for CallError {
    fn from(error: ReadError) -> Self {
        Self::State(error.0)
    }
}

/// Runs a request on a state and keeps nothing.
pub fn call(
    context: &CallContext<'_>,
    request: &TransactionRequest,
) -> Result<CallOutcome, CallError> {
    let mut simulation = Simulation::new(context, request, NoOpInspector {})?;
    let gas = simulation.tx.gas_limit;
    Ok(outcome(simulation.run(gas)?))
}

/// An EVM and a transaction to run on it, again and again from the same state.
pub(crate) struct Simulation<'a, I> {
    pub(crate) evm: EthEvm<Cache<'a>, I, PrecompilesMap>,
    pub(crate) tx: TxEnv,
}

impl<'a, I: Inspector<EthEvmContext<Cache<'a>>>> Simulation<'a, I> {
    pub(crate) fn new(
        context: &CallContext<'a>,
        request: &TransactionRequest,
        inspector: I,
    ) -> Result<Self, CallError> {
        let mut cache = Cache::new(context.state);
        let mut environment = environment(context.spec, context.header);
        relax(&mut environment.cfg_env);
        if let Some(overrides) = context.block_overrides {
            override_block(&mut environment, &mut cache, overrides)?;
        }
        let tx = transaction(context, request)?;
        cache.set_sender(tx.caller);
        // As in geth, a call that pays nothing sees no base fee.
        if tx.gas_price == 0 && tx.gas_priority_fee.unwrap_or_default() == 0 {
            environment.block_env.basefee = 0;
        }
        if tx.max_fee_per_blob_gas == 0
            && !tx.blob_hashes.is_empty()
            && let Some(blobs) = &mut environment.block_env.blob_excess_gas_and_price
        {
            blobs.blob_gasprice = 0;
        }
        let inspect = std::mem::size_of::<I>() > 0;
        let mut evm = EthEvmBuilder::new(cache, environment)
            .inspector(inspector)
            .set_inspect(inspect)
            .build();
        if let Some(overrides) = context.state_overrides {
            let (cache, _, precompiles) = evm.components_mut();
            override_state(cache, precompiles, overrides)?;
        }
        Ok(Self { evm, tx })
    }

    /// Runs the transaction with a gas limit.
    pub(crate) fn run(&mut self, gas: u64) -> Result<ExecutionResult, CallError> {
        let tx = TxEnv { gas_limit: gas, ..self.tx.clone() };
        match self.evm.transact_raw(tx) {
            Ok(done) => Ok(done.result),
            Err(EVMError::Transaction(reason)) => {
                let context = self.evm.ctx_mut();
                context.journaled_state.finalize();
                let (tx, block, chain) = (&context.tx, &context.block, context.cfg.chain_id);
                let reason = TransactionError::new(reason, tx, block, chain);
                Err(CallError::Transaction { reason, gas })
            }
            Err(EVMError::Database(error)) => Err(error.into()),
            Err(other) => panic!("the EVM failed in a call: {other}"),
        }
    }
}

/// Lifts the rules that are for transactions in blocks only.
fn relax(cfg: &mut CfgEnv) {
    cfg.disable_nonce_check = true;
    cfg.disable_eip3607 = true;
    cfg.disable_block_gas_limit = true;
    cfg.tx_gas_limit_cap = Some(u64::MAX);
}

pub(crate) fn outcome(result: ExecutionResult) -> CallOutcome {
    let gas_used = result.tx_gas_used();
    match result {
        ExecutionResult::Success { output, logs, .. } => {
            CallOutcome::Success { output: output.into_data(), gas_used, logs }
        }
        ExecutionResult::Revert { output, .. } => CallOutcome::Revert { output, gas_used },
        ExecutionResult::Halt { reason, .. } => {
            CallOutcome::Halt { reason: halt_in_words(&reason), gas_used }
        }
    }
}

fn transaction(
    context: &CallContext<'_>,
    request: &TransactionRequest,
) -> Result<TxEnv, CallError> {
    let refuse = |reason: String| Err(CallError::Request(reason));
    let dynamic = request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some();
    if request.gas_price.is_some() && dynamic {
        return refuse("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified".into());
    }
    let chain_id = context.spec.chain_id;
    if let Some(have) = request.chain_id
        && have != chain_id
    {
        return refuse(format!("chainId does not match node's (have={have}, want={chain_id})"));
    }
    let Ok(data) = request.input.clone().try_into_unique_input() else {
        return refuse(
            "both \"data\" and \"input\" are set and not equal. Please use \"input\" to pass \
             transaction call data"
                .into(),
        );
    };
    let authorizations = request.authorization_list.iter().flatten();
    let tx_type = match request {
        r if r.authorization_list.is_some() => 4,
        r if r.blob_versioned_hashes.is_some() => 3,
        _ if dynamic => 2,
        r if r.access_list.is_some() => 1,
        _ => 0,
    };
    let tip = request.max_priority_fee_per_gas.unwrap_or_default();
    // A legacy price under a dynamic type is both its fee and its tip.
    let gas_price = request.gas_price.or(request.max_fee_per_gas).unwrap_or_default();
    Ok(TxEnv {
        tx_type,
        caller: request.from.unwrap_or_default(),
        gas_limit: request.gas.unwrap_or(context.gas_cap).min(context.gas_cap),
        gas_price,
        kind: request.to.unwrap_or(TxKind::Create),
        value: request.value.unwrap_or(U256::ZERO),
        data: data.unwrap_or_default(),
        nonce: 0,
        chain_id: Some(chain_id),
        access_list: request.access_list.clone().unwrap_or_default(),
        gas_priority_fee: (tx_type >= 2).then_some(if request.gas_price.is_some() {
            gas_price
        } else {
            tip
        }),
        blob_hashes: request.blob_versioned_hashes.clone().unwrap_or_default(),
        max_fee_per_blob_gas: request.max_fee_per_blob_gas.unwrap_or_default(),
        authorization_list: authorizations.cloned().map(Either::Left).collect(),
    })
}

pub(crate) fn halt_in_words(reason: &HaltReason) -> String {
    match reason {
        HaltReason::OutOfGas(OutOfGasError::InvalidOperand) => "gas uint64 overflow",
        HaltReason::OutOfGas(_) => "out of gas",
        HaltReason::OpcodeNotFound | HaltReason::NotActivated => "invalid opcode",
        HaltReason::InvalidFEOpcode => "invalid opcode: INVALID",
        HaltReason::InvalidJump => "invalid jump destination",
        HaltReason::StackUnderflow => "stack underflow",
        HaltReason::StackOverflow => "stack limit reached 1024 (1024)",
        HaltReason::OutOfOffset => "return data out of bounds",
        HaltReason::CreateCollision => "contract address collision",
        HaltReason::NonceOverflow => "nonce uint64 overflow",
        HaltReason::CreateContractSizeLimit => "max code size exceeded",
        HaltReason::CreateContractStartingWithEF => "invalid code: must not begin with 0xef",
        HaltReason::CreateInitCodeSizeLimit => "max initcode size exceeded",
        HaltReason::StateChangeDuringStaticCall | HaltReason::CallNotAllowedInsideStatic => {
            "write protection"
        }
        HaltReason::OutOfFunds => "insufficient balance for transfer",
        HaltReason::CallTooDeep => "max call depth exceeded",
        other => return format!("{other}").to_lowercase(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{create_access_list, estimate_gas, memory::MemoryState, tests::*};
    use alloy_primitives::{Address, B256, hex};
    use alloy_rpc_types_eth::state::StateOverridesBuilder;
    use landfall_types::Account;

    const SENDER: Address = Address::with_last_byte(0xa1);
    const CONTRACT: Address = Address::with_last_byte(0xc3);
    const GAS_CAP: u64 = 50_000_000;

    fn request(from: Address, to: Address) -> TransactionRequest {
        TransactionRequest::default().from(from).to(to)
    }

    /// Calls with a state, a request and overrides.
    fn ask<T>(
        state: &MemoryState,
        overrides: Option<&StateOverride>,
        question: impl FnOnce(&CallContext<'_>) -> T,
    ) -> T {
        let (spec, header) = (ethereum_spec(), call_header());
        question(&CallContext {
            spec: &spec,
            header: &header,
            state,
            state_overrides: overrides,
            block_overrides: None,
            gas_cap: GAS_CAP,
        })
    }

    /// Returns its first slot.
    fn reader() -> MemoryState {
        let code = hex!("60005460005260206000f3").to_vec();
        MemoryState::default().with_code(CONTRACT, code).with_slot(CONTRACT, 0, 5)
    }

    fn output_of(outcome: CallOutcome) -> U256 {
        let CallOutcome::Success { output, .. } = outcome else { panic!("{outcome:?}") };
        U256::from_be_slice(&output)
    }

    #[test]
    fn call_sees_the_state_and_its_overrides() {
        let (state, tx) = (reader(), request(SENDER, CONTRACT));
        let slot = |value: u64| [(B256::ZERO, B256::from(U256::from(value)))];
        let none = ask(&state, None, |c| call(c, &tx)).unwrap();
        assert_eq!(output_of(none), U256::from(5));
        let difference: StateOverride =
            StateOverridesBuilder::default().with_state_diff(CONTRACT, slot(6)).into();
        let changed = ask(&state, Some(&difference), |c| call(c, &tx)).unwrap();
        assert_eq!(output_of(changed), U256::from(6));
        let other = [(B256::with_last_byte(1), B256::with_last_byte(1))];
        let cleared: StateOverride =
            StateOverridesBuilder::default().with_state(CONTRACT, other).into();
        let emptied = ask(&state, Some(&cleared), |c| call(c, &tx)).unwrap();
        assert_eq!(output_of(emptied), U256::ZERO);
        let both = StateOverridesBuilder::default()
            .with_state(CONTRACT, slot(1))
            .with_state_diff(CONTRACT, slot(1))
            .into();
        let error = ask(&state, Some(&both), |c| call(c, &tx)).unwrap_err().to_string();
        assert!(error.contains("has both 'state' and 'stateDiff'"), "{error}");
        // Returns 9, at a place where there was no code.
        let code = hex!("600960005260206000f3").to_vec();
        let coded: StateOverride = StateOverridesBuilder::default().with_code(SENDER, code).into();
        let run = ask(&state, Some(&coded), |c| call(c, &request(CONTRACT, SENDER))).unwrap();
        assert_eq!(output_of(run), U256::from(9));
    }

    #[test]
    fn failures_are_told_apart() {
        // Reverts with one byte.
        let state = MemoryState::default().with_code(CONTRACT, hex!("60016000fd").to_vec());
        let tx = request(SENDER, CONTRACT);
        let outcome = ask(&state, None, |c| call(c, &tx)).unwrap();
        assert!(matches!(outcome, CallOutcome::Revert { .. }), "{outcome:?}");
        let state = MemoryState::default().with_code(CONTRACT, hex!("5b600056").to_vec());
        let outcome = ask(&state, None, |c| call(c, &tx.clone().gas_limit(100_000))).unwrap();
        let want = CallOutcome::Halt { reason: "out of gas".into(), gas_used: 100_000 };
        assert_eq!(outcome, want);
        let error = ask(&state, None, |c| call(c, &tx.clone().value(U256::from(1)))).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "err: insufficient funds for gas * price + value: address {SENDER} have 0 want 1 \
                 (supplied gas {GAS_CAP})"
            )
        );
        let error = ask(&state, None, |c| call(c, &tx.clone().gas_limit(20_999))).unwrap_err();
        assert!(
            error.to_string().starts_with("err: intrinsic gas too low: have 20999, want 21000")
        );
        let twice = TransactionRequest { gas_price: Some(1), ..tx }.max_fee_per_gas(1);
        let error = ask(&state, None, |c| call(c, &twice)).unwrap_err().to_string();
        assert!(error.starts_with("both gasPrice and (maxFeePerGas"), "{error}");
    }

    #[test]
    fn transfer_is_estimated_at_21000() {
        let rich = Account { balance: U256::from(u64::MAX), ..Account::default() };
        let mut state = MemoryState::default();
        state.accounts.insert(SENDER, rich);
        let tx = request(SENDER, Address::with_last_byte(0x99)).value(U256::from(1));
        assert_eq!(ask(&state, None, |c| estimate_gas(c, &tx)).unwrap(), 21_000);
        let poor = request(Address::with_last_byte(8), SENDER).value(U256::from(1));
        let error = ask(&state, None, |c| estimate_gas(c, &poor)).unwrap_err().to_string();
        assert!(error.contains("insufficient funds"), "{error}");
    }

    #[test]
    fn estimate_suffices_and_little_less_does_not() {
        // SSTORE(i, 1) for i in 1..=20.
        let code: Vec<u8> = (1..=20).flat_map(|i| [0x60, 1, 0x60, i, 0x55]).collect();
        let state = MemoryState::default().with_code(CONTRACT, code);
        let tx = request(SENDER, CONTRACT);
        let gas = ask(&state, None, |c| estimate_gas(c, &tx)).unwrap();
        let run = |gas| ask(&state, None, |c| call(c, &tx.clone().gas_limit(gas))).unwrap();
        assert!(matches!(run(gas), CallOutcome::Success { .. }));
        assert!(matches!(run(gas * 98 / 100), CallOutcome::Halt { .. }));
        let state = MemoryState::default().with_code(CONTRACT, hex!("60016000fd").to_vec());
        let error = ask(&state, None, |c| estimate_gas(c, &tx)).unwrap_err();
        assert!(matches!(&error, CallError::Revert(data) if data[..] == [0]), "{error:?}");
        let state = MemoryState::default().with_code(CONTRACT, hex!("5b600056").to_vec());
        let error = ask(&state, None, |c| estimate_gas(c, &tx)).unwrap_err();
        assert_eq!(error.to_string(), "gas required exceeds allowance (16777216)");
    }

    #[test]
    fn access_list_names_the_slots_and_saves_nothing_unused() {
        let state = reader();
        let tx = request(SENDER, CONTRACT);
        let made = ask(&state, None, |c| create_access_list(c, &tx)).unwrap();
        assert_eq!(made.error, None);
        let [item] = &made.access_list.0[..] else { panic!("{:?}", made.access_list) };
        assert_eq!((item.address, &item.storage_keys[..]), (CONTRACT, &[B256::ZERO][..]));
        let with =
            ask(&state, None, |c| call(c, &tx.clone().access_list(made.access_list))).unwrap();
        assert!(matches!(with, CallOutcome::Success { gas_used, .. } if gas_used == made.gas_used));
    }
}
