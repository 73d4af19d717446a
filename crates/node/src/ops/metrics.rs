//! Every metric of the node. `docs/operating-metrics.md` has the same table, and a test compares
//! the two.
//!
//! Who feeds what: the host of the replica feeds `consensus` and `jobs` (`feed.rs`), the door to
//! the pool feeds `pool`, the interface `rpc`; everything that can be read (heights, members, pool
//! sizes, the network's counters, disk, process) is read when somebody asks for `/metrics`.

use super::feed::Pace;
use super::registry::{
    BYTES, COUNTS, Counter, Elapsed, Family, Gauge, Histogram, Metric, OTHER, OpenFamily, SECONDS,
};
use landfall_chain::pool::PoolError;
use landfall_types::Step;
use parking_lot::Mutex;
use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

/// Kinds of jobs, as the replica names them.
const JOBS: &[&str] = &["execute", "build", "sync", "sign", "recover", "flush"];
/// What the connections carry apart: two streams to each peer, two topics to everybody.
const LANES: &[&str] = &["votes", "sync", "blocks", "transactions"];
/// Who opened a connection.
const DIRECTIONS: &[&str] = &["inbound", "outbound"];
/// Reasons of a refused connection that are told apart.
const MOST_REASONS: usize = 64;
/// Methods that are told apart; only those that exist count.
const MOST_METHODS: usize = 512;
/// The code of an answer to a method that does not exist.
const NO_SUCH_METHOD: i32 = -32601;

