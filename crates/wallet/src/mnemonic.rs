//! The words of BIP-39, in English.

use crate::{ExtendedKey, WalletError};
use std::fmt;
use zeroize::Zeroizing;

/// A phrase whose words and checksum are right.
#[derive(Clone, PartialEq, Eq)]
pub struct Mnemonic(bip39::Mnemonic);

impl fmt::Debug for Mnemonic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mnemonic({} words)", self.0.word_count())
    }
}

impl Mnemonic {
    /// Reads a phrase; any white space may stand between the words.
    pub fn parse(phrase: &str) -> Result<Self, WalletError> {
        bip39::Mnemonic::parse_in(bip39::Language::English, phrase)
            .map(Self)
            .map_err(|e| WalletError::Mnemonic(reason(&e)))
    }

    /// A new phrase from the randomness of the operating system.
    pub fn random(words: usize) -> Result<Self, WalletError> {
        if !matches!(words, 12 | 15 | 18 | 21 | 24) {
            return Err(WalletError::WordCount(words));
        }
        let mut entropy = Zeroizing::new([0; 32]);
        let entropy = &mut entropy[..words / 3 * 4];
        getrandom::fill(entropy).map_err(|e| WalletError::Randomness(e.to_string()))?;
        Self::from_entropy(entropy)
    }

    /// The phrase of 16, 20, 24, 28 or 32 bytes of entropy.
    pub fn from_entropy(entropy: &[u8]) -> Result<Self, WalletError> {
        bip39::Mnemonic::from_entropy_in(bip39::Language::English, entropy)
            .map(Self)
            .map_err(|e| WalletError::Mnemonic(reason(&e)))
    }

    /// The words, separated by single spaces.
    pub fn phrase(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.to_string())
    }

    /// The seed of BIP-39; the passphrase is empty where nobody speaks of one.
    pub fn seed(&self, passphrase: &str) -> Zeroizing<[u8; 64]> {
        Zeroizing::new(self.0.to_seed(passphrase))
    }

    /// The key at the root of all paths.
    pub fn master_key(&self, passphrase: &str) -> ExtendedKey {
        ExtendedKey::from_seed(&*self.seed(passphrase))
            .expect("one seed in 2^127 has no key, and nobody has seen one")
    }
}

/// What is wrong, without the words themselves.
fn reason(error: &bip39::Error) -> String {
    match error {
        bip39::Error::UnknownWord(index) => {
            format!("word {} is not in the English list of BIP-39", index + 1)
        }
        bip39::Error::BadWordCount(count) => {
            format!("{count} words; 12, 15, 18, 21 and 24 are possible")
        }
        bip39::Error::InvalidChecksum => "the checksum is wrong; is a word misspelt?".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_phrases_are_valid_and_differ() {
        for words in [12, 15, 18, 21, 24] {
            let one = Mnemonic::random(words).unwrap();
            assert_eq!(one.phrase().split(' ').count(), words);
            assert_eq!(Mnemonic::parse(&one.phrase()).unwrap(), one);
            assert_ne!(Mnemonic::random(words).unwrap(), one);
        }
        for words in [0, 11, 13, 25, usize::MAX] {
            assert!(Mnemonic::random(words).is_err(), "{words}");
        }
    }

    #[test]
    fn refusal_says_what_is_wrong_and_keeps_the_words() {
        let table = [
            ("test test", "mnemonic: 2 words; 12, 15, 18, 21 and 24 are possible"),
            (
                "test test test test test test test test test test test test",
                "mnemonic: the checksum is wrong; is a word misspelt?",
            ),
            (
                "test test secretword test test test test test test test test junk",
                "mnemonic: word 3 is not in the English list of BIP-39",
            ),
        ];
        for (phrase, expected) in table {
            assert_eq!(Mnemonic::parse(phrase).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn debug_print_shows_no_word() {
        let phrase = "test test test test test test test test test test test junk";
        assert_eq!(format!("{:?}", Mnemonic::parse(phrase).unwrap()), "Mnemonic(12 words)");
    }
}
