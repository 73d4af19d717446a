//! What members of a Raft instance say and remember, and its form on wire and disk.

use alloy_primitives::B256;
use alloy_rlp::{BufMut, Decodable, Encodable, Error, Header, RlpDecodable, RlpEncodable};
use landfall_light::FinalityProof;
use landfall_types::{Height, NodeId, SignedVote};

/// How good a log is: the last term in which a leader's whole branch was taken, then its length.
/// The order is the one in which elections compare logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, RlpEncodable, RlpDecodable)]
pub struct Last {
    /// As in [`Record::stamp`].
    pub stamp: u64,
    /// The height of the tip.
    pub height: Height,
}

/// What goes beside a vote, or alone. Terms that a vote names are not repeated here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// With the leader's own `Ack` for its tip: "take my branch up to here". The heartbeat.
    Append {
        /// The newest proof that the leader holds.
        proof: Option<FinalityProof>,
    },
    /// With an `Ack`: the answer when the branch was taken and is durable.
    Ack,
    /// "I am at this term": the answer to whatever is not granted, and to a leader whose block is
    /// still missing.
    Heard {
        /// The sender's term.
        term: u64,
    },
    /// "Would you vote for me in this term?" Binds nobody.
    PreVote {
        /// The sender's term plus one.
        term: u64,
        /// Its log.
        last: Last,
    },
    /// "I would vote for you in this term."
    PreGrant {
        /// As asked.
        term: u64,
    },
    /// With the candidate's `Grant` to itself: "vote for me".
    Candidacy {
        /// Its log.
        last: Last,
    },
    /// With a `Grant`: "I vote for you".
    Grant,
}

/// The durable state of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The newest term that this node knows of.
    pub term: u64,
    /// Whom it voted for in that term.
    pub voted: Option<NodeId>,
    /// The end of its log, a block of the tree.
    pub tip: B256,
    /// The last term in which it took a leader's whole branch, as follower or as leader.
    pub stamp: u64,
}

impl Message {
    /// Every signed vote inside, for recovery.
    pub(crate) fn votes(&self) -> Vec<SignedVote> {
        match self {
            Self::Append { proof: Some(proof) } => proof.certificate.votes().collect(),
            _ => Vec::new(),
        }
    }
}

/// A list whose items `fill` writes.
fn encode_list(out: &mut dyn BufMut, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut payload = Vec::new();
    fill(&mut payload);
    Header { list: true, payload_length: payload.len() }.encode(out);
    out.put_slice(&payload);
}

/// A list of exactly the items that `read` takes.
fn decode_list<T>(
    bytes: &mut &[u8],
    read: impl FnOnce(&mut &[u8]) -> alloy_rlp::Result<T>,
) -> alloy_rlp::Result<T> {
    let mut payload = Header::decode_bytes(bytes, true)?;
    let value = read(&mut payload)?;
    if !payload.is_empty() {
        return Err(Error::UnexpectedLength);
    }
    Ok(value)
}

/// The last item of a list, which may be missing.
fn decode_last<T: Decodable>(payload: &mut &[u8]) -> alloy_rlp::Result<Option<T>> {
    if payload.is_empty() { Ok(None) } else { T::decode(payload).map(Some) }
}

// The numbers are on the wire and never change.
impl Encodable for Message {
    fn encode(&self, out: &mut dyn BufMut) {
        encode_list(out, |items| match self {
            Self::Append { proof } => {
                1_u8.encode(items);
                if let Some(proof) = proof {
                    proof.encode(items);
                }
            }
            Self::Ack => 2_u8.encode(items),
            Self::Heard { term } => {
                3_u8.encode(items);
                term.encode(items);
            }
            Self::PreVote { term, last } => {
                4_u8.encode(items);
                term.encode(items);
                last.encode(items);
            }
            Self::PreGrant { term } => {
                5_u8.encode(items);
                term.encode(items);
            }
            Self::Candidacy { last } => {
                6_u8.encode(items);
                last.encode(items);
            }
            Self::Grant => 7_u8.encode(items),
        });
    }
}

