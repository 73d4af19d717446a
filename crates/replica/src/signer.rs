//! The key of a validator, and the guard in front of it.

use crate::recent::Recent;
use alloy_consensus::Header;
use alloy_primitives::{B256, keccak256};
use landfall_consensus::pow;
use landfall_types::{Height, NodeId, Position, Signature, Step, Vote};
use parking_lot::Mutex;
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Positions whose votes the guard remembers.
const GUARDED: usize = 4_096;

/// A position.
type Place = (u64, Height, u64, Step);

/// Why a vote was not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It contradicts one that was: an invariant of the engine is broken.
    #[error("a vote for another block was signed at this position before: {0:?}")]
    Contradiction(Position),
    /// Not now. The engine repeats its votes, so it will be asked again.
    #[error("the signer is not available: {0}")]
    Unavailable(String),
}

/// Signs for one node. It may be far away, so it is asked by jobs.
pub trait Signer: Send + Sync {
    /// The node.
    fn id(&self) -> NodeId;

    /// Signs a vote on the chain with this genesis hash. The same vote again gives the same
    /// signature; another one at its position is refused.
    fn sign(&self, vote: &Vote, chain: B256) -> Result<Signature, Refused>;

    /// Signs the hash of a block that this node made.
    fn sign_block(&self, hash: B256, chain: B256) -> Signature;

    /// Searches the nonce of a block that carries work; `None` once it is `superseded`, or after all
    /// nonces. A host with several threads searches on all of them.
    fn search(&self, header: &Header, superseded: &AtomicBool) -> Option<u64> {
        search_from(header, 0, 1, || superseded.load(Relaxed))
    }

    /// Who signed a digest. The simulator answers from a table that all its nodes share.
    fn recover(&self, digest: B256, signature: &Signature) -> Option<NodeId> {
        landfall_light::recover(digest, signature)
    }
}

/// Nonces that are tried between two looks at whether the block is still wanted.
const TRIES: u64 = 1 << 14;

/// Searches every `of`-th run of nonces, beginning with run `part`: so `of` threads search all of
/// them. `None` once `stopped` says so, or after all nonces.
pub fn search_from(header: &Header, part: u64, of: u64, stopped: impl Fn() -> bool) -> Option<u64> {
    let mut run = part;
    while !stopped() {
        let from = run.checked_mul(TRIES)?;
        if let Some(nonce) = pow::search(header, from, TRIES) {
            return Some(nonce);
        }
        run = run.checked_add(of)?;
    }
    None
}

/// What is signed under a block's hash.
pub fn seal_digest(hash: B256, chain: B256) -> B256 {
    keccak256([b"landfall seal v1".as_slice(), chain.as_slice(), hash.as_slice()].concat())
}

/// A secp256k1 key in this process. Signatures are deterministic (RFC 6979).
///
/// The guard is a second line of defence: the first is that engines persist before they vote. It
/// lives as long as the process.
pub struct KeySigner {
    id: NodeId,
    key: SecretKey,
    signed: Mutex<Recent<Place, (Vote, Signature)>>,
}

impl KeySigner {
    /// The signer of a private key.
    ///
    /// # Errors
    /// If the bytes are no key of the curve: zero, or not below its order.
    pub fn new(secret: &[u8; 32]) -> Result<Self, secp256k1::Error> {
        let key = SecretKey::from_byte_array(secret)?;
        let public = PublicKey::from_secret_key(SECP256K1, &key).serialize_uncompressed();
        let id = NodeId::from_slice(&keccak256(&public[1..])[12..]);
        Ok(Self { id, key, signed: Mutex::new(Recent::new(GUARDED)) })
    }

    /// Signs 32 bytes as they are.
    pub fn sign_digest(&self, digest: B256) -> Signature {
        let message = Message::from_digest(digest.0);
        let (parity, compact) =
            SECP256K1.sign_ecdsa_recoverable(&message, &self.key).serialize_compact();
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&compact);
        bytes[64] = u8::try_from(i32::from(parity)).expect("below 4");
        Signature(bytes)
    }
}

