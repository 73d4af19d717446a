//! `eth_createAccessList`: the addresses and slots that a transaction touches.

use crate::{
    CallContext, CallError, CallOutcome,
    call::{Simulation, outcome},
};
use alloy_eips::eip2930::AccessList;
use alloy_evm::Evm;
use alloy_rpc_types_eth::TransactionRequest;
use revm_inspectors::access_list::AccessListInspector;

/// A list warms what it names, which may change what the transaction does, and so the list.
const MAX_ROUNDS: usize = 16;

/// The access list of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessListOutcome {
    /// Sorted. Without the sender, the recipient and the precompiles, unless slots of them are used.
    pub access_list: AccessList,
    /// With this access list.
    pub gas_used: u64,
    /// Why the transaction fails, if it does.
    pub error: Option<String>,
}

/// Runs a request until its access list no longer changes.
pub fn create_access_list(
    context: &CallContext<'_>,
    request: &TransactionRequest,
) -> Result<AccessListOutcome, CallError> {
    let mut simulation = Simulation::new(context, request, AccessListInspector::default())?;
    // A dynamic fee takes an access list too; a legacy price makes it EIP-2930's.
    simulation.tx.tx_type = simulation.tx.tx_type.max(1);
    let gas = simulation.tx.gas_limit;
    let mut rounds = 0;
    loop {
        let before = simulation.tx.access_list.clone();
        *simulation.evm.inspector_mut() = AccessListInspector::new(before.clone());
        let result = simulation.run(gas)?;
        let access_list = simulation.evm.inspector().access_list();
        rounds += 1;
        if access_list == before || rounds == MAX_ROUNDS {
            let (gas_used, error) = match outcome(result) {
                CallOutcome::Success { gas_used, .. } => (gas_used, None),
                CallOutcome::Revert { gas_used, .. } => {
                    (gas_used, Some("execution reverted".to_owned()))
                }
                CallOutcome::Halt { reason, gas_used } => (gas_used, Some(reason)),
            };
            return Ok(AccessListOutcome { access_list, gas_used, error });
        }
        simulation.tx.access_list = access_list;
    }
}
