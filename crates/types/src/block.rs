//! A block: an Ethereum header and body, and beside them what consensus adds.

use crate::Time;
use alloy_consensus::{BlockBody, EthereumReceipt, EthereumTxEnvelope, Header, Sealed, TxEip4844};
use alloy_eips::eip4895::Withdrawals;
use alloy_primitives::{Address, B256, Bytes, TxHash, keccak256};
use alloy_rlp::{Decodable, Encodable, Header as RlpHeader, RlpDecodable, RlpEncodable};

/// A signed transaction of any Ethereum type, blob transactions without their sidecar.
pub type Transaction = EthereumTxEnvelope<TxEip4844>;
/// Transactions, ommers and withdrawals.
pub type Body = BlockBody<Transaction, Header>;
/// A receipt without its bloom, as the ledger stores it.
pub type Receipt = EthereumReceipt<alloy_consensus::TxType>;

/// The hash of a transaction.
pub fn transaction_hash(transaction: &Transaction) -> TxHash {
    *transaction.tx_hash()
}

/// The EIP-2718 type of a transaction.
pub fn transaction_type(transaction: &Transaction) -> u8 {
    transaction.tx_type() as u8
}

/// A block with its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The Ethereum header; `header.hash()` is `keccak(rlp(header))`, computed once.
    pub header: Sealed<Header>,
    /// Transactions, ommers (Ethereum test chains before the merge only) and withdrawals.
    pub body: Body,
    /// Consensus data that the header commits to in `parentBeaconBlockRoot`; empty on chains
    /// under Ethereum's rules.
    pub extension: Bytes,
    /// Signatures or other proof of the right to seal, outside the hash.
    pub seal: Bytes,
}

/// Why bytes are not a block.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BlockError {
    /// The RLP is malformed or has a field that does not belong there.
    #[error("not a block: {0}")]
    Rlp(#[from] alloy_rlp::Error),
    /// A fee of more than 128 bits, which exceeds all funds that can be.
    #[error("invalid block: transaction {index} offers more than 2^128 wei for a unit of gas")]
    GasPrice {
        /// The index of the transaction.
        index: usize,
    },
    /// See [`TRANSACTIONS_MAX`].
    #[error("invalid block: more than {TRANSACTIONS_MAX} transactions")]
    TooMany,
}

impl Block {
    /// A block without extension and seal, as Ethereum has it.
    pub fn ethereum(header: Header, body: Body) -> Self {
        Self { header: Sealed::new(header), body, extension: Bytes::new(), seal: Bytes::new() }
    }

    /// The hash of the header.
    pub fn hash(&self) -> B256 {
        self.header.hash()
    }

    /// The number on the header; "height" in consensus.
    pub fn number(&self) -> u64 {
        self.header.number
    }

    /// When it was made, as it says: to the millisecond on our own chains, to the second on
    /// Ethereum's.
    pub fn time(&self) -> Time {
        let whole = self.header.timestamp.saturating_mul(1_000);
        Time(Extension::from_bytes(&self.extension).map_or(whole, |own| own.milliseconds))
    }

    /// The hash of the parent.
    pub fn parent(&self) -> B256 {
        self.header.parent_hash
    }

    /// Ethereum's RLP of header, transactions, ommers and withdrawals.
    pub fn ethereum_rlp(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.ethereum_payload_length() + 9);
        self.encode_ethereum(&mut out);
        out.into()
    }

    /// The length in bytes of [`Self::ethereum_rlp`].
    pub fn ethereum_rlp_length(&self) -> usize {
        let payload = self.ethereum_payload_length();
        payload + alloy_rlp::length_of_length(payload)
    }

    fn ethereum_payload_length(&self) -> usize {
        self.header.inner().length()
            + self.body.transactions.length()
            + self.body.ommers.length()
            + self.body.withdrawals.as_ref().map_or(0, |w| w.length())
    }

    fn encode_ethereum(&self, out: &mut Vec<u8>) {
        RlpHeader { list: true, payload_length: self.ethereum_payload_length() }.encode(out);
        self.header.inner().encode(out);
        self.body.transactions.encode(out);
        self.body.ommers.encode(out);
        if let Some(withdrawals) = &self.body.withdrawals {
            withdrawals.encode(out);
        }
    }

    /// Reads one block of Ethereum's RLP from the front of `bytes`, as in `chain.rlp`.
    pub fn decode_ethereum(bytes: &mut &[u8]) -> Result<Self, BlockError> {
        let list = RlpHeader::decode(bytes)?;
        if !list.list {
            return Err(alloy_rlp::Error::UnexpectedString.into());
        }
        let Some((mut inner, rest)) = bytes.split_at_checked(list.payload_length) else {
            return Err(alloy_rlp::Error::InputTooShort.into());
        };
        *bytes = rest;
        let inner = &mut inner;
        let header = Header::decode(inner)?;
        let transactions = decode_transactions(inner)?;
        let ommers = Vec::<Header>::decode(inner)?;
        let withdrawals = if inner.is_empty() { None } else { Some(Withdrawals::decode(inner)?) };
        if !inner.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength.into());
        }
        Ok(Self::ethereum(header, Body { transactions, ommers, withdrawals }))
    }

    /// The ledger's form: Ethereum's RLP, the extension and the seal in one list.
    pub fn encode(&self) -> Vec<u8> {
        let length = self.ethereum_rlp_length() + self.extension.length() + self.seal.length();
        let mut out = Vec::with_capacity(length + 9);
        RlpHeader { list: true, payload_length: length }.encode(&mut out);
        self.encode_ethereum(&mut out);
        self.extension.encode(&mut out);
        self.seal.encode(&mut out);
        out
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, BlockError> {
        let mut inner = RlpHeader::decode_bytes(&mut bytes, true)?;
        let block = Self::decode_ethereum(&mut inner)?;
        let extension = Bytes::decode(&mut inner)?;
        let seal = Bytes::decode(&mut inner)?;
        if !inner.is_empty() || !bytes.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength.into());
        }
        Ok(Self { extension, seal, ..block })
    }
}

