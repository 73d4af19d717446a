//! `landfall_*` about consensus, and Besu's `qbft_*` where they mean the same.

use crate::api::{Api, Registry};
use crate::arguments::Arguments;
use crate::block_ref::{BlockNumber, BlockRef};
use crate::errors::{Outcome, invalid_params, server_error, unreadable};
use crate::eth_blocks;
use crate::node_door::{ConsensusView, LastVote, MemberState, NodeDoor, RoundTrace};
use alloy_primitives::{U64, U128};
use landfall_chain::StoredBlock;
use landfall_types::{Epoch, Extension, Height, NodeId, Params, Span, Time, Weight};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Rounds that one call tells when it does not say how many.
const USUAL_ROUNDS: u64 = 20;
/// Rounds that one call may ask for.
const MOST_ROUNDS: u64 = 1_000;
/// Blocks that `qbft_getSignerMetrics` looks at when it is given no range, as in Besu.
const USUAL_METRICS: u64 = 100;
/// Blocks that it looks at in one call.
const MOST_METRICS: u64 = 10_000;

pub(crate) fn register(registry: &mut Registry) {
    registry.long("landfall_status", 0, |api, _| status(api));
    registry.long("landfall_validators", 1, |api, args| {
        let asked = args.optional::<BlockNumber>(0)?;
        validators(api, asked)
    });
    registry.long("landfall_consensusTrace", 1, |api, args| {
        let limit = args.optional::<U64>(0)?.map_or(USUAL_ROUNDS, |limit| limit.to());
        if limit > MOST_ROUNDS {
            return Err(invalid_params(format!("at most {MOST_ROUNDS} rounds in one call")));
        }
        let Some(node) = &api.backend.node else { return Ok(Vec::new()) };
        let names = node.consensus().names.clone();
        let limit = usize::try_from(limit).expect("checked above");
        Ok(node.trace(limit).iter().map(|round| traced(round, &names)).collect::<Vec<_>>())
    });
    registry.long("qbft_getValidatorsByBlockNumber", 1, |api, args| {
        let found = eth_blocks::by_number(api, args)?;
        found.map(|block| addresses(api, block.block.number())).transpose()
    });
    registry.long("qbft_getValidatorsByBlockHash", 1, |api, args| {
        let found = eth_blocks::by_hash(api, args)?;
        found.map(|block| addresses(api, block.block.number())).transpose()
    });
    registry.long("qbft_getSignerMetrics", 2, signer_metrics);
}

/// A time in milliseconds since 1970.
pub(crate) fn milliseconds(time: Time) -> U64 {
    U64::from(time.0)
}

fn weight(weight: Weight) -> U128 {
    U128::from(weight.0)
}

fn block_json(stored: &StoredBlock) -> Value {
    let block = &stored.block;
    json!({
        "number": U64::from(block.number()),
        "hash": block.hash(),
        "timeMs": milliseconds(block.time()),
    })
}

fn at(api: &Api, number: BlockNumber) -> Outcome<Value> {
    Ok(block_json(&*BlockRef::Number(number).block(&api.backend.chain)?))
}

/// The height that a node must reach, if it is behind what its peers have.
pub(crate) fn behind(api: &Api) -> Option<u64> {
    let claimed = api.backend.node.as_ref()?.consensus().claimed?;
    let head = api.backend.chain.head().number();
    (claimed.0 > head.saturating_add(NOT_YET_BEHIND)).then_some(claimed.0)
}

/// A node that votes is a block or two behind the newest claim at any moment.
const NOT_YET_BEHIND: u64 = 2;

