//! The messages between replicas as bytes: every kind survives the codec, and no bytes of a peer
//! panic.

use alloy_consensus::Header;
use alloy_consensus::constants::EMPTY_WITHDRAWALS;
use alloy_primitives::{B256, Bytes};
use landfall_consensus::{Body, FinalityProof, Random, pbft, raft};
use landfall_replica::Wire;
use landfall_types::{
    Block, Body as EthereumBody, Certificate, Extension, Height, NodeId, Position, Signature,
    SignedVote, SignerSignature, Step, Vote,
};

fn vote(step: Step, round: u64) -> Vote {
    let position = Position { epoch: 3, step, height: Height(12), round };
    Vote { position, hash: B256::repeat_byte(7), context: B256::repeat_byte(9) }
}

fn signed(step: Step) -> SignedVote {
    let signer = NodeId::repeat_byte(4);
    SignedVote { vote: vote(step, 2), signer, signature: Signature([5; 65]) }
}

fn certificate(step: Step) -> Certificate {
    let one = |n| SignerSignature { signer: NodeId::repeat_byte(n), signature: Signature([n; 65]) };
    Certificate { vote: vote(step, 1), signatures: vec![one(1), one(2), one(3)] }
}

fn proof() -> FinalityProof {
    FinalityProof { certificate: certificate(Step::Commit) }
}

fn block() -> Block {
    let extension = Extension {
        milliseconds: 1_700_000_000_123,
        epoch: 3,
        proposer: NodeId::repeat_byte(1),
        data: Bytes::from_static(b"term"),
    };
    let header = Header {
        number: 12,
        base_fee_per_gas: Some(7),
        withdrawals_root: Some(EMPTY_WITHDRAWALS),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(Extension::commitment(&extension.to_bytes())),
        ..Header::default()
    };
    let mut block = Block::ethereum(
        header,
        EthereumBody { withdrawals: Some(Default::default()), ..EthereumBody::default() },
    );
    block.extension = extension.to_bytes();
    block.seal = Bytes::from_static(&[8; 65]);
    block
}

fn engine(step: Option<Step>, body: Body) -> Wire {
    Wire::Engine { epoch: 3, vote: step.map(signed), body }
}

/// One message of every kind, each with and without its optional parts.
fn every_kind() -> Vec<Wire> {
    let last = raft::Last { stamp: 5, height: Height(11) };
    let rafts = [
        (Some(Step::Ack), raft::Message::Append { proof: None }),
        (Some(Step::Ack), raft::Message::Append { proof: Some(proof()) }),
        (Some(Step::Ack), raft::Message::Ack),
        (None, raft::Message::Heard { term: 9 }),
        (None, raft::Message::PreVote { term: 9, last }),
        (None, raft::Message::PreGrant { term: u64::MAX }),
        (Some(Step::Grant), raft::Message::Candidacy { last }),
        (Some(Step::Grant), raft::Message::Grant),
    ];
    let full = pbft::Justification {
        round_changes: vec![signed(Step::RoundChange); 3],
        prepared: Some(certificate(Step::Prepare)),
    };
    let pbfts = [
        (
            Some(Step::Proposal),
            pbft::Message::Proposal { justification: pbft::Justification::empty() },
        ),
        (Some(Step::Proposal), pbft::Message::Proposal { justification: full }),
        (Some(Step::Prepare), pbft::Message::Prepare),
        (Some(Step::Commit), pbft::Message::Commit),
        (Some(Step::RoundChange), pbft::Message::RoundChange { prepared: None }),
        (
            Some(Step::RoundChange),
            pbft::Message::RoundChange { prepared: Some(certificate(Step::Prepare)) },
        ),
    ];
    let mut all: Vec<Wire> =
        rafts.into_iter().map(|(step, message)| engine(step, Body::Raft(message))).collect();
    all.extend(pbfts.into_iter().map(|(step, message)| engine(step, Body::Pbft(message))));
    all.extend([
        Wire::Block(block()),
        Wire::Get(B256::repeat_byte(6)),
        Wire::Status { finalized: Height(0), head: B256::ZERO },
        Wire::Status { finalized: Height(u64::MAX), head: B256::repeat_byte(2) },
        Wire::Range { after: Height(77) },
        Wire::Proof(proof()),
    ]);
    all
}

#[test]
fn every_message_survives_the_codec() {
    for wire in every_kind() {
        let bytes = wire.encode();
        assert_eq!(Wire::decode(&bytes).unwrap(), wire);
    }
}

#[test]
fn no_two_messages_have_the_same_bytes() {
    let all = every_kind();
    let distinct: std::collections::BTreeSet<Vec<u8>> = all.iter().map(Wire::encode).collect();
    assert_eq!(distinct.len(), all.len());
}

#[test]
fn a_message_that_is_cut_off_or_goes_on_is_refused() {
    for wire in every_kind() {
        let mut bytes = wire.encode();
        for end in 0..bytes.len() {
            assert!(Wire::decode(&bytes[..end]).is_err(), "{end} bytes of {wire:?}");
        }
        bytes.push(0);
        assert!(Wire::decode(&bytes).is_err(), "one byte more than {wire:?}");
    }
}

/// What is inside a message that lengths of lists allow, and the message does not.
#[test]
fn two_votes_and_an_unknown_kind_are_refused() {
    use alloy_rlp::Encodable;
    let list = |fields: &[&dyn Encodable]| {
        let mut payload = Vec::new();
        fields.iter().for_each(|field| field.encode(&mut payload));
        let mut out = Vec::new();
        alloy_rlp::Header { list: true, payload_length: payload.len() }.encode(&mut out);
        out.extend(payload);
        out
    };
    let body = Body::Pbft(pbft::Message::Prepare);
    let one = vec![signed(Step::Prepare)];
    let two = vec![signed(Step::Prepare); 2];
    assert!(Wire::decode(&list(&[&1_u8, &3_u64, &one, &body])).is_ok());
    assert!(Wire::decode(&list(&[&1_u8, &3_u64, &two, &body])).is_err());
    for kind in [0_u8, 7, 255] {
        assert!(Wire::decode(&list(&[&kind, &B256::ZERO])).is_err(), "kind {kind}");
    }
    assert!(Wire::decode(&list(&[&3_u8, &B256::ZERO, &1_u8])).is_err(), "one field too many");
}

#[test]
fn no_bytes_panic_and_what_decodes_is_what_it_encodes_to() {
    let mut random = Random::new(11);
    let kinds = every_kind();
    let mut decoded = 0;
    for round in 0..60_000_usize {
        let mut bytes = if round % 4 == 0 {
            (0..random.below(200)).map(|_| random.next_u64() as u8).collect()
        } else {
            kinds[round % kinds.len()].encode()
        };
        for _ in 0..1 + random.below(3) {
            if bytes.is_empty() {
                break;
            }
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(4) {
                0 => bytes[at] = random.next_u64() as u8,
                1 => bytes[at] ^= 1 << random.below(8),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, random.next_u64() as u8),
            }
        }
        if let Ok(wire) = Wire::decode(&bytes) {
            decoded += 1;
            assert_eq!(wire.encode(), bytes, "two forms of one message");
        }
    }
    assert!(decoded > 5_000, "only {decoded} of the bytes were messages");
}
