//! What needs a key that the node holds unlocked, or on a development chain an impersonated
//! sender: signing, filling in and sending transactions.

use crate::api::{Api, Registry};
use crate::arguments::Arguments;
use crate::errors::{self, Outcome, invalid_argument, server_error, unreadable};
use crate::eth_call::Question;
use crate::fees;
use alloy_consensus::{EthereumTypedTransaction, SignableTransaction, TxEip4844, TxEip4844Variant};
use alloy_dyn_abi::TypedData;
use alloy_eips::Encodable2718;
use alloy_primitives::{
    Address, B256, Bytes, Signature, TxHash, TxKind, U256, eip191_hash_message,
};
use alloy_rpc_types_eth::TransactionRequest;
use landfall_chain::pool::Recovered;
use landfall_types::{StateReader, Transaction};
use serde_json::{Value, json};
use std::sync::Arc;

type Typed = EthereumTypedTransaction<TxEip4844>;

pub(crate) fn register(registry: &mut Registry) {
    registry
        .quick("eth_accounts", 0, |api, _| Ok(api.backend.keys.addresses().collect::<Vec<_>>()));
    registry.quick("eth_sign", 2, |api, args| {
        let (address, message) = (args.address(0)?, args.required::<Bytes>(1)?);
        sign_hash(api, address, eip191_hash_message(&message))
    });
    registry.quick("personal_sign", 3, |api, args| {
        let (message, address) = (args.required::<Bytes>(0)?, args.address(1)?);
        sign_hash(api, address, eip191_hash_message(&message))
    });
    registry.quick("eth_signTypedData_v4", 2, |api, args| {
        let (address, data) = (args.address(0)?, typed_data(args)?);
        let hash = data.eip712_signing_hash().map_err(|e| invalid_argument(1, e))?;
        sign_hash(api, address, hash)
    });
    registry.long("eth_signTransaction", 1, |api, args| {
        let request: TransactionRequest = args.required(0)?;
        if request.from.is_none_or(|from| api.backend.keys.signer(&from).is_err()) {
            return Err(unknown_account());
        }
        let filled = Filled::new(api, request)?;
        let nonce = filled.nonce(api)?;
        Ok(Bytes::from(signed(api, filled, nonce)?.encoded_2718()))
    });
    registry.long("eth_fillTransaction", 1, |api, args| {
        let filled = Filled::new(api, args.required(0)?)?;
        let nonce = filled.nonce(api)?;
        let typed = filled.typed(nonce)?;
        Ok(json!({ "raw": unsigned_bytes(&typed), "tx": described(&typed) }))
    });
    registry.waits("eth_sendTransaction", 1, request, |api: Arc<Api>, request| async move {
        send(api, request).await
    });
    registry.alias("eth_sendUnsignedTransaction", "eth_sendTransaction");
}

fn request(args: &Arguments<'_>) -> Outcome<TransactionRequest> {
    args.required(0)
}

/// Typed data as an object, or as text that holds one, as wallets send it.
fn typed_data(args: &Arguments<'_>) -> Outcome<TypedData> {
    let value: Value = args.required(1)?;
    let parsed = match &value {
        Value::String(text) => serde_json::from_str(text),
        _ => serde_json::from_value(value),
    };
    parsed.map_err(|e| invalid_argument(1, e))
}

fn unknown_account() -> jsonrpsee::types::ErrorObjectOwned {
    server_error("unknown account")
}

fn sign(api: &Api, address: Address, hash: B256) -> Outcome<Signature> {
    let signer = api.backend.keys.signer(&address).map_err(|_| unknown_account())?;
    Ok(signer.sign_hash(hash))
}

fn sign_hash(api: &Api, address: Address, hash: B256) -> Outcome<Bytes> {
    Ok(Bytes::copy_from_slice(&sign(api, address, hash)?.as_bytes()))
}

fn signed(api: &Api, filled: Filled, nonce: u64) -> Outcome<Transaction> {
    let from = filled.from;
    let typed = filled.typed(nonce)?;
    let signature = sign(api, from, typed.signature_hash())?;
    Ok(Transaction::from(typed.into_signed(signature)))
}

/// A request that lacks nothing but its nonce.
struct Filled {
    from: Address,
    request: TransactionRequest,
}

