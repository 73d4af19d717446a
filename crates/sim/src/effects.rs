//! Performing what a replica wants done: messages into the network, jobs into the future, and
//! crashes between any two of them.

use crate::class::Class;
use crate::durable::segments;
use crate::host::{Effect, To, Wire, labour};
use crate::queue::Moment;
use crate::scenario::{Adversary, FIRST_DIFFICULTY, Network as Topology};
use crate::world::{Event, World};
use alloy_primitives::U256;
use landfall_consensus::Random;
use landfall_replica::{Halt, Job, JobKind};
use std::sync::Arc;

impl World<'_> {
    pub(crate) fn perform(&mut self, slot: usize, effect: Effect) {
        match effect {
            Effect::Send { to, wire } => self.send(slot, to, wire),
            Effect::Job(job) => self.start(slot, job),
            Effect::Shown { adopted, .. } => {
                self.stats.reorganisations += u64::from(!adopted.removed.is_empty());
            }
            Effect::Report(evidence) => {
                if self.slots[slot].liar.is_none() {
                    self.stats.evidence += 1;
                    let verdict = self.checker.accused(&evidence, &self.setup);
                    self.tell(|| format!("node {slot} reports {:?}", evidence.accused()));
                    self.judge(slot, verdict);
                }
            }
            Effect::Unsigned { .. } => unreachable!("every key of a history is at hand"),
            Effect::Penalise { peer, why } => {
                let honest = |it: &&crate::world::Slot| it.id == peer && it.liar.is_none();
                let framed = self.slots.iter().find(honest).is_some();
                if framed && self.slots[slot].liar.is_none() {
                    self.fail(Some(slot), "A2", format!("honest {peer} is blamed for {why}"));
                }
            }
        }
    }

    pub(crate) fn judge(&mut self, slot: usize, verdict: Result<(), (&'static str, String)>) {
        if let Err((rule, what)) = verdict {
            self.fail(Some(slot), rule, what);
        }
    }

    fn send(&mut self, slot: usize, to: To, wire: Wire) {
        // What arrives has been bytes.
        let bytes = wire.encode();
        let again = match Wire::decode(&bytes) {
            Ok(again) if again == wire => again,
            other => return self.fail(Some(slot), "codec", format!("{wire:?} became {other:?}")),
        };
        let recipients = self.recipients(slot, to);
        if self.slots[slot].liar.is_some() {
            return self.lie(slot, &recipients, again);
        }
        let verdict = self.checker.said(slot, &self.slots, &again);
        self.judge(slot, verdict);
        let wire = Arc::new(again);
        let (heard, blow) = self.waylay(slot, &wire, recipients);
        for other in heard {
            self.transmit(slot, other, &wire);
        }
        if let Some(blow) = blow {
            self.bring_down(slot, blow);
        }
    }

    /// The slots that a message is for. Twins are one node to everybody else.
    fn recipients(&mut self, slot: usize, to: To) -> Vec<usize> {
        let me = self.slots[slot].id;
        let others = |world: &Self, keep: &dyn Fn(usize) -> bool| -> Vec<usize> {
            let all = (0..world.slots.len()).filter(|other| world.slots[*other].id != me);
            all.filter(|other| keep(*other)).collect()
        };
        match to {
            // Gossip reaches everybody: who is no member must not listen.
            To::Everyone | To::Members => others(self, &|_| true),
            To::One(id) => others(self, &|other| self.slots[other].id == id),
            To::Any => {
                let all = others(self, &|_| true);
                let chosen = self.jobs.below(all.len() as u64) as usize;
                vec![all[chosen]]
            }
        }
    }

    /// One message on its way.
    pub(crate) fn transmit(&mut self, from: usize, to: usize, wire: &Arc<Wire>) {
        let sender = self.slots[from].id;
        for at in self.network.arrivals(self.now, from, to).into_iter().flatten() {
            let event = Event::Deliver { slot: to, from: sender, wire: wire.clone() };
            self.queue.push(at, event);
        }
    }

    fn start(&mut self, slot: usize, job: Job) {
        let (kind, difficulty) = labour(&job);
        let takes = self.duration(slot, kind, difficulty);
        let life = self.slots[slot].life;
        let at = self.now + takes;
        // A crash while the job runs finds its work done, or not.
        let early = match kind {
            JobKind::Sign => true,
            JobKind::Recover => takes == 0,
            _ => self.jobs.chance(40),
        };
        if !early {
            return self.queue.push(at, Event::Run { slot, life, job: Box::new(job) });
        }
        let Some(host) = &self.slots[slot].host else { return };
        let done = Box::new(host.run(job));
        self.listen(slot);
        self.queue.push(at, Event::Ran { slot, life, done });
    }

    /// How long a job takes, in milliseconds.
    fn duration(&mut self, slot: usize, kind: JobKind, difficulty: Option<U256>) -> Moment {
        let (slow_disk, slow_jobs) = {
            let it = &self.slots[slot];
            (self.now < it.slow_disk_until, self.now < it.slow_jobs_until)
        };
        let nodes = self.setup.nodes as u64;
        let draw = &mut self.jobs;
        if let Some(difficulty) = difficulty {
            let share = U256::from(self.setup.interval * nodes) * difficulty;
            let mean = share / U256::from(FIRST_DIFFICULTY);
            return 1 + exponential(draw, mean.saturating_to::<u64>().min(1 << 32));
        }
        let rare = draw.chance(8);
        let stalled = self.stalled_until.saturating_sub(self.now);
        match kind {
            JobKind::Execute | JobKind::Build if stalled > 0 => stalled + draw.below(60),
            JobKind::Sync if slow_disk => draw.below(2_500),
            JobKind::Sync | JobKind::Flush => 1 + draw.below(if rare { 200 } else { 20 }),
            JobKind::Execute | JobKind::Build if slow_jobs => draw.below(3_000),
            JobKind::Build => 1 + self.setup.slow_build + draw.below(if rare { 500 } else { 60 }),
            JobKind::Execute => 1 + draw.below(if rare { 500 } else { 60 }),
            JobKind::Sign => draw.below(3),
            JobKind::Recover => draw.below(4),
        }
    }

    /// Takes note of what a node has signed.
    pub(crate) fn listen(&mut self, slot: usize) {
        let votes = self.slots[slot].signer.take_signed();
        if self.slots[slot].liar.is_some() {
            return;
        }
        for vote in votes {
            let verdict = self.checker.voted(slot, &self.slots, &vote, &mut self.stats);
            self.judge(slot, verdict);
        }
    }

    /// Whether a trap for a crash is set at a place, and springs: the first nodes that come there
    /// pass.
    pub(crate) fn springs(&mut self, slot: usize, place: &'static str) -> bool {
        let (now, alone) = (self.now, self.is_alone(slot));
        if self.traps.is_empty() || alone {
            return false;
        }
        self.traps.retain(|trap| now <= trap.until);
        let Some(at) = self.traps.iter().position(|trap| trap.place == place) else {
            return false;
        };
        if self.traps[at].countdown > 0 {
            self.traps[at].countdown -= 1;
            return false;
        }
        self.traps.remove(at);
        self.count_fault(Class::CrashAtBoundary);
        *self.stats.boundaries.entry(place).or_default() += 1;
        let power = self.faults.chance(70);
        self.tell(|| format!("node {slot} crashes {place}"));
        self.crash(slot, power, true);
        true
    }

    /// Ends a life. With `power`, what was not synced is lost, torn or kept.
    pub(crate) fn crash(&mut self, slot: usize, power: bool, reboot: bool) {
        let chance = self.faults.next_u64();
        let downtime = 50 + self.faults.below(5_000);
        let it = &mut self.slots[slot];
        it.host = None;
        it.life += 1;
        it.armed = None;
        it.ailing = false;
        it.disk.no_more_faults();
        if power {
            let durable: u64 = durable_bytes(&it.disk);
            let written = it.disk.used();
            it.disk.crash(chance);
            if written > durable {
                let kept = it.disk.used().saturating_sub(durable);
                let how = if kept == written - durable { 0 } else { 2 - usize::from(kept > 0) };
                self.stats.came_back[how] += 1;
            }
        } else {
            it.disk.restart();
        }
        if reboot {
            self.queue.push(self.now + downtime, Event::Boot { slot });
        }
    }

    /// A node cannot go on: expected, or a violation.
    pub(crate) fn halted(&mut self, slot: usize, halt: Halt) {
        self.tell(|| format!("node {slot} stops: {halt}"));
        match &halt {
            Halt::Store(_) if self.slots[slot].disk.stopped() => {
                self.count_fault(Class::CrashInDisk);
                *self.stats.boundaries.entry("inside the disk").or_default() += 1;
                self.crash(slot, true, true);
            }
            Halt::Store(_) if self.slots[slot].ailing => {
                let power = self.faults.chance(50);
                self.crash(slot, power, true);
            }
            Halt::FinalityConflict { ancestor, rival, .. }
                if self.scenario.topology == Topology::Long =>
            {
                self.stats.conflicts += 1;
                let (ancestor, rival) = (*ancestor, *rival);
                self.crash(slot, false, false);
                self.reorganise(slot, ancestor, rival);
            }
            Halt::ConflictingProofs { .. } if self.scenario.adversary == Adversary::Third => {
                self.crash(slot, false, false);
                self.slots[slot].stopped = true;
            }
            _ if self.slots[slot].liar.is_some() => self.crash(slot, true, true),
            _ => self.fail(Some(slot), "halt", halt.to_string()),
        }
    }
}

