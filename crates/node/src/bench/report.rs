//! Figures of a run, as JSON and as a table.

use super::load::{Outcome, Sent};
use super::watch::Seen;
use serde::Serialize;
use std::time::{Duration, Instant};

/// One run against one node.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Which node.
    pub rpc: String,
    /// What it calls itself.
    pub client: String,
    /// `value`, `erc20` or `mix`.
    pub workload: &'static str,
    /// `max` or transactions per second.
    pub rate: String,
    /// Transactions in one request.
    pub batch: usize,
    /// Connections side by side.
    pub connections: usize,
    /// How many accounts sent.
    pub senders: usize,
    /// Transactions sent.
    pub transactions: usize,
    /// Taken by the node.
    pub accepted: usize,
    /// Seen in blocks.
    pub included: usize,
    /// Failed in execution, of a sample of those included.
    pub failed: usize,
    /// Blocks that held them.
    pub blocks: usize,
    /// From the first sending to the last inclusion.
    pub seconds: f64,
    /// Included per second over that time.
    pub per_second: f64,
    /// From when a transaction was due to when its block was seen.
    pub latency_ms: Latency,
    /// CPU of the node per included transaction, with `--pid`.
    pub cpu_us_per_transaction: Option<f64>,
    /// The most memory that the node had resident, with `--pid`.
    pub peak_memory_bytes: Option<u64>,
    /// The words of the first refusal.
    pub refusal: Option<String>,
    /// Watching ended before all accepted transactions were seen.
    pub gave_up: bool,
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half were faster.
    pub p50: f64,
    /// 95 of 100 were faster.
    pub p95: f64,
    /// 99 of 100 were faster.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

/// The figures that come from times alone.
pub struct Times {
    /// Seen in blocks.
    pub included: usize,
    /// From the first sending to the last inclusion.
    pub seconds: f64,
    /// Included per second.
    pub per_second: f64,
    /// From due to seen.
    pub latency: Latency,
}

/// Joins what was sent with what was seen.
pub fn times(outcome: &Outcome, seen: &Seen) -> Times {
    let pairs: Vec<(Instant, Instant)> = outcome
        .sent
        .iter()
        .filter_map(|Sent { index, due, .. }| Some((*due, seen.when[*index]?)))
        .collect();
    let first = outcome.sent.iter().map(|sent| sent.due).min();
    let last = pairs.iter().map(|(_, seen)| *seen).max();
    let span = first.zip(last).map_or(Duration::ZERO, |(a, b)| b.duration_since(a));
    let seconds = span.as_secs_f64();
    let latencies = pairs.iter().map(|(due, seen)| seen.saturating_duration_since(*due)).collect();
    let per_second = if seconds > 0.0 { pairs.len() as f64 / seconds } else { 0.0 };
    Times { included: pairs.len(), seconds, per_second, latency: percentiles(latencies) }
}

/// Nearest-rank percentiles.
fn percentiles(mut latencies: Vec<Duration>) -> Latency {
    latencies.sort_unstable();
    let at = |percent: usize| {
        let rank = (latencies.len() * percent).div_ceil(100).max(1) - 1;
        latencies.get(rank).map_or(0.0, |latency| latency.as_secs_f64() * 1_000.0)
    };
    Latency { p50: at(50), p95: at(95), p99: at(99), max: at(100) }
}

/// The median of the runs by their rate: the lower one of the middle two.
pub fn median<'a>(runs: &[&'a Run]) -> Option<&'a Run> {
    let mut sorted = runs.to_vec();
    sorted.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

/// The runs, the median of each node, and how the first node compares with each other one.
pub fn table(runs: &[Run]) -> String {
    let mut out = String::new();
    let head = ["node", "included", "incl/s", "p50 ms", "p95 ms", "p99 ms", "cpu µs/tx", "blocks"];
    out.push_str(&row(&head.map(String::from)));
    for run in runs {
        out.push_str(&row(&cells(run)));
    }
    let mut nodes: Vec<&str> = Vec::new();
    for run in runs {
        if !nodes.contains(&run.rpc.as_str()) {
            nodes.push(&run.rpc);
        }
    }
    let median_of =
        |rpc: &str| median(&runs.iter().filter(|run| run.rpc == rpc).collect::<Vec<_>>()).cloned();
    if runs.len() > nodes.len() {
        out.push_str("\nmedian\n");
        for run in nodes.iter().filter_map(|rpc| median_of(rpc)) {
            out.push_str(&row(&cells(&run)));
        }
    }
    if let Some((first, others)) = nodes.split_first() {
        for other in others {
            if let (Some(a), Some(b)) = (median_of(first), median_of(other)) {
                let ratio = a.per_second / b.per_second;
                out.push_str(&format!("{first} includes {ratio:.2} times what {other} does\n"));
            }
        }
    }
    for run in runs {
        let missing = run.accepted.saturating_sub(run.included);
        let refused = run.transactions - run.accepted;
        if refused > 0 {
            let why = run.refusal.as_deref().unwrap_or("no reason given");
            out.push_str(&format!("{}: {refused} refused, the first: {why}\n", run.rpc));
        }
        if run.failed > 0 {
            out.push_str(&format!(
                "{}: {} of the sample failed in execution\n",
                run.rpc, run.failed
            ));
        }
        if run.gave_up {
            out.push_str(&format!("{}: {missing} accepted but never included\n", run.rpc));
        }
    }
    out
}

fn cells(run: &Run) -> [String; 8] {
    let cpu = run.cpu_us_per_transaction.map_or("-".into(), |cpu| format!("{cpu:.1}"));
    [
        run.rpc.clone(),
        run.included.to_string(),
        format!("{:.0}", run.per_second),
        format!("{:.1}", run.latency_ms.p50),
        format!("{:.1}", run.latency_ms.p95),
        format!("{:.1}", run.latency_ms.p99),
        cpu,
        run.blocks.to_string(),
    ]
}

fn row(cells: &[String; 8]) -> String {
    let mut line = format!("{:<28}", cells[0]);
    for cell in &cells[1..] {
        line.push_str(&format!(" {cell:>10}"));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let hundred = (1..=100).rev().map(Duration::from_millis).collect();
        let want = Latency { p50: 50.0, p95: 95.0, p99: 99.0, max: 100.0 };
        assert_eq!(percentiles(hundred), want);
        assert_eq!(percentiles(vec![Duration::from_millis(3)]).p50, 3.0);
        assert_eq!(percentiles(Vec::new()), Latency::default());
    }

    #[test]
    fn latency_counts_from_when_a_transaction_was_due() {
        let start = Instant::now();
        let due = |index: usize, ms| Sent {
            index,
            due: start + Duration::from_millis(ms),
            accepted: true,
        };
        let outcome = Outcome { sent: vec![due(0, 0), due(1, 100)], refusal: None };
        let at = |ms| Some(start + Duration::from_millis(ms));
        let seen = Seen { when: vec![at(1_000), at(2_000)], ..Seen::default() };
        let times = times(&outcome, &seen);
        assert_eq!((times.included, times.seconds, times.per_second), (2, 2.0, 1.0));
        assert_eq!((times.latency.p50, times.latency.max), (1_000.0, 1_900.0));
    }
}