impl Decodable for Message {
    fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
        decode_list(bytes, |items| {
            Ok(match u8::decode(items)? {
                1 => Self::Append { proof: decode_last(items)? },
                2 => Self::Ack,
                3 => Self::Heard { term: u64::decode(items)? },
                4 => Self::PreVote { term: u64::decode(items)?, last: Last::decode(items)? },
                5 => Self::PreGrant { term: u64::decode(items)? },
                6 => Self::Candidacy { last: Last::decode(items)? },
                7 => Self::Grant,
                _ => return Err(Error::Custom("unknown message of raft")),
            })
        })
    }
}

impl Encodable for Record {
    fn encode(&self, out: &mut dyn BufMut) {
        encode_list(out, |items| {
            self.term.encode(items);
            self.tip.encode(items);
            self.stamp.encode(items);
            if let Some(voted) = self.voted {
                voted.encode(items);
            }
        });
    }
}

impl Decodable for Record {
    fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
        decode_list(bytes, |items| {
            let (term, tip) = (u64::decode(items)?, B256::decode(items)?);
            let stamp = u64::decode(items)?;
            Ok(Self { term, voted: decode_last(items)?, tip, stamp })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_types::{Certificate, Position, Signature, SignerSignature, Step, Vote};

    fn proof() -> FinalityProof {
        let position = Position { epoch: 1, step: Step::Ack, height: Height(7), round: 3 };
        let vote = Vote { position, hash: B256::repeat_byte(5), context: B256::ZERO };
        let one =
            |n| SignerSignature { signer: NodeId::repeat_byte(n), signature: Signature([n; 65]) };
        FinalityProof { certificate: Certificate { vote, signatures: vec![one(1), one(2)] } }
    }

    fn messages() -> Vec<Message> {
        let last = Last { stamp: 9, height: Height(300) };
        vec![
            Message::Append { proof: None },
            Message::Append { proof: Some(proof()) },
            Message::Ack,
            Message::Heard { term: 0 },
            Message::PreVote { term: u64::MAX, last },
            Message::PreGrant { term: 4 },
            Message::Candidacy { last },
            Message::Grant,
        ]
    }

    fn records() -> [Record; 2] {
        let voted = Some(NodeId::repeat_byte(8));
        let record = Record { term: 4, voted, tip: B256::repeat_byte(1), stamp: 3 };
        [Record { voted: None, ..record.clone() }, record]
    }

    #[test]
    fn everything_decodes_to_what_was_encoded() {
        for message in messages() {
            let bytes = alloy_rlp::encode(&message);
            assert_eq!(message.length(), bytes.len());
            assert_eq!(alloy_rlp::decode_exact::<Message>(&bytes).unwrap(), message);
        }
        for record in records() {
            let bytes = alloy_rlp::encode(&record);
            assert_eq!(alloy_rlp::decode_exact::<Record>(&bytes).unwrap(), record);
        }
    }

    #[test]
    fn what_decodes_has_one_form_and_no_bytes_panic() {
        let mut decoded = 0;
        for message in messages() {
            let bytes = alloy_rlp::encode(&message);
            for at in 0..bytes.len() {
                assert!(alloy_rlp::decode_exact::<Message>(&bytes[..at]).is_err());
                for flip in [1, 0x80, 0xff] {
                    let mut bytes = bytes.clone();
                    bytes[at] ^= flip;
                    if let Ok(other) = alloy_rlp::decode_exact::<Message>(&bytes) {
                        assert_eq!(alloy_rlp::encode(&other), bytes);
                        decoded += 1;
                    }
                }
            }
        }
        assert!(decoded > 10, "the flips reach what decodes: {decoded}");
        let [unvoted, _] = records();
        let mut longer = alloy_rlp::encode(&unvoted);
        longer[0] += 1;
        longer.push(0x80);
        assert!(alloy_rlp::decode_exact::<Record>(&longer).is_err());
    }

    #[test]
    fn the_votes_of_a_proof_are_handed_out_for_recovery() {
        assert_eq!(Message::Append { proof: Some(proof()) }.votes().len(), 2);
        assert!(Message::Ack.votes().is_empty());
    }

    #[test]
    fn logs_compare_by_stamp_and_then_by_length() {
        let last = |stamp, height| Last { stamp, height: Height(height) };
        assert!(last(2, 1) > last(1, 9) && last(2, 2) > last(2, 1));
    }
}
