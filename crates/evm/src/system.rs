//! The contracts that the protocol itself calls, and those calls.

use crate::{ExecutionError, Invalid, environment::BlockEvm, execute::evm_failure};
use alloy_eips::{eip2935, eip4788, eip7002, eip7251};
use alloy_evm::Evm;
use alloy_primitives::{Address, B256, Bytes};
use revm::{
    DatabaseCommit,
    context_interface::result::{ExecutionResult, ResultAndState},
};

/// A contract to put into a genesis, with nonce 1 and no balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemContract {
    /// Its EIP.
    pub eip: u16,
    /// Where it stands.
    pub address: Address,
    /// Its code.
    pub code: Bytes,
}

/// The contracts of EIP-4788, EIP-2935, EIP-7002 and EIP-7251, for the genesis of a new chain.
///
/// EIP-6110's deposit contract is not among them: a chain of ours has no deposits from it.
pub fn system_contracts() -> [SystemContract; 4] {
    let contract = |eip, address, code: &Bytes| SystemContract { eip, address, code: code.clone() };
    [
        contract(4788, eip4788::BEACON_ROOTS_ADDRESS, &eip4788::BEACON_ROOTS_CODE),
        contract(2935, eip2935::HISTORY_STORAGE_ADDRESS, &eip2935::HISTORY_STORAGE_CODE),
        contract(
            7002,
            eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
            &eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE,
        ),
        contract(
            7251,
            eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
            &eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE,
        ),
    ]
}

/// EIP-4788: stores the parent beacon block root.
pub(crate) fn store_beacon_root(evm: &mut BlockEvm<'_>, root: B256) -> Result<(), ExecutionError> {
    // Without code, or failing, the call is without effect.
    call(evm, eip4788::BEACON_ROOTS_ADDRESS, root.into()).map(|_| ())
}

/// EIP-2935: stores the hash of the parent.
pub(crate) fn store_parent_hash(evm: &mut BlockEvm<'_>, hash: B256) -> Result<(), ExecutionError> {
    call(evm, eip2935::HISTORY_STORAGE_ADDRESS, hash.into()).map(|_| ())
}

/// EIP-7002: takes the withdrawal requests of this block out of their queue.
pub(crate) fn withdrawal_requests(evm: &mut BlockEvm<'_>) -> Result<Bytes, ExecutionError> {
    dequeue(evm, "EIP-7002", eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS)
}

/// EIP-7251: takes the consolidation requests of this block out of their queue.
pub(crate) fn consolidation_requests(evm: &mut BlockEvm<'_>) -> Result<Bytes, ExecutionError> {
    dequeue(evm, "EIP-7251", eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS)
}

fn dequeue(
    evm: &mut BlockEvm<'_>,
    name: &'static str,
    contract: Address,
) -> Result<Bytes, ExecutionError> {
    let account = evm.db_mut().account(contract).map_err(|e| ExecutionError::State(e.0))?;
    if account.is_none_or(|a| a.code_hash == alloy_primitives::KECCAK256_EMPTY) {
        return Err(Invalid::SystemContractEmpty(name).into());
    }
    match call(evm, contract, Bytes::new())? {
        ExecutionResult::Success { output, .. } => Ok(output.into_data()),
        _ => Err(Invalid::SystemContractFailed(name).into()),
    }
}

fn call(
    evm: &mut BlockEvm<'_>,
    contract: Address,
    input: Bytes,
) -> Result<ExecutionResult, ExecutionError> {
    let ResultAndState { result, state } =
        evm.transact_system_call(eip4788::SYSTEM_ADDRESS, contract, input).map_err(evm_failure)?;
    evm.db_mut().commit(state);
    Ok(result)
}
