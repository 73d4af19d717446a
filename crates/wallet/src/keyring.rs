//! The accounts that are unlocked.

use crate::{DerivationPath, Mnemonic, Signer, WalletError};
use alloy_primitives::Address;
use std::collections::HashMap;

/// Signers by address, listed in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    signers: Vec<Signer>,
    places: HashMap<Address, usize>,
}

impl Keyring {
    /// The first `count` accounts of a phrase below a path.
    pub fn from_mnemonic(
        mnemonic: &Mnemonic,
        path: &DerivationPath,
        count: u32,
    ) -> Result<Self, WalletError> {
        let parent = mnemonic.master_key("").derive(path)?;
        let mut keyring = Self::default();
        let root: DerivationPath = "m".parse()?;
        for index in 0..count {
            keyring.insert(parent.derive(&root.child(index))?.signer());
        }
        Ok(keyring)
    }

    /// Adds an account, unless it is there.
    pub fn insert(&mut self, signer: Signer) {
        let next = self.signers.len();
        if *self.places.entry(signer.address()).or_insert(next) == next {
            self.signers.push(signer);
        }
    }

    /// All signers.
    pub fn signers(&self) -> &[Signer] {
        &self.signers
    }

    /// All addresses.
    pub fn addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.signers.iter().map(Signer::address)
    }

    /// The signer of an address.
    pub fn signer(&self, address: &Address) -> Result<&Signer, WalletError> {
        let place = self.places.get(address).ok_or(WalletError::UnknownAccount)?;
        Ok(&self.signers[*place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{address, hex};

    #[test]
    fn junk_phrase_gives_the_ten_accounts_of_anvil() {
        let phrase = "test test test test test test test test test test test junk";
        let mnemonic = Mnemonic::parse(phrase).unwrap();
        let keyring = Keyring::from_mnemonic(&mnemonic, &DerivationPath::default(), 10).unwrap();
        let expected = [
            address!("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
            address!("0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
            address!("0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"),
            address!("0x90F79bf6EB2c4f870365E785982E1f101E93b906"),
            address!("0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"),
            address!("0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc"),
            address!("0x976EA74026E726554dB657fA54763abd0C3a0aa9"),
            address!("0x14dC79964da2C08b23698B3D3cc7Ca32193d9955"),
            address!("0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f"),
            address!("0xa0Ee7A142d267C1f36714E4a8F75612F20a79720"),
        ];
        assert_eq!(keyring.addresses().collect::<Vec<_>>(), expected);
        let first = hex!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
        assert_eq!(keyring.signers()[0].secret(), &first);
    }

    #[test]
    fn unknown_account_has_no_signer_and_a_known_one_comes_once() {
        let mut keyring = Keyring::default();
        let signer = Signer::new(&[1; 32]).unwrap();
        keyring.insert(signer.clone());
        keyring.insert(signer.clone());
        assert_eq!(keyring.signers().len(), 1);
        assert_eq!(keyring.signer(&signer.address()).unwrap().address(), signer.address());
        let error = keyring.signer(&Address::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "unknown account");
    }
}
