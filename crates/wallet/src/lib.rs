//! Keys: from words to accounts, and what an account signs.
//!
//! A [`Mnemonic`] (BIP-39) gives an [`ExtendedKey`] (BIP-32), that gives the key of each account
//! of a [`DerivationPath`], a [`Signer`] holds one key and signs, a [`Keyring`] holds the
//! signers of the accounts that are unlocked. A [`Keystore`] is a key under a password, for a file.
//!
//! Secret bytes are erased when they are dropped and never stand in a `Debug` print or an error.
//! This crate does no IO but to ask the operating system for randomness.

mod extended_key;
mod keyring;
mod keystore;
mod mnemonic;
mod signer;

pub use extended_key::{DerivationPath, ExtendedKey};
pub use keyring::Keyring;
pub use keystore::{KEYSTORE_BYTES_MAX, Keystore, KeystoreError, ScryptCost};
pub use mnemonic::Mnemonic;
pub use signer::Signer;

/// Why there is no key, or no signature.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WalletError {
    /// Not a phrase of BIP-39; the phrase itself is not repeated.
    #[error("mnemonic: {0}")]
    Mnemonic(String),
    /// BIP-39 knows 12, 15, 18, 21 and 24 words.
    #[error("mnemonic: {0} words asked for; 12, 15, 18, 21 and 24 are possible")]
    WordCount(usize),
    /// A path like `m/44'/60'/0'/0` was expected.
    #[error("derivation path `{path}`: {reason}, expected one like m/44'/60'/0'/0")]
    Path {
        /// What was given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not 32 bytes in hex, zero, or beyond the order of the curve; not repeated either.
    #[error("private key: must be 64 hex digits, not zero and below the order of secp256k1")]
    Key,
    /// No account of this address is unlocked, in geth's words.
    #[error("unknown account")]
    UnknownAccount,
    /// The typed data contradict themselves.
    #[error("typed data: {0}")]
    TypedData(String),
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system: {0}")]
    Randomness(String),
}
