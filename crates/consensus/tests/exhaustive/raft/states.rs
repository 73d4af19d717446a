//! What can happen in a state, what must hold in it, and which messages still matter.

use super::{Action, Cluster, Do, End, Facts, Kind, MEMBERS, Node, Role, Said, State};
use crate::exhaustive::Model;
use landfall_consensus::{Engine, Record};
use landfall_types::{Step, Vote};

impl Cluster {
    pub(super) fn has_ended(&self, facts: &Facts) -> bool {
        facts.finalized.0 >= self.epoch.last
    }

    /// Whether a message may change this node.
    fn concerns(&self, said: &Said, me: usize, nodes: &[u32; MEMBERS]) -> bool {
        let facts = self.nodes.get(nodes[me]).1;
        if self.has_ended(&facts) {
            return false;
        }
        match said {
            Said::Proof(vote) => facts.finalized.0 < vote.position.height,
            Said::Vote { from, to, vote, kind } => {
                let term = vote.position.round;
                *from != me
                    && to.is_none_or(|to| to == me)
                    && match kind {
                        Kind::Append => match facts.taken.filter(|_| facts.term == term) {
                            Some(tip) => self.tree.descends(vote.hash, tip),
                            None => facts.term <= term,
                        },
                        Kind::Candidacy(_) => {
                            let candidate = self.nodes.get(nodes[*from]).1;
                            let stands = candidate.role == Role::Candidate;
                            let voted = facts.voted.filter(|_| facts.term == term);
                            let free = voted.is_none_or(|voted| voted.into_word() == vote.hash);
                            // A leader does not hear candidates.
                            facts.role != Role::Leader
                                && stands
                                && candidate.term == term
                                && facts.term <= term
                                && free
                        }
                        Kind::Grant => facts.term == term && facts.role == Role::Candidate,
                        Kind::Ack => {
                            facts.term == term
                                && facts.role == Role::Leader
                                && facts.finalized.1 != vote.hash
                                && facts.tip == vote.hash
                        }
                    }
            }
        }
    }

    /// The state after `node` came to `end`, if no invariant breaks.
    fn arrive(
        &mut self,
        state: State,
        node: usize,
        end: &End,
        crash: bool,
    ) -> Result<State, String> {
        let mut after = State { crashes: state.crashes + u8::from(crash), ..state };
        after.nodes[node] = end.0;
        let mut network = self.networks.get(state.network).clone();
        for fresh in &end.1 {
            if let Err(place) = network.binary_search(fresh) {
                self.check_said(&network, *fresh)?;
                network.insert(place, *fresh);
            }
        }
        let (_, now) = self.nodes.get(after.nodes[node]);
        for other in after.nodes {
            let there = self.nodes.get(other).1.finalized;
            let (low, high) = if there.0 < now.finalized.0 {
                (there, now.finalized)
            } else {
                (now.finalized, there)
            };
            if !self.tree.descends(high.1, low.1) {
                return Err(format!("two blocks are final at height {}", low.0));
            }
        }
        network.retain(|message| self.is_live(*message, &after.nodes));
        after.network = self.networks.number(network.clone(), || network);
        Ok(after)
    }

    /// Whether a message can still be heard with effect, or contradicted by its sender.
    fn is_live(&self, message: u32, nodes: &[u32; MEMBERS]) -> bool {
        let (said, _) = self.messages.get(message);
        let own = match said {
            Said::Vote { from, vote, .. } => {
                let (sender, facts) = self.nodes.get(nodes[*from]);
                let again = !self.has_ended(facts) && facts.term <= vote.position.round;
                again && !self.remembers(sender, vote)
            }
            Said::Proof(_) => false,
        };
        own || (0..MEMBERS).any(|me| self.concerns(said, me, nodes))
    }

    /// Whether the durable record says that this vote was cast: `keeps_word` sees to the rest.
    fn remembers(&self, node: &Node, vote: &Vote) -> bool {
        let Some(Record::Raft(record)) = &node.durable.record else { return false };
        record.term == vote.position.round
            && match vote.position.step {
                Step::Grant => record.voted.is_some_and(|voted| voted.into_word() == vote.hash),
                _ => record.stamp == record.term && self.tree.descends(record.tip, vote.hash),
            }
    }

    /// A record that follows another one takes back nothing that was said by the other.
    pub(super) fn keeps_word(&self, old: Option<&Record>, new: &Record) -> bool {
        let (Some(Record::Raft(old)), Record::Raft(new)) = (old, new) else { return true };
        let taken = old.stamp == old.term;
        new.term > old.term
            || (new.term == old.term
                && (old.voted.is_none() || new.voted == old.voted)
                && (!taken || new.stamp == old.stamp && self.tree.descends(new.tip, old.tip)))
    }

