//! Who leads: pre-votes, votes, and the check of the quorum.

use super::{Last, Leader, Message, Raft, Role, candidate_hash, term_of};
use crate::engine::{Context, Output, Recipients};
use crate::{Tally, Timer};
use landfall_types::{Height, NodeId, SignedVote, Step, Time};
use std::collections::BTreeSet;

impl Raft {
    /// This node's log, for comparison.
    fn last(&self, cx: &Context<'_>) -> Last {
        let tip = cx.tree.block(&self.record.tip);
        let by_block = [crate::planted!(RaftTermInBlock), crate::planted!(RaftNoCurrentTerm)];
        let stamp = if by_block.contains(&true) {
            term_of(&tip.data).unwrap_or(0)
        } else {
            self.record.stamp
        };
        Last { stamp, height: tip.height }
    }

    /// Rule 3.
    fn is_up_to_date(&self, cx: &Context<'_>, last: Last) -> bool {
        crate::planted!(RaftNoLogComparison) || last >= self.last(cx)
    }

    /// Rule 5.
    fn hears_leader(&self, now: Time) -> bool {
        matches!(self.role, Role::Leader(_)) || !self.lease.is_due(now)
    }

    /// Rule 4: asks before it raises its term.
    pub(super) fn seek_election(&mut self, cx: &Context<'_>, out: &mut Vec<Output>) {
        self.rest(cx.now);
        let granted = BTreeSet::from([self.me]);
        if self.is_majority(&granted) {
            return self.campaign(cx, out);
        }
        let repeat = Timer::after(cx.now, self.params.heartbeat);
        self.role = Role::PreCandidate { granted, repeat };
        self.request(cx, out);
    }

    /// Rule 2. At the last of all terms there is nothing to stand for: no honest node gets there.
    pub(super) fn campaign(&mut self, cx: &Context<'_>, out: &mut Vec<Output>) {
        let Some(term) = self.record.term.checked_add(1) else { return };
        self.record.term = term;
        self.record.voted = Some(self.me);
        self.leader = None;
        self.wanted = None;
        self.rest(cx.now);
        let repeat = Timer::after(cx.now, self.params.heartbeat);
        self.role = Role::Candidate { grants: Tally::default(), repeat };
        self.request(cx, out);
    }

    /// Says again what this node asks for.
    pub(super) fn request(&mut self, cx: &Context<'_>, out: &mut Vec<Output>) {
        let last = self.last(cx);
        match &self.role {
            Role::PreCandidate { .. } => {
                let term = self.record.term.saturating_add(1);
                self.send(Recipients::All, None, Message::PreVote { term, last }, out);
            }
            Role::Candidate { .. } => {
                let vote = self.vote(Step::Grant, Height(0), candidate_hash(&self.me));
                self.send(Recipients::All, Some(vote), Message::Candidacy { last }, out);
            }
            Role::Follower | Role::Leader(_) => {}
        }
    }

    pub(super) fn on_pre_vote(
        &mut self,
        cx: &Context<'_>,
        from: NodeId,
        term: u64,
        last: Last,
        out: &mut Vec<Output>,
    ) {
        if self.hears_leader(cx.now) {
            return;
        }
        if term > self.record.term && self.is_up_to_date(cx, last) {
            self.send(Recipients::One(from), None, Message::PreGrant { term }, out);
        } else {
            self.say_heard(from, out);
        }
    }

    pub(super) fn on_pre_grant(
        &mut self,
        cx: &Context<'_>,
        from: NodeId,
        term: u64,
        out: &mut Vec<Output>,
    ) {
        let Role::PreCandidate { granted, .. } = &mut self.role else { return };
        if self.record.term.checked_add(1) != Some(term) || !self.epoch.has_member(&from) {
            return;
        }
        granted.insert(from);
        let granted = granted.clone();
        if self.is_majority(&granted) {
            self.campaign(cx, out);
        }
    }

    pub(super) fn on_candidacy(
        &mut self,
        cx: &Context<'_>,
        request: &SignedVote,
        last: Last,
        out: &mut Vec<Output>,
    ) {
        let (candidate, term) = (request.signer, request.vote.position.round);
        if request.vote.hash != candidate_hash(&candidate) || self.hears_leader(cx.now) {
            return;
        }
        self.raise(cx.now, term);
        let free = self.record.voted.is_none_or(|voted| voted == candidate);
        if term < self.record.term || !free || !self.is_up_to_date(cx, last) {
            return self.say_heard(candidate, out);
        }
        self.record.voted = Some(candidate);
        self.follow(cx.now);
        self.rest(cx.now);
        let vote = self.vote(Step::Grant, Height(0), candidate_hash(&candidate));
        self.send(Recipients::One(candidate), Some(vote), Message::Grant, out);
    }

    pub(super) fn on_grant(&mut self, cx: &Context<'_>, grant: &SignedVote, out: &mut Vec<Output>) {
        self.raise(cx.now, grant.vote.position.round);
        let mine = self.vote(Step::Grant, Height(0), candidate_hash(&self.me));
        let committee = &self.epoch.committee;
        let Role::Candidate { grants, .. } = &mut self.role else { return };
        if grant.vote != mine || !committee.contains(&grant.signer) {
            return;
        }
        grants.insert(grant);
        if grants.reaches(&mine, committee, committee.majority()) {
            self.lead(cx, out);
        }
    }

    /// Takes its own branch anew (rule 8), and says so.
    fn lead(&mut self, cx: &Context<'_>, out: &mut Vec<Output>) {
        self.role = Role::Leader(Leader {
            acks: Tally::default(),
            active: BTreeSet::new(),
            heartbeat: Timer::after(cx.now, self.params.heartbeat),
            check: Timer::after(cx.now, self.params.election),
            block: self.next_block(cx),
            asked: None,
        });
        self.leader = Some(self.me);
        self.record.stamp = self.record.term;
        self.append(cx, out);
    }

    /// Rule 6: whether a majority was heard since the last time. Starts to count anew.
    pub(super) fn keeps_quorum(&mut self, now: Time) -> bool {
        let Role::Leader(leader) = &mut self.role else { return false };
        let mut active = std::mem::take(&mut leader.active);
        leader.check = Timer::after(now, self.params.election);
        active.insert(self.me);
        self.is_majority(&active)
    }

    pub(super) fn on_heard(&mut self, now: Time, from: NodeId, term: u64) {
        self.raise(now, term);
        if term == self.record.term {
            self.note_active(from);
        }
    }

    /// A member answered this leader in its term.
    pub(super) fn note_active(&mut self, from: NodeId) {
        if let Role::Leader(leader) = &mut self.role
            && self.epoch.has_member(&from)
        {
            leader.active.insert(from);
        }
    }
}
