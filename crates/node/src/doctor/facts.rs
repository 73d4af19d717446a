//! What nodes say about themselves, as `landfall_status`, `landfall_peers` and the port for
//! operations tell it.

use alloy_primitives::{Address, B256, U64, U128};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything that is known of one node.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeFacts {
    /// The address that was asked.
    pub url: String,
    /// What it said, or why it said nothing.
    #[serde(flatten)]
    pub seen: Seen,
    /// Its port for operations, if there is one.
    pub ops: Ops,
}

/// The outcome of asking.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::large_enum_variant, reason = "a handful, for as long as a command runs")]
pub enum Seen {
    /// It answered.
    Answered(Answered),
    /// It answered, but does not know what was asked: another client, or an old version.
    Foreign(String),
    /// It did not answer.
    Unreachable(String),
}

/// The answers of a node.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answered {
    /// `landfall_status`.
    pub status: Status,
    /// `landfall_peers`.
    pub peers: Vec<Peer>,
    /// This machine's clock less the node's, in milliseconds.
    pub ahead_ms: i64,
    /// How long the answer took: the clocks are not known better than to half of that.
    pub round_trip_ms: u64,
    /// The hash of a block that is final on all nodes.
    pub common: Option<B256>,
}

/// The port for operations.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ops {
    /// Nobody said where it is, and it is not where it is by default.
    #[default]
    Unknown,
    /// It was named, and does not answer.
    Unreachable(String),
    /// Its checks that fail.
    Failing(Vec<FailedCheck>),
}

/// A check of `/healthz?verbose`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FailedCheck {
    /// What was asked.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What was found.
    pub detail: String,
}

/// `landfall_status`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The protocol.
    pub engine: String,
    /// The software.
    pub client_version: String,
    /// EIP-155.
    pub chain_id: U64,
    /// Block 0.
    pub genesis_hash: B256,
    /// What names engines, committees and fees.
    pub schedule: Option<B256>,
    /// Who it is, in a network.
    pub node: Option<Own>,
    /// The node's clock, in milliseconds.
    pub time_ms: U64,
    /// The newest block.
    pub head: Block,
    /// The newest block that is final.
    pub finalized: Block,
    /// What is final elsewhere, while it is behind.
    pub highest: Option<U64>,
    /// Transactions that can stand in the next block.
    pub pending: U64,
    /// Why it stopped.
    pub halted: Option<String>,
    /// Why it does not vote.
    pub silent: Option<String>,
    /// In a network.
    pub consensus: Option<Consensus>,
}

/// Who a node is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Own {
    /// Its address.
    pub id: Address,
    /// Its name.
    pub name: Option<String>,
    /// The validator that is bound to its node key.
    #[serde(default)]
    pub validator: Option<Address>,
    /// Whether it votes.
    pub votes: bool,
}

/// A block in a status.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// Its number.
    pub number: U64,
    /// Its hash.
    pub hash: B256,
    /// When it was made, in milliseconds.
    pub time_ms: U64,
}

/// Consensus in a status.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Consensus {
    /// When the snapshot was taken, in milliseconds.
    pub taken_ms: U64,
    /// The running epoch.
    pub epoch: EpochFacts,
    /// The open height.
    pub height: U64,
    /// Since when, in milliseconds.
    pub height_since_ms: U64,
    /// Since when transactions wait that a block made now would hold.
    #[serde(default)]
    pub waiting_since_ms: Option<U64>,
    /// The round or term.
    pub round: U64,
    /// Who leads it.
    pub leader: Option<Address>,
    /// Its name.
    pub leader_name: Option<String>,
    /// Members of the committee.
    pub members: U64,
    /// Their weight.
    pub weight: U128,
    /// The weight that decides; nothing in a lottery.
    pub quorum: Option<U128>,
    /// The weight of the members that are heard and vote.
    pub weight_up: U128,
    /// The other members.
    pub missing: Vec<Absent>,
    /// The protocol's parameters.
    pub parameters: Value,
}

/// The epoch in a status.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochFacts {
    /// Its number.
    pub number: U64,
    /// Names its committee.
    pub committee_hash: B256,
}

/// A member that is not heard or does not vote.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Absent {
    /// Who.
    pub id: Address,
    /// Its name.
    pub name: Option<String>,
    /// `missing` or `notVoting`.
    pub state: String,
    /// When it was last heard, in milliseconds.
    pub heard_ms: Option<U64>,
}

/// A peer of `landfall_peers`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Peer {
    /// Who.
    pub id: Address,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// Whether it votes.
    pub validator: bool,
}

impl Status {
    /// A parameter of the protocol in milliseconds.
    pub fn parameter_ms(&self, name: &str) -> Option<u64> {
        let value = self.consensus.as_ref()?.parameters.get(name)?.clone();
        serde_json::from_value::<U64>(value).ok().map(|number| number.to())
    }
}

/// A node's or member's name for people: what it is called and its address, or that alone.
pub fn called(name: Option<&str>, id: &Address) -> String {
    match name {
        Some(name) => format!("{name} ({id})"),
        None => id.to_string(),
    }
}
