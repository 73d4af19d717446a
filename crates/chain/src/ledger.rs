//! What stands in the log: the kinds of record and their bytes.
//!
//! A record's kind never changes its meaning. Kinds 16 and above are consensus': the engines'
//! records and finality proofs share this log and its order.

use crate::flat::{decode_changes, encode_changes};
use crate::store::Position;
use alloy_consensus::TxType;
use alloy_primitives::{Address, B256, Bytes, Log, U256};
use alloy_rlp::{Decodable, Encodable, Header as RlpHeader, RlpDecodable, RlpEncodable};
use landfall_types::{Account, Block, BlockError, ForkChoice, GenesisEntry, Receipt, StateChanges};

/// The genesis file without its accounts, as JSON. The first record.
pub(crate) const GENESIS: u8 = 1;
/// Some accounts of the genesis state; before any block.
pub(crate) const GENESIS_ACCOUNTS: u8 = 2;
/// An executed block with senders, receipts and change set.
pub(crate) const BLOCK: u8 = 3;
/// A fork choice.
pub(crate) const ADOPT: u8 = 4;
/// A change of state outside a transaction, on a development chain.
pub(crate) const PATCH: u8 = 5;

/// The durable state of a consensus engine.
pub(crate) const ENGINE: u8 = 16;
/// A fork choice with the proof of what it makes final: one record, so that no crash parts them.
pub(crate) const FINAL: u8 = 17;
/// A person's word that what was final on a chain of work is not: the chain goes back.
pub(crate) const REORG: u8 = 18;

/// A block with what execution made of it.
#[derive(Clone, Debug)]
pub struct StoredBlock {
    /// The block.
    pub block: Block,
    /// The sender of each transaction.
    pub senders: Vec<Address>,
    /// The receipt of each transaction; gas is cumulative, as Ethereum has it.
    pub receipts: Vec<Receipt>,
}

/// Bytes of a record that are not what their kind says, although their checksum is right.
#[derive(Clone, Debug, thiserror::Error)]
#[error("a record of the log cannot be read: {0}")]
pub struct RecordError(String);

impl From<alloy_rlp::Error> for RecordError {
    fn from(error: alloy_rlp::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<BlockError> for RecordError {
    fn from(error: BlockError) -> Self {
        Self(error.to_string())
    }
}

#[derive(RlpEncodable, RlpDecodable)]
struct StoredReceipt {
    kind: u8,
    success: bool,
    cumulative_gas_used: u64,
    logs: Vec<Log>,
}

/// The record of an executed block.
pub(crate) struct BlockRecord<'a> {
    pub stored: &'a StoredBlock,
    /// The patch whose state the block was executed on; zero for the parent's own.
    pub patch: B256,
    pub changes: &'a StateChanges,
}

impl BlockRecord<'_> {
    pub fn encode(&self) -> Vec<u8> {
        let receipts: Vec<StoredReceipt> = self
            .stored
            .receipts
            .iter()
            .map(|receipt| StoredReceipt {
                kind: receipt.tx_type as u8,
                success: receipt.success,
                cumulative_gas_used: receipt.cumulative_gas_used,
                logs: receipt.logs.clone(),
            })
            .collect();
        let mut out = vec![0; 4];
        Bytes::from(self.stored.block.encode()).encode(&mut out);
        self.stored.senders.encode(&mut out);
        receipts.encode(&mut out);
        self.patch.encode(&mut out);
        let length = u32::try_from(out.len() - 4).expect("a record is below 256 MiB");
        out[..4].copy_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&encode_changes(self.changes));
        out
    }

    fn parts(payload: &[u8]) -> Result<(&[u8], &[u8]), RecordError> {
        let short = || RecordError("a block record is too short".into());
        let (length, rest) = payload.split_first_chunk::<4>().ok_or_else(short)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).expect("32 bits fit");
        rest.split_at_checked(length).ok_or_else(short)
    }

    /// The block and the patch it stands on; the change set is not read.
    pub fn decode_block(payload: &[u8]) -> Result<(StoredBlock, B256), RecordError> {
        let (mut bytes, _) = Self::parts(payload)?;
        let bytes = &mut bytes;
        let block = Block::decode(RlpHeader::decode_bytes(bytes, false)?)?;
        let senders = Vec::<Address>::decode(bytes)?;
        let receipts = Vec::<StoredReceipt>::decode(bytes)?
            .into_iter()
            .map(|stored| {
                let tx_type = TxType::try_from(stored.kind)
                    .map_err(|_| RecordError(format!("receipt of type {}", stored.kind)))?;
                Ok(Receipt {
                    tx_type,
                    success: stored.success,
                    cumulative_gas_used: stored.cumulative_gas_used,
                    logs: stored.logs,
                })
            })
            .collect::<Result<Vec<_>, RecordError>>()?;
        let patch = B256::decode(bytes)?;
        let transactions = block.body.transactions.len();
        if senders.len() != transactions || receipts.len() != transactions {
            return Err(RecordError("senders, receipts and transactions differ in number".into()));
        }
        Ok((StoredBlock { block, senders, receipts }, patch))
    }

    /// The change set alone.
    pub fn decode_changes(payload: &[u8]) -> Result<StateChanges, RecordError> {
        Ok(decode_changes(Self::parts(payload)?.1)?)
    }
}

