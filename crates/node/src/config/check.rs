//! What an operator would otherwise learn from a node that does not start, or starts and stands
//! still: whether the files are there, can be read, and belong together.

use super::settings::{SETTINGS, Setting};
use super::{FILE_VARIABLE, NodeConfig};
use crate::commands::genesis::{consensus_config, genesis_hash};
use crate::commands::import::read_genesis;
use crate::failure::Failure;
use crate::key_files::{node_key, read_keystore, read_node_key};
use crate::member::voting::{self, Note};
use crate::password;
use crate::secret_file::{check_writable, others_may_read};
use alloy_genesis::Genesis;
use alloy_primitives::Address;
use landfall_types::{ConsensusConfig, Kind, NodeKey, Validator, did_you_mean};
use std::fmt;
use std::path::Path;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Good,
    /// The node would start; somebody should look all the same.
    Warning,
    /// The node would not start, or not do what is meant.
    Error,
}

/// What was found about one setting.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How bad.
    pub level: Level,
    key: &'static str,
    /// Where its value comes from.
    source: String,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, key, source, message } = self;
        match level {
            Level::Good => write!(f, "ok       {key}: {message}"),
            Level::Warning => write!(f, "warning  {key} ({source}): {message}"),
            Level::Error => write!(f, "error    {key} ({source}): {message}"),
        }
    }
}

/// Looks at everything that the configuration names.
pub fn check(config: &NodeConfig) -> Vec<Finding> {
    let mut checker = Checker { config, findings: Vec::new() };
    let chain = checker.genesis();
    let voter = checker.voting_key();
    let node = checker.node_key();
    if let Some((genesis, consensus)) = &chain {
        checker.identity(consensus, voter, node);
        checker.note(genesis);
    }
    if let Some(node) = node {
        checker.peers(node);
    }
    checker.data_directory();
    checker.variables();
    checker.findings
}

/// Variables of ours that are no settings: the file and the password.
const OTHER_VARIABLES: [&str; 2] = [FILE_VARIABLE, password::VARIABLE];

