//! `eth_subscribe` on WebSocket: new heads, logs, pending transactions, syncing.

use crate::api::{Api, Registry};
use crate::arguments::Arguments;
use crate::connections::Connection;
use crate::cursor::{Cursor, Steps};
use crate::doors::Event;
use crate::errors::{Outcome, invalid_params};
use crate::eth_logs::LogFilter;
use crate::{eth_blocks, types};
use jsonrpsee::{PendingSubscriptionSink, SubscriptionSink};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// A subscriber that takes nothing for so long is dropped.
const PATIENCE: Duration = Duration::from_secs(10);
/// Blocks that are told in one go after a pause.
const MOST_BLOCKS: usize = 1_024;

pub(crate) fn register(registry: &mut Registry) {
    registry
        .module
        .register_subscription(
            "eth_subscribe",
            "eth_subscription",
            "eth_unsubscribe",
            |params, pending: PendingSubscriptionSink, api: Arc<Api>, extensions| async move {
                // The news starts before the answer, so that nothing falls between.
                let events = api.backend.pool.events();
                let kind = Arguments::new(&params, 2).and_then(|args| Kind::read(&args));
                // They may be long, and a subscription lives long.
                drop(params);
                match kind {
                    Ok(kind) => {
                        let cursor = Cursor::at_head(&api.backend.chain);
                        if let Ok(sink) = pending.accept().await {
                            let connection = extensions.get().cloned();
                            Subscriber { api, sink, cursor, connection }.run(kind, events).await;
                        }
                    }
                    Err(error) => pending.reject(error).await,
                }
            },
        )
        .expect("each method is registered once");
}

enum Kind {
    Heads,
    Logs(LogFilter),
    Pending { full: bool },
    Syncing,
}

impl Kind {
    fn read(args: &Arguments<'_>) -> Outcome<Self> {
        let name: String = args.required(0)?;
        Ok(match name.as_str() {
            "newHeads" => Self::Heads,
            "logs" => {
                let everything = || serde_json::from_str("{}").expect("an empty filter is valid");
                Self::Logs(args.optional(1)?.unwrap_or_else(everything))
            }
            "newPendingTransactions" => {
                Self::Pending { full: args.optional(1)?.unwrap_or_default() }
            }
            "syncing" => Self::Syncing,
            _ => {
                let message = format!("no {name:?} subscription in eth namespace");
                return Err(invalid_params(message));
            }
        })
    }
}

/// The client went away or does not keep up.
struct Gone;

struct Subscriber {
    api: Arc<Api>,
    sink: SubscriptionSink,
    cursor: Cursor,
    /// None without a socket.
    connection: Option<Arc<Connection>>,
}

impl Subscriber {
    async fn run(mut self, kind: Kind, mut events: Receiver<Event>) {
        let mut syncing = eth_blocks::syncing(&self.api);
        if matches!(kind, Kind::Syncing) && self.tell(&syncing).await.is_err() {
            return;
        }
        loop {
            let event = tokio::select! {
                () = self.sink.closed() => return,
                event = events.recv() => event,
            };
            let told = match event {
                Ok(Event::Head) | Err(RecvError::Lagged(_)) => match kind {
                    Kind::Syncing => self.tell_syncing(&mut syncing).await,
                    _ => self.follow(&kind).await,
                },
                Ok(Event::Pending(transaction)) => match kind {
                    Kind::Pending { full: false } => self.tell(&transaction.hash()).await,
                    Kind::Pending { full: true } => {
                        let base_fee =
                            self.api.backend.chain.head().block.block.header.base_fee_per_gas;
                        self.tell(&types::waiting(&transaction, base_fee)).await
                    }
                    _ => Ok(()),
                },
                Err(RecvError::Closed) => return,
            };
            if told.is_err() {
                tracing::debug!("a subscription ended: the client is gone or too slow");
                return;
            }
        }
    }

    /// Tells that syncing began or ended.
    async fn tell_syncing(&self, told: &mut Value) -> Result<(), Gone> {
        let now = eth_blocks::syncing(&self.api);
        if now.is_object() == told.is_object() {
            return Ok(());
        }
        *told = now;
        self.tell(told).await
    }

    /// Tells what happened on the chain since the last time; news that was missed changes nothing.
    async fn follow(&mut self, kind: &Kind) -> Result<(), Gone> {
        if matches!(kind, Kind::Pending { .. }) {
            return Ok(());
        }
        loop {
            let steps =
                self.cursor.advance(&self.api.backend.chain, MOST_BLOCKS).map_err(|_| Gone)?;
            self.tell_steps(kind, &steps).await?;
            if steps.added.len() < MOST_BLOCKS {
                return Ok(());
            }
        }
    }

    async fn tell_steps(&self, kind: &Kind, steps: &Steps) -> Result<(), Gone> {
        match kind {
            Kind::Heads => {
                for block in &steps.added {
                    let mut header = types::header(block);
                    header.size = None;
                    self.tell(&header).await?;
                }
            }
            Kind::Logs(filter) => {
                let removed = steps.removed.iter().map(|block| (block, true));
                for (block, gone) in removed.chain(steps.added.iter().map(|b| (b, false))) {
                    for log in filter.in_block(block, gone).collect::<Vec<_>>() {
                        self.tell(&log).await?;
                    }
                }
            }
            Kind::Pending { .. } | Kind::Syncing => {}
        }
        Ok(())
    }

    async fn tell<T: Serialize>(&self, message: &T) -> Result<(), Gone> {
        let json = serde_json::value::to_raw_value(message).map_err(|_| Gone)?;
        let bytes = json.get().len();
        if let Some(connection) = &self.connection {
            connection.owes(bytes);
        }
        let sent = self.sink.send_timeout(json, PATIENCE).await.map_err(|_| Gone);
        if let (Err(Gone), Some(connection)) = (&sent, &self.connection) {
            connection.forgets(bytes);
        }
        sent
    }
}
