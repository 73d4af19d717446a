//! Consensus as a genesis file describes it: which engine, which parameters, which validators.
//!
//! Geth's `genesis.json` gets one key more, `config.landfall`:
//!
//! ```json
//! { "engine": "pbft", "pbft": { "blockIntervalMs": 20 },
//!   "validators": [ { "id": "0x…", "nodeKey": "0x…", "weight": 1, "address": "10.0.0.1:30303" } ],
//!   "baseFeeChangeDenominator": 8, "freeGas": false }
//! ```
//!
//! The section of the engine may be left out, as may each of its parameters. `epochs`, a list of
//! `{ "engine", "pbft" or so, "lengthBlocks" }`, stands in the place of `engine` on a chain that
//! changes its engine; its last entry has no length and lasts. Unknown keys are refused.

mod params;
pub(crate) mod section;
#[cfg(test)]
mod tests;
mod validator;

pub use validator::{NodeKey, NodeKeyError, Validator, check_host_and_port};

use crate::{
    ChainSpec, Committee, CommitteeError, FeeRules, Fork, GenesisError, Kind, Member, Params,
    Rules, Schedule, Term, did_you_mean,
};
use alloy_genesis::Genesis;
use alloy_primitives::{B256, U256, keccak256};
use alloy_rlp::{Encodable, RlpEncodable};
use section::Section;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Validators of one genesis, as votes of all of them must fit into a certificate.
const MOST_VALIDATORS: usize = 1_024;
/// Entries of `epochs`.
const MOST_EPOCHS: usize = 1_024;

/// Gas of a block. At 8 gas for each byte of a log, more would make records of 256 MiB.
const MOST_GAS: u64 = 1_000_000_000;

/// Everything that the nodes of a network must agree on beside block 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsensusConfig {
    /// Engines and committees.
    pub schedule: Schedule,
    /// Who votes, and which nodes speak for them; in the order of the file. Empty on a chain of
    /// one sealer.
    pub validators: Vec<Validator>,
    /// What gas costs.
    pub fees: FeeRules,
    /// [`ChainSpec::rules_id`]: chain id, forks and fees.
    pub rules: B256,
}

impl ConsensusConfig {
    /// Reads `config.landfall`. `parse_genesis` does so too: this fails on no genesis that it
    /// passed, unless no engine is named.
    pub fn from_genesis(genesis: &Genesis) -> Result<Self, GenesisError> {
        let Some(landfall) = genesis.config.extra_fields.get("landfall") else {
            return Err(GenesisError::Missing("config.landfall", "it names the engine"));
        };
        let section = Section::new(LANDFALL, landfall)?;
        let engines = read_engines(&section, genesis.difficulty)?;
        let validators = read_validators(&section)?;
        let committee = committee(&validators, genesis, &section)?;
        let term = |(params, length)| Term { params, committee: committee.clone(), length };
        let fees = read_common(&section, genesis)?;
        let config = Self {
            schedule: Schedule::new(engines.into_iter().map(term).collect()),
            validators,
            fees,
            rules: ChainSpec::new(genesis.config.clone()).rules_id(),
        };
        config.check(&section, genesis)?;
        Ok(config)
    }

    /// `config.landfall`, with every parameter written out.
    pub fn to_json(&self) -> Value {
        let one = |term: &Term| {
            let name = term.params.kind().name();
            let mut value = json!({ "engine": name, name: params::write(&term.params) });
            if let Some(length) = term.length {
                value["lengthBlocks"] = json!(length);
            }
            value
        };
        let mut landfall = match self.schedule.terms() {
            [only] => one(only),
            terms => json!({ "epochs": terms.iter().map(one).collect::<Vec<_>>() }),
        };
        let validators: Vec<Value> = self.validators.iter().map(Validator::to_json).collect();
        landfall["validators"] = json!(validators);
        let [denominator, free] = FeeRules::KEYS;
        if self.fees.free_gas {
            landfall[free] = json!(true);
        } else {
            landfall[denominator] = json!(self.fees.base_fee_change_denominator);
        }
        landfall
    }

    /// Names all of this in 32 bytes: keccak of its canonical RLP. The hash of block 0 covers its
    /// header alone, so peers compare this too. Names and addresses of validators are no part of
    /// it: they may change.
    pub fn schedule_id(&self) -> B256 {
        let term = |term: &Term| TermImage {
            engine: term.params.kind().name().to_owned(),
            params: params::values(&term.params),
            committee: term.committee.members().to_vec(),
            length: term.length.unwrap_or_default(),
        };
        let mut validators: Vec<ValidatorImage> = (self.validators.iter())
            .map(|it| ValidatorImage { id: it.id, node_key: it.node_key })
            .collect();
        validators.sort_by_key(|it| it.id);
        let mut bytes = b"landfall schedule v1".to_vec();
        let terms = self.schedule.terms().iter().map(term).collect();
        ScheduleImage { terms, validators, rules: self.rules }.encode(&mut bytes);
        keccak256(bytes)
    }

