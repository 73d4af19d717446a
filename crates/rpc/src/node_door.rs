//! The door to consensus and to the peers: what a node in a network tells about itself.
//!
//! All of it is a snapshot that the host keeps ready: a call takes a short lock at most and never
//! waits for the thread that owns the replica. A development chain has no such door.

use crate::doors::ControlError;
use alloy_primitives::{B256, Bytes};
use landfall_types::{Committee, Epoch, Height, Kind, NodeId, Span, Step, Time};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A member that said nothing for so long is missing: nodes announce their heights twice a second.
pub const SILENCE: Span = Span(5_000);
/// A member that voted at none of so many heights, though others did, does not vote.
const HEIGHTS_WITHOUT_VOTE: u64 = 3;

/// What a node knows about itself, its committee and its peers.
pub trait NodeDoor: Send + Sync + 'static {
    /// The node's clock, by which it votes. In [`ConsensusView::taken`] it stands still if the
    /// thread that owns the replica does; here it goes on.
    fn now(&self) -> Time;
    /// The newest snapshot of consensus.
    fn consensus(&self) -> Arc<ConsensusView>;
    /// The epoch that a height belongs to, if it has begun.
    fn epoch_at(&self, height: Height) -> Option<Epoch>;
    /// Who this node is.
    fn identity(&self) -> Identity;
    /// Transactions in blocks that became canonical since the node was started.
    fn transactions(&self) -> u64;
    /// The peers that are connected.
    fn peers(&self) -> Vec<PeerView>;
    /// The newest rounds, newest first, at most `limit` of them.
    fn trace(&self, limit: usize) -> Vec<RoundTrace>;
    /// Connects to an address, and again whenever the connection is lost; false if that was so
    /// before.
    fn add_peer(&self, address: &str) -> Result<bool, ControlError>;
    /// Disconnects, and does not connect again; false if there was no such peer.
    fn remove_peer(&self, address: &str) -> Result<bool, ControlError>;
    /// Changes what is logged: a level, or levels of parts such as
    /// `warn,landfall=debug`.
    fn set_log_filter(&self, filter: &str) -> Result<(), ControlError>;
}

/// Who a node is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The address of the key that signs its votes; of its node key if it does not vote.
    pub id: NodeId,
    /// The validator that the genesis binds to its node key, whether it votes or not.
    pub validator: Option<NodeId>,
    /// Its name in the genesis or the configuration.
    pub name: Option<String>,
    /// The public key of its connections, as its peers know it.
    pub key: Bytes,
    /// That key in the text form of the transport's addresses.
    pub peer: String,
    /// The addresses that it listens on, in the form that `admin_addPeer` takes.
    pub addresses: Vec<String>,
    /// The digest of genesis and schedule of engines, as the handshake compares it.
    pub schedule: B256,
}

/// Consensus as this node sees it.
#[derive(Clone, Debug)]
pub struct ConsensusView {
    /// When the snapshot was taken.
    pub taken: Time,
    /// The running epoch.
    pub epoch: Arc<Epoch>,
    /// Names of members, as the genesis has them.
    pub names: Arc<BTreeMap<NodeId, String>>,
    /// This node, member or not.
    pub me: NodeId,
    /// The height that is being decided.
    pub height: Height,
    /// Since when.
    pub height_since: Time,
    /// The round or term there.
    pub round: u64,
    /// Since when.
    pub round_since: Time,
    /// Who leads it, if it is known.
    pub leader: Option<NodeId>,
    /// Since when transactions wait here that a block made now would hold, if they do; later heights
    /// may have been decided since.
    pub waiting_since: Option<Time>,
    /// What was last heard of the members.
    pub members: BTreeMap<NodeId, MemberSeen>,
    /// The height that is final elsewhere, as far as peers are to be believed.
    pub claimed: Option<Height>,
    /// The engine's own line about its state.
    pub describe: String,
    /// Why the node stopped taking part, if it did.
    pub halted: Option<String>,
    /// Why the node does not vote, if it does not.
    pub silent: Option<String>,
}

/// What was last heard of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberSeen {
    /// When it said anything.
    pub heard: Option<Time>,
    /// Its newest vote.
    pub vote: Option<LastVote>,
    /// Heights at which this node heard others vote, but not this member, the open one included.
    pub missed: u64,
}

/// A member's newest vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastVote {
    /// The height that it is about.
    pub height: Height,
    /// The round or term.
    pub round: u64,
    /// What kind of statement.
    pub step: Step,
    /// When it came.
    pub at: Time,
}