fn durable_bytes(disk: &landfall_chain::store::TestDisk) -> u64 {
    let lengths = segments(disk).into_iter();
    lengths.filter_map(|name| disk.with_durable(&name, <[u8]>::len)).map(|n| n as u64).sum()
}

/// An exponential draw with a mean, in integers, so that it is the same on every machine:
/// `-ln(u)` as the leading zeros of 64 random bits and a table of what follows.
fn exponential(random: &mut Random, mean: u64) -> u64 {
    // ln 2 in 2^-16.
    const LN_2: u64 = 45_426;
    let bits = random.next_u64() | 1;
    let zeros = u64::from(bits.leading_zeros());
    // The mantissa in [1, 2) as a fraction of 2^16, and its binary logarithm bit by bit.
    let mut mantissa = (bits << zeros) >> 47;
    let mut log = 0_u64;
    for bit in (0..16).rev() {
        mantissa = (mantissa * mantissa) >> 16;
        if mantissa >= 1 << 17 {
            mantissa >>= 1;
            log |= 1 << bit;
        }
    }
    let minus_log2 = ((zeros + 1) << 16) - log;
    let minus_ln = (minus_log2 * LN_2) >> 16;
    u64::try_from((u128::from(mean) * u128::from(minus_ln)) >> 16).expect("64 means at most")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_draws_have_the_mean_and_the_tail() {
        let mut random = Random::new(3);
        let draws: Vec<u64> = (0..20_000).map(|_| exponential(&mut random, 1_000)).collect();
        let mean = draws.iter().sum::<u64>() / draws.len() as u64;
        assert!((970..1_030).contains(&mean), "mean {mean}");
        let beyond = |limit: u64| draws.iter().filter(|draw| **draw > limit).count();
        // e^-1 and e^-3 of 20,000.
        assert!((7_100..7_620).contains(&beyond(1_000)), "{}", beyond(1_000));
        assert!((880..1_120).contains(&beyond(3_000)), "{}", beyond(3_000));
    }
}