    /// One vote at a position, and one leader of a term.
    fn check_said(&self, network: &[u32], fresh: u32) -> Result<(), String> {
        let Said::Vote { from, vote, kind, .. } = &self.messages.get(fresh).0 else {
            return Ok(());
        };
        for other in network {
            let Said::Vote { from: by, vote: known, kind: of, .. } = &self.messages.get(*other).0
            else {
                continue;
            };
            if from == by && vote.contradicts(known) {
                return Err(format!("node {from} says two things at {:?}", vote.position));
            }
            let leads = (*kind, *of) == (Kind::Append, Kind::Append);
            if leads && from != by && vote.position.round == known.position.round {
                return Err(format!("two leaders in term {}", vote.position.round));
            }
        }
        Ok(())
    }

    /// Everything that node `me` may do or hear.
    fn choices(&self, state: State, me: usize) -> Vec<Do> {
        let facts = self.nodes.get(state.nodes[me]).1;
        let mut choices = Vec::new();
        if self.has_ended(&facts) {
            return choices;
        }
        if facts.role != Role::Follower {
            choices.push(Do::Repeat);
        }
        let highest = state.nodes.iter().map(|node| self.nodes.get(*node).1.term).max();
        let most = (highest.expect("three") + 1).min(self.bounds.terms);
        choices.extend((facts.term + 1..=most).map(Do::Campaign));
        if facts.builds {
            choices.push(Do::Built);
        }
        for message in self.networks.get(state.network) {
            if self.concerns(&self.messages.get(*message).0, me, &state.nodes) {
                choices.push(Do::Hear(*message));
            }
        }
        choices
    }

    /// Nothing was ever heard of it, and it has heard nothing.
    fn is_fresh(&self, state: State, me: usize) -> bool {
        let network = self.networks.get(state.network);
        let said = |message: &u32| match &self.messages.get(*message).0 {
            Said::Vote { from, to, .. } => *from == me || *to == Some(me),
            Said::Proof(_) => false,
        };
        state.nodes[me] == self.initial.nodes[me] && !network.iter().any(said)
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        self.initial
    }

    fn next(&mut self, state: State) -> Result<Vec<(Action, State)>, (Action, String)> {
        // A crash that changes nothing else leads to no more than its absence does.
        let is_news = |after: State| State { crashes: state.crashes, ..after } != state;
        let mut all = Vec::new();
        let mut seen_fresh = false;
        for me in 0..MEMBERS {
            let fresh = self.is_fresh(state, me);
            if fresh && std::mem::replace(&mut seen_fresh, true) {
                // The same as the first that is fresh, by another name.
                continue;
            }
            let local = state.nodes[me];
            for what in self.choices(state, me) {
                let outcome = self.step(local, what).map_err(|it| (Action(me, what, None), it))?;
                if matches!(what, Do::Hear(_)) && outcome.whole.1.is_empty() && !outcome.counts {
                    continue;
                }
                let ends = [(None, &outcome.whole)].into_iter();
                let cuts = outcome.cuts.iter().enumerate().map(|(n, end)| (Some(n), end));
                for (cut, end) in ends.chain(cuts) {
                    let action = Action(me, what, cut);
                    let crash = cut.is_some();
                    if crash && state.crashes == self.bounds.crashes {
                        continue;
                    }
                    let after = self.arrive(state, me, end, crash).map_err(|it| (action, it))?;
                    if !crash || is_news(after) {
                        all.push((action, after));
                    }
                }
            }
            if state.crashes < self.bounds.crashes && !fresh {
                let action = Action(me, Do::Restart, None);
                let outcome = self.step(local, Do::Restart).map_err(|it| (action, it))?;
                let after = self.arrive(state, me, &outcome.whole, true);
                let after = after.map_err(|it| (action, it))?;
                if is_news(after) {
                    all.push((action, after));
                }
            }
        }
        Ok(all)
    }

    fn show(&self, state: State) -> String {
        let node = |local: &u32| {
            let node = &self.nodes.get(*local).0;
            format!("{} {}", node.me, node.engine.describe())
        };
        let network = self.networks.get(state.network).iter();
        let said = network.map(|message| format!("{:?}", self.messages.get(*message).0));
        let nodes: Vec<_> = state.nodes.iter().map(node).collect();
        format!("{}\n  {}", nodes.join("; "), said.collect::<Vec<_>>().join("\n  "))
    }
}
