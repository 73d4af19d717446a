//! When: the block interval, the timeout of a round, repetition.

use super::Message;
use super::instance::Pbft;
use crate::engine::Output;
use crate::{Backoff, Timer, planted};
use alloy_primitives::B256;
use landfall_types::{Span, Step, Time};

impl Pbft {
    /// The next block is due an interval after its parent's time; that may be ahead of this clock.
    pub(super) fn wait_for_interval(&mut self, now: Time, parent: Time) {
        let due = Timer::after(parent.min(now), self.params.block_interval);
        self.due = if due.is_due(now) { Timer::off() } else { due };
    }

    /// How long the round may take.
    fn patience(&self) -> Span {
        let backoff = Backoff::new(self.params.round_timeout, self.params.round_timeout_max);
        at_least_a_millisecond(backoff.after(self.record.round))
    }

    /// A clock that was set back would make every timer late by as much.
    pub(super) fn bound_timers(&mut self, now: Time) {
        let latest = now + self.params.block_interval;
        self.due = self.due.at_most(latest);
        self.timeout = self.timeout.at_most(latest + self.patience());
        self.repeat = self.repeat.at_most(now + at_least_a_millisecond(self.params.retransmit));
    }

    /// Sets the timers that should run and do not, and stops those that should not.
    pub(super) fn arm(&mut self, now: Time) {
        if !self.votes() {
            self.due = Timer::off();
            self.timeout = Timer::off();
            self.repeat = Timer::off();
            self.held = Timer::off();
            return;
        }
        if !self.is_round_on() {
            self.timeout = Timer::off();
        } else if self.timeout.deadline().is_none() {
            let from = self.due.deadline().filter(|_| self.record.round == 0);
            self.timeout = Timer::after(from.unwrap_or(now).max(now), self.patience());
        }
        let saying = self.record.round > 0
            || self.record.accepted.is_some()
            || self.record.proposal.is_some()
            || self.fetched.is_some()
            || self.building;
        if !saying {
            self.repeat = Timer::off();
        } else if self.repeat.deadline().is_none() {
            self.repeat = Timer::after(now, at_least_a_millisecond(self.params.retransmit));
        }
    }

    /// Rule 6: whether the timeout of the round runs. A round above 0 is not left before a quorum
    /// is there: else nodes with equal timeouts chase each other and never meet.
    fn is_round_on(&self) -> bool {
        if self.record.round == 0 {
            return self.pending
                || self.params.empty_blocks
                || self.candidate.is_some()
                || self.record.accepted.is_some();
        }
        let committee = &self.epoch.committee;
        self.rounds.weight_from(self.record.round, committee) >= committee.byzantine_quorum()
    }

    /// Rule 9. What was prepared in this round says more than the round change to it.
    pub(super) fn say_again(&mut self, out: &mut Vec<Output>) {
        let record = &self.record;
        let committed = record.prepared_round() == Some(record.round);
        if let Some(own) = &record.proposal {
            // After a restart nobody may have the block.
            if !self.published {
                out.push(Output::Publish { hash: own.hash });
            }
            self.send_proposal(out);
        }
        if record.round > 0 && !committed && !planted!(PbftNoRetransmit) {
            self.send_round_change(out);
        }
        if let Some(accepted) = record.accepted {
            self.send(Step::Prepare, accepted.hash, accepted.digest, Message::Prepare, out);
            if committed {
                self.send(Step::Commit, accepted.hash, B256::ZERO, Message::Commit, out);
            }
        }
        self.published = true;
    }
}

fn at_least_a_millisecond(span: Span) -> Span {
    span.max(Span(1))
}
