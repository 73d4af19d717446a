//! A transaction with its sender: the signature is recovered once, here.

use super::PoolError;
use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{EthereumTypedTransaction, Transaction as _, TxEip4844};
use alloy_primitives::{Address, Signature, TxHash, U256};
use landfall_types::Transaction;
use std::sync::Arc;

/// A transaction whose sender is known. Cheap to clone; the hash is computed once.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The transaction.
    pub transaction: Arc<Transaction>,
    /// Who sent it.
    pub sender: Address,
    /// The sender was given by a control of `dev`, not proved by a signature.
    pub impersonated: bool,
}

impl Recovered {
    /// For a sender that is known already, as that of a transaction in a block.
    pub fn new(transaction: impl Into<Arc<Transaction>>, sender: Address) -> Self {
        let transaction = transaction.into();
        let impersonated = impersonated_sender(&transaction).is_some();
        Self { transaction, sender, impersonated }
    }

    /// In `dev`, a transaction of an account whose key nobody has.
    ///
    /// In place of a signature it carries the sender as `r` and zero as `s`, which no valid
    /// signature has: the hash differs from sender to sender, and [`impersonated_sender`] reads
    /// the sender back from the encoded transaction.
    pub fn impersonated(unsigned: EthereumTypedTransaction<TxEip4844>, sender: Address) -> Self {
        let mark = Signature::new(U256::from_be_slice(sender.as_slice()), U256::ZERO, false);
        let transaction = Arc::new(unsigned.into_envelope(mark));
        transaction.tx_hash();
        Self { transaction, sender, impersonated: true }
    }

    /// The hash of the transaction.
    pub fn hash(&self) -> TxHash {
        *self.transaction.tx_hash()
    }

    /// The nonce of the transaction.
    pub fn nonce(&self) -> u64 {
        self.transaction.nonce()
    }
}

/// The sender in the mark of [`Recovered::impersonated`], if the transaction carries one. Only
/// `dev` may believe it.
pub fn impersonated_sender(transaction: &Transaction) -> Option<Address> {
    let signature = transaction.signature();
    let r = signature.r().to_be_bytes::<32>();
    let marked = signature.s().is_zero() && r[..12] == [0; 12];
    marked.then(|| Address::from_slice(&r[12..]))
}

/// Recovers the sender; the dear part of taking a transaction, made for a worker pool.
pub fn recover(transaction: Transaction, chain_id: u64) -> Result<Recovered, PoolError> {
    if transaction.is_eip4844() {
        return Err(PoolError::Blob);
    }
    if let Some(have) = transaction.chain_id().filter(|have| *have != chain_id) {
        return Err(PoolError::ChainId { have, want: chain_id });
    }
    let sender = transaction.recover_signer().map_err(|_| PoolError::Signature)?;
    // Computed here, on the worker, and kept inside the envelope.
    transaction.tx_hash();
    Ok(Recovered { transaction: Arc::new(transaction), sender, impersonated: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::{SignableTransaction, TxEip1559, TxLegacy};
    use alloy_eips::eip2718::{Decodable2718, Encodable2718};
    use alloy_primitives::{B256, address, hex};

    const N: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

    /// From EIP-155's example.
    fn example() -> Vec<u8> {
        hex!("f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025a028ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83").to_vec()
    }

    #[test]
    fn recovers_the_sender_of_the_example_of_eip_155() {
        let transaction = Transaction::decode_2718(&mut example().as_slice()).unwrap();
        let recovered = recover(transaction, 1).unwrap();
        assert_eq!(recovered.sender, address!("0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"));
        assert!(!recovered.impersonated);
    }

    #[test]
    fn refuses_another_chain_a_high_s_and_an_empty_signature() {
        let transaction = Transaction::decode_2718(&mut example().as_slice()).unwrap();
        let error = recover(transaction.clone(), 31_337).unwrap_err();
        let expected = "invalid sender: invalid chain id for signer: have 1 want 31337";
        assert_eq!(error.to_string(), expected);

        let signature = *transaction.signature();
        let n = U256::from_str_radix(N, 16).unwrap();
        let unsigned: EthereumTypedTransaction<TxEip4844> = transaction.into();
        for bad in [
            // The other signature of the same key: malleable.
            Signature::new(signature.r(), n - signature.s(), !signature.v()),
            Signature::new(U256::ZERO, U256::ZERO, false),
            Signature::new(U256::MAX, U256::from(1), false),
            Signature::new(n, U256::from(1), true),
        ] {
            let forged = unsigned.clone().into_envelope(bad);
            assert!(matches!(recover(forged, 1), Err(PoolError::Signature)), "{bad:?}");
        }
    }

    #[test]
    fn refuses_blobs_before_any_work() {
        let blob = TxEip4844 { chain_id: 1, ..TxEip4844::default() };
        let signature = Signature::new(U256::from(1), U256::from(1), false);
        let error = recover(blob.into_signed(signature).into(), 1).unwrap_err();
        assert!(error.to_string().contains("blob transactions (type 3)"), "{error}");
    }

    #[test]
    fn impersonated_sender_survives_the_codec_and_is_no_signature() {
        let (one, two) = (Address::repeat_byte(1), Address::repeat_byte(0xff));
        let legacy = TxLegacy { chain_id: Some(5), nonce: 3, ..TxLegacy::default() };
        let modern = TxEip1559 { chain_id: 5, nonce: 3, ..TxEip1559::default() };
        let mut hashes: Vec<B256> = Vec::new();
        for unsigned in [EthereumTypedTransaction::from(legacy), modern.into()] {
            for sender in [one, two] {
                let recovered = Recovered::impersonated(unsigned.clone(), sender);
                let bytes = recovered.transaction.encoded_2718();
                let read = Transaction::decode_2718(&mut bytes.as_slice()).unwrap();
                assert_eq!(impersonated_sender(&read), Some(sender));
                assert_eq!(*read.tx_hash(), recovered.hash());
                assert!(matches!(recover(read, 5), Err(PoolError::Signature)));
                hashes.push(recovered.hash());
            }
        }
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 4);
    }
}
