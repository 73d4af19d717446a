//! What is read when somebody asks for the metrics.

use super::metrics::{Metrics, Network as NetworkMetrics};
use super::process;
use super::registry::OTHER;
use landfall_network::{Counters, Flow, Lane, Network, Topic};
use landfall_rpc::{Backend, Direction, MemberState, PeerView};
use landfall_types::Time;
use std::path::{Path, PathBuf};

/// What a running node can be asked.
#[derive(Clone)]
pub struct Source {
    /// Chain, pool, consensus and peers.
    pub backend: Backend,
    /// The peers, in a network.
    pub network: Option<Network>,
    /// Where the ledger lies.
    pub data_directory: PathBuf,
}

impl Source {
    /// The clock by which the node votes; on a development chain that of the machine.
    pub fn now(&self) -> Time {
        match &self.backend.node {
            Some(node) => node.now(),
            None => Time(crate::clock::wall()),
        }
    }

    /// When the newest block was made.
    pub fn head_time(&self) -> Time {
        self.backend.chain.head().block.block.time()
    }

    /// Sets everything that can be read.
    pub fn read_into(&self, metrics: &Metrics) {
        self.read_chain(metrics);
        self.read_pool(metrics);
        self.read_consensus(metrics);
        read_directory(&self.data_directory, metrics);
        metrics.process.clock.set(self.now().0 as f64 / 1_000.0);
        process::read_into(&metrics.process);
    }

    fn read_chain(&self, metrics: &Metrics) {
        let (chain, gauges) = (&self.backend.chain, &metrics.chain);
        let head = chain.head();
        let header = head.block.block.header.inner();
        gauges.head.set_u64(head.number());
        gauges.safe.set_u64(head.safe.0);
        gauges.finalized.set_u64(head.finalized.0);
        gauges.head_age.set(self.now().since(self.head_time()).0 as f64 / 1_000.0);
        gauges.gas_limit.set_u64(header.gas_limit);
        gauges.base_fee.set_u64(header.base_fee_per_gas.unwrap_or_default());
        let views = chain.flushed();
        gauges.views.set_u64(views);
        gauges.views_lag.set_u64(head.number().saturating_sub(views));
        metrics.storage.trie.set_u64(chain.trie_bytes() as u64);
        let (unwritten, cached) = chain.views_memory();
        metrics.storage.unwritten.set_u64(unwritten);
        metrics.storage.cached.set_u64(cached);
    }

    fn read_pool(&self, metrics: &Metrics) {
        let (status, bytes) = {
            let pool = self.backend.pool.pool().lock();
            (pool.status(), pool.bytes())
        };
        metrics.pool.pending.set_u64(status.pending as u64);
        metrics.pool.queued.set_u64(status.queued as u64);
        metrics.pool.bytes.set_u64(bytes as u64);
    }

    fn read_consensus(&self, metrics: &Metrics) {
        let Some(node) = &self.backend.node else { return };
        let (view, gauges) = (node.consensus(), &metrics.consensus);
        let members = view.epoch.committee.members();
        let count = |state: MemberState| {
            members.iter().filter(|member| view.state_of(&member.id) == state).count() as u64
        };
        gauges.height.set_u64(view.height.0);
        gauges.round.set_u64(view.round);
        gauges.epoch.set_u64(view.epoch.number);
        gauges.claimed.set_u64(view.claimed.map_or(0, |height| height.0));
        gauges.members.set_u64(members.len() as u64);
        gauges.missing.set_u64(count(MemberState::Missing));
        gauges.not_voting.set_u64(count(MemberState::NotVoting));
        gauges.is_member.set(u8::from(view.votes()));
        gauges.is_leader.set(u8::from(view.leader == Some(view.me)));
        gauges.halted.set(u8::from(view.halted.is_some()));
        let waited = view.stalled_since().map_or(0, |since| node.now().since(since).0);
        gauges.waiting.set(waited as f64 / 1_000.0);
        gauges.snapshot_age.set(node.now().since(view.taken).0 as f64 / 1_000.0);
        self.read_peers(&node.peers(), metrics);
    }

    fn read_peers(&self, peers: &[PeerView], metrics: &Metrics) {
        let gauges = &metrics.network;
        let count = |direction| peers.iter().filter(|it| it.direction == direction).count() as u64;
        gauges.peers.at("inbound").set_u64(count(Direction::Inbound));
        gauges.peers.at("outbound").set_u64(count(Direction::Outbound));
        gauges.validators.set_u64(peers.iter().filter(|peer| peer.validator).count() as u64);
        if let Some(network) = &self.network {
            read_counters(&network.counters(), gauges);
        }
    }
}

fn read_counters(counters: &Counters, metrics: &NetworkMetrics) {
    let flow = |name: &str, received: Flow, sent: Flow| {
        metrics.messages_in.at(name).reach(received.messages);
        metrics.bytes_in.at(name).reach(received.bytes);
        metrics.messages_out.at(name).reach(sent.messages);
        metrics.bytes_out.at(name).reach(sent.bytes);
    };
    for (place, lane) in Lane::ALL.into_iter().enumerate() {
        flow(lane.name(), counters.lane_in(lane), counters.lane_out(lane));
        metrics.dropped.at(lane.name()).reach(counters.dropped[place]);
    }
    for topic in Topic::ALL {
        flow(topic.name(), counters.topic_in(topic), counters.topic_out(topic));
    }
    metrics.dropped.at(OTHER).reach(counters.gossip_dropped);
    metrics.shed.reach(counters.gossip_shed);
    metrics.dialled.reach(counters.dials);
    metrics.accepted.reach(counters.accepted);
    metrics.banned.reach(counters.bans);
    metrics.offences.reach(counters.offences);
    metrics.malformed.reach(counters.malformed);
    metrics.slowed.reach(counters.rate_limited);
    for (reason, count) in &counters.refused {
        metrics.refused.at(reason).reach(*count);
    }
}

/// Sizes of the log and of the disk; what cannot be read keeps its last value.
fn read_directory(directory: &Path, metrics: &Metrics) {
    let gauges = &metrics.storage;
    if let Ok(entries) = std::fs::read_dir(directory.join("log")) {
        let sizes: Vec<u64> =
            entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).collect();
        gauges.log_bytes.set_u64(sizes.iter().sum());
        gauges.segments.set_u64(sizes.len() as u64);
    }
    if let Some(disk) = process::disk_of(directory) {
        gauges.free.set_u64(disk.free);
        gauges.size.set_u64(disk.size);
    }
}
