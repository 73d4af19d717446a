//! The rules for a body that need only its header.

use crate::{Invalid, environment::fork_of};
use alloy_consensus::{
    Transaction as _,
    proofs::{calculate_ommers_root, calculate_transaction_root, calculate_withdrawals_root},
};
use landfall_types::{Block, ChainSpec, Fork};

/// EIP-7934: from Osaka on, a block's RLP is at most 10 MiB less a margin of 2 MiB.
pub const MAX_RLP_BLOCK_SIZE: usize = 8 * 1024 * 1024;

const MAX_OMMERS: usize = 2;

/// Checks the rules for a body, and that it is the one that the header commits to.
pub fn validate_body(spec: &ChainSpec, block: &Block) -> Result<(), Invalid> {
    let (header, body) = (&block.header, &block.body);
    let fork = fork_of(spec, header);
    if fork >= Fork::Osaka {
        let size = block.ethereum_rlp_length();
        if size > MAX_RLP_BLOCK_SIZE {
            return Err(Invalid::Size(size));
        }
    }
    validate_commitments(block)?;
    if body.ommers.len() > MAX_OMMERS {
        return Err(Invalid::Ommers("there are more than two"));
    }
    let blob_gas = body.transactions.iter().filter_map(|tx| tx.blob_gas_used()).sum::<u64>();
    let header_blob_gas = header.blob_gas_used.unwrap_or_default();
    if header.blob_gas_used.is_some() && blob_gas != header_blob_gas {
        return Err(Invalid::BlobGasUsed { header: header_blob_gas, body: blob_gas });
    }
    Ok(())
}

/// Checks that the body is the one that the header commits to. The hash covers the header alone: of
/// a block that fails here, nothing is known but that somebody has put another body into it.
pub fn validate_commitments(block: &Block) -> Result<(), Invalid> {
    let (header, body) = (&block.header, &block.body);
    let root = calculate_transaction_root(&body.transactions);
    if root != header.transactions_root {
        return Err(Invalid::TransactionsRoot { header: header.transactions_root, body: root });
    }
    let ommers = calculate_ommers_root(&body.ommers);
    if ommers != header.ommers_hash {
        return Err(Invalid::OmmersHash { header: header.ommers_hash, body: ommers });
    }
    match (&body.withdrawals, header.withdrawals_root) {
        (None, None) => {}
        (Some(withdrawals), Some(want)) => {
            let root = calculate_withdrawals_root(withdrawals);
            if root != want {
                return Err(Invalid::WithdrawalsRoot { header: want, body: root });
            }
        }
        (_, root) => {
            let expected = root.is_some();
            return Err(Invalid::FieldOfFork { field: "withdrawals", expected });
        }
    }
    Ok(())
}
