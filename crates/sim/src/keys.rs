//! Keys that everybody may know, and one table of signatures for all nodes of a history.

use alloy_primitives::{B256, keccak256};
use landfall_replica::{Refused, Signer, seal_digest};
use landfall_types::{NodeId, Signature, Vote};
use parking_lot::Mutex;
use secp256k1::constants::GENERATOR_X;
use secp256k1::{Message, PublicKey, SECP256K1, Scalar, SecretKey};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// Nodes that a history can have.
pub(crate) const NODES: usize = 8;

static NODE_KEYS: LazyLock<Vec<SecretKey>> =
    LazyLock::new(|| (0..NODES).map(|index| secret("node", index)).collect());

/// The key of a name and a number.
pub(crate) fn secret(name: &str, index: usize) -> SecretKey {
    let seed = keccak256(format!("landfall simulator {name} {index}"));
    SecretKey::from_slice(seed.as_slice()).expect("one hash of 2^127 is no key")
}

/// The address of a key.
pub(crate) fn address(key: &SecretKey) -> NodeId {
    let public = PublicKey::from_secret_key(SECP256K1, key).serialize_uncompressed();
    NodeId::from_slice(&keccak256(&public[1..])[12..])
}

/// The identity of the node of a number.
pub(crate) fn node(index: usize) -> NodeId {
    static IDS: LazyLock<Vec<NodeId>> = LazyLock::new(|| NODE_KEYS.iter().map(address).collect());
    IDS[index]
}

/// A signature like any other, made with the nonce 1: it gives the key away, which everybody knows
/// here, and costs no multiplication of a point. Those were an eighth of a history's time.
fn sign_openly(key: &SecretKey, digest: B256) -> Signature {
    let scalar =
        |bytes| Scalar::from_be_bytes(bytes).expect("one hash of 2^127 is above the order");
    // s = (z + r d) / k, and the point k G is G, whose y is even.
    let high_or_low =
        key.mul_tweak(&scalar(GENERATOR_X)).and_then(|it| it.add_tweak(&scalar(digest.0)));
    let s = high_or_low.expect("one sum of 2^256 is zero");
    let (even, odd) = (s.secret_bytes(), s.negate().secret_bytes());
    let mut bytes = [0; 65];
    bytes[..32].copy_from_slice(&GENERATOR_X);
    bytes[32..64].copy_from_slice(&even.min(odd));
    bytes[64] = u8::from(odd < even);
    Signature(bytes)
}

/// Who signed what, as far as anybody in this history has found out or done it himself.
#[derive(Default)]
pub(crate) struct Signatures {
    made: BTreeMap<(NodeId, B256), Signature>,
    recovered: BTreeMap<(B256, Signature), Option<NodeId>>,
}

/// The signer of a node. It has no guard against a second vote at a position: the simulator must
/// see whether the engine asks for one.
pub(crate) struct HistorySigner {
    key: SecretKey,
    id: NodeId,
    table: Arc<Mutex<Signatures>>,
    signed: Mutex<Vec<Vote>>,
}

impl HistorySigner {
    /// The signer of the node of a number.
    pub fn new(index: usize, table: Arc<Mutex<Signatures>>) -> Self {
        Self { key: NODE_KEYS[index], id: node(index), table, signed: Mutex::default() }
    }

    /// What was signed since this was called last.
    pub fn take_signed(&self) -> Vec<Vote> {
        std::mem::take(&mut *self.signed.lock())
    }

    fn sign_digest(&self, digest: B256) -> Signature {
        let mut table = self.table.lock();
        if let Some(made) = table.made.get(&(self.id, digest)) {
            return *made;
        }
        let signature = sign_openly(&self.key, digest);
        table.made.insert((self.id, digest), signature);
        table.recovered.insert((digest, signature), Some(self.id));
        signature
    }

    /// A liar's signature: nobody takes note of it as a vote of a node that follows the rules.
    pub fn forge(&self, vote: &Vote, chain: B256) -> Signature {
        self.sign_digest(vote.digest(chain))
    }

    /// Another valid signature under the same digest, made with another nonce.
    pub fn sign_again(&self, digest: B256, extra: u64) -> Signature {
        let mut nonce = [0; 32];
        nonce[..8].copy_from_slice(&extra.to_le_bytes());
        let message = Message::from_digest(digest.0);
        let signed = SECP256K1.sign_ecdsa_recoverable_with_noncedata(&message, &self.key, &nonce);
        let (parity, compact) = signed.serialize_compact();
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&compact);
        bytes[64] = u8::try_from(i32::from(parity)).expect("below 4");
        let signature = Signature(bytes);
        self.table.lock().recovered.insert((digest, signature), Some(self.id));
        signature
    }
}

impl Signer for HistorySigner {
    fn id(&self) -> NodeId {
        self.id
    }

    fn sign(&self, vote: &Vote, chain: B256) -> Result<Signature, Refused> {
        self.signed.lock().push(*vote);
        Ok(self.sign_digest(vote.digest(chain)))
    }

    fn sign_block(&self, hash: B256, chain: B256) -> Signature {
        self.sign_digest(seal_digest(hash, chain))
    }

    fn recover(&self, digest: B256, signature: &Signature) -> Option<NodeId> {
        let mut table = self.table.lock();
        *table
            .recovered
            .entry((digest, *signature))
            .or_insert_with(|| landfall_light::recover(digest, signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_made_openly_are_those_of_the_key_and_of_nobody_else() {
        for number in 0..200_u8 {
            let (key, digest) = (&NODE_KEYS[usize::from(number) % NODES], keccak256([number]));
            let signature = sign_openly(key, digest);
            assert_eq!(landfall_light::recover(digest, &signature), Some(address(key)));
            assert_ne!(landfall_light::recover(keccak256(digest), &signature), Some(address(key)));
        }
    }

    #[test]
    fn a_second_signature_of_one_signer_is_valid_and_differs() {
        let signer = HistorySigner::new(2, Arc::default());
        let digest = B256::repeat_byte(7);
        let (first, second) = (signer.sign_digest(digest), signer.sign_again(digest, 5));
        assert_ne!(first, second);
        for signature in [first, second] {
            assert_eq!(landfall_light::recover(digest, &signature), Some(node(2)));
            assert_eq!(signer.recover(digest, &signature), Some(node(2)));
        }
        assert_ne!(signer.recover(B256::repeat_byte(8), &first), Some(node(2)));
    }
}