/// What a member does, as far as this node can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// This node.
    Here,
    /// It is heard, and votes if this node would know.
    Up,
    /// It is heard, but others decide without its votes.
    NotVoting,
    /// It is not heard.
    Missing,
}

impl MemberState {
    /// As in the RPC.
    pub fn name(self) -> &'static str {
        match self {
            Self::Here => "self",
            Self::Up => "up",
            Self::NotVoting => "notVoting",
            Self::Missing => "missing",
        }
    }
}

impl ConsensusView {
    /// What a member does.
    pub fn state_of(&self, member: &NodeId) -> MemberState {
        if *member == self.me {
            return MemberState::Here;
        }
        let seen = self.members.get(member).copied().unwrap_or_default();
        if seen.heard.is_none_or(|heard| self.taken.since(heard) > SILENCE) {
            return MemberState::Missing;
        }
        // At the open height its vote may still come.
        if self.hears_all_votes() && seen.missed > HEIGHTS_WITHOUT_VOTE {
            return MemberState::NotVoting;
        }
        MemberState::Up
    }

    /// Whether every vote comes to this node: they go to members, and in Raft to the leader alone.
    fn hears_all_votes(&self) -> bool {
        match self.epoch.kind() {
            Kind::Pbft => self.votes(),
            Kind::Raft => self.leader == Some(self.me),
            Kind::Solo | Kind::Pow => false,
        }
    }

    /// Since when transactions wait here for the height that is being decided, if they do and this
    /// node takes part.
    pub fn stalled_since(&self) -> Option<Time> {
        let running = self.halted.is_none();
        self.waiting_since.filter(|_| running).map(|since| since.max(self.height_since))
    }

    /// Whether this node votes in the running epoch.
    pub fn votes(&self) -> bool {
        self.epoch.has_member(&self.me)
    }
}

/// The height that is final elsewhere, from what peers claim: the highest that an honest member
/// claims or exceeds, if less than a third of the weight lies. Where too few members are heard, the
/// median of all claims.
pub fn credible_height(committee: &Committee, claims: &BTreeMap<NodeId, Height>) -> Option<Height> {
    let mut all: Vec<(Height, NodeId)> =
        claims.iter().map(|(peer, height)| (*height, *peer)).collect();
    all.sort_unstable_by_key(|claim| Reverse(*claim));
    let mut weight = 0;
    for (height, peer) in &all {
        weight += committee.weight_of(peer).0;
        if weight >= committee.honest_minimum().0 {
            return Some(*height);
        }
    }
    // Of an even number the lower one: a lie must not win a tie.
    all.get(all.len() / 2).map(|(height, _)| *height)
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The peer.
    Inbound,
    /// This node.
    Outbound,
}

/// A peer that is connected.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// The address of the key that signs its votes; of any other node, that of its node key.
    pub id: NodeId,
    /// The public key of its connections.
    pub key: Bytes,
    /// That key in the text form of the transport's addresses.
    pub peer: String,
    /// Where it is, in the form that `admin_addPeer` takes.
    pub address: String,
    /// Who opened the connection.
    pub direction: Direction,
    /// Whether it is a member of the running epoch.
    pub validator: bool,
    /// Its name, as the genesis has it.
    pub name: Option<String>,
    /// The software that it says it runs.
    pub client: String,
    /// Whether the configuration or an operator named it: it is connected again when it is lost.
    pub pinned: bool,
    /// What its conduct has earned; below zero is bad.
    pub score: i64,
    /// When the connection was made.
    pub connected: Time,
    /// Bytes that came from it.
    pub bytes_in: u64,
    /// Bytes that went to it.
    pub bytes_out: u64,
    /// Messages that came from it.
    pub messages_in: u64,
    /// Messages that went to it.
    pub messages_out: u64,
    /// The height that it last said is final with it.
    pub finalized: Option<Height>,
}

/// A round or term, and who voted in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundTrace {
    /// The height.
    pub height: Height,
    /// The round or term.
    pub round: u64,
    /// When this node first heard of it.
    pub opened: Time,
    /// Votes in order of arrival, this node's own too.
    pub votes: Vec<TracedVote>,
    /// The block that this round decided, and when this node knew.
    pub decided: Option<(B256, Time)>,
}

