//! One private key, and what it signs.

use crate::WalletError;
use alloy_consensus::crypto::secp256k1::{public_key_to_address, sign_message};
use alloy_consensus::{
    EthereumTxEnvelope, EthereumTypedTransaction, SignableTransaction, TxEip4844,
};
use alloy_dyn_abi::TypedData;
use alloy_eips::eip7702::{Authorization, SignedAuthorization};
use alloy_primitives::{Address, B256, Signature, eip191_hash_message, hex};
use secp256k1::{PublicKey, SECP256K1, SecretKey};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// A private key and its address. Signatures are deterministic (RFC 6979), with a low `s`.
#[derive(Clone)]
pub struct Signer {
    address: Address,
    key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.address)
    }
}

/// 64 hex digits, with or without `0x`.
impl FromStr for Signer {
    type Err = WalletError;

    fn from_str(text: &str) -> Result<Self, WalletError> {
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text, &mut *key).map_err(|_| WalletError::Key)?;
        Self::new(&key)
    }
}

impl Signer {
    /// The signer of a private key.
    pub fn new(key: &[u8; 32]) -> Result<Self, WalletError> {
        let mut secret = SecretKey::from_slice(key).map_err(|_| WalletError::Key)?;
        let public = PublicKey::from_secret_key(SECP256K1, &secret);
        secret.non_secure_erase();
        Ok(Self { address: public_key_to_address(public), key: Zeroizing::new(*key) })
    }

    /// A new key from the randomness of the operating system.
    pub fn random() -> Result<Self, WalletError> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key).map_err(|e| WalletError::Randomness(e.to_string()))?;
        // One of 2^127 draws is not a key, and an error then.
        Self::new(&key)
    }

    /// The address of the account.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The public key: the compressed point.
    pub fn public_key(&self) -> [u8; 33] {
        let mut secret =
            SecretKey::from_slice(&*self.key).expect("the key was checked when it was taken");
        let public = PublicKey::from_secret_key(SECP256K1, &secret).serialize();
        secret.non_secure_erase();
        public
    }

    /// The private key itself: for the banner of `dev`, whose keys are no secret, and for files.
    pub fn secret(&self) -> &[u8; 32] {
        &self.key
    }

    /// Signs 32 bytes as they are.
    pub fn sign_hash(&self, hash: B256) -> Signature {
        sign_message(B256::new(*self.key), hash).expect("the key was checked when it was taken")
    }

    /// Signs a message as `personal_sign` and `eth_sign` do (EIP-191).
    pub fn sign_message(&self, message: &[u8]) -> Signature {
        self.sign_hash(eip191_hash_message(message))
    }

    /// Signs typed data as `eth_signTypedData_v4` does (EIP-712).
    pub fn sign_typed_data(&self, data: &TypedData) -> Result<Signature, WalletError> {
        let hash = data.eip712_signing_hash();
        Ok(self.sign_hash(hash.map_err(|e| WalletError::TypedData(e.to_string()))?))
    }

    /// Signs a transaction of any type.
    pub fn sign_transaction(
        &self,
        unsigned: EthereumTypedTransaction<TxEip4844>,
    ) -> EthereumTxEnvelope<TxEip4844> {
        let signature = self.sign_hash(unsigned.signature_hash());
        unsigned.into_envelope(signature)
    }

    /// Signs a delegation (EIP-7702).
    pub fn sign_authorization(&self, authorization: Authorization) -> SignedAuthorization {
        let signature = self.sign_hash(authorization.signature_hash());
        authorization.into_signed(signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::crypto::secp256k1::recover_signer;
    use alloy_consensus::transaction::SignerRecoverable;
    use alloy_consensus::{TxEip1559, TxEip2930, TxEip7702, TxLegacy};
    use alloy_primitives::U256;

    fn signer() -> Signer {
        "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80".parse().unwrap()
    }

    #[test]
    fn wrong_keys_are_refused_without_repeating_them() {
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        let zero = "0".repeat(64);
        let long = "1".repeat(66);
        for text in ["", "0x", "1", "zz", order, &zero, &long] {
            let error = text.parse::<Signer>().unwrap_err().to_string();
            assert!(error.starts_with("private key: must be 64 hex digits"), "{error}");
            assert!(text.is_empty() || text.len() < 3 || !error.contains(text));
        }
    }

    #[test]
    fn debug_print_shows_only_the_address() {
        let text = format!("{:?}", signer());
        assert_eq!(text, "Signer(0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266)");
    }

    #[test]
    fn every_type_of_transaction_recovers_to_the_signer() {
        let authorization =
            Authorization { chain_id: U256::from(5), address: Address::ZERO, nonce: 1 };
        let signed = signer().sign_authorization(authorization);
        let authority = recover_signer(&signed.signature().unwrap(), signed.signature_hash());
        assert_eq!(authority.unwrap(), signer().address());
        let delegating =
            TxEip7702 { chain_id: 5, authorization_list: vec![signed], ..TxEip7702::default() };
        let all: [EthereumTypedTransaction<TxEip4844>; 6] = [
            TxLegacy::default().into(),
            TxLegacy { chain_id: Some(5), ..TxLegacy::default() }.into(),
            TxEip2930 { chain_id: 5, ..TxEip2930::default() }.into(),
            TxEip1559 { chain_id: 5, ..TxEip1559::default() }.into(),
            TxEip4844 { chain_id: 5, ..TxEip4844::default() }.into(),
            delegating.into(),
        ];
        for unsigned in all {
            let signed = signer().sign_transaction(unsigned);
            assert_eq!(signed.recover_signer().unwrap(), signer().address(), "{signed:?}");
        }
    }

    #[test]
    fn message_is_signed_with_its_prefix() {
        let message = b"hello";
        let signature = signer().sign_message(message);
        let hash = alloy_primitives::keccak256(b"\x19Ethereum Signed Message:\n5hello");
        assert_eq!(recover_signer(&signature, hash).unwrap(), signer().address());
        assert_eq!(signer().sign_hash(hash), signature);
        assert_ne!(signer().sign_hash(alloy_primitives::keccak256(message)), signature);
    }

    #[test]
    fn public_key_of_one_is_the_generator() {
        let mut one = [0; 32];
        one[31] = 1;
        let expected = hex!("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798");
        assert_eq!(Signer::new(&one).unwrap().public_key(), expected);
    }

    #[test]
    fn random_keys_differ() {
        assert_ne!(Signer::random().unwrap().address(), Signer::random().unwrap().address());
    }
}
