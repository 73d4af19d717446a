//! `txpool_*`: what waits.

use crate::api::{Api, Registry};
use crate::arguments::Arguments;
use crate::errors::Outcome;
use crate::eth_transactions::pending_base_fee;
use crate::types::{self, RpcTransaction};
use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, TxKind, U64};
use landfall_chain::pool::{Content, Recovered};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) fn register(registry: &mut Registry) {
    registry.quick("txpool_status", 0, |api, _| {
        let status = api.backend.pool.pool().lock().status();
        Ok(json!({ "pending": U64::from(status.pending), "queued": U64::from(status.queued) }))
    });
    registry.long("txpool_content", 0, |api, _| {
        let base_fee = pending_base_fee(api);
        Ok(content(api, |waiting| full(waiting, base_fee)))
    });
    registry.long("txpool_inspect", 0, |api, _| Ok(content(api, inspected)));
    registry.long("txpool_contentFrom", 1, content_from);
}

fn full(waiting: &Recovered, base_fee: Option<u64>) -> RpcTransaction {
    types::waiting(waiting, base_fee)
}

/// By sender, then by nonce.
type BySender<T> = BTreeMap<String, ByNonce<T>>;
type ByNonce<T> = BTreeMap<String, T>;

fn by_nonce<T>(all: &[Recovered], show: impl Fn(&Recovered) -> T) -> ByNonce<T> {
    all.iter().map(|waiting| (waiting.nonce().to_string(), show(waiting))).collect()
}

fn content<T: Serialize>(api: &Api, show: impl Fn(&Recovered) -> T) -> Value {
    let all: Vec<(Address, Content)> = {
        let pool = api.backend.pool.pool().lock();
        pool.senders().into_iter().map(|sender| (sender, pool.content_of(&sender))).collect()
    };
    let (mut pending, mut queued): (BySender<T>, BySender<T>) = Default::default();
    for (sender, content) in all {
        let name = sender.to_checksum(None);
        if !content.queued.is_empty() {
            queued.insert(name.clone(), by_nonce(&content.queued, &show));
        }
        if !content.pending.is_empty() {
            pending.insert(name, by_nonce(&content.pending, &show));
        }
    }
    json!({ "pending": pending, "queued": queued })
}

fn content_from(api: &Api, args: &Arguments<'_>) -> Outcome<Value> {
    let sender = args.address(0)?;
    let base_fee = pending_base_fee(api);
    let content = api.backend.pool.pool().lock().content_of(&sender);
    let show = |waiting: &Recovered| full(waiting, base_fee);
    Ok(json!({
        "pending": by_nonce(&content.pending, show),
        "queued": by_nonce(&content.queued, show),
    }))
}

/// Geth's one line for each transaction.
fn inspected(waiting: &Recovered) -> String {
    let transaction = &waiting.transaction;
    let to = match transaction.kind() {
        TxKind::Call(to) => to.to_string(),
        TxKind::Create => "contract creation".to_owned(),
    };
    let (value, gas, price) =
        (transaction.value(), transaction.gas_limit(), transaction.max_fee_per_gas());
    format!("{to}: {value} wei + {gas} gas × {price} wei")
}
