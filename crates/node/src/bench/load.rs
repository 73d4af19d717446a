//! Sending. Each connection has its own senders and sends one request after the other, so that the
//! nonces of a sender arrive in order.
//!
//! In an open loop a transaction is due at a time that does not depend on the node: if the node
//! makes a connection wait, everything behind is late, and its latency counts from when it was
//! due. (Measuring from the actual sending would leave out exactly the bad moments.)

use super::client::Client;
use super::prepare::Signed;
use crate::failure::Failure;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// As fast as it goes.
    Max,
    /// Transactions per second, whatever the node does.
    PerSecond(f64),
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse::<f64>() {
            Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(Self::PerSecond(rate)),
            _ => Err("give transactions per second, more than 0, or `max`".into()),
        }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::PerSecond(rate) => write!(f, "{rate}/s"),
        }
    }
}

/// How to send.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How fast.
    pub rate: Rate,
    /// Transactions in one request.
    pub batch: usize,
    /// Connections side by side.
    pub connections: usize,
    /// How many senders take turns in the order of the transactions.
    pub senders: usize,
}

/// What became of one transaction at the door.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Its place in the order.
    pub index: usize,
    /// When it was due; without a rate, when it was sent.
    pub due: Instant,
    /// Whether the node took it.
    pub accepted: bool,
}

/// Everything that was sent.
#[derive(Debug, Default)]
pub struct Outcome {
    /// One entry per transaction.
    pub sent: Vec<Sent>,
    /// The words of the first refusal.
    pub refusal: Option<String>,
}

/// Sends everything, with connections to all of the nodes in turn; counts what they have taken in
/// `accepted` as it goes.
pub async fn send(
    urls: &[String],
    signed: Arc<Vec<Signed>>,
    plan: Plan,
    start: Instant,
    accepted: Arc<AtomicUsize>,
) -> Result<Outcome, Failure> {
    let mut tasks = Vec::new();
    for connection in 0..plan.connections {
        let client = Client::new(&urls[connection % urls.len()])?;
        let (signed, accepted) = (signed.clone(), accepted.clone());
        tasks.push(tokio::spawn(async move {
            one_connection(client, &signed, plan, connection, start, &accepted).await
        }));
    }
    let mut outcome = Outcome::default();
    for task in tasks {
        let one = task.await.expect("a connection's task does not panic")?;
        outcome.sent.extend(one.sent);
        outcome.refusal = outcome.refusal.or(one.refusal);
    }
    Ok(outcome)
}

async fn one_connection(
    client: Client,
    signed: &[Signed],
    plan: Plan,
    connection: usize,
    start: Instant,
    accepted: &AtomicUsize,
) -> Result<Outcome, Failure> {
    let mine: Vec<usize> = (0..signed.len())
        .filter(|index| index % plan.senders % plan.connections == connection)
        .collect();
    let mut outcome = Outcome::default();
    for batch in mine.chunks(plan.batch) {
        let raw: Vec<String> = batch.iter().map(|index| signed[*index].raw.clone()).collect();
        let due = match plan.rate {
            Rate::Max => Instant::now(),
            Rate::PerSecond(rate) => {
                let due = start + Duration::from_secs_f64(batch[0] as f64 / rate);
                tokio::time::sleep_until(due.into()).await;
                due
            }
        };
        for (index, answer) in batch.iter().zip(client.send_raw(&raw).await?) {
            let taken = answer.is_ok();
            accepted.fetch_add(usize::from(taken), Ordering::Relaxed);
            outcome.sent.push(Sent { index: *index, due, accepted: taken });
            outcome.refusal = outcome.refusal.or(answer.err());
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_a_number_above_zero_or_max() {
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("2.5".parse(), Ok(Rate::PerSecond(2.5)));
        for bad in ["0", "-1", "fast", "inf", "NaN", ""] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}
