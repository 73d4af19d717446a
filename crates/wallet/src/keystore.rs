//! A private key under a password, in a file: version 3 of the Web3 Secret Storage, as geth,
//! ethers and every other wallet of Ethereum write it.
//!
//! `key = kdf(password)`; the first half decrypts by AES-128-CTR, the second half is in the MAC
//! `keccak(second half || ciphertext)`, which tells a wrong password. scrypt and PBKDF2 are read,
//! scrypt is written. What a file may cost is bounded: its author may be hostile.

use crate::Signer;
use aes::cipher::{KeyIvInit, StreamCipher};
use alloy_primitives::{Address, hex, keccak256};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use zeroize::{Zeroize, Zeroizing};

type Aes128Ctr = ctr::Ctr128BE<aes::Aes128>;

/// The longest file that is read.
pub const KEYSTORE_BYTES_MAX: usize = 64 << 10;
/// Memory that a derivation may take: twice what geth's files take.
const MEMORY_BYTES_MAX: u64 = 512 << 20;
/// `n * r * p`: eight times what geth's files ask for, some seconds.
const SCRYPT_WORK_MAX: u64 = 8 * 262_144 * 8;
/// Iterations of PBKDF2: forty times what geth once wrote.
const PBKDF2_ITERATIONS_MAX: u32 = 10_000_000;
/// Bytes of a derived key; 32 of them are used.
const DERIVED_BYTES: std::ops::RangeInclusive<u64> = 32..=64;
const SALT_BYTES_MAX: usize = 1_024;

/// Why a keystore file gave no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeystoreError {
    /// Not JSON, or a field of the wrong form.
    #[error("keystore: {0}")]
    Malformed(String),
    /// Another version, cipher or derivation than this program knows.
    #[error("keystore: {field} is `{found}`; supported: {supported}")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// What it says.
        found: String,
        /// What it may say.
        supported: &'static str,
    },
    /// More memory or time than an honest file asks for.
    #[error("keystore: {field} is {found}, above {most}; whoever wrote this wants it to hurt")]
    TooCostly {
        /// What costs: a parameter, or what follows from several.
        field: &'static str,
        /// How much.
        found: u64,
        /// How much is allowed.
        most: u64,
    },
    /// The MAC differs.
    #[error("keystore: wrong password, or the file is damaged (the MAC does not match)")]
    WrongPassword,
    /// What was decrypted is no private key.
    #[error("keystore: the decrypted bytes are no private key of secp256k1")]
    NoKey,
    /// The file names another account than its key has.
    #[error("keystore: the file says account {named}, its key is that of {found}")]
    OtherAccount {
        /// In the file.
        named: Address,
        /// Of the key.
        found: Address,
    },
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system: {0}")]
    Randomness(String),
}

/// How dear guessing a password is made: `128 * n * r` bytes and `n * r * p` steps for each guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScryptCost {
    /// The logarithm of `n`.
    pub log_n: u8,
    /// The block size.
    pub r: u32,
    /// How often.
    pub p: u32,
}

impl ScryptCost {
    /// geth's standard: 256 MiB and about a second.
    pub const STANDARD: Self = Self { log_n: 18, r: 8, p: 1 };
    /// geth's light one: 4 MiB and a tenth of a second, where the password is random or the key
    /// worth nothing.
    pub const LIGHT: Self = Self { log_n: 12, r: 8, p: 6 };
}

/// A keystore file: an encrypted key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keystore {
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
    #[serde(default)]
    id: String,
    version: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    kdf: String,
    kdfparams: serde_json::Value,
    mac: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct CipherParams {
    iv: String,
}

#[derive(Serialize, Deserialize)]
struct ScryptParams {
    dklen: u64,
    n: u64,
    p: u32,
    r: u32,
    salt: String,
}

#[derive(Deserialize)]
struct Pbkdf2Params {
    dklen: u64,
    c: u32,
    prf: String,
    salt: String,
}