    /// The validator that a node key speaks for.
    pub fn validator_of(&self, key: &NodeKey) -> Option<&Validator> {
        self.validators.iter().find(|validator| validator.node_key == *key)
    }

    /// What concerns several keys at once.
    fn check(&self, section: &Section<'_>, genesis: &Genesis) -> Result<(), GenesisError> {
        let terms = self.schedule.terms();
        let solo = terms.iter().any(|term| term.params.kind() == Kind::Solo);
        if solo && terms.len() > 1 {
            let reason = "solo seals alone for ever: no other engine may stand beside it";
            return Err(section.invalid("epochs", reason));
        }
        for (index, term) in terms.iter().enumerate() {
            let lasts = index + 1 == terms.len();
            if !term.params.kind().is_agreement() && term.length.is_some() {
                let reason =
                    format!("{} has no certain end: no lengthBlocks", term.params.kind().name());
                return Err(section.invalid(&format!("epochs[{index}].lengthBlocks"), reason));
            }
            if !lasts && term.length.is_none() {
                let reason = "is missing; only the last epoch lasts";
                return Err(section.invalid(&format!("epochs[{index}].lengthBlocks"), reason));
            }
        }
        if solo {
            return Ok(());
        }
        if genesis.gas_limit > MOST_GAS {
            let given = genesis.gas_limit;
            let reason = format!(
                "is {given}; above {MOST_GAS} the receipts of a block may not fit into a record \
                 of the ledger"
            );
            return Err(GenesisError::Invalid { field: "gasLimit".into(), reason });
        }
        if section.flag("impersonation")? == Some(true) {
            let reason = "lets anybody send for anybody: for an engine of one node (solo) only";
            return Err(section.invalid("impersonation", reason));
        }
        check_for_network(genesis)
    }
}

const LANDFALL: &str = "config.landfall";

/// Checks `config.landfall`, if it is there. A chain without an engine has our rules all the same.
pub(crate) fn check_landfall(genesis: &Genesis) -> Result<(), GenesisError> {
    let Some(landfall) = genesis.config.extra_fields.get("landfall") else { return Ok(()) };
    let section = Section::new(LANDFALL, landfall)?;
    if section.has("engine") || section.has("epochs") {
        return ConsensusConfig::from_genesis(genesis).map(drop);
    }
    section.expect_only(&[
        "engine",
        "epochs",
        "impersonation",
        FeeRules::KEYS[0],
        FeeRules::KEYS[1],
    ])?;
    read_common(&section, genesis).map(drop)
}

/// What holds with and without an engine.
fn read_common(section: &Section<'_>, genesis: &Genesis) -> Result<FeeRules, GenesisError> {
    section.flag("impersonation")?;
    let fees = FeeRules::read(section)?;
    if fees.free_gas && genesis.base_fee_per_gas.is_some_and(|fee| fee != 0) {
        let reason = "must be 0 or left out on a chain with freeGas".to_owned();
        return Err(GenesisError::Invalid { field: "baseFeePerGas".into(), reason });
    }
    Ok(fees)
}

/// Our blocks commit to their consensus data in a field of Cancun, and pay by one of Shanghai.
fn check_for_network(genesis: &Genesis) -> Result<(), GenesisError> {
    let invalid = |field: &str, reason: &str| {
        Err(GenesisError::Invalid { field: field.into(), reason: reason.into() })
    };
    if genesis.number.is_some_and(|number| number != 0) {
        return invalid("number", "block 0 has the number 0");
    }
    let spec = ChainSpec::new(genesis.config.clone());
    assert_eq!(spec.rules, Rules::Landfall, "it has config.landfall");
    if spec.fork_at(0, genesis.timestamp, genesis.difficulty) < Fork::Cancun {
        return invalid("config.cancunTime", "Cancun must hold from block 0: set it to 0");
    }
    Ok(())
}

/// A protocol with its parameters, and for how many blocks; for ever if there is no number.
type EngineOfEpoch = (Params, Option<u64>);

fn read_engines(
    section: &Section<'_>,
    difficulty: U256,
) -> Result<Vec<EngineOfEpoch>, GenesisError> {
    let common = ["validators", "impersonation", FeeRules::KEYS[0], FeeRules::KEYS[1]];
    if !section.has("epochs") {
        return Ok(vec![read_engine(section, difficulty, &common)?]);
    }
    let mut known = vec!["epochs"];
    known.extend(common);
    if section.has("engine") {
        return Err(section.invalid("engine", "stands in each of `epochs` here; remove it"));
    }
    section.expect_only(&known)?;
    let epochs = section.list("epochs", MOST_EPOCHS)?;
    if epochs.is_empty() {
        return Err(section.invalid("epochs", "must have an entry"));
    }
    epochs.iter().map(|epoch| read_engine(epoch, difficulty, &["lengthBlocks"])).collect()
}

