//! Lying in wait for leaders: whoever first leads in a term or a round with a block that is not
//! decided is cut off, or killed, once some have heard of the block and others have not. The one
//! that was cut off before comes back, with what it knows of its time.
//!
//! That is how blocks of several leaders stay open at one height (Figure 8 of Raft's paper), and
//! how one node alone has seen a block prepared.

use crate::class::Class;
use crate::host::Wire;
use crate::queue::Moment;
use crate::world::World;
use landfall_consensus::{Body, pbft, raft};
use landfall_types::{Height, Position};

/// How long after an ambush there is none, in milliseconds: histories must go on.
const TRUCE: Moment = 20_000;

/// Whom to wait for.
#[derive(Default)]
pub(crate) struct Ambush {
    /// It ends then.
    until: Moment,
    /// The leadership that was ended last.
    last: Option<Position>,
    /// Who is cut off.
    fallen: Option<usize>,
}

/// What befalls a leader.
#[derive(Clone, Copy)]
pub(crate) enum Blow {
    /// It loses power.
    Kill,
    /// It is not heard any more, and if it is deaf too, it hears nobody.
    Cut { deaf: bool },
}

impl World<'_> {
    /// Lies in wait for a while; false if it does already, or did lately.
    pub(crate) fn lie_in_wait(&mut self, until: Moment) -> bool {
        let free = self.ambush.until == 0 || self.now >= self.ambush.until + TRUCE;
        if free {
            self.ambush.until = until;
        }
        free
    }

    /// Nobody is waited for.
    pub(crate) fn end_ambush(&mut self) {
        self.ambush = Ambush::default();
    }

    /// Who hears a message of a node, and what befalls the node behind it because it begins to lead
    /// by it.
    pub(crate) fn waylay(
        &mut self,
        slot: usize,
        wire: &Wire,
        recipients: Vec<usize>,
    ) -> (Vec<usize>, Option<Blow>) {
        if self.now >= self.ambush.until {
            return (recipients, None);
        }
        let leads = self.leadership(slot, wire).filter(|it| Some(*it) > self.ambush.last);
        let Some(leads) = leads else { return (recipients, None) };
        self.ambush.last = Some(leads);
        let members = self.members_among(slot, recipients);
        // No member, one, or just as many as decide together with the leader. They decide only if
        // it hears what they say.
        let quorum = members.len().div_ceil(2);
        let count = [0, 1, quorum, quorum][self.faults.below(4) as usize].min(members.len());
        let deaf = self.faults.chance(if count < quorum { 50 } else { 25 });
        let killed = self.faults.chance(20);
        let blow = if killed { Blow::Kill } else { Blow::Cut { deaf } };
        (members.into_iter().take(count).collect(), Some(blow))
    }

    /// Cuts a leader off, or kills it; the one before comes back.
    pub(crate) fn bring_down(&mut self, slot: usize, blow: Blow) {
        self.count_fault(Class::CutLeader);
        if let Some(fallen) = self.ambush.fallen.take() {
            self.network.join(fallen);
        }
        match blow {
            Blow::Kill => {
                self.tell(|| format!("node {slot} leads, and is killed"));
                self.crash(slot, true, true);
            }
            Blow::Cut { deaf } => {
                let how = if deaf { "cut off" } else { "not heard any more" };
                self.tell(|| format!("node {slot} leads, and is {how}"));
                self.network.isolate(slot, deaf, self.ambush.until);
                self.ambush.fallen = Some(slot);
            }
        }
    }

    /// The term or round that a node leads, if a message is how a leader brings an open block.
    fn leadership(&self, slot: usize, wire: &Wire) -> Option<Position> {
        let Wire::Engine { vote: Some(vote), body, .. } = wire else { return None };
        let position = vote.vote.position;
        match body {
            Body::Raft(raft::Message::Append { .. }) => {
                let decided = self.slots[slot].host.as_ref()?.choice().finalized;
                (vote.vote.hash != decided).then_some(Position { height: Height(0), ..position })
            }
            Body::Pbft(pbft::Message::Proposal { .. }) => Some(position),
            _ => None,
        }
    }

    /// The members among the recipients of a message, from any of them on.
    fn members_among(&mut self, slot: usize, recipients: Vec<usize>) -> Vec<usize> {
        let Some(host) = &self.slots[slot].host else { return Vec::new() };
        let epoch = host.epoch();
        let is_member = |to: &usize| epoch.has_member(&self.slots[*to].id);
        let mut members: Vec<usize> = recipients.into_iter().filter(is_member).collect();
        if !members.is_empty() {
            let first = self.faults.below(members.len() as u64) as usize;
            members.rotate_left(first);
        }
        members
    }
}