impl Keystore {
    /// Encrypts a key under a password, with fresh randomness.
    pub fn encrypt(
        signer: &Signer,
        password: &[u8],
        cost: ScryptCost,
    ) -> Result<Self, KeystoreError> {
        let random = |bytes: &mut [u8]| {
            getrandom::fill(bytes).map_err(|e| KeystoreError::Randomness(e.to_string()))
        };
        let (mut salt, mut iv, mut id) = ([0; 32], [0; 16], [0; 16]);
        random(&mut salt)?;
        random(&mut iv)?;
        random(&mut id)?;
        let params = ScryptParams {
            dklen: 32,
            n: 1 << cost.log_n,
            p: cost.p,
            r: cost.r,
            salt: hex::encode(salt),
        };
        let derived = scrypt_key(&params, password)?;
        let mut ciphertext = Zeroizing::new(*signer.secret());
        apply_cipher(&derived, &iv, &mut *ciphertext);
        let mac = mac(&derived, &*ciphertext);
        let crypto = Crypto {
            cipher: "aes-128-ctr".into(),
            cipherparams: CipherParams { iv: hex::encode(iv) },
            ciphertext: hex::encode(*ciphertext),
            kdf: "scrypt".into(),
            kdfparams: serde_json::to_value(params).expect("numbers and a string are JSON"),
            mac: hex::encode(mac),
        };
        let address = Some(hex::encode(signer.address()));
        Ok(Self { address, crypto, id: uuid(id), version: 3 })
    }

    /// Reads a file; nothing is decrypted yet.
    pub fn from_json(text: &str) -> Result<Self, KeystoreError> {
        if text.len() > KEYSTORE_BYTES_MAX {
            let found = text.len() as u64;
            let most = KEYSTORE_BYTES_MAX as u64;
            return Err(KeystoreError::TooCostly { field: "the file's length", found, most });
        }
        let keystore: Self =
            serde_json::from_str(text).map_err(|e| KeystoreError::Malformed(e.to_string()))?;
        if keystore.version != 3 {
            let found = keystore.version.to_string();
            return Err(KeystoreError::Unsupported { field: "version", found, supported: "3" });
        }
        keystore.address()?;
        Ok(keystore)
    }

    /// The text of the file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings and numbers are JSON")
    }

    /// The account that the file names; only decrypting tells whether that is true.
    pub fn address(&self) -> Result<Option<Address>, KeystoreError> {
        let parse = |text: &String| {
            let bytes = fixed::<20>("address", text)?;
            Ok(Address::from(bytes))
        };
        self.address.as_ref().map(parse).transpose()
    }

    /// The key.
    pub fn decrypt(&self, password: &[u8]) -> Result<Signer, KeystoreError> {
        let crypto = &self.crypto;
        if crypto.cipher != "aes-128-ctr" {
            return Err(unsupported("crypto.cipher", &crypto.cipher, "aes-128-ctr"));
        }
        let iv = fixed::<16>("crypto.cipherparams.iv", &crypto.cipherparams.iv)?;
        let expected = fixed::<32>("crypto.mac", &crypto.mac)?;
        let mut secret = Zeroizing::new(bytes("crypto.ciphertext", &crypto.ciphertext)?);
        // Some programs wrote keys without their leading zeros.
        if secret.is_empty() || secret.len() > 32 {
            return Err(malformed("crypto.ciphertext", "must have 1 to 32 bytes"));
        }
        let derived = self.derive(password)?;
        if mac(&derived, &secret) != expected {
            return Err(KeystoreError::WrongPassword);
        }
        apply_cipher(&derived, &iv, &mut secret);
        let mut key = Zeroizing::new([0; 32]);
        key[32 - secret.len()..].copy_from_slice(&secret);
        let signer = Signer::new(&key).map_err(|_| KeystoreError::NoKey)?;
        match self.address()? {
            Some(named) if named != signer.address() => {
                Err(KeystoreError::OtherAccount { named, found: signer.address() })
            }
            _ => Ok(signer),
        }
    }

    fn derive(&self, password: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
        let params = self.crypto.kdfparams.clone();
        let wrong = |e: serde_json::Error| malformed("crypto.kdfparams", &e.to_string());
        match self.crypto.kdf.as_str() {
            "scrypt" => scrypt_key(&serde_json::from_value(params).map_err(wrong)?, password),
            "pbkdf2" => pbkdf2_key(&serde_json::from_value(params).map_err(wrong)?, password),
            other => Err(unsupported("crypto.kdf", other, "scrypt, pbkdf2")),
        }
    }
}