/// Writes a group's `struct`, and what lists its metrics: name, help and value stand in one place.
macro_rules! group {
    ($(#[$about:meta])* $group:ident, $part:literal, {
        $($field:ident: $kind:ty = $make:expr, $name:literal, $help:literal;)*
    }) => {
        $(#[$about])*
        #[derive(Debug)]
        pub struct $group {
            $(#[doc = $help] pub $field: $kind,)*
        }

        impl Default for $group {
            fn default() -> Self {
                Self { $($field: $make,)* }
            }
        }

        impl $group {
            fn visit(&self, visit: &mut impl Visit) {
                $(visit.metric(concat!("landfall_", $part, "_", $name), $help, &self.$field);)*
            }
        }
    };
}

/// Takes the metrics one by one.
trait Visit {
    fn metric<M: Metric>(&mut self, name: &'static str, help: &'static str, metric: &M);
}

fn counter() -> Counter {
    Counter::default()
}

fn gauge() -> Gauge {
    Gauge::default()
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn methods() -> OpenFamily<Counter> {
    OpenFamily::new("method", MOST_METHODS)
}

fn steps() -> Family<Counter> {
    Family::new("step", &Step::ALL.map(Step::name), counter)
}

fn by<M>(label: &'static str, values: &[&'static str], make: fn() -> M) -> Family<M> {
    Family::new(label, values, make)
}

group! {
    /// What is decided, and by whom.
    Consensus, "consensus", {
        height: Gauge = gauge(), "height", "The height that is being decided.";
        round: Gauge = gauge(), "round", "The round or term there.";
        epoch: Gauge = gauge(), "epoch", "The number of the running epoch.";
        claimed: Gauge = gauge(), "claimed_height",
            "The height that is final elsewhere, as far as peers are to be believed.";
        members: Gauge = gauge(), "members", "Members of the running epoch.";
        missing: Gauge = gauge(), "members_missing", "Members that are not heard.";
        not_voting: Gauge = gauge(), "members_not_voting",
            "Members that are heard and do not vote, as far as this node would know.";
        is_member: Gauge = gauge(), "is_member", "1 if this node votes in the running epoch.";
        is_leader: Gauge = gauge(), "is_leader", "1 if this node leads the present round.";
        halted: Gauge = gauge(), "halted", "1 if the node stopped taking part.";
        waiting: Gauge = gauge(), "waiting_seconds",
            "For how long transactions have waited for the open height that a block would hold now.";
        decisions: Counter = counter(), "decisions_total",
            "Blocks that became final, or the head of a lottery.";
        round_changes: Counter = counter(), "round_changes_total",
            "Rounds or terms begun after the first of their height, as far as snapshots show.";
        leader_changes: Counter = counter(), "leader_changes_total",
            "Times that another leader was seen.";
        late_decisions: Counter = counter(), "late_decisions_total",
            "Heights that took more than one round, as far as snapshots show.";
        proposals: Counter = counter(), "proposals_total",
            "Heights for which this node was the first to propose, as it saw it.";
        evidence: Counter = counter(), "evidence_total", "Proofs that a member lied.";
        votes_in: Family<Counter> = steps(), "votes_received_total",
            "Votes of other members, by step.";
        votes_out: Family<Counter> = steps(), "votes_sent_total",
            "Votes of this node, by step, repetitions too.";
        height_seconds: Histogram = seconds(), "height_seconds",
            "From one decision to the next, idle times too.";
        proposal_seconds: Histogram = seconds(), "proposal_to_decision_seconds",
            "From a proposal, as it was first seen here, to its decision.";
        step_seconds: Histogram = seconds(), "step_seconds",
            "One step of the thread that owns the replica.";
        queued: Gauge = gauge(), "queued", "Entries in the replica's queues and caches.";
        snapshot_age: Gauge = gauge(), "snapshot_age_seconds",
            "Since the thread that owns the replica last gave a sign of life.";
    }
}

group! {
    /// The chain that readers see.
    Chain, "chain", {
        head: Gauge = gauge(), "head_number", "The newest block.";
        safe: Gauge = gauge(), "safe_number", "The newest block that is safe.";
        finalized: Gauge = gauge(), "finalized_number", "The newest block that is final.";
        head_age: Gauge = gauge(), "head_age_seconds",
            "By the node's clock, since the time of the newest block.";
        gas_limit: Gauge = gauge(), "gas_limit", "The gas limit of the newest block.";
        base_fee: Gauge = gauge(), "base_fee_wei", "The base fee of the newest block.";
        views: Gauge = gauge(), "views_number", "The newest block whose state is in the views.";
        views_lag: Gauge = gauge(), "views_lag_blocks", "Blocks that the views are behind.";
        blocks: Counter = counter(), "blocks_total", "Blocks that became canonical.";
        transactions: Counter = counter(), "transactions_total", "Transactions in them.";
        gas_used: Counter = counter(), "gas_used_total", "Gas that they used.";
        block_transactions: Histogram = Histogram::new(COUNTS), "block_transactions",
            "Transactions of a block.";
        block_bytes: Histogram = Histogram::new(BYTES), "block_bytes",
            "Bytes of a block as Ethereum encodes it.";
        reorganisations: Counter = counter(), "reorganisations_total",
            "Times that the head left its branch.";
        abandoned: Counter = counter(), "abandoned_blocks_total",
            "Blocks that were canonical and are not any more.";
    }
}

group! {
    /// Long work that the replica hands out.
    Jobs, "jobs", {
        seconds: Family<Histogram> = by("kind", JOBS, seconds), "seconds",
            "How long a job took, by kind: execute, build, sync (the disk), sign, recover, flush.";
        running: Family<Gauge> = by("kind", JOBS, gauge), "running", "Jobs under way, by kind.";
    }
}

group! {
    /// Transactions that wait.
    Pool, "pool", {
        pending: Gauge = gauge(), "pending", "Transactions that can stand in the next block.";
        queued: Gauge = gauge(), "queued", "Transactions that wait for others.";
        bytes: Gauge = gauge(), "bytes", "Bytes of all of them.";
        added: Counter = counter(), "added_total", "Transactions taken.";
        refused: Family<Counter> = by("reason", REASONS, counter), "refused_total",
            "Transactions refused, by reason.";
    }
}

group! {
    /// Peers and traffic.
    Network, "network", {
        peers: Family<Gauge> = by("direction", DIRECTIONS, gauge), "peers",
            "Connected peers, by who opened the connection.";
        validators: Gauge = gauge(), "validators",
            "Connected peers that are members of the running epoch.";
        dialled: Counter = counter(), "dials_total", "Connections that this node tried to make.";
        accepted: Counter = counter(), "accepted_total", "Connections that came in.";
        refused: OpenFamily<Counter> = OpenFamily::new("reason", MOST_REASONS), "refused_total",
            "Connections that reached no peer, by reason.";
        banned: Counter = counter(), "bans_total", "Peers that were banned.";
        offences: Counter = counter(), "offences_total", "Offences that were held against peers.";
        malformed: Counter = counter(), "malformed_total",
            "Frames of peers that were too long, or malformed.";
        slowed: Counter = counter(), "rate_limited_total",
            "Times that a peer was read slower since it sent too much.";
        bytes_in: Family<Counter> = by("lane", LANES, counter), "received_bytes_total",
            "Bytes that came, by lane.";
        bytes_out: Family<Counter> = by("lane", LANES, counter), "sent_bytes_total",
            "Bytes that went, by lane.";
        messages_in: Family<Counter> = by("lane", LANES, counter), "received_messages_total",
            "Messages that came, by lane.";
        messages_out: Family<Counter> = by("lane", LANES, counter), "sent_messages_total",
            "Messages that went, by lane.";
        dropped: Family<Counter> = by("lane", LANES, counter), "dropped_messages_total",
            "Messages that found a full queue, or nobody to go to; gossip is `other`.";
        shed: Counter = counter(), "shed_total",
            "Gossip of peers that was dropped: too much of it, or this node is behind.";
    }
}

group! {
    /// The directory that the ledger lies in, and what of it is in memory.
    Storage, "storage", {
        log_bytes: Gauge = gauge(), "log_bytes", "Bytes of the log's segments.";
        segments: Gauge = gauge(), "log_segments", "Segments of the log.";
        free: Gauge = gauge(), "disk_free_bytes", "Bytes that the disk has left for this user.";
        size: Gauge = gauge(), "disk_size_bytes", "Bytes of the whole disk.";
        trie: Gauge = gauge(), "trie_bytes", "Bytes of the state trie's nodes in memory.";
        unwritten: Gauge = gauge(), "views_unwritten_bytes",
            "Bytes of rows of the views in memory that are not written in order yet.";
        cached: Gauge = gauge(), "views_cached_bytes",
            "Bytes of rows of the views in memory that are kept for reading.";
    }
}

group! {
    /// The process.
    Process, "process", {
        cpu: Elapsed = Elapsed::default(), "cpu_seconds_total", "CPU time so far, of all threads.";
        resident: Gauge = gauge(), "resident_bytes", "Memory that is resident.";
        open_files: Gauge = gauge(), "open_files", "Open files and sockets.";
        threads: Gauge = gauge(), "threads", "Threads.";
        started: Gauge = gauge(), "start_time_seconds", "When the process began, since 1970.";
        clock: Gauge = gauge(), "clock_seconds",
            "The node's clock, since 1970: compare it with that of the scraper.";
    }
}

group! {
    /// JSON-RPC.
    Rpc, "rpc", {
        requests: OpenFamily<Counter> = methods(), "requests_total",
            "Requests, by method; methods that do not exist are `other`.";
        errors: OpenFamily<Counter> = methods(), "errors_total",
            "Requests that were answered with an error, by method.";
        seconds: Histogram = seconds(), "seconds", "How long an answer took.";
    }
}

impl Rpc {
    fn answered(&self, method: &str, error: Option<i32>, took: Duration) {
        let method = if error == Some(NO_SUCH_METHOD) { OTHER } else { method };
        self.requests.at(method).increment();
        if error.is_some() {
            self.errors.at(method).increment();
        }
        self.seconds.time(took);
    }
}

/// Counts the answers of the interface; `RpcConfig::meter` takes it.
#[derive(Debug)]
pub struct RpcMeter;

impl landfall_rpc::Meter for RpcMeter {
    fn answered(&self, method: &str, error: Option<i32>, took: Duration) {
        metrics().rpc.answered(method, error, took);
    }
}

/// All metrics of a node.
#[derive(Debug, Default)]
pub struct Metrics {
    /// What is decided, and by whom.
    pub consensus: Consensus,
    /// The chain that readers see.
    pub chain: Chain,
    /// Long work that the replica hands out.
    pub jobs: Jobs,
    /// Transactions that wait.
    pub pool: Pool,
    /// Peers and traffic.
    pub network: Network,
    /// JSON-RPC.
    pub rpc: Rpc,
    /// The directory that the ledger lies in.
    pub storage: Storage,
    /// The process.
    pub process: Process,
    /// When things last happened.
    pub(super) pace: Mutex<Pace>,
}

/// The metrics of this process: one process is one node, and like its log they are one.
pub fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::default);
    &METRICS
}