/// One engine and its parameters; `more` are the other keys that may stand beside it.
fn read_engine(
    section: &Section<'_>,
    difficulty: U256,
    more: &[&str],
) -> Result<EngineOfEpoch, GenesisError> {
    let name = section.required_text("engine", "one of solo, raft, pbft, pow")?;
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else {
        let suggestion = did_you_mean(name, Kind::ALL.map(Kind::name));
        let reason = format!("`{name}` is none of solo, raft, pbft, pow{suggestion}");
        return Err(section.invalid("engine", reason));
    };
    for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
        if section.has(other.name()) {
            let reason = format!("has no effect: the engine is {name}; remove it");
            return Err(section.invalid(other.name(), reason));
        }
    }
    let mut known = vec!["engine", name];
    known.extend(more);
    section.expect_only(&known)?;
    let params = match section.section(name)? {
        Some(own) => params::read(kind, &own, difficulty)?,
        None => {
            let empty = json!({});
            let path = section.path_of(name);
            params::read(kind, &Section::new(path, &empty)?, difficulty)?
        }
    };
    let length = match more.contains(&"lengthBlocks") {
        true => section.count("lengthBlocks")?,
        false => None,
    };
    if length == Some(0) {
        return Err(section.invalid("lengthBlocks", "must be at least 1"));
    }
    Ok((params, length))
}

fn read_validators(section: &Section<'_>) -> Result<Vec<Validator>, GenesisError> {
    let entries = section.list("validators", MOST_VALIDATORS)?;
    let mut seen = BTreeSet::new();
    let mut validators = Vec::with_capacity(entries.len());
    for entry in &entries {
        let validator = Validator::read(entry)?;
        let texts = [
            ("id", Some(validator.id.to_string())),
            ("nodeKey", Some(validator.node_key.to_string())),
            ("address", validator.address.clone()),
            ("name", validator.name.clone()),
        ];
        for (key, text) in texts.into_iter().filter_map(|(key, text)| Some((key, text?))) {
            if !seen.insert((key, text.clone())) {
                let reason = format!("{text} is another validator's; each needs its own");
                return Err(entry.invalid(key, reason));
            }
        }
        validators.push(validator);
    }
    Ok(validators)
}

/// The validators as a committee. A chain of one sealer may name none: then its coinbase seals.
fn committee(
    validators: &[Validator],
    genesis: &Genesis,
    section: &Section<'_>,
) -> Result<Committee, GenesisError> {
    let member = |it: &Validator| Member { id: it.id, weight: it.weight };
    match Committee::new(validators.iter().map(member).collect()) {
        Ok(committee) => Ok(committee),
        Err(CommitteeError::Empty) if section.text("engine")? == Some(Kind::Solo.name()) => {
            Ok(Committee::equal([genesis.coinbase]).expect("one member"))
        }
        Err(error) => Err(section.invalid("validators", error.to_string())),
    }
}

/// Names a genesis file in 32 bytes: all it says but how to reach the validators, for their names,
/// addresses and node keys may change while the chain goes on.
pub fn genesis_id(genesis: &Genesis) -> B256 {
    let hash = |genesis: &Genesis| {
        keccak256(serde_json::to_vec(genesis).expect("a genesis is JSON with string keys"))
    };
    let landfall = genesis.config.extra_fields.get("landfall");
    if landfall.and_then(|it| it.get("validators")).is_none() {
        return hash(genesis); // without a copy: it may hold a million accounts
    }
    let mut genesis = genesis.clone();
    let validators = genesis.config.extra_fields.get_mut("landfall");
    let validators = validators.and_then(|it| it.get_mut("validators")?.as_array_mut());
    for validator in validators.into_iter().flatten().filter_map(Value::as_object_mut) {
        for changeable in ["name", "address", "nodeKey"] {
            validator.remove(changeable);
        }
    }
    hash(&genesis)
}

#[derive(RlpEncodable)]
struct ScheduleImage {
    terms: Vec<TermImage>,
    validators: Vec<ValidatorImage>,
    rules: B256,
}

#[derive(RlpEncodable)]
struct TermImage {
    engine: String,
    params: Vec<U256>,
    committee: Vec<Member>,
    /// Zero for ever.
    length: u64,
}

#[derive(RlpEncodable)]
struct ValidatorImage {
    id: crate::NodeId,
    node_key: NodeKey,
}