fn scrypt_key(
    params: &ScryptParams,
    password: &[u8],
) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    let ScryptParams { dklen, n, p, r, salt } = params;
    check_derived(*dklen)?;
    let salt = self::salt(salt)?;
    if !n.is_power_of_two() || *n < 2 || *r == 0 || *p == 0 {
        let reason = "n must be a power of two above 1, r and p at least 1";
        return Err(malformed("crypto.kdfparams", reason));
    }
    let (r, p) = (*r, *p);
    let blocks = n.saturating_add(u64::from(p));
    let memory = blocks.saturating_mul(128).saturating_mul(r.into());
    let work = n.saturating_mul(r.into()).saturating_mul(p.into());
    at_most("the memory of scrypt in bytes", memory, MEMORY_BYTES_MAX)?;
    at_most("the work of scrypt (n * r * p)", work, SCRYPT_WORK_MAX)?;
    let log_n = u8::try_from(n.ilog2()).expect("a logarithm of 64 bits is below 64");
    let checked = scrypt::Params::new(log_n, r, p);
    let checked = checked.map_err(|e| malformed("crypto.kdfparams", &e.to_string()))?;
    let mut derived = Zeroizing::new([0; 32]);
    // A longer key begins with the same 32 bytes: both derivations end in PBKDF2's blocks.
    scrypt::scrypt(password, &salt, &checked, &mut *derived).expect("32 bytes can be derived");
    Ok(derived)
}

fn pbkdf2_key(
    params: &Pbkdf2Params,
    password: &[u8],
) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    let Pbkdf2Params { dklen, c, prf, salt } = params;
    check_derived(*dklen)?;
    if prf != "hmac-sha256" {
        return Err(unsupported("crypto.kdfparams.prf", prf, "hmac-sha256"));
    }
    if *c == 0 {
        return Err(malformed("crypto.kdfparams.c", "must be at least 1"));
    }
    at_most("the iterations of PBKDF2", (*c).into(), PBKDF2_ITERATIONS_MAX.into())?;
    let mut derived = Zeroizing::new([0; 32]);
    pbkdf2::pbkdf2_hmac::<pbkdf2::sha2::Sha256>(password, &self::salt(salt)?, *c, &mut *derived);
    Ok(derived)
}

fn check_derived(dklen: u64) -> Result<(), KeystoreError> {
    if DERIVED_BYTES.contains(&dklen) {
        return Ok(());
    }
    Err(malformed("crypto.kdfparams.dklen", "must be 32 to 64"))
}

fn salt(text: &str) -> Result<Vec<u8>, KeystoreError> {
    let salt = bytes("crypto.kdfparams.salt", text)?;
    at_most("the length of the salt", salt.len() as u64, SALT_BYTES_MAX as u64)?;
    Ok(salt)
}

fn at_most(field: &'static str, found: u64, most: u64) -> Result<(), KeystoreError> {
    if found > most { Err(KeystoreError::TooCostly { field, found, most }) } else { Ok(()) }
}

/// Encrypts or decrypts in place: a stream cipher does not tell the difference.
fn apply_cipher(derived: &[u8; 32], iv: &[u8; 16], data: &mut [u8]) {
    let key: &[u8; 16] = derived[..16].try_into().expect("half of 32 bytes");
    Aes128Ctr::new(key.into(), iv.into()).apply_keystream(data);
}