/// One vote of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedVote {
    /// Who.
    pub signer: NodeId,
    /// What kind of statement.
    pub step: Step,
    /// For what.
    pub hash: B256,
    /// When it came.
    pub at: Time,
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_types::{Anchor, Params, PbftParams, RaftParams};

    fn id(n: u8) -> NodeId {
        NodeId::repeat_byte(n)
    }

    fn pbft() -> Params {
        Params::Pbft(PbftParams {
            block_interval: Span(20),
            empty_blocks: false,
            round_timeout: Span(1_000),
            round_timeout_max: Span(10_000),
            retransmit: Span(100),
            clock_drift: Span(500),
        })
    }

    fn raft() -> Params {
        Params::Raft(RaftParams {
            heartbeat: Span(50),
            election: Span(200),
            block_interval: Span(20),
            empty_blocks: false,
        })
    }

    fn view(params: Params) -> ConsensusView {
        let epoch = Epoch {
            chain: B256::ZERO,
            number: 0,
            params,
            committee: Committee::equal((1..=4).map(id)).unwrap(),
            first: Height(1),
            last: Height(u64::MAX),
            anchor: Anchor::Final { hash: B256::ZERO, time: Time(0) },
        };
        ConsensusView {
            taken: Time(100_000),
            epoch: Arc::new(epoch),
            names: Arc::default(),
            me: id(1),
            height: Height(50),
            height_since: Time(99_000),
            round: 0,
            round_since: Time(99_000),
            leader: Some(id(2)),
            waiting_since: None,
            members: BTreeMap::new(),
            claimed: None,
            describe: String::new(),
            halted: None,
            silent: None,
        }
    }

    fn seen(heard: u64, height: u64) -> MemberSeen {
        let vote = LastVote { height: Height(height), round: 0, step: Step::Commit, at: Time(1) };
        MemberSeen { heard: Some(Time(heard)), vote: Some(vote), missed: 0 }
    }

    #[test]
    fn a_member_is_missing_when_it_is_not_heard_and_idle_when_it_has_nothing_to_vote_on() {
        let mut view = view(pbft());
        view.members.insert(id(2), seen(99_500, 50));
        view.members.insert(id(3), seen(94_000, 50));
        assert_eq!(view.state_of(&id(1)), MemberState::Here);
        assert_eq!(view.state_of(&id(2)), MemberState::Up);
        assert_eq!(view.state_of(&id(3)), MemberState::Missing, "silent for six seconds");
        assert_eq!(view.state_of(&id(4)), MemberState::Missing, "never heard");
        // An hour without transactions: nobody votes, all are heard.
        view.taken = Time(3_700_000);
        view.members.insert(id(2), seen(3_699_900, 49));
        assert_eq!(view.state_of(&id(2)), MemberState::Up);
    }

    #[test]
    fn a_member_that_is_heard_but_did_not_vote_for_three_heights_does_not_vote() {
        let mut view = view(pbft());
        let missed = |missed| MemberSeen { missed, ..seen(99_900, 46) };
        view.members.insert(id(2), missed(3));
        assert_eq!(view.state_of(&id(2)), MemberState::Up, "its vote may still come");
        view.members.insert(id(2), missed(4));
        assert_eq!(view.state_of(&id(2)), MemberState::NotVoting);
        view.me = id(9);
        assert_eq!(view.state_of(&id(2)), MemberState::Up, "votes go to members alone");
    }

    #[test]
    fn one_liar_of_four_moves_the_credible_height_nowhere() {
        let committee = Committee::equal((1..=4).map(id)).unwrap();
        let claims = |of: &[(u8, u64)]| {
            of.iter().map(|(n, height)| (id(*n), Height(*height))).collect::<BTreeMap<_, _>>()
        };
        let two = claims(&[(2, u64::MAX), (3, 25), (4, 24), (77, u64::MAX)]);
        assert_eq!(credible_height(&committee, &two), Some(Height(25)), "strangers do not count");
        let low = claims(&[(2, 0), (3, 25), (4, 24)]);
        assert_eq!(credible_height(&committee, &low), Some(Height(24)));
    }

    #[test]
    fn without_members_the_median_is_credible_and_a_tie_goes_down() {
        let committee = Committee::equal([id(1)]).unwrap();
        let claims = |heights: &[u64]| {
            (100..).map(id).zip(heights.iter().copied().map(Height)).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(credible_height(&committee, &claims(&[])), None);
        assert_eq!(credible_height(&committee, &claims(&[5, 9, 1_000])), Some(Height(9)));
        assert_eq!(credible_height(&committee, &claims(&[5, 1_000])), Some(Height(5)));
    }

    #[test]
    fn a_follower_of_raft_does_not_judge_votes_that_go_to_the_leader() {
        let mut view = view(raft());
        view.members.insert(id(3), MemberSeen { missed: 50, ..seen(99_900, 0) });
        assert_eq!(view.state_of(&id(3)), MemberState::Up);
        view.leader = Some(id(1));
        assert_eq!(view.state_of(&id(3)), MemberState::NotVoting);
    }
}