/// The record of a fork choice; the patch is zero unless `latest` is a patched state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(crate) struct AdoptRecord {
    pub choice: ForkChoice,
    pub patch: B256,
}

/// The record of a fork choice with a finality proof.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(crate) struct FinalRecord {
    pub adopt: AdoptRecord,
    /// The epoch whose committee gave the proof.
    pub epoch: u64,
    /// As consensus encodes it.
    pub proof: Bytes,
}

/// The record of a chain that goes back to a block that was final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(crate) struct ReorgRecord {
    /// The block that is head, safe and final from here on.
    pub number: u64,
    pub hash: B256,
    /// The block on it that was left, and will not be taken again.
    pub left: B256,
}

/// The record of an engine's state.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(crate) struct EngineRecord {
    pub epoch: u64,
    /// As consensus encodes it.
    pub record: Bytes,
}

/// The record of a patch: on top of a block's state, or of an earlier patch of it.
pub(crate) struct PatchRecord {
    pub block: B256,
    /// The patch below, or zero.
    pub below: B256,
    /// Tells patches with equal changes apart.
    pub sequence: u64,
    pub changes: StateChanges,
}

impl PatchRecord {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.block.encode(&mut out);
        self.below.encode(&mut out);
        self.sequence.encode(&mut out);
        out.extend_from_slice(&encode_changes(&self.changes));
        out
    }

    pub fn decode(mut payload: &[u8]) -> Result<Self, RecordError> {
        let bytes = &mut payload;
        Ok(Self {
            block: B256::decode(bytes)?,
            below: B256::decode(bytes)?,
            sequence: u64::decode(bytes)?,
            changes: decode_changes(bytes)?,
        })
    }
}

/// Some accounts of the genesis state.
pub(crate) fn encode_accounts(entries: &[GenesisEntry]) -> Vec<u8> {
    let mut out = Vec::new();
    for (address, account, code, storage) in entries {
        address.encode(&mut out);
        account.nonce.encode(&mut out);
        account.balance.encode(&mut out);
        code.clone().unwrap_or_default().encode(&mut out);
        storage.len().encode(&mut out);
        for (slot, value) in storage {
            slot.encode(&mut out);
            value.encode(&mut out);
        }
    }
    out
}

/// Reads what [`encode_accounts`] wrote.
pub(crate) fn decode_accounts(mut payload: &[u8]) -> Result<Vec<GenesisEntry>, RecordError> {
    let bytes = &mut payload;
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let address = Address::decode(bytes)?;
        let (nonce, balance) = (u64::decode(bytes)?, U256::decode(bytes)?);
        let code = Some(Bytes::decode(bytes)?).filter(|code| !code.is_empty());
        let code_hash =
            code.as_ref().map_or(Account::default().code_hash, alloy_primitives::keccak256);
        let slots = usize::decode(bytes)?;
        let storage = (0..slots)
            .map(|_| Ok((U256::decode(bytes)?, U256::decode(bytes)?)))
            .collect::<Result<_, RecordError>>()?;
        entries.push((address, Account { nonce, balance, code_hash }, code, storage));
    }
    Ok(entries)
}

/// Hash and log position of a block, as the views hold them.
pub(crate) fn encode_place(hash: &B256, position: Position) -> Vec<u8> {
    let mut out = hash.to_vec();
    out.extend_from_slice(&position.0.to_be_bytes());
    out
}

pub(crate) fn decode_place(row: &[u8]) -> Result<(B256, Position), RecordError> {
    let (hash, position) = row
        .split_first_chunk::<32>()
        .ok_or_else(|| RecordError("a block's place is too short".into()))?;
    Ok((B256::from(hash), Position(decode_u64(position)?)))
}

/// A finality proof and its epoch, as the views hold them.
pub(crate) fn encode_proof(epoch: u64, proof: &[u8]) -> Vec<u8> {
    [&epoch.to_be_bytes()[..], proof].concat()
}

pub(crate) fn decode_proof(row: &[u8]) -> Result<(u64, Bytes), RecordError> {
    let (epoch, proof) = row
        .split_at_checked(8)
        .ok_or_else(|| RecordError("a finality proof is too short".into()))?;
    Ok((decode_u64(epoch)?, Bytes::copy_from_slice(proof)))
}

pub(crate) fn decode_u64(row: &[u8]) -> Result<u64, RecordError> {
    let bytes = row.try_into().map_err(|_| RecordError("a number is not 8 bytes".into()))?;
    Ok(u64::from_be_bytes(bytes))
}
