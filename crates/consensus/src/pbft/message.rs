//! What members of a PBFT instance say, and what each of them remembers over a crash.

use super::Justification;
use alloy_primitives::B256;
use alloy_rlp::{Decodable, EMPTY_LIST_CODE, Encodable, Header, RlpDecodable, RlpEncodable};
use landfall_types::{Certificate, Height, SignedVote};

/// What goes with a vote; which block is meant, and in which round, stands in the vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The leader's: pre-prepare, and in later rounds new-view.
    Proposal {
        /// Why this block may be proposed in this round. The vote's context is its digest.
        justification: Justification,
    },
    /// "I accepted this proposal."
    Prepare,
    /// "A quorum prepared it."
    Commit,
    /// View-change: "I moved to this round."
    RoundChange {
        /// What a quorum prepared last, as far as the sender knows.
        prepared: Option<Certificate>,
    },
}

impl Message {
    /// Every signed vote inside.
    pub(crate) fn votes(&self) -> Vec<SignedVote> {
        match self {
            Self::Proposal { justification } => justification.votes(),
            Self::RoundChange { prepared } => {
                prepared.iter().flat_map(Certificate::votes).collect()
            }
            Self::Prepare | Self::Commit => Vec::new(),
        }
    }

    fn tag(&self) -> u8 {
        match self {
            Self::Proposal { .. } => 1,
            Self::Prepare => 2,
            Self::Commit => 3,
            Self::RoundChange { .. } => 4,
        }
    }
}

// The tag, then what the kind carries: a justification, or a list of at most one certificate.
impl Encodable for Message {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        self.tag().encode(out);
        match self {
            Self::Proposal { justification } => justification.encode(out),
            Self::RoundChange { prepared: Some(one) } => {
                Header { list: true, payload_length: one.length() }.encode(out);
                one.encode(out);
            }
            Self::RoundChange { prepared: None } => out.put_u8(EMPTY_LIST_CODE),
            Self::Prepare | Self::Commit => {}
        }
    }

    fn length(&self) -> usize {
        let rest = match self {
            Self::Proposal { justification } => justification.length(),
            Self::RoundChange { prepared: Some(one) } => {
                Header { list: true, payload_length: one.length() }.length_with_payload()
            }
            Self::RoundChange { prepared: None } => 1,
            Self::Prepare | Self::Commit => 0,
        };
        self.tag().length() + rest
    }
}

impl Decodable for Message {
    fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
        match u8::decode(bytes)? {
            1 => Ok(Self::Proposal { justification: Justification::decode(bytes)? }),
            2 => Ok(Self::Prepare),
            3 => Ok(Self::Commit),
            4 => {
                let mut list = Vec::<Certificate>::decode(bytes)?;
                if list.len() > 1 {
                    return Err(alloy_rlp::Error::Custom("a round change has one certificate"));
                }
                Ok(Self::RoundChange { prepared: list.pop() })
            }
            _ => Err(alloy_rlp::Error::Custom("unknown message of PBFT")),
        }
    }
}

/// The durable state of an instance: where it stands at one height. A newer one replaces it; one
/// of an older height means nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
#[rlp(trailing)]
pub struct Record {
    /// The height that is open.
    pub height: Height,
    /// The round in which this node is; it never goes back at a height.
    pub round: u64,
    /// What it accepted in this round: what its prepare says.
    pub accepted: Option<Accepted>,
    /// What a quorum prepared last, in this round or an earlier one.
    pub prepared: Option<Certificate>,
    /// What it proposed in this round.
    pub proposal: Option<Box<OwnProposal>>,
}

/// A proposal that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Accepted {
    /// The block.
    pub hash: B256,
    /// The digest of its justification.
    pub digest: B256,
}

/// A proposal of this node, with its justification: after a restart other round changes may be
/// at hand, and the same block with another justification would be a second proposal.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct OwnProposal {
    /// The block.
    pub hash: B256,
    /// Why it may be proposed.
    pub justification: Justification,
}

impl Record {
    /// Where a node stands that has just come to a height.
    pub(super) fn fresh(height: Height) -> Self {
        Self { height, round: 0, accepted: None, prepared: None, proposal: None }
    }

    /// The round in which a quorum prepared last.
    pub(super) fn prepared_round(&self) -> Option<u64> {
        self.prepared.as_ref().map(|certificate| certificate.vote.position.round)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{certificate, name, round_change};
    use super::*;
    use landfall_types::Step;

    fn round_trip<T: Encodable + Decodable + PartialEq + std::fmt::Debug>(value: T) {
        let bytes = alloy_rlp::encode(&value);
        assert_eq!(bytes.len(), value.length());
        let mut rest = bytes.as_slice();
        assert_eq!(T::decode(&mut rest), Ok(value));
        assert!(rest.is_empty());
        for cut in 0..bytes.len() {
            assert!(T::decode(&mut &bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn messages_and_records_come_back_from_their_bytes() {
        let prepared = certificate(Step::Prepare, 5, 1, 9, &[0, 1, 2]);
        let justification = Justification {
            round_changes: vec![round_change(0, 5, 2, Some((9, 1))), round_change(1, 5, 2, None)],
            prepared: Some(prepared.clone()),
        };
        round_trip(Message::Proposal { justification: justification.clone() });
        round_trip(Message::Proposal { justification: Justification::empty() });
        round_trip(Message::Prepare);
        round_trip(Message::Commit);
        round_trip(Message::RoundChange { prepared: None });
        round_trip(Message::RoundChange { prepared: Some(prepared.clone()) });
        let own = OwnProposal { hash: name(9), justification };
        let accepted = Accepted { hash: name(9), digest: name(8) };
        for bits in 0..8 {
            let record = Record {
                height: Height(5),
                round: 2,
                accepted: (bits & 1 != 0).then_some(accepted),
                prepared: (bits & 2 != 0).then(|| prepared.clone()),
                proposal: (bits & 4 != 0).then(|| Box::new(own.clone())),
            };
            let bytes = alloy_rlp::encode(&record);
            assert_eq!(Record::decode(&mut bytes.as_slice()), Ok(record));
        }
    }

    #[test]
    fn refuses_a_round_change_with_two_certificates() {
        let one = certificate(Step::Prepare, 5, 1, 9, &[0]);
        let mut bytes = vec![4];
        vec![one.clone(), one].encode(&mut bytes);
        assert!(Message::decode(&mut bytes.as_slice()).is_err());
    }
}