/// The most transactions that a block may have: at 21,000 gas for each, those of a gas limit of 2.75
/// billion. Whoever decodes a block has room for so many.
pub const TRANSACTIONS_MAX: usize = 1 << 17;

fn decode_transactions(bytes: &mut &[u8]) -> Result<Vec<Transaction>, BlockError> {
    let list = *bytes;
    if has_more_items(list, TRANSACTIONS_MAX)? {
        return Err(BlockError::TooMany);
    }
    Vec::decode(bytes).map_err(|error| match overpriced(list) {
        Some(index) => BlockError::GasPrice { index },
        None => error.into(),
    })
}

/// Whether a list has more items than so many; none of them is decoded.
fn has_more_items(mut list: &[u8], most: usize) -> alloy_rlp::Result<bool> {
    let mut items = RlpHeader::decode_bytes(&mut list, true)?;
    let mut count = 0;
    while !items.is_empty() && count <= most {
        let header = RlpHeader::decode(&mut items)?;
        let rest = items.split_at_checked(header.payload_length);
        items = rest.ok_or(alloy_rlp::Error::InputTooShort)?.1;
        count += 1;
    }
    Ok(count > most)
}

/// The first transaction with a fee that a [`Transaction`] has no room for: its RLP is sound, so
/// such a block must not be called malformed.
fn overpriced(mut list: &[u8]) -> Option<usize> {
    let mut items = RlpHeader::decode_bytes(&mut list, true).ok()?;
    let mut index = 0;
    while !items.is_empty() {
        let header = RlpHeader::decode(&mut items).ok()?;
        let (item, rest) = items.split_at_checked(header.payload_length)?;
        items = rest;
        let (mut fields, fees) = match item.split_first()? {
            _ if header.list => (item, 1..2),
            (1, mut body) => (RlpHeader::decode_bytes(&mut body, true).ok()?, 2..3),
            (_, mut body) => (RlpHeader::decode_bytes(&mut body, true).ok()?, 2..4),
        };
        for place in 0..fees.end {
            let field = RlpHeader::decode_bytes(&mut fields, false).ok()?;
            let integer = field.len() <= 32 && field.first() != Some(&0);
            if fees.contains(&place) && field.len() > 16 && integer {
                return Some(index);
            }
        }
        index += 1;
    }
    None
}

/// What a block of our own chains says beyond Ethereum's header, committed to by
/// `parentBeaconBlockRoot = keccak(rlp(extension))` and so readable by contracts (EIP-4788).
#[derive(Clone, Debug, Default, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Extension {
    /// Milliseconds since the Unix epoch. Strictly greater than the parent's; the header's
    /// `timestamp` is this divided by 1,000.
    pub milliseconds: u64,
    /// The epoch of consensus that the block belongs to.
    pub epoch: u64,
    /// Who made the block, as it says.
    pub proposer: Address,
    /// The protocol's own data.
    pub data: Bytes,
}

impl Extension {
    /// The bytes that a block carries.
    pub fn to_bytes(&self) -> Bytes {
        alloy_rlp::encode(self).into()
    }