impl Filled {
    /// Checks what was sent and fills in the rest: chain, fees, gas.
    fn new(api: &Api, mut request: TransactionRequest) -> Outcome<Self> {
        let Some(from) = request.from else { return Err(unknown_account()) };
        let spec = api.backend.chain.spec();
        if let Some(have) = request.chain_id.filter(|have| *have != spec.chain_id) {
            let want = spec.chain_id;
            return Err(server_error(format!(
                "chainId does not match node's (have={have}, want={want})"
            )));
        }
        request.chain_id = Some(spec.chain_id);
        let input = request.input.clone().try_into_unique_input().map_err(|_| {
            server_error(
                "both \"data\" and \"input\" are set and not equal. Please use \"input\" to pass \
                 transaction call data",
            )
        })?;
        let creates = matches!(request.to, None | Some(TxKind::Create));
        if creates && input.as_ref().is_none_or(|data| data.is_empty()) {
            return Err(server_error("contract creation without any data provided"));
        }
        request.to = Some(request.to.unwrap_or(TxKind::Create));
        request.input = input.unwrap_or_default().into();
        if request.blob_versioned_hashes.is_some() || request.sidecar.is_some() {
            return Err(server_error(
                "transaction type not supported: this chain takes no blob transactions (type 3)",
            ));
        }
        fill_fees(api, &mut request)?;
        if request.gas.is_none() {
            // Without the price, so that a poor sender hears of the price, not of the gas.
            let free = TransactionRequest {
                gas_price: None,
                max_fee_per_gas: None,
                max_priority_fee_per_gas: None,
                ..request.clone()
            };
            let question = Question { request: free, ..Question::default() };
            request.gas = Some(question.ask(api, landfall_evm::estimate_gas)?);
        }
        Ok(Self { from, request })
    }

    /// The nonce that was sent, or the next one after those in the pool.
    fn nonce(&self, api: &Api) -> Outcome<u64> {
        if let Some(nonce) = self.request.nonce {
            return Ok(nonce);
        }
        let account = api.backend.chain.latest_state().account(&self.from).map_err(unreadable)?;
        let waiting = api.backend.pool.pool().lock().pending_nonce(&self.from);
        Ok(waiting.unwrap_or_default().max(account.unwrap_or_default().nonce))
    }

    fn typed(mut self, nonce: u64) -> Outcome<Typed> {
        self.request.nonce = Some(nonce);
        let built = self.request.build_typed_tx();
        let typed = built.map_err(|_| server_error("the fields fit no type of transaction"))?;
        Ok(match typed {
            EthereumTypedTransaction::Legacy(tx) => Typed::Legacy(tx),
            EthereumTypedTransaction::Eip2930(tx) => Typed::Eip2930(tx),
            EthereumTypedTransaction::Eip1559(tx) => Typed::Eip1559(tx),
            EthereumTypedTransaction::Eip7702(tx) => Typed::Eip7702(tx),
            EthereumTypedTransaction::Eip4844(TxEip4844Variant::TxEip4844(tx)) => {
                Typed::Eip4844(tx)
            }
            EthereumTypedTransaction::Eip4844(TxEip4844Variant::TxEip4844WithSidecar(tx)) => {
                Typed::Eip4844(tx.tx)
            }
        })
    }
}

/// A legacy price if one was sent or before London, else a fee that survives six full blocks.
fn fill_fees(api: &Api, request: &mut TransactionRequest) -> Outcome<()> {
    let dynamic = request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some();
    if request.gas_price.is_some() && dynamic {
        return Err(server_error(
            "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified",
        ));
    }
    if request.gas_price.is_some() {
        return Ok(());
    }
    let head = api.backend.chain.head();
    let Some(base_fee) = fees::next_base_fee(api.backend.chain.spec(), &head.block) else {
        request.gas_price = Some(fees::suggested_tip(api)?);
        return Ok(());
    };
    let suggested = match request.max_fee_per_gas {
        Some(most) => fees::suggested_tip(api)?.min(most),
        None => fees::suggested_tip(api)?,
    };
    let tip = *request.max_priority_fee_per_gas.get_or_insert(suggested);
    let most = *request.max_fee_per_gas.get_or_insert(tip + 2 * u128::from(base_fee));
    if most < tip {
        return Err(server_error(format!("maxFeePerGas ({most}) < maxPriorityFeePerGas ({tip})")));
    }
    Ok(())
}

/// What a wallet signs.
fn unsigned_bytes(typed: &Typed) -> Bytes {
    let mut bytes = Vec::new();
    typed.encode_for_signing(&mut bytes);
    bytes.into()
}

/// The fields, without a signature and a hash.
fn described(typed: &Typed) -> Value {
    let unsigned = typed.clone().into_signed(Signature::new(U256::ZERO, U256::ZERO, false));
    let mut value =
        serde_json::to_value(Transaction::from(unsigned)).expect("a transaction is valid JSON");
    for field in ["hash", "r", "s", "v", "yParity"] {
        value.as_object_mut().map(|object| object.remove(field));
    }
    value
}

/// Fills in, signs and offers. One at a time, so that two requests never get the same nonce.
async fn send(api: Arc<Api>, request: TransactionRequest) -> Outcome<TxHash> {
    let from = request.from.ok_or_else(unknown_account)?;
    let own = api.backend.keys.signer(&from).is_ok();
    let impersonated = api.backend.controls.as_ref().is_some_and(|c| c.is_impersonated(from));
    if !own && !impersonated {
        return Err(unknown_account());
    }
    let filler = api.clone();
    let filled = api.on_thread(move || Filled::new(&filler, request)).await?;
    let _turn = api.sending.lock().await;
    let nonce = filled.nonce(&api)?;
    let recovered = if own {
        Recovered::new(signed(&api, filled, nonce)?, from)
    } else {
        Recovered::impersonated(filled.typed(nonce)?, from)
    };
    api.backend.pool.submit_recovered(recovered).await.map_err(errors::refused)
}