impl Metrics {
    fn visit(&self, visit: &mut impl Visit) {
        self.consensus.visit(visit);
        self.chain.visit(visit);
        self.jobs.visit(visit);
        self.pool.visit(visit);
        self.network.visit(visit);
        self.rpc.visit(visit);
        self.storage.visit(visit);
        self.process.visit(visit);
    }

    /// All series in Prometheus' text form.
    pub fn text(&self) -> String {
        struct Text(String);
        impl Visit for Text {
            fn metric<M: Metric>(&mut self, name: &'static str, help: &'static str, metric: &M) {
                let (out, kind) = (&mut self.0, M::KIND);
                writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a string");
                metric.write(name, "", out);
            }
        }
        let mut text = Text(String::with_capacity(64 * 1_024));
        self.visit(&mut text);
        text.0
    }
}

/// The reasons of [`reason`].
const REASONS: &[&str] = &[
    "closed",
    "known",
    "type",
    "size",
    "gas",
    "fee",
    "chainId",
    "signature",
    "nonce",
    "funds",
    "sender",
    "underpriced",
    "full",
    "limit",
    "state",
];

/// Why the pool refused a transaction, in a word: the label of `landfall_pool_refused_total`.
pub fn reason(error: &PoolError) -> &'static str {
    match error {
        PoolError::Closed(_) => "closed",
        PoolError::AlreadyKnown => "known",
        PoolError::TypeNotActive { .. } | PoolError::Blob | PoolError::NoAuthorization => "type",
        PoolError::Oversized { .. } | PoolError::InitcodeSize { .. } => "size",
        PoolError::GasLimitTooHigh { .. }
        | PoolError::ExceedsBlockGasLimit
        | PoolError::IntrinsicGas { .. }
        | PoolError::FloorDataGas { .. } => "gas",
        PoolError::TipAboveFee => "fee",
        PoolError::ChainId { .. } => "chainId",
        PoolError::Signature => "signature",
        PoolError::NonceMax | PoolError::NonceTooLow { .. } => "nonce",
        PoolError::Funds { .. } | PoolError::CumulativeFunds { .. } => "funds",
        PoolError::SenderNotEoa(_) => "sender",
        PoolError::ReplacementUnderpriced | PoolError::Underpriced | PoolError::NoFee => {
            "underpriced"
        }
        PoolError::Full | PoolError::FutureReplacesPending => "full",
        PoolError::AccountLimit { .. } | PoolError::DelegatedLimit { .. } => "limit",
        PoolError::State(_) => "state",
    }
}

