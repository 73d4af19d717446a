//! `landfall_finalityProof`: why a block is final, for whoever does not want to trust this node.
//!
//! A proof is a quorum's signatures of one vote. One proof covers all ancestors of its block, so
//! for a block below it the headers come along that lead down to it.

use crate::api::{Api, Registry};
use crate::arguments::Arguments;
use crate::block_ref::BlockRef;
use crate::errors::{Outcome, server_error, unreadable};
use alloy_primitives::{Bytes, U64, U128};
use alloy_rlp::Decodable;
use landfall_light::FinalityProof;
use landfall_types::{Height, StateError};
use serde_json::{Value, json};

/// The most headers between a block and the proof above it.
const MOST_HEADERS: u64 = 1_024;

pub(crate) fn register(registry: &mut Registry) {
    registry.long("landfall_finalityProof", 1, finality_proof);
}

fn finality_proof(api: &Api, args: &Arguments<'_>) -> Outcome<Option<Value>> {
    let chain = &api.backend.chain;
    let asked = args.required::<BlockRef>(0)?.block(chain)?;
    let (number, hash) = (asked.block.number(), asked.block.hash());
    if !chain.is_canonical(hash).map_err(unreadable)? {
        return Ok(None);
    }
    let Some((height, _, raw)) = chain.proof_at_or_above(number).map_err(unreadable)? else {
        return Ok(None);
    };
    if height - number >= MOST_HEADERS {
        return Err(server_error(format!(
            "the lowest proof above block {number} is that of block {height}, more than \
             {MOST_HEADERS} blocks away; ask for that one, and for the headers between the two"
        )));
    }
    let mut headers = Vec::new();
    for step in (number..=height).rev() {
        let stored = chain.block_at(step).map_err(unreadable)?;
        // Final blocks are never left.
        let stored = stored.ok_or_else(|| unreadable(missing(step)))?;
        headers.push(Bytes::from(alloy_rlp::encode(stored.block.header.inner())));
    }
    let proof = FinalityProof::decode(&mut &raw[..])
        .map_err(|error| unreadable(StateError(format!("the proof of block {height}: {error}"))))?;
    let mut answer = proof_json(api, &proof);
    answer["block"] = json!({ "number": U64::from(number), "hash": hash });
    answer["headers"] = json!(headers);
    answer["raw"] = json!(raw);
    Ok(Some(answer))
}

fn missing(number: u64) -> StateError {
    StateError(format!("block {number} is final, but missing"))
}

fn proof_json(api: &Api, proof: &FinalityProof) -> Value {
    let node = api.backend.node.as_ref();
    let epoch = node.and_then(|node| node.epoch_at(Height(proof.height().0)));
    let names = node.map(|node| node.consensus().names.clone()).unwrap_or_default();
    let vote = proof.certificate.vote;
    let signatures = proof.certificate.signatures.iter().map(|one| {
        json!({
            "signer": one.signer,
            "name": names.get(&one.signer),
            "weight": epoch.as_ref().map(|epoch| {
                U128::from(epoch.committee.weight_of(&one.signer).0)
            }),
            "signature": Bytes::copy_from_slice(&one.signature.0),
        })
    });
    let signatures: Vec<Value> = signatures.collect();
    let quorum = epoch.as_ref().and_then(landfall_light::decision);
    json!({
        "proven": { "number": U64::from(proof.height().0), "hash": proof.hash() },
        "engine": epoch.as_ref().map(|epoch| epoch.kind().name()),
        "epoch": U64::from(proof.epoch()),
        "step": vote.position.step.name(),
        "round": U64::from(vote.position.round),
        "context": vote.context,
        "quorum": quorum.map(|decision| U128::from(decision.quorum.0)),
        "signatures": signatures,
    })
}