fn mac(derived: &[u8; 32], ciphertext: &[u8]) -> [u8; 32] {
    let mut input = derived[16..].to_vec();
    input.extend_from_slice(ciphertext);
    let mac = keccak256(&input).0;
    input.zeroize();
    mac
}

/// A random id of version 4 (RFC 9562).
fn uuid(mut random: [u8; 16]) -> String {
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in random.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

fn bytes(field: &'static str, text: &str) -> Result<Vec<u8>, KeystoreError> {
    hex::decode(text).map_err(|e| malformed(field, &e.to_string()))
}

fn fixed<const N: usize>(field: &'static str, text: &str) -> Result<[u8; N], KeystoreError> {
    let wrong = |_| malformed(field, &format!("must have {N} bytes in hex"));
    let mut fixed = [0; N];
    hex::decode_to_slice(text, &mut fixed).map_err(wrong)?;
    Ok(fixed)
}

fn malformed(field: &'static str, reason: &str) -> KeystoreError {
    KeystoreError::Malformed(format!("{field}: {reason}"))
}

fn unsupported(field: &'static str, found: &str, supported: &'static str) -> KeystoreError {
    // What a stranger wrote is shown in part only.
    let found = found.chars().take(32).collect();
    KeystoreError::Unsupported { field, found, supported }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Quick enough for a test.
    const CHEAP: ScryptCost = ScryptCost { log_n: 1, r: 8, p: 1 };

    fn file() -> Value {
        let signer = Signer::new(&[7; 32]).unwrap();
        let keystore = Keystore::encrypt(&signer, b"secret", CHEAP).unwrap();
        serde_json::from_str(&keystore.to_json()).unwrap()
    }

    fn decrypt(file: &Value, password: &str) -> Result<Signer, KeystoreError> {
        Keystore::from_json(&file.to_string())?.decrypt(password.as_bytes())
    }

    #[test]
    fn key_comes_back_under_its_password_only() {
        let signer = Signer::new(&[7; 32]).unwrap();
        assert_eq!(decrypt(&file(), "secret").unwrap().secret(), signer.secret());
        for wrong in ["", "Secret", "secret "] {
            assert_eq!(decrypt(&file(), wrong).unwrap_err(), KeystoreError::WrongPassword);
        }
        let named = Keystore::from_json(&file().to_string()).unwrap().address().unwrap();
        assert_eq!(named, Some(signer.address()));
    }

    #[test]
    fn two_files_of_one_key_share_no_randomness() {
        let (one, other) = (file(), file());
        for path in ["/crypto/ciphertext", "/crypto/kdfparams/salt", "/crypto/cipherparams/iv"] {
            assert_ne!(one.pointer(path).unwrap(), other.pointer(path).unwrap(), "{path}");
        }
        let id = one["id"].as_str().unwrap();
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
        assert_ne!(one["id"], other["id"]);
    }

    #[test]
    fn damage_is_named() {
        let table = [
            ("/version", json!(1), "version is `1`; supported: 3"),
            ("/address", json!("12"), "address: must have 20 bytes"),
            ("/crypto/cipher", json!("aes-128-cbc"), "crypto.cipher is `aes-128-cbc`"),
            ("/crypto/kdf", json!("argon2"), "crypto.kdf is `argon2`; supported: scrypt, pbkdf2"),
            ("/crypto/cipherparams/iv", json!("00"), "crypto.cipherparams.iv: must have 16"),
            ("/crypto/mac", json!("x"), "crypto.mac: must have 32 bytes"),
            ("/crypto/mac", json!("11".repeat(32)), "wrong password, or the file is damaged"),
            ("/crypto/ciphertext", json!("11".repeat(32)), "wrong password, or the file is"),
            ("/crypto/ciphertext", json!("11".repeat(33)), "crypto.ciphertext: must have 1 to 32"),
            ("/crypto/ciphertext", json!("zz"), "crypto.ciphertext"),
            ("/crypto/kdfparams/salt", json!(5), "crypto.kdfparams: invalid type"),
            ("/crypto/kdfparams/dklen", json!(16), "crypto.kdfparams.dklen: must be 32 to 64"),
            ("/address", json!("11".repeat(20)), "the file says account 0x1111"),
        ];
        for (path, value, expected) in table {
            let mut file = file();
            *file.pointer_mut(path).unwrap() = value;
            let error = decrypt(&file, "secret").unwrap_err().to_string();
            assert!(error.contains(expected), "{path}: {error}");
        }
        for text in ["", "[]", "{}", "null"] {
            assert!(matches!(Keystore::from_json(text), Err(KeystoreError::Malformed(_))));
        }
        let long = " ".repeat(KEYSTORE_BYTES_MAX + 1);
        assert!(matches!(Keystore::from_json(&long), Err(KeystoreError::TooCostly { .. })));
    }

    #[test]
    fn hostile_costs_are_refused_before_they_are_paid() {
        let scrypt = |n: u64, r: u64, p: u64| {
            let mut file = file();
            file["crypto"]["kdfparams"] =
                json!({ "dklen": 32, "n": n, "r": r, "p": p, "salt": "00" });
            decrypt(&file, "secret").unwrap_err().to_string()
        };
        assert!(scrypt(1 << 20, 8, 1).contains("the memory of scrypt in bytes is 10737"));
        assert!(scrypt(1 << 63, u32::MAX.into(), 1).contains("the memory of scrypt"));
        assert!(scrypt(2, 1, u32::MAX.into()).contains("the memory of scrypt"));
        assert!(scrypt(1 << 18, 8, 9).contains("the work of scrypt (n * r * p) is 18874368"));
        for (n, r, p) in [(0, 8, 1), (1, 8, 1), (3, 8, 1), (2, 0, 1), (2, 8, 0)] {
            assert!(scrypt(n, r, p).contains("n must be a power of two"), "{n} {r} {p}");
        }
        let pbkdf2 = |c: u64, prf: &str| {
            let mut file = file();
            file["crypto"]["kdf"] = json!("pbkdf2");
            file["crypto"]["kdfparams"] = json!({ "dklen": 32, "c": c, "prf": prf, "salt": "00" });
            decrypt(&file, "secret").unwrap_err().to_string()
        };
        assert!(pbkdf2(10_000_001, "hmac-sha256").contains("the iterations of PBKDF2"));
        assert!(pbkdf2(0, "hmac-sha256").contains("must be at least 1"));
        assert!(pbkdf2(1, "hmac-md5").contains("crypto.kdfparams.prf is `hmac-md5`"));
        let mut salty = file();
        salty["crypto"]["kdfparams"]["salt"] = json!("00".repeat(1_025));
        assert!(decrypt(&salty, "secret").unwrap_err().to_string().contains("length of the salt"));
    }

    #[test]
    fn longer_derived_key_begins_with_the_same_bytes() {
        let mut file = file();
        file["crypto"]["kdfparams"]["dklen"] = json!(64);
        assert!(decrypt(&file, "secret").is_ok());
    }

    #[test]
    fn what_is_encrypted_must_be_a_key() {
        let mut file = file();
        let keystore = Keystore::from_json(&file.to_string()).unwrap();
        let derived = keystore.derive(b"secret").unwrap();
        let iv = fixed::<16>("iv", &keystore.crypto.cipherparams.iv).unwrap();
        let mut zero = [0; 32];
        apply_cipher(&derived, &iv, &mut zero);
        file["crypto"]["ciphertext"] = json!(hex::encode(zero));
        file["crypto"]["mac"] = json!(hex::encode(mac(&derived, &zero)));
        assert_eq!(decrypt(&file, "secret").unwrap_err(), KeystoreError::NoKey);
    }
}
