//! Private keys by path: BIP-32, private derivation.

use crate::{Signer, WalletError};
use hmac::{Hmac, Mac};
use secp256k1::{PublicKey, SECP256K1, Scalar, SecretKey};
use sha2::Sha512;
use std::fmt;
use std::str::FromStr;
use zeroize::{Zeroize, Zeroizing};

/// Marks an index that only the private key derives.
const HARDENED: u32 = 1 << 31;

/// A path like `m/44'/60'/0'/0/3`, or the prefix of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivationPath(Vec<u32>);

impl DerivationPath {
    /// The path with one more step, not hardened.
    pub fn child(&self, index: u32) -> Self {
        let mut steps = self.0.clone();
        steps.push(index & !HARDENED);
        Self(steps)
    }
}

/// `m/44'/60'/0'/0`, the accounts of Ethereum.
impl Default for DerivationPath {
    fn default() -> Self {
        Self(vec![44 | HARDENED, 60 | HARDENED, HARDENED, 0])
    }
}

impl fmt::Display for DerivationPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("m")?;
        for step in &self.0 {
            let mark = if step & HARDENED != 0 { "'" } else { "" };
            write!(f, "/{}{mark}", step & !HARDENED)?;
        }
        Ok(())
    }
}

impl FromStr for DerivationPath {
    type Err = WalletError;

    /// A slash may stand at the end, as the command line of anvil has it.
    fn from_str(path: &str) -> Result<Self, WalletError> {
        let fail = |reason| WalletError::Path { path: path.into(), reason };
        let mut steps = path.strip_suffix('/').unwrap_or(path).split('/');
        if steps.next() != Some("m") {
            return Err(fail("it does not begin with m"));
        }
        let mut path = Vec::new();
        for step in steps {
            let digits = step.strip_suffix(['\'', 'h', 'H']);
            let number = digits.unwrap_or(step);
            if !number.bytes().all(|b| b.is_ascii_digit()) {
                return Err(fail("a step is not a number"));
            }
            let index = number.parse::<u32>().ok().filter(|index| *index < HARDENED);
            let index = index.ok_or_else(|| fail("a step is empty or not below 2147483648"))?;
            path.push(index | if digits.is_some() { HARDENED } else { 0 });
            if path.len() > 255 {
                return Err(fail("it has more than 255 steps"));
            }
        }
        Ok(Self(path))
    }
}

/// A private key with its chain code.
#[derive(Clone)]
pub struct ExtendedKey {
    key: Zeroizing<[u8; 32]>,
    chain_code: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for ExtendedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExtendedKey(..)")
    }
}

impl ExtendedKey {
    /// The master key of a seed.
    pub fn from_seed(seed: &[u8]) -> Result<Self, WalletError> {
        let (key, chain_code) = split_hmac(b"Bitcoin seed", &[seed]);
        SecretKey::from_slice(&*key).map_err(|_| WalletError::Key)?.non_secure_erase();
        Ok(Self { key, chain_code })
    }

    /// The key at the end of a path.
    pub fn derive(&self, path: &DerivationPath) -> Result<Self, WalletError> {
        path.0.iter().try_fold(self.clone(), |parent, step| parent.child(*step))
    }

    /// The key and the chain code.
    pub fn secrets(&self) -> (&[u8; 32], &[u8; 32]) {
        (&self.key, &self.chain_code)
    }

    /// The account of this key.
    pub fn signer(&self) -> Signer {
        Signer::new(&self.key).expect("the key was checked when it was derived")
    }

    fn child(&self, index: u32) -> Result<Self, WalletError> {
        let mut parent = SecretKey::from_slice(&*self.key).expect("checked when it was derived");
        let index_bytes = index.to_be_bytes();
        let (tweak, chain_code) = if index & HARDENED != 0 {
            split_hmac(&*self.chain_code, &[&[0], &*self.key, &index_bytes])
        } else {
            let public = PublicKey::from_secret_key(SECP256K1, &parent).serialize();
            split_hmac(&*self.chain_code, &[&public, &index_bytes])
        };
        // One index in 2^127 has no key.
        let child = Scalar::from_be_bytes(*tweak)
            .ok()
            .and_then(|tweak| parent.add_tweak(&tweak).ok())
            .ok_or(WalletError::Key);
        parent.non_secure_erase();
        let mut child = child?;
        let key = Zeroizing::new(child.secret_bytes());
        child.non_secure_erase();
        Ok(Self { key, chain_code })
    }
}

/// HMAC-SHA512, its halves apart.
fn split_hmac(key: &[u8], parts: &[&[u8]]) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    let mut bytes = mac.finalize().into_bytes();
    let mut halves = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
    halves.0.copy_from_slice(&bytes[..32]);
    halves.1.copy_from_slice(&bytes[32..]);
    bytes[..].zeroize();
    halves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_survives_its_text() {
        for text in ["m", "m/0", "m/44'/60'/0'/0", "m/2147483647'/2147483647"] {
            assert_eq!(text.parse::<DerivationPath>().unwrap().to_string(), text);
        }
        let default = DerivationPath::default();
        assert_eq!("m/44'/60'/0'/0/".parse::<DerivationPath>().unwrap(), default);
        assert_eq!("m/44h/60H/0'/0".parse::<DerivationPath>().unwrap(), default);
        assert_eq!(default.child(7).to_string(), "m/44'/60'/0'/0/7");
    }

    #[test]
    fn wrong_paths_are_refused_by_name() {
        let long = format!("m{}", "/0".repeat(256));
        let wrong =
            ["", "44'/60'", "m//0", "m/-1", "m/+1", "m/2147483648", "m/x", "m/0''", "m/'", &long];
        for path in wrong {
            let error = path.parse::<DerivationPath>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("derivation path `{path}`")), "{error}");
        }
    }

    #[test]
    fn debug_print_shows_no_secret() {
        let key = ExtendedKey::from_seed(&[1; 64]).unwrap();
        assert_eq!(format!("{key:?}"), "ExtendedKey(..)");
    }
}