/// Everything at a glance: the first thing to look at, and what `landfall doctor` reads.
fn status(api: &Api) -> Outcome<Value> {
    let chain = &api.backend.chain;
    let pool = api.backend.pool.pool().lock().status();
    let node = api.backend.node.as_deref();
    let view = node.map(NodeDoor::consensus);
    let engine = view.as_ref().map_or("solo", |view| view.epoch.kind().name());
    let wall =
        || Time(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64));
    let identity = node.map(NodeDoor::identity);
    Ok(json!({
        "engine": engine,
        "clientVersion": api.config.client_version,
        "chainId": U64::from(chain.spec().chain_id),
        "genesisHash": chain.genesis_hash(),
        "schedule": identity.as_ref().map(|own| own.schedule),
        "node": identity.as_ref().map(|own| json!({
            "id": own.id,
            "name": own.name,
            "validator": own.validator,
            "votes": view.as_ref().is_some_and(|view| view.votes()),
        })),
        "timeMs": milliseconds(node.map_or_else(wall, |node| node.now())),
        "head": at(api, BlockNumber::Latest)?,
        "safe": at(api, BlockNumber::Safe)?,
        "finalized": at(api, BlockNumber::Finalized)?,
        "highest": behind(api).map(U64::from),
        "syncing": behind(api).is_some(),
        "peers": U64::from(node.map_or(0, |node| node.peers().len())),
        "transactions": U64::from(node.map_or(0, NodeDoor::transactions)),
        "pending": U64::from(pool.pending),
        "queued": U64::from(pool.queued),
        "halted": view.as_ref().and_then(|view| view.halted.clone()),
        "silent": view.as_ref().and_then(|view| view.silent.clone()),
        "consensus": view.as_ref().map(|view| consensus(view)),
    }))
}

fn consensus(view: &ConsensusView) -> Value {
    let epoch = &view.epoch;
    let quorum = landfall_light::decision(epoch).map(|decision| weight(decision.quorum));
    let members = epoch.committee.members();
    let up = members
        .iter()
        .filter(|member| matches!(view.state_of(&member.id), MemberState::Here | MemberState::Up));
    let absent = members.iter().filter(|member| {
        matches!(view.state_of(&member.id), MemberState::Missing | MemberState::NotVoting)
    });
    json!({
        "takenMs": milliseconds(view.taken),
        "epoch": epoch_json(epoch),
        "height": U64::from(view.height.0),
        "heightSinceMs": milliseconds(view.height_since),
        "waitingSinceMs": view.waiting_since.map(milliseconds),
        "round": U64::from(view.round),
        "roundSinceMs": milliseconds(view.round_since),
        "leader": view.leader,
        "leaderName": view.leader.and_then(|leader| view.names.get(&leader)),
        "members": U64::from(members.len()),
        "weight": weight(epoch.committee.total()),
        "quorum": quorum,
        "weightUp": weight(up.map(|member| member.weight).sum()),
        "missing": absent.map(|member| seen_json(view, &member.id)).collect::<Vec<_>>(),
        "parameters": parameters(&epoch.params),
        "state": view.describe,
    })
}

fn epoch_json(epoch: &Epoch) -> Value {
    let endless = epoch.last == Height(u64::MAX);
    json!({
        "number": U64::from(epoch.number),
        "first": U64::from(epoch.first.0),
        "last": (!endless).then(|| U64::from(epoch.last.0)),
        "committeeHash": epoch.committee.hash(),
    })
}

fn seen_json(view: &ConsensusView, member: &NodeId) -> Value {
    let seen = view.members.get(member).copied().unwrap_or_default();
    json!({
        "id": member,
        "name": view.names.get(member),
        "state": view.state_of(member).name(),
        "heardMs": seen.heard.map(milliseconds),
        "lastVote": seen.vote.map(|LastVote { height, round, step, at }| json!({
            "height": U64::from(height.0),
            "round": U64::from(round),
            "step": step.name(),
            "timeMs": milliseconds(at),
        })),
    })
}

fn parameters(params: &Params) -> Value {
    let ms = |span: Span| U64::from(span.0);
    match params {
        Params::Solo(solo) => json!({
            "safeDepth": U64::from(solo.safe_depth),
            "finalDepth": U64::from(solo.final_depth),
        }),
        Params::Raft(raft) => json!({
            "heartbeatMs": ms(raft.heartbeat),
            "electionMs": ms(raft.election),
            "blockIntervalMs": ms(raft.block_interval),
            "emptyBlocks": raft.empty_blocks,
        }),
        Params::Pbft(pbft) => json!({
            "blockIntervalMs": ms(pbft.block_interval),
            "emptyBlocks": pbft.empty_blocks,
            "roundTimeoutMs": ms(pbft.round_timeout),
            "roundTimeoutMaxMs": ms(pbft.round_timeout_max),
            "retransmitMs": ms(pbft.retransmit),
            "clockDriftMs": ms(pbft.clock_drift),
        }),
        Params::Pow(pow) => json!({
            "blockIntervalMs": ms(pow.block_interval),
            "halfLifeMs": ms(pow.half_life),
            "firstTarget": pow.first_target,
            "safeDepth": U64::from(pow.safe_depth),
            "finalDepth": U64::from(pow.final_depth),
            "clockDriftMs": ms(pow.clock_drift),
            "subsidyGwei": U64::from(pow.subsidy),
            "subsidyHalving": U64::from(pow.subsidy_halving),
        }),
    }
}

