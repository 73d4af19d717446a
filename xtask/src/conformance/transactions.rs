//! Ethereum's transaction tests, forks from Berlin on: decoding, sender, hash, intrinsic gas.

use super::{Failure, Options, Tally, archive, for_each_file, read_json, state_tests};
use alloy_consensus::{Transaction as _, Typed2718, transaction::SignerRecoverable};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, Bytes, U256};
use landfall_evm::intrinsic_gas;
use landfall_types::{Fork, Transaction, transaction_hash};
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path};

/// The chain of all tests.
const CHAIN_ID: u64 = 1;
/// EIP-3860.
const MAX_INITCODE_SIZE: usize = 49_152;

/// Runs the folder `TransactionTests` of the archive `eth-misc`.
pub fn run(options: &Options) -> Result<Option<Tally>, Failure> {
    let Some(folder) = archive::unpack("eth-misc")? else { return Ok(None) };
    let folder = folder.join("eth-misc/TransactionTests");
    let files = archive::json_files(&folder)?;
    Ok(Some(for_each_file(&files, |file, tally| run_file(file, &folder, options, tally))))
}

#[derive(Deserialize)]
struct Test {
    txbytes: String,
    result: BTreeMap<String, Expected>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expected {
    hash: Option<B256>,
    sender: Option<Address>,
    intrinsic_gas: Option<U256>,
    exception: Option<String>,
}

fn run_file(file: &Path, folder: &Path, options: &Options, tally: &mut Tally) {
    let short = file.strip_prefix(folder).unwrap_or(file).display();
    let tests: BTreeMap<String, Test> = match read_json(file) {
        Ok(tests) => tests,
        Err(reason) => return tally.count(short, Err(reason)),
    };
    for (name, test) in &tests {
        for (network, expected) in &test.result {
            let case = format!("{short} {name} {network}");
            if !options.selects(&case) {
                continue;
            }
            match state_tests::fork(network) {
                Ok(fork) if fork < Fork::Berlin => tally.skip(),
                // Nobody has 2^128 wei for a unit of gas; a node with 128-bit fees refuses those
                // transactions, the tests do not.
                Ok(_) if expected.exception.is_none() && has_wide_fee(&test.txbytes) => {
                    tally.skip();
                }
                Ok(fork) => tally.count(case, check(fork, &test.txbytes, expected)),
                Err(reason) => tally.count(case, Err(reason)),
            }
        }
    }
}

fn check(fork: Fork, txbytes: &str, expected: &Expected) -> Result<(), String> {
    let have = judge(fork, txbytes);
    match (have, &expected.exception) {
        (Err(_), Some(_)) => Ok(()),
        (Ok(_), Some(exception)) => Err(format!("accepted, but it breaks {exception}")),
        (Err(reason), None) => Err(format!("refused: {reason}")),
        (Ok((hash, sender, gas)), None) => {
            let wanted = (expected.hash, expected.sender, expected.intrinsic_gas);
            let have = (Some(hash), Some(sender), Some(U256::from(gas)));
            if have == wanted { Ok(()) } else { Err(format!("is {have:?}, want {wanted:?}")) }
        }
    }
}

/// Whether a fee takes more than 128 bits.
fn has_wide_fee(txbytes: &str) -> bool {
    let Ok(bytes) = txbytes.parse::<Bytes>() else { return false };
    // The fees are the items 1 (legacy), 2 (EIP-2930), or 2 and 3 (EIP-1559).
    let (mut rlp, fees) = match bytes.first() {
        Some(1) => (&bytes[1..], 2..3),
        Some(2) => (&bytes[1..], 2..4),
        _ => (&bytes[..], 1..2),
    };
    let Ok(mut fields) = alloy_rlp::Header::decode_bytes(&mut rlp, true) else { return false };
    let items = std::iter::from_fn(|| {
        (!fields.is_empty()).then(|| alloy_rlp::Header::decode_bytes(&mut fields, false).ok())?
    });
    let fees = items.skip(fees.start).take(fees.len());
    fees.into_iter().any(|fee| fee.len() > 16 && fee.len() <= 32)
}

/// What a pool checks of a transaction without a state.
fn judge(fork: Fork, txbytes: &str) -> Result<(B256, Address, u64), String> {
    let bytes: Bytes = txbytes.parse().map_err(|e| format!("{e}"))?;
    let transaction = Transaction::decode_2718_exact(&bytes).map_err(|e| e.to_string())?;
    let first = match transaction.ty() {
        0 | 1 => Fork::Berlin,
        2 => Fork::London,
        3 => Fork::Cancun,
        _ => Fork::Prague,
    };
    if fork < first {
        return Err(format!("type {} is not known yet", transaction.ty()));
    }
    if transaction.chain_id().is_some_and(|id| id != CHAIN_ID) {
        return Err("invalid chain id for signer".into());
    }
    let sender = transaction.recover_signer().map_err(|e| e.to_string())?;
    if transaction.nonce() == u64::MAX {
        return Err("nonce has max value".into());
    }
    let initcode = transaction.is_create() && fork >= Fork::Shanghai;
    if initcode && transaction.input().len() > MAX_INITCODE_SIZE {
        return Err("max initcode size exceeded".into());
    }
    let (gas, floor) = intrinsic_gas(fork, &transaction);
    if transaction.gas_limit() < gas.max(floor) {
        return Err("intrinsic gas too low".into());
    }
    let tip = transaction.max_priority_fee_per_gas().unwrap_or_default();
    if tip > transaction.max_fee_per_gas() {
        return Err("max priority fee per gas higher than max fee per gas".into());
    }
    Ok((transaction_hash(&transaction), sender, gas))
}
