//! The calls by which the host of a replica feeds the metrics of consensus and of jobs. All are
//! cheap: a few atomic additions, and for those about time a short lock.

use super::metrics::Metrics;
use landfall_chain::StoredBlock;
use landfall_replica::JobKind;
use landfall_rpc::ConsensusView;
use landfall_types::{Height, SignedVote, Step};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// When things last happened.
#[derive(Debug, Default)]
pub struct Pace {
    /// The height of the newest proposal, and when it was first seen.
    proposed: Option<(Height, Instant)>,
    /// When a block was last decided.
    decided: Option<Instant>,
}

impl Metrics {
    /// A vote came, or goes if it is ours.
    pub fn voted(&self, signed: &SignedVote, ours: bool) {
        let position = signed.vote.position;
        let consensus = &self.consensus;
        let votes = if ours { &consensus.votes_out } else { &consensus.votes_in };
        votes.at(position.step.name()).increment();
        if position.step == Step::Proposal {
            self.proposed(position.height, Instant::now(), ours);
        }
    }

    fn proposed(&self, height: Height, now: Instant, ours: bool) {
        let mut pace = self.pace.lock();
        // Proposals are repeated.
        if pace.proposed.is_none_or(|(newest, _)| newest != height) {
            pace.proposed = Some((height, now));
            if ours {
                self.consensus.proposals.increment();
            }
        }
    }

    /// The head moved.
    pub fn adopted(&self, removed: &[Arc<StoredBlock>], added: &[Arc<StoredBlock>]) {
        let chain = &self.chain;
        if !removed.is_empty() {
            chain.reorganisations.increment();
            chain.abandoned.add(removed.len() as u64);
        }
        for stored in added {
            let transactions = stored.block.body.transactions.len();
            chain.blocks.increment();
            chain.transactions.add(transactions as u64);
            chain.gas_used.add(stored.block.header.gas_used);
            chain.block_transactions.observe(transactions as f64);
            chain.block_bytes.observe(stored.block.ethereum_rlp_length() as f64);
        }
    }

    /// A block of this height became final, or the head of a lottery.
    pub fn decided(&self, height: Height) {
        self.decided_at(height, Instant::now());
    }

    fn decided_at(&self, height: Height, now: Instant) {
        self.consensus.decisions.increment();
        let mut pace = self.pace.lock();
        if let Some(before) = pace.decided.replace(now) {
            self.consensus.height_seconds.time(now.saturating_duration_since(before));
        }
        if let Some((_, proposed)) = pace.proposed.take_if(|(newest, _)| *newest == height) {
            self.consensus.proposal_seconds.time(now.saturating_duration_since(proposed));
        }
    }

    /// The snapshot of consensus was made anew.
    pub fn moved(&self, before: &ConsensusView, after: &ConsensusView) {
        let consensus = &self.consensus;
        if after.leader.is_some() && after.leader != before.leader {
            consensus.leader_changes.increment();
        }
        if after.round < before.round {
            // Terms only grow; rounds begin anew with each height. The engine is at the next height
            // before readers see the last one, so heights are not compared.
            consensus.late_decisions.increment();
        } else if after.height == before.height {
            consensus.round_changes.add(after.round - before.round);
        }
    }

    /// Runs a job, and takes its time.
    pub fn timed<T>(&self, kind: JobKind, run: impl FnOnce() -> T) -> T {
        let running = self.jobs.running.at(kind.name());
        let begun = Instant::now();
        running.add(1.0);
        let done = run();
        running.add(-1.0);
        self.jobs.seconds.at(kind.name()).time(begun.elapsed());
        done
    }

    /// The thread that owns the replica took a step.
    pub fn stepped(&self, took: Duration, queued: usize) {
        self.consensus.step_seconds.time(took);
        self.consensus.queued.set_u64(queued as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry::Metric;
    use super::*;
    use alloy_primitives::B256;
    use landfall_types::{Anchor, Committee, Epoch, NodeId, Params, PbftParams, Time};
    use std::collections::BTreeMap;

    fn text(metric: &impl Metric) -> String {
        let mut out = String::new();
        metric.write("m", "", &mut out);
        out
    }

    #[test]
    fn the_time_from_a_proposal_to_its_decision_begins_with_the_first_word_of_it() {
        let (metrics, start) = (Metrics::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        metrics.proposed(Height(5), at(0), true);
        metrics.proposed(Height(5), at(400), true);
        metrics.decided_at(Height(5), at(500));
        metrics.decided_at(Height(6), at(2_500));
        let consensus = &metrics.consensus;
        assert_eq!((consensus.proposals.get(), consensus.decisions.get()), (1, 2));
        let proposals = text(&consensus.proposal_seconds);
        assert!(proposals.contains("m_sum 0.5\nm_count 1\n"), "{proposals}");
        let heights = text(&consensus.height_seconds);
        assert!(heights.contains("m_sum 2\nm_count 1\n"), "{heights}");
    }

    #[test]
    fn rounds_count_within_a_height_and_a_late_decision_once() {
        let (metrics, mut view) = (Metrics::default(), view());
        let mut to = |height, round, leader: u8| {
            let before = view.clone();
            (view.height, view.round) = (Height(height), round);
            view.leader = Some(NodeId::repeat_byte(leader));
            metrics.moved(&before, &view);
        };
        to(5, 1, 1);
        to(5, 3, 2);
        // The engine moves on first, readers follow.
        to(5, 0, 2);
        to(6, 0, 2);
        to(7, 0, 3);
        let consensus = &metrics.consensus;
        assert_eq!((consensus.round_changes.get(), consensus.late_decisions.get()), (3, 1));
        assert_eq!(consensus.leader_changes.get(), 3);
    }

    fn view() -> ConsensusView {
        let id = NodeId::repeat_byte(1);
        let epoch = Epoch {
            chain: B256::ZERO,
            number: 0,
            params: Params::Pbft(PbftParams::default()),
            committee: Committee::equal([id]).unwrap(),
            first: Height(1),
            last: Height(u64::MAX),
            anchor: Anchor::Final { hash: B256::ZERO, time: Time(0) },
        };
        ConsensusView {
            taken: Time(0),
            epoch: Arc::new(epoch),
            names: Arc::default(),
            me: id,
            height: Height(5),
            height_since: Time(0),
            round: 0,
            round_since: Time(0),
            leader: None,
            waiting_since: None,
            members: BTreeMap::new(),
            claimed: None,
            describe: String::new(),
            halted: None,
            silent: None,
        }
    }

    #[test]
    fn a_job_counts_as_running_while_it_runs() {
        let metrics = Metrics::default();
        let during = metrics.timed(JobKind::Sync, || metrics.jobs.running.at("sync").get());
        assert_eq!((during, metrics.jobs.running.at("sync").get()), (1.0, 0.0));
        assert!(text(&metrics.jobs.seconds).contains("m_count{kind=\"sync\"} 1\n"));
        assert!(text(&metrics.jobs.seconds).contains("m_count{kind=\"build\"} 0\n"));
    }
}
