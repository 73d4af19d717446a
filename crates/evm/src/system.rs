//! The contracts that the protocol itself calls, and those calls.

use crate::{ExecutionError, Invalid, environment::BlockEvm, execute::evm_failure};
use alloy_eips::{eip2935, eip4788, eip6110, eip7002, eip7251};
use alloy_evm::Evm;
use alloy_primitives::{Address, B256, Bytes, U256, hex};
use revm::{
    DatabaseCommit,
    context_interface::result::{ExecutionResult, ResultAndState},
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A contract to put into a genesis, with nonce 1 and no balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemContract {
    /// Its EIP.
    pub eip: u16,
    /// Where it stands.
    pub address: Address,
    /// Its code.
    pub code: Bytes,
    /// What its constructor leaves in its storage.
    pub storage: BTreeMap<B256, B256>,
}

/// The contracts of EIP-4788, EIP-2935, EIP-6110, EIP-7002 and EIP-7251, for the genesis of a new
/// chain.
pub fn system_contracts() -> [SystemContract; 5] {
    let contract = |eip, address, code: &Bytes| SystemContract {
        eip,
        address,
        code: code.clone(),
        storage: BTreeMap::new(),
    };
    [
        deposit_contract(),
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

/// The deposit contract of the consensus specifications (`solidity_deposit_contract`, CC0), at
/// mainnet's address.
fn deposit_contract() -> SystemContract {
    /// Where `zero_hashes` begins in the contract's storage.
    const ZERO_HASHES: u64 = 33;
    const DEPTH: u64 = 32;
    let code = include_str!("deposit_contract.hex").trim_end();
    let code = hex::decode(code).expect("the file holds the contract's code").into();
    let mut storage = BTreeMap::new();
    let mut hash = B256::ZERO;
    for height in 1..DEPTH {
        hash = B256::new(Sha256::digest([hash, hash].concat()).into());
        storage.insert(B256::from(U256::from(ZERO_HASHES + height)), hash);
    }
    SystemContract { eip: 6110, address: eip6110::MAINNET_DEPOSIT_CONTRACT_ADDRESS, code, storage }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryState;
    use crate::tests::{call_header, ethereum_spec};
    use crate::{CallContext, CallOutcome};
    use alloy_rpc_types_eth::TransactionRequest;
    use alloy_rpc_types_eth::state::StateOverridesBuilder;

    #[test]
    fn deposit_contract_begins_with_the_root_of_the_empty_deposit_tree() {
        let contract = deposit_contract();
        let state = MemoryState::default().with_system_contracts();
        let storage =
            StateOverridesBuilder::default().with_state(contract.address, contract.storage).into();
        let context = CallContext {
            spec: &ethereum_spec(),
            header: &call_header(),
            state: &state,
            state_overrides: Some(&storage),
            block_overrides: None,
            gas_cap: 10_000_000,
        };
        // get_deposit_root()
        let input = Bytes::from_static(&hex!("c5f2892f"));
        let request = TransactionRequest::default().to(contract.address).input(input.into());
        let CallOutcome::Success { output, .. } = crate::call(&context, &request).unwrap() else {
            panic!("the contract answers")
        };
        let root = hex!("d70a234731285c6804c2a4f56711ddb8c82c99740f207854891028af34e27e5e");
        assert_eq!(output.as_ref(), root);
    }
}