/// The committee of a block's epoch; what its members do, if that epoch runs.
fn validators(api: &Api, asked: Option<BlockNumber>) -> Outcome<Value> {
    let Some(node) = &api.backend.node else { return Ok(Value::Null) };
    let view = node.consensus();
    let epoch = match asked {
        None => (*view.epoch).clone(),
        Some(number) => epoch_at(&**node, number.height(&api.backend.chain))?,
    };
    let running = epoch.number == view.epoch.number;
    let members = epoch.committee.members().iter().map(|member| {
        let mut json = json!({ "id": member.id, "name": view.names.get(&member.id) });
        if running {
            json = seen_json(&view, &member.id);
        }
        json["weight"] = json!(weight(member.weight));
        json
    });
    let members: Vec<Value> = members.collect();
    Ok(json!({
        "engine": epoch.kind().name(),
        "epoch": epoch_json(&epoch),
        "weight": weight(epoch.committee.total()),
        "quorum": landfall_light::decision(&epoch).map(|decision| weight(decision.quorum)),
        "members": members,
    }))
}

fn epoch_at(node: &dyn NodeDoor, number: u64) -> Outcome<Epoch> {
    // Block 0 was decided by nobody; the first committee stands on it.
    let found = node.epoch_at(Height(number.max(1)));
    found.ok_or_else(|| server_error(format!("the epoch of block {number} has not begun")))
}

/// The committee that decided a block, as Besu tells it.
fn addresses(api: &Api, number: u64) -> Outcome<Vec<NodeId>> {
    let Some(node) = &api.backend.node else { return Ok(Vec::new()) };
    let epoch = epoch_at(&**node, number)?;
    Ok(epoch.committee.members().iter().map(|member| member.id).collect())
}

/// How many blocks each member proposed between two blocks, and the last one: Besu's form.
fn signer_metrics(api: &Api, args: &Arguments<'_>) -> Outcome<Vec<Value>> {
    let chain = &api.backend.chain;
    let head = chain.head().number();
    let to = args.optional::<BlockNumber>(1)?.map_or(head, |to| to.height(chain)).min(head);
    let from = args.optional::<BlockNumber>(0)?;
    let from = from.map_or((to + 1).saturating_sub(USUAL_METRICS), |from| from.height(chain));
    if from > to || to - from >= MOST_METRICS {
        return Err(invalid_params(format!(
            "the first block must not be above the last, nor {MOST_METRICS} blocks below it"
        )));
    }
    let mut made: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
    for number in from.max(chain.genesis_number() + 1)..=to {
        let Some(stored) = chain.block_at(number).map_err(unreadable)? else { continue };
        let Ok(extension) = Extension::from_bytes(&stored.block.extension) else { continue };
        let entry = made.entry(extension.proposer).or_default();
        *entry = (entry.0 + 1, number);
    }
    for member in addresses(api, to)? {
        made.entry(member).or_default();
    }
    let told = |(address, (count, last)): (NodeId, (u64, u64))| {
        json!({
            "address": address,
            "proposedBlockCount": U64::from(count),
            "lastProposedBlockNumber": U64::from(last),
        })
    };
    Ok(made.into_iter().map(told).collect())
}

fn traced(round: &RoundTrace, names: &BTreeMap<NodeId, String>) -> Value {
    let votes = round.votes.iter().map(|vote| {
        json!({
            "signer": vote.signer,
            "name": names.get(&vote.signer),
            "step": vote.step.name(),
            "hash": vote.hash,
            "timeMs": milliseconds(vote.at),
        })
    });
    let votes: Vec<Value> = votes.collect();
    json!({
        "height": U64::from(round.height.0),
        "round": U64::from(round.round),
        "openedMs": milliseconds(round.opened),
        "votes": votes,
        "decided": round.decided.map(|(hash, at)| json!({
            "hash": hash,
            "timeMs": milliseconds(at),
        })),
    })
}