struct Checker<'a> {
    config: &'a NodeConfig,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn find(&mut self, level: Level, key: &'static str, message: impl fmt::Display) {
        let source = self.config.source(key).to_string();
        self.findings.push(Finding { level, key, source, message: message.to_string() });
    }

    /// The value, or a finding.
    fn take<T>(&mut self, key: &'static str, result: Result<T, Failure>) -> Option<T> {
        result.map_err(|failure| self.find(Level::Error, key, failure)).ok()
    }

    fn genesis(&mut self) -> Option<(Genesis, ConsensusConfig)> {
        let path = &self.config.node.genesis;
        let genesis = self.take("genesis", read_genesis(path))?;
        let consensus = self.take("genesis", consensus_config(&genesis, path))?;
        let kind = consensus.schedule.terms()[0].params.kind();
        if kind == Kind::Solo {
            let message = "the chain of one sealer; start it with `landfall dev --init`";
            self.find(Level::Error, "genesis", message);
            return None;
        }
        if let Some(missing) = missing_contract(&genesis) {
            let message = format!(
                "`alloc` lacks the contract {missing} of the protocol, and no block could be \
                 made; `landfall genesis new` puts it in"
            );
            self.find(Level::Error, "genesis", message);
        }
        let (path, count) = (path.display(), consensus.validators.len());
        let chain_id = genesis.config.chain_id;
        let message = format!(
            "{path}: {} with {count} validators, chain id {chain_id}, schedule id {}",
            kind.name(),
            consensus.schedule_id()
        );
        self.find(Level::Good, "genesis", message);
        Some((genesis, consensus))
    }

    /// Whose votes this node signs, as far as its files tell.
    fn voting_key(&mut self) -> Option<Address> {
        let keys = &self.config.keys;
        let Some(path) = &keys.validator else {
            if keys.password_file.is_some() {
                let message = "has no effect without keys.validator";
                self.find(Level::Warning, "keys.password_file", message);
            }
            self.find(Level::Good, "keys.validator", "none: the node follows and does not vote");
            return None;
        };
        let keystore = self.take("keys.validator", read_keystore(path))?;
        self.privacy("keys.validator", path);
        let mut named = keystore.address().ok().flatten();
        if let Some(file) = &keys.password_file {
            let password = password::existing(Some(file), path);
            let password = self.take("keys.password_file", password)?;
            self.privacy("keys.password_file", file);
            match keystore.decrypt(password.as_bytes()) {
                Ok(signer) => named = Some(signer.address()),
                Err(error) => {
                    let message = format!("{}: {error}", path.display());
                    self.find(Level::Error, "keys.validator", message);
                    return None;
                }
            }
        }
        let how = if keys.password_file.is_some() { "it opens" } else { "not opened" };
        let who = named.map_or_else(|| "somebody".to_owned(), |id| id.to_string());
        self.find(Level::Good, "keys.validator", format!("{}: {who}, {how}", path.display()));
        named
    }

    /// What lies beside the voting key: from where it has voted.
    fn note(&mut self, genesis: &Genesis) {
        let Some(key) = &self.config.keys.validator else { return };
        if let Err(why) = voting::check_writable(key) {
            self.find(Level::Error, "keys.validator", why);
        }
        let here = voting::stored_identity(&self.config.node.datadir).map_err(Failure::refused);
        let Some(here) = self.take("datadir", here) else { return };
        let note = self.take("keys.validator", Note::beside(key).map_err(Failure::refused));
        let Some(Some(note)) = note else { return };
        let Some(hash) = self.take("genesis", genesis_hash(genesis)) else { return };
        // It may have been noted in an epoch that is over: that is for the node to see.
        let level = if note.genesis == hash { Level::Warning } else { Level::Error };
        if let Err(why) = note.allows(hash, here.unwrap_or_default(), note.epoch) {
            self.find(level, "keys.validator", why);
        }
    }

    fn node_key(&mut self) -> Option<NodeKey> {
        let Some(path) = &self.config.keys.node else {
            if self.config.keys.validator.is_some() {
                let message = "a validator needs the node key that the genesis binds to it";
                self.find(Level::Error, "keys.node", message);
            } else {
                self.find(Level::Good, "keys.node", "none: made in the data directory");
            }
            return None;
        };
        let signer = self.take("keys.node", read_node_key(path))?;
        self.privacy("keys.node", path);
        let key = node_key(&signer);
        self.find(Level::Good, "keys.node", format!("{}: {key}", path.display()));
        Some(key)
    }

    /// Whether the two keys are those of one validator of the genesis.
    fn identity(
        &mut self,
        consensus: &ConsensusConfig,
        voter: Option<Address>,
        node: Option<NodeKey>,
    ) {
        let name = |it: &Validator| it.name.clone().unwrap_or_else(|| it.id.to_string());
        let speaks = node.and_then(|key| consensus.validator_of(&key));
        let Some(voter) = voter else {
            if let Some(validator) = speaks.filter(|_| self.config.keys.validator.is_none()) {
                let message = format!(
                    "is that of validator {}, who votes with keys.validator",
                    name(validator)
                );
                self.find(Level::Warning, "keys.node", message);
            }
            return;
        };
        let Some(validator) = consensus.validators.iter().find(|it| it.id == voter) else {
            let message = format!("{voter} is no validator of the genesis: nobody would count it");
            return self.find(Level::Error, "keys.validator", message);
        };
        match node {
            Some(key) if key != validator.node_key => {
                let message = format!(
                    "is {key}, but the genesis binds validator {} to {}",
                    name(validator),
                    validator.node_key
                );
                self.find(Level::Error, "keys.node", message);
            }
            Some(_) => {
                let message =
                    format!("validator {} of the genesis, with its node key", name(validator));
                self.find(Level::Good, "keys.validator", message);
            }
            None => {}
        }
    }

    fn peers(&mut self, own: NodeKey) {
        if self.config.p2p.peers.iter().any(|peer| peer.key == own) {
            self.find(Level::Warning, "p2p.peers", "one of them is this node itself");
        }
    }

    /// A variable that is misspelt says nothing, and nobody hears that.
    fn variables(&mut self) {
        let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
        let names = || known.iter().map(String::as_str).chain(OTHER_VARIABLES);
        let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let ours = set.filter(|name| name.starts_with("LANDFALL_"));
        for unknown in ours.filter(|name| names().all(|known| known != name)) {
            let message = format!("names no setting{}", did_you_mean(&unknown, names()));
            let (level, key) = (Level::Warning, "environment");
            self.findings.push(Finding { level, key, source: unknown, message });
        }
    }

    fn privacy(&mut self, key: &'static str, path: &Path) {
        if others_may_read(path) == Some(true) {
            let path = path.display();
            let message = format!("{path} can be read by others; `chmod 600 {path}`");
            self.find(Level::Warning, key, message);
        }
    }

    fn data_directory(&mut self) {
        let directory = &self.config.node.datadir;
        let existing = directory.ancestors().find(|path| path.exists());
        // A relative path's last ancestor is empty: the working directory.
        let existing = existing.unwrap_or(Path::new("."));
        match check_writable(existing) {
            Ok(()) if existing == directory.as_path() => {
                self.find(Level::Good, "datadir", format!("{}: writable", directory.display()));
            }
            Ok(()) => {
                let message = format!("{}: will be made", directory.display());
                self.find(Level::Good, "datadir", message);
            }
            Err(error) => {
                let message = format!("cannot write to {}: {error}", existing.display());
                self.find(Level::Error, "datadir", message);
            }
        }
    }
}

/// A contract of the protocol that is not in the genesis state.
fn missing_contract(genesis: &Genesis) -> Option<Address> {
    let mut contracts = landfall_evm::system_contracts().into_iter();
    let lacks = |address: &Address| genesis.alloc.get(address).is_none_or(|it| it.code.is_none());
    contracts.find(|contract| lacks(&contract.address)).map(|contract| contract.address)
}