impl Pool {
    /// Counts what became of a transaction that was offered.
    pub fn offered<T>(&self, outcome: &Result<T, PoolError>) {
        match outcome {
            Ok(_) => self.added.increment(),
            Err(error) => self.refused.at(reason(error)).increment(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating-metrics.md");

    #[derive(Default)]
    struct Listed(BTreeMap<String, (String, String)>);

    impl Visit for Listed {
        fn metric<M: Metric>(&mut self, name: &'static str, help: &'static str, _: &M) {
            let before = self.0.insert(name.into(), (M::KIND.into(), help.into()));
            assert_eq!(before, None, "{name} is there twice");
        }
    }

    fn listed() -> BTreeMap<String, (String, String)> {
        let mut listed = Listed::default();
        Metrics::default().visit(&mut listed);
        listed.0
    }

    /// Rows of the form "| `name` | kind | help |".
    fn documented(text: &str) -> BTreeMap<String, (String, String)> {
        let row = |line: &str| {
            let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
            let [name, kind, help] = cells[..] else { return None };
            let help = help.trim_end_matches(" |");
            Some((name.trim_end_matches('`').to_owned(), (kind.to_owned(), help.to_owned())))
        };
        text.lines().filter_map(row).collect()
    }

    #[test]
    fn every_metric_is_documented_and_every_documented_one_exists() {
        let rows = |all: &BTreeMap<String, (String, String)>| {
            let row = |(name, (kind, help)): (&String, &(String, String))| {
                format!("| `{name}` | {kind} | {help} |\n")
            };
            all.iter().map(row).collect::<String>()
        };
        let text = std::fs::read_to_string(TABLE).expect("the table is there");
        let (exist, told) = (rows(&listed()), rows(&documented(&text)));
        assert!(exist == told, "docs/operating-metrics.md must have these rows:\n{exist}");
        assert!(listed().len() >= 60, "{} metrics", listed().len());
    }

    #[test]
    fn names_say_part_and_unit_and_counters_end_in_total() {
        for (name, (kind, _)) in listed() {
            assert!(name.starts_with("landfall_"), "{name}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(name.bytes().all(plain), "{name}");
        }
    }

    #[test]
    fn the_text_has_a_head_for_each_metric_and_numbers_in_each_series() {
        let metrics = Metrics::default();
        metrics.pool.offered::<()>(&Err(PoolError::AlreadyKnown));
        metrics.rpc.answered("eth_chainId", Some(-32000), Duration::ZERO);
        metrics.rpc.answered("no_such", Some(-32601), Duration::ZERO);
        let text = metrics.text();
        assert!(text.contains("landfall_pool_refused_total{reason=\"known\"} 1\n"));
        assert!(text.contains("landfall_rpc_errors_total{method=\"eth_chainId\"} 1\n"));
        assert!(text.contains("landfall_rpc_requests_total{method=\"other\"} 1\n"));
        assert_eq!(text.matches("# TYPE ").count(), listed().len());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let value = line.rsplit(' ').next().expect("a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }

    #[test]
    fn every_reason_of_a_refusal_has_its_own_series() {
        for error in [PoolError::Blob, PoolError::Full, PoolError::NonceMax, PoolError::Signature] {
            assert!(REASONS.contains(&reason(&error)), "{error}");
        }
    }
}
