//! The keys of a development chain and of the load generator: from words to accounts.

use crate::failure::Failure;
use alloy_primitives::{Address, B256};
use landfall_wallet::{Keyring, Mnemonic};

/// The words that every development tool uses. Everybody knows these keys.
pub const TEST_MNEMONIC: &str = "test test test test test test test test test test test junk";
/// Ethereum's accounts (BIP-44); the number of the account follows.
pub const DERIVATION_PATH: &str = "m/44'/60'/0'/0/";

/// One account.
#[derive(Clone, Copy)]
pub struct Key {
    /// The private key.
    pub secret: B256,
    /// The account.
    pub address: Address,
}

/// The keys of the first accounts of a mnemonic under a path, which may end in a slash.
pub fn keyring(phrase: &str, path: &str, count: u32) -> Result<Keyring, Failure> {
    let mnemonic = Mnemonic::parse(phrase).map_err(Failure::refused)?;
    let path = path.trim_end_matches('/').parse().map_err(Failure::refused)?;
    Keyring::from_mnemonic(&mnemonic, &path, count).map_err(Failure::refused)
}

/// The accounts of a keyring in their order.
pub fn keys(keyring: &Keyring) -> Vec<Key> {
    let key = |signer: &landfall_wallet::Signer| Key {
        secret: B256::from(*signer.secret()),
        address: signer.address(),
    };
    keyring.signers().iter().map(key).collect()
}

/// New words.
pub fn random_mnemonic(words: usize) -> Result<String, Failure> {
    let mnemonic = Mnemonic::random(words).map_err(Failure::refused)?;
    Ok(mnemonic.phrase().to_string())
}