    /// Reads the extension of a block.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, BlockError> {
        let extension = Self::decode(&mut bytes)?;
        if !bytes.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength.into());
        }
        Ok(extension)
    }

    /// What the header holds in `parentBeaconBlockRoot` for a block with these extension bytes.
    pub fn commitment(bytes: &[u8]) -> B256 {
        keccak256(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(withdrawals: bool) -> Block {
        let withdrawals = withdrawals.then(Withdrawals::default);
        let withdrawals_root =
            withdrawals.as_ref().map(|_| alloy_consensus::constants::EMPTY_WITHDRAWALS);
        let header =
            Header { number: 7, base_fee_per_gas: Some(1), withdrawals_root, ..Header::default() };
        Block::ethereum(header, Body { withdrawals, ..Body::default() })
    }

    #[test]
    fn block_survives_both_codecs() {
        for withdrawals in [false, true] {
            let mut block = block(withdrawals);
            let rlp = block.ethereum_rlp();
            assert_eq!(rlp.len(), block.ethereum_rlp_length());
            assert_eq!(Block::decode_ethereum(&mut rlp.as_ref()).unwrap(), block);
            block.extension = Extension { milliseconds: 5, ..Extension::default() }.to_bytes();
            block.seal = Bytes::from_static(b"seal");
            assert_eq!(Block::decode(&block.encode()).unwrap(), block);
        }
    }

    #[test]
    fn a_list_of_too_many_transactions_is_refused_before_one_is_decoded() {
        // Not one of them is a transaction: whoever decodes them says so.
        let list = |count: usize| {
            let mut out = Vec::new();
            RlpHeader { list: true, payload_length: count }.encode(&mut out);
            out.resize(out.len() + count, 0x80);
            out
        };
        let decoded = |count| decode_transactions(&mut &*list(count)).map(|all| all.len());
        assert!(matches!(decoded(TRANSACTIONS_MAX), Err(BlockError::Rlp(_))));
        assert!(matches!(decoded(TRANSACTIONS_MAX + 1), Err(BlockError::TooMany)));
        assert_eq!(decoded(0).ok(), Some(0));
        let cut = &list(TRANSACTIONS_MAX)[..100];
        assert!(matches!(decode_transactions(&mut &*cut), Err(BlockError::Rlp(_))));
    }

    #[test]
    fn a_fee_beyond_128_bits_is_named_and_nothing_else_is() {
        let legacy = |price: &[u8], to: u8| {
            let (mut fields, mut item) = (Vec::new(), Vec::new());
            let [nonce, gas, value] = [&[][..], &[0x52, 0x08], &[]];
            for field in [nonce, price, gas, &[to; 20], value, &[], &[27], &[1], &[1]] {
                field.encode(&mut fields);
            }
            RlpHeader { list: true, payload_length: fields.len() }.encode(&mut item);
            item.extend(fields);
            item
        };
        let typed = |mut item: Vec<u8>| {
            item.insert(0, 1);
            alloy_rlp::encode(&item[..])
        };
        let list = |items: &[Vec<u8>]| {
            let (payload, mut out) = (items.concat(), Vec::new());
            RlpHeader { list: true, payload_length: payload.len() }.encode(&mut out);
            out.extend(payload);
            out
        };
        let (fair, much) = (legacy(&[7], 1), legacy(&[1; 17], 1));
        assert!(
            decode_transactions(&mut &list(std::slice::from_ref(&fair))[..]).unwrap().len() == 1
        );
        let refused = |items: &[Vec<u8>]| decode_transactions(&mut &list(items)[..]).unwrap_err();
        let second = refused(&[fair.clone(), much]);
        assert!(matches!(second, BlockError::GasPrice { index: 1 }), "{second}");
        // Type 1 begins with a chain id: its gas price would stand where the gas is here.
        let malformed = refused(&[typed(fair)]);
        assert!(matches!(malformed, BlockError::Rlp(_)), "{malformed}");
        let not_canonical = refused(&[legacy(&[0; 17], 1)]);
        assert!(matches!(not_canonical, BlockError::Rlp(_)), "{not_canonical}");
    }

    #[test]
    fn extension_survives_the_round_trip_and_nothing_shorter_or_longer_is_one() {
        let extension = Extension {
            milliseconds: u64::MAX,
            epoch: 7,
            proposer: Address::repeat_byte(3),
            data: Bytes::from_static(b"data"),
        };
        let mut bytes = extension.to_bytes().to_vec();
        assert_eq!(Extension::from_bytes(&bytes).unwrap(), extension);
        for end in 0..bytes.len() {
            assert!(Extension::from_bytes(&bytes[..end]).is_err(), "{end} bytes");
        }
        bytes.push(0);
        assert!(Extension::from_bytes(&bytes).is_err());
        // What a block said before there were epochs.
        assert!(Extension::from_bytes(&[0xc1, 5]).is_err());
    }

    #[test]
    fn truncated_block_is_an_error_at_every_length() {
        let bytes = block(true).encode();
        for end in 0..bytes.len() {
            assert!(Block::decode(&bytes[..end]).is_err(), "{end} bytes were a block");
        }
    }
}
