//! Asking what a transaction would do: `eth_call`, `eth_estimateGas`, `eth_createAccessList`.

use crate::api::{Api, Registry};
use crate::arguments::Arguments;
use crate::block_ref::BlockRef;
use crate::errors::{Outcome, reverted, server_error, unreadable};
use alloy_primitives::{Bytes, U64};
use alloy_rpc_types_eth::state::StateOverride;
use alloy_rpc_types_eth::{BlockOverrides, TransactionRequest};
use jsonrpsee::types::ErrorObjectOwned;
use landfall_evm::{CallContext, CallError, CallOutcome};
use serde_json::{Value, json};

pub(crate) fn register(registry: &mut Registry) {
    registry.long("eth_call", 4, call);
    registry.long("eth_estimateGas", 4, |api, args| {
        let question = Question::read(args)?;
        question.ask(api, landfall_evm::estimate_gas).map(U64::from)
    });
    registry.long("eth_createAccessList", 4, access_list);
}

/// A request, and the block, the state and the fields under which it runs.
#[derive(Default)]
pub(crate) struct Question {
    pub(crate) request: TransactionRequest,
    pub(crate) block: BlockRef,
    pub(crate) state_overrides: Option<StateOverride>,
    pub(crate) block_overrides: Option<BlockOverrides>,
}

impl Question {
    fn read(args: &Arguments<'_>) -> Outcome<Self> {
        Ok(Self {
            request: args.required(0)?,
            block: args.optional(1)?.unwrap_or_default(),
            state_overrides: args.optional(2)?,
            block_overrides: args.optional(3)?,
        })
    }

    /// Runs the request one way or another.
    pub(crate) fn ask<T>(
        &self,
        api: &Api,
        run: impl FnOnce(&CallContext<'_>, &TransactionRequest) -> Result<T, CallError>,
    ) -> Outcome<T> {
        let chain = &api.backend.chain;
        let (block, state) = self.block.state(chain)?;
        let context = CallContext {
            spec: chain.spec(),
            header: block.block.header.inner(),
            state: &state,
            state_overrides: self.state_overrides.as_ref(),
            block_overrides: self.block_overrides.as_ref(),
            gas_cap: api.config.gas_cap,
        };
        run(&context, &self.request).map_err(failed)
    }
}

fn failed(error: CallError) -> ErrorObjectOwned {
    match error {
        CallError::Revert(output) => reverted(&output),
        CallError::State(error) => unreadable(error),
        other => server_error(other.to_string()),
    }
}

fn call(api: &Api, args: &Arguments<'_>) -> Outcome<Bytes> {
    match Question::read(args)?.ask(api, landfall_evm::call)? {
        CallOutcome::Success { output, .. } => Ok(output),
        CallOutcome::Revert { output, .. } => Err(reverted(&output)),
        CallOutcome::Halt { reason, .. } => Err(server_error(reason)),
    }
}

/// A transaction that fails has an access list too: `error` says why.
fn access_list(api: &Api, args: &Arguments<'_>) -> Outcome<Value> {
    let found = Question::read(args)?.ask(api, landfall_evm::create_access_list)?;
    let mut answer = json!({
        "accessList": found.access_list,
        "gasUsed": U64::from(found.gas_used),
    });
    if let Some(error) = found.error {
        answer["error"] = error.into();
    }
    Ok(answer)
}
