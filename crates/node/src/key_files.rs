//! The files of a validator's keys: `validator.json`, the voting key in a V3 keystore; `node.key`,
//! the key by which peers know the node, in hex; `public.json`, what others need of both.

use crate::failure::Failure;
use crate::password;
use crate::secret_file::{self, Readers, make_directory, write_new};
use alloy_primitives::hex;
use landfall_types::{NodeKey, Validator};
use landfall_wallet::{KEYSTORE_BYTES_MAX, Keystore, ScryptCost, Signer};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The longest `public.json`, and the longest file with a key in hex.
const SMALL_BYTES_MAX: usize = 4_096;

/// The directory that `landfall keys new` makes.
pub struct KeyDirectory(PathBuf);

impl KeyDirectory {
    /// Whether it exists or not.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The keystore of the voting key.
    pub fn validator(&self) -> PathBuf {
        self.0.join("validator.json")
    }

    /// The node key.
    pub fn node(&self) -> PathBuf {
        self.0.join("node.key")
    }

    /// What others need.
    pub fn public(&self) -> PathBuf {
        self.0.join("public.json")
    }

    /// Refuses a directory that holds one of the files: before a password is asked for.
    pub fn expect_empty(&self) -> Result<(), Failure> {
        let files = [self.validator(), self.node(), self.public()];
        match files.iter().find(|file| file.exists()) {
            None => Ok(()),
            Some(file) => Err(Failure::refused(format!(
                "{} exists already and is not overwritten; choose another --out",
                file.display()
            ))),
        }
    }

    /// Writes the three files; the keystore under a password, at a cost for whoever guesses it.
    pub fn create(
        &self,
        voting: &Signer,
        node: &Signer,
        (password, cost): (&str, ScryptCost),
        public: &Validator,
    ) -> Result<(), Failure> {
        let keystore = Keystore::encrypt(voting, password.as_bytes(), cost);
        let keystore = keystore.map_err(Failure::refused)?.to_json();
        make_directory(&self.0)?;
        write_new(&self.validator(), keystore.as_bytes(), Readers::Owner)?;
        let key = Zeroizing::new(hex::encode(node.secret()) + "\n");
        write_new(&self.node(), key.as_bytes(), Readers::Owner)?;
        let mut json = public.to_json();
        // The weight is the network's to decide, not the validator's.
        json.as_object_mut().expect("a validator is an object").remove("weight");
        let text = serde_json::to_string_pretty(&json).expect("a value is JSON") + "\n";
        write_new(&self.public(), text.as_bytes(), Readers::Anybody)
    }

    /// The public part, checked against the other two files as far as that needs no password.
    pub fn read(&self) -> Result<Validator, Failure> {
        let public = read_public(&self.public())?;
        let node = node_key(&read_node_key(&self.node())?);
        let keystore = read_keystore(&self.validator())?;
        let named = keystore.address().map_err(|error| at(&self.validator(), error))?;
        let differs = |what: &str, file: PathBuf| {
            let (public, file) = (self.public(), file);
            Failure::refused(format!(
                "{}: {what} is not that of {}; the files are not of one validator",
                public.display(),
                file.display()
            ))
        };
        if node != public.node_key {
            return Err(differs("nodeKey", self.node()));
        }
        if named.is_some_and(|named| named != public.id) {
            return Err(differs("id", self.validator()));
        }
        Ok(public)
    }
}

/// The public part of a validator.
pub fn read_public(path: &Path) -> Result<Validator, Failure> {
    let text = secret_file::read(path, SMALL_BYTES_MAX)?;
    Validator::from_json(&text).map_err(|error| at(path, error))
}

/// A keystore, still encrypted.
pub fn read_keystore(path: &Path) -> Result<Keystore, Failure> {
    let text = secret_file::read(path, KEYSTORE_BYTES_MAX)?;
    Keystore::from_json(&text).map_err(|error| at(path, error))
}

/// The voting key in a keystore. Its password is in the file, in the environment, or asked for.
pub fn unlock(keystore: &Path, password_file: Option<&Path>) -> Result<Signer, Failure> {
    let encrypted = read_keystore(keystore)?;
    let password = password::existing(password_file, keystore)?;
    encrypted.decrypt(password.as_bytes()).map_err(|error| at(keystore, error))
}

/// A private key in hex: a node's, or one to import.
pub fn read_node_key(path: &Path) -> Result<Signer, Failure> {
    let text = secret_file::read(path, SMALL_BYTES_MAX)?;
    text.trim().parse().map_err(|error| at(path, error))
}

/// The public half of a node key.
pub fn node_key(signer: &Signer) -> NodeKey {
    NodeKey::new(signer.public_key()).expect("a private key has a point")
}

fn at(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::refused(format!("{}: {error}", path.display()))
}