impl Signer for KeySigner {
    fn id(&self) -> NodeId {
        self.id
    }

    fn sign(&self, vote: &Vote, chain: B256) -> Result<Signature, Refused> {
        let mut signed = self.signed.lock();
        let Position { epoch, step, height, round } = vote.position;
        let place = (epoch, height, round, step);
        if let Some((first, signature)) = signed.get(&place) {
            return if first == vote {
                Ok(*signature)
            } else {
                Err(Refused::Contradiction(vote.position))
            };
        }
        let signature = self.sign_digest(vote.digest(chain));
        signed.insert(place, (*vote, signature));
        Ok(signature)
    }

    fn sign_block(&self, hash: B256, chain: B256) -> Signature {
        self.sign_digest(seal_digest(hash, chain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: B256 = B256::repeat_byte(7);

    fn vote(step: Step, round: u64, hash: u8) -> Vote {
        let position = Position { epoch: 2, step, height: Height(5), round };
        Vote { position, hash: B256::repeat_byte(hash), context: B256::ZERO }
    }

    fn signer() -> KeySigner {
        KeySigner::new(&[9; 32]).unwrap()
    }

    #[test]
    fn signs_a_vote_again_and_another_at_its_position_never() {
        let signer = signer();
        let first = vote(Step::Prepare, 0, 1);
        let signature = signer.sign(&first, CHAIN).unwrap();
        assert_eq!(landfall_light::recover(first.digest(CHAIN), &signature), Some(signer.id()));
        let other_hash = vote(Step::Prepare, 0, 2);
        let other_context = Vote { context: B256::repeat_byte(1), ..first };
        for other in [other_hash, other_context] {
            assert_eq!(signer.sign(&other, CHAIN), Err(Refused::Contradiction(first.position)));
        }
        assert_eq!(signer.sign(&first, CHAIN), Ok(signature), "after a refusal too");
        for elsewhere in [vote(Step::Prepare, 1, 2), vote(Step::Commit, 0, 2)] {
            assert!(signer.sign(&elsewhere, CHAIN).is_ok());
        }
    }

    #[test]
    fn the_guard_forgets_the_oldest_positions_and_keeps_the_newest() {
        let signer = signer();
        let rounds = GUARDED as u64 + 10;
        for round in 0..rounds {
            signer.sign(&vote(Step::Prepare, round, 1), CHAIN).unwrap();
        }
        assert_eq!(signer.signed.lock().len(), GUARDED);
        assert!(signer.sign(&vote(Step::Prepare, rounds - 1, 2), CHAIN).is_err());
        assert!(signer.sign(&vote(Step::Prepare, 10, 2), CHAIN).is_err());
        // Raft's grants have no height: the position of a new one stands before all others.
        let grant = |hash| {
            let mut grant = vote(Step::Grant, 3, hash);
            grant.position.height = Height(0);
            grant
        };
        signer.sign(&grant(1), CHAIN).unwrap();
        assert!(signer.sign(&grant(2), CHAIN).is_err());
    }

    #[test]
    fn a_seal_is_no_vote_and_is_of_one_chain() {
        let (signer, hash) = (signer(), B256::repeat_byte(3));
        let seal = signer.sign_block(hash, CHAIN);
        assert_eq!(signer.recover(seal_digest(hash, CHAIN), &seal), Some(signer.id()));
        assert_ne!(signer.recover(seal_digest(hash, B256::ZERO), &seal), Some(signer.id()));
        assert_ne!(signer.recover(hash, &seal), Some(signer.id()));
    }

    #[test]
    fn zero_and_the_order_of_the_curve_are_no_keys() {
        assert!(KeySigner::new(&[0; 32]).is_err());
        assert!(KeySigner::new(&[0xff; 32]).is_err());
    }
}
