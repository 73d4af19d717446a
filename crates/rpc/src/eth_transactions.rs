//! Transactions: reading them and their receipts, and sending signed ones.

use crate::api::{Api, Registry};
use crate::arguments::Arguments;
use crate::doors::Event;
use crate::errors::{self, Outcome, invalid_params, server_error, unreadable};
use crate::eth_blocks::{by_hash, by_number};
use crate::fees;
use crate::types::{self, RpcReceipt, RpcTransaction};
use alloy_eips::Decodable2718;
use alloy_primitives::{TxHash, U64, hex};
use jsonrpsee::types::ErrorObjectOwned;
use landfall_chain::StoredBlock;
use landfall_types::Transaction;
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// The type byte of a blob transaction (EIP-4844).
const BLOB_TYPE: u8 = 3;

pub(crate) fn register(registry: &mut Registry) {
    registry.quick("eth_getTransactionByHash", 1, by_transaction_hash);
    registry.long("eth_getTransactionByBlockHashAndIndex", 2, |api, args| {
        let index: U64 = args.required(1)?;
        Ok(by_hash(api, args)?.and_then(|block| at(&block, index)))
    });
    registry.long("eth_getTransactionByBlockNumberAndIndex", 2, |api, args| {
        let index: U64 = args.required(1)?;
        Ok(by_number(api, args)?.and_then(|block| at(&block, index)))
    });
    registry.quick("eth_getTransactionReceipt", 1, |api, args| receipt(api, args.hash(0)?));
    registry.waits(
        "eth_sendRawTransaction",
        1,
        read_raw,
        |api: Arc<Api>, transaction| async move {
            api.backend.pool.submit(transaction).await.map_err(errors::refused)
        },
    );
    registry.waits(
        "eth_sendRawTransactionSync",
        2,
        |args| {
            let patience = args.optional::<U64>(1)?.map(|ms| Duration::from_millis(ms.to()));
            Ok((read_raw(args)?, patience))
        },
        |api: Arc<Api>, (transaction, patience)| async move {
            send_and_wait(&api, transaction, patience).await
        },
    );
    registry.long("eth_pendingTransactions", 0, |api, _| {
        let base_fee = pending_base_fee(api);
        let pool = api.backend.pool.pool().lock();
        let own = api.backend.keys.addresses();
        let waiting = own.flat_map(|address| pool.content_of(&address).pending);
        Ok(waiting.map(|waiting| types::waiting(&waiting, base_fee)).collect::<Vec<_>>())
    });
}

fn at(block: &StoredBlock, index: U64) -> Option<RpcTransaction> {
    let index: usize = index.to();
    (index < block.receipts.len()).then(|| types::transaction(block, index))
}

/// The base fee by which a waiting transaction's price is told.
pub(crate) fn pending_base_fee(api: &Api) -> Option<u64> {
    fees::next_base_fee(api.backend.chain.spec(), &api.backend.chain.head().block)
}

fn by_transaction_hash(api: &Api, args: &Arguments<'_>) -> Outcome<Option<RpcTransaction>> {
    let hash = args.hash(0)?;
    if let Some((block, index)) = api.backend.chain.transaction(hash).map_err(unreadable)? {
        return Ok(Some(types::transaction(&block, index)));
    }
    let base_fee = pending_base_fee(api);
    let waiting = api.backend.pool.pool().lock().get(&hash);
    Ok(waiting.map(|waiting| types::waiting(&waiting, base_fee)))
}

fn receipt(api: &Api, hash: TxHash) -> Outcome<Option<RpcReceipt>> {
    let chain = &api.backend.chain;
    let found = chain.transaction(hash).map_err(unreadable)?;
    let read = |(block, index): (Arc<StoredBlock>, usize)| {
        Ok(types::Receipts::new(chain, &block)?.at(index))
    };
    found.map(read).transpose()
}

/// The first parameter as a signed transaction.
fn read_raw(args: &Arguments<'_>) -> Outcome<Transaction> {
    /// Borrowed from the request where JSON needs no unescaping, which hex never does.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    let text: Text<'_> = args.required(0)?;
    let Some(digits) = text.0.strip_prefix("0x") else {
        return Err(errors::invalid_argument(0, "hex string without 0x prefix"));
    };
    let bytes = hex::decode(digits).map_err(|e| errors::invalid_argument(0, e))?;
    decode(&bytes)
}

/// The transaction in the parameters of `eth_sendRawTransaction`.
pub(crate) fn decode_parameters(params: &str) -> Outcome<Transaction> {
    read_raw(&Arguments::from_json(params, 1)?)
}

/// Reads a signed transaction of any type but blobs.
pub(crate) fn decode(mut bytes: &[u8]) -> Outcome<Transaction> {
    if bytes.is_empty() {
        return Err(server_error("typed transaction too short"));
    }
    if bytes[0] == BLOB_TYPE {
        return Err(server_error(
            "transaction type not supported: this chain takes no blob transactions (type 3)",
        ));
    }
    let malformed = |reason: String| server_error(format!("not a signed transaction: {reason}"));
    let transaction = Transaction::decode_2718(&mut bytes).map_err(|e| malformed(e.to_string()))?;
    if !bytes.is_empty() {
        return Err(malformed(format!("{} bytes follow it", bytes.len())));
    }
    Ok(transaction)
}

/// EIP-7966: the receipt, or an error that holds the hash.
async fn send_and_wait(
    api: &Api,
    transaction: Transaction,
    patience: Option<Duration>,
) -> Outcome<RpcReceipt> {
    let most = api.config.max_receipt_wait;
    let patience = patience.unwrap_or(most);
    if patience > most {
        let most = most.as_millis();
        return Err(invalid_params(format!("timeout is above the limit of {most} ms")));
    }
    // The news starts before the transaction, so that its block cannot be missed.
    let mut events = api.backend.pool.events();
    let hash = api.backend.pool.submit(transaction).await.map_err(errors::refused)?;
    let wait = async {
        loop {
            if let Some(receipt) = receipt(api, hash)? {
                return Ok(receipt);
            }
            loop {
                match events.recv().await {
                    Ok(Event::Head) | Err(RecvError::Lagged(_)) => break,
                    Ok(Event::Pending(_)) => {}
                    Err(RecvError::Closed) => return Err(server_error("the node is stopping")),
                }
            }
        }
    };
    match tokio::time::timeout(patience, wait).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let seconds = patience.as_secs_f64();
            Err(ErrorObjectOwned::owned(
                errors::TIMEOUT,
                format!("the transaction was added to the pool but not processed in {seconds} s"),
                Some(hash),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::{SignableTransaction, TxLegacy};
    use alloy_eips::Encodable2718;
    use alloy_primitives::Signature;

    #[test]
    fn reads_a_signed_transaction_and_nothing_else() {
        let signed = TxLegacy::default().into_signed(Signature::test_signature());
        let transaction = Transaction::from(signed);
        let bytes = transaction.encoded_2718();
        let params = format!("[\"{}\"]", hex::encode_prefixed(&bytes));
        assert_eq!(decode_parameters(&params).unwrap(), transaction);
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{end} bytes were a transaction");
        }
        let mut long = bytes.clone();
        long.push(0);
        assert!(decode(&long).unwrap_err().message().contains("1 bytes follow"));
        assert!(decode(&[3, 0xc0]).unwrap_err().message().contains("type not supported"));
        for params in ["[]", "[null]", "[7]", "[\"f8\"]", "[\"0xf\"]", "[\"0xzz\"]", "{}"] {
            assert!(decode_parameters(params).is_err(), "{params}");
        }
    }
}
