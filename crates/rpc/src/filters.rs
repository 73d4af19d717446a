//! Filters that are polled: `eth_newFilter` and its kin. Each remembers a place on the chain, not
//! a queue, so that a forgotten filter costs a few bytes until it expires.

use crate::api::{Api, Registry, UniqueIds};
use crate::cursor::Cursor;
use crate::doors::Event;
use crate::errors::{Outcome, server_error};
use crate::eth_logs::{self, LogFilter, Span};
use alloy_primitives::B256;
use alloy_rpc_types_eth::Log;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::{self, error::TryRecvError};

/// Blocks that one poll covers; the next poll goes on from there.
const MOST_BLOCKS: usize = 10_000;
/// Blocks that are in memory at a time meanwhile.
const AT_ONCE: usize = 16;
/// Hashes of pending transactions that one poll tells.
const MOST_PENDING: usize = 100_000;

pub(crate) fn register(registry: &mut Registry) {
    registry.quick("eth_newFilter", 1, |api, args| {
        let filter: LogFilter = args.required(0)?;
        if matches!(filter.span, Span::Block(_)) {
            return Err(server_error("a filter by blockHash never changes; use eth_getLogs"));
        }
        api.filters.add(Kind::Logs(Cursor::at_head(&api.backend.chain), filter))
    });
    registry.quick("eth_newBlockFilter", 0, |api, _| {
        api.filters.add(Kind::Blocks(Cursor::at_head(&api.backend.chain)))
    });
    registry.quick("eth_newPendingTransactionFilter", 1, |api, _| {
        api.filters.add(Kind::Pending(api.backend.pool.events()))
    });
    registry.long("eth_getFilterChanges", 1, |api, args| {
        let filter = api.filters.touch(&args.required::<String>(0)?)?;
        poll(api, &mut filter.lock())
    });
    registry.long("eth_getFilterLogs", 1, |api, args| {
        let filter = api.filters.touch(&args.required::<String>(0)?)?;
        let wanted = match &*filter.lock() {
            Kind::Logs(_, wanted) => wanted.clone(),
            _ => return Err(server_error("filter not found")),
        };
        eth_logs::find(api, &wanted)
    });
    registry.quick("eth_uninstallFilter", 1, |api, args| {
        Ok(api.filters.remove(&args.required::<String>(0)?))
    });
}

enum Kind {
    Logs(Cursor, LogFilter),
    Blocks(Cursor),
    Pending(broadcast::Receiver<Event>),
}

struct Open {
    polled: Instant,
    kind: Arc<Mutex<Kind>>,
}

/// The open filters: bounded in number, and closed when nobody polls them.
pub(crate) struct Filters {
    open: Mutex<HashMap<String, Open>>,
    most: usize,
    lifetime: Duration,
    ids: UniqueIds,
}

impl Filters {
    pub(crate) fn new(most: usize, lifetime: Duration) -> Self {
        Self { open: Mutex::default(), most, lifetime, ids: UniqueIds::default() }
    }

    fn add(&self, kind: Kind) -> Outcome<String> {
        let mut open = self.open.lock();
        open.retain(|_, filter| filter.polled.elapsed() < self.lifetime);
        if open.len() >= self.most {
            return Err(server_error(format!(
                "too many filters: {} are open; uninstall some or wait until they expire",
                self.most
            )));
        }
        let id = self.ids.next();
        let kind = Arc::new(Mutex::new(kind));
        open.insert(id.clone(), Open { polled: Instant::now(), kind });
        Ok(id)
    }

    /// The filter, which lives on from now.
    fn touch(&self, id: &str) -> Outcome<Arc<Mutex<Kind>>> {
        let mut open = self.open.lock();
        match open.get_mut(id) {
            Some(filter) if filter.polled.elapsed() < self.lifetime => {
                filter.polled = Instant::now();
                Ok(filter.kind.clone())
            }
            _ => {
                open.remove(id);
                Err(server_error("filter not found"))
            }
        }
    }

    fn remove(&self, id: &str) -> bool {
        let found = self.open.lock().remove(id);
        found.is_some_and(|filter| filter.polled.elapsed() < self.lifetime)
    }
}

#[derive(Clone, Serialize)]
#[serde(untagged)]
enum Changes {
    Logs(Vec<Log>),
    Hashes(Vec<B256>),
}

fn poll(api: &Api, kind: &mut Kind) -> Outcome<Changes> {
    let chain = &api.backend.chain;
    Ok(match kind {
        Kind::Blocks(cursor) => {
            let mut hashes = Vec::new();
            while hashes.len() < MOST_BLOCKS {
                let added = match cursor.advance(chain, AT_ONCE) {
                    Ok(steps) if !steps.added.is_empty() => steps.added,
                    // What was found is told; the next poll meets the error again.
                    Err(error) if hashes.is_empty() => return Err(error),
                    _ => break,
                };
                hashes.extend(added.iter().map(|block| block.block.hash()));
            }
            Changes::Hashes(hashes)
        }
        Kind::Logs(cursor, filter) => {
            let within = |number: u64| match filter.span {
                Span::Range(from, to) => {
                    from.is_none_or(|from| from.height(chain) <= number)
                        && to.is_none_or(|to| number <= to.height(chain))
                }
                Span::Block(_) => false,
            };
            let (mut logs, mut blocks) = (Vec::new(), 0);
            while blocks < MOST_BLOCKS && logs.len() < api.config.max_logs.max(1) {
                let steps = match cursor.advance(chain, AT_ONCE) {
                    Ok(steps) => steps,
                    Err(error) if logs.is_empty() => return Err(error),
                    Err(_) => break,
                };
                let removed = steps.removed.iter().map(|block| (block, true));
                let all = removed.chain(steps.added.iter().map(|block| (block, false)));
                let all = all.filter(|(block, _)| within(block.block.number()));
                logs.extend(all.flat_map(|(block, gone)| filter.in_block(block, gone)));
                if steps.added.is_empty() {
                    break;
                }
                blocks += steps.added.len();
            }
            Changes::Logs(logs)
        }
        Kind::Pending(events) => {
            let mut hashes = Vec::new();
            while hashes.len() < MOST_PENDING {
                match events.try_recv() {
                    Ok(Event::Pending(transaction)) => hashes.push(transaction.hash()),
                    Ok(Event::Head) | Err(TryRecvError::Lagged(_)) => {}
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
            Changes::Hashes(hashes)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> Kind {
        Kind::Pending(broadcast::channel(1).1)
    }

    #[test]
    fn filters_are_bounded_and_make_room_when_they_expire() {
        let filters = Filters::new(2, Duration::from_secs(60));
        let first = filters.add(pending()).unwrap();
        filters.add(pending()).unwrap();
        assert!(filters.add(pending()).unwrap_err().message().contains("too many filters"));
        assert!(filters.remove(&first));
        assert!(!filters.remove(&first));
        filters.add(pending()).unwrap();

        let brief = Filters::new(1, Duration::ZERO);
        let expired = brief.add(pending()).unwrap();
        assert!(brief.touch(&expired).is_err());
        let expired = brief.add(pending()).unwrap();
        assert_ne!(brief.add(pending()).unwrap(), expired);
    }
}
