//! What the methods share: the backend, the limits, the open filters; and how methods are
//! registered so that each decodes its parameters alike.

use crate::arguments::Arguments;
use crate::doors::Backend;
use crate::errors::{self, Outcome};
use crate::fees::TipCache;
use crate::filters::Filters;
use crate::server::Admin;
use crate::{
    RpcConfig, consensus, debug, dev, eth_blocks, eth_call, eth_logs, eth_sign, eth_state,
};
use crate::{
    eth_transactions, fees, filters, finality, net_web3, ots, peers, subscriptions, txpool,
};
use jsonrpsee::RpcModule;
use jsonrpsee::core::traits::IdProvider;
use jsonrpsee::types::SubscriptionId;
use serde::Serialize;
use serde_json::value::RawValue;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;

/// What every method is served from.
pub struct Api {
    /// Chain, pool, controls and keys.
    pub backend: Backend,
    /// Limits.
    pub config: RpcConfig,
    pub(crate) filters: Filters,
    pub(crate) tips: TipCache,
    /// The head when the interface was opened.
    pub(crate) opened_at: u64,
    /// For what is done on threads.
    places: Arc<Semaphore>,
    /// Held from the choice of a nonce until the pool has the transaction.
    pub(crate) sending: tokio::sync::Mutex<()>,
}

/// Calls that read or execute at once; more wait. On few cores they would all be slow, and each may hold
/// an answer in the making.
const MOST_AT_ONCE: usize = 32;

impl Api {
    /// Does what may take long on a thread of its own.
    pub(crate) async fn on_thread<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        let place = self.places.clone().acquire_owned().await.expect("it is never closed");
        // It runs to its end, whether the client still waits for it or not.
        let ran = tokio::task::spawn_blocking(move || {
            let outcome = run();
            drop(place);
            outcome
        });
        let ran = ran.await;
        ran.unwrap_or_else(|error| Err(errors::internal(error)))
    }
}

/// All methods over a backend, callable without a socket.
pub fn module(backend: Backend, config: RpcConfig) -> RpcModule<()> {
    let dev_chain = backend.controls.is_some();
    let admin = config.admin == Admin::On;
    let filters = Filters::new(config.max_filters, config.filter_lifetime);
    let opened_at = backend.chain.head().number();
    let (tips, sending) = (TipCache::default(), Default::default());
    let places = Arc::new(Semaphore::new(MOST_AT_ONCE));
    let api = Api { backend, config, filters, tips, opened_at, places, sending };
    let mut registry = Registry { module: RpcModule::new(api) };
    eth_blocks::register(&mut registry);
    eth_state::register(&mut registry);
    eth_call::register(&mut registry);
    eth_transactions::register(&mut registry);
    eth_sign::register(&mut registry);
    eth_logs::register(&mut registry);
    fees::register(&mut registry);
    filters::register(&mut registry);
    subscriptions::register(&mut registry);
    txpool::register(&mut registry);
    debug::register(&mut registry);
    ots::register(&mut registry);
    consensus::register(&mut registry);
    finality::register(&mut registry);
    peers::register(&mut registry);
    if admin {
        peers::register_admin(&mut registry);
    }
    if dev_chain {
        dev::register(&mut registry);
    }
    net_web3::register(&mut registry);
    registry.module.remove_context()
}

/// What is written as JSON on the thread that made it; an error if that is too long.
fn as_json<T: Serialize>(answer: &T, most: usize) -> Outcome<Box<RawValue>> {
    let mut json = Bounded { bytes: Vec::new(), most };
    match serde_json::to_writer(&mut json, answer) {
        Ok(()) => {
            let text = String::from_utf8(json.bytes).expect("JSON is UTF-8");
            Ok(RawValue::from_string(text).expect("it was written as JSON"))
        }
        Err(error) if error.is_io() => Err(errors::too_long(most)),
        Err(error) => Err(errors::internal(error)),
    }
}

struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Collects the methods.
pub(crate) struct Registry {
    pub(crate) module: RpcModule<Api>,
}

/// A name that is registered twice is a mistake in this crate.
const ONCE: &str = "each method is registered once";

impl Registry {
    /// A method that answers at once, on the connection's own task.
    pub(crate) fn quick<T, F>(&mut self, name: &'static str, most: usize, run: F)
    where
        T: Serialize + Clone + Send + 'static,
        F: Fn(&Api, &Arguments<'_>) -> Outcome<T> + Send + Sync + 'static,
    {
        self.module
            .register_method(name, move |params, api, _| run(api, &Arguments::new(&params, most)?))
            .expect(ONCE);
    }

    /// A method that may take long, on a thread of its own.
    pub(crate) fn long<T, F>(&mut self, name: &'static str, most: usize, run: F)
    where
        T: Serialize + Clone + Send + 'static,
        F: Fn(&Api, &Arguments<'_>) -> Outcome<T> + Clone + Send + Sync + 'static,
    {
        self.module
            .register_async_method(name, move |params, api, _| {
                let run = run.clone();
                async move {
                    let job = api.clone();
                    api.on_thread(move || {
                        let answer = run(&job, &Arguments::new(&params, most)?)?;
                        as_json(&answer, job.config.max_response_bytes as usize)
                    })
                    .await
                }
            })
            .expect(ONCE);
    }

    /// A method that waits: `read` decodes the parameters, `run` does the work.
    pub(crate) fn waits<P, T, F, R, W>(&mut self, name: &'static str, most: usize, read: R, run: F)
    where
        P: Send,
        T: Serialize + Clone + Send + 'static,
        R: Fn(&Arguments<'_>) -> Outcome<P> + Clone + Send + Sync + 'static,
        F: Fn(Arc<Api>, P) -> W + Clone + Send + Sync + 'static,
        W: Future<Output = Outcome<T>> + Send,
    {
        self.module
            .register_async_method(name, move |params, api, _| {
                let (read, run) = (read.clone(), run.clone());
                async move {
                    let decoded = {
                        let arguments = Arguments::new(&params, most)?;
                        read(&arguments)?
                    };
                    run(api, decoded).await
                }
            })
            .expect(ONCE);
    }

    /// Another name for a method.
    pub(crate) fn alias(&mut self, name: &'static str, existing: &'static str) {
        self.module.register_alias(name, existing).expect(ONCE);
    }
}

/// Ids that cannot be guessed from one another, in geth's form.
#[derive(Default)]
pub(crate) struct UniqueIds {
    count: AtomicU64,
    key: RandomState,
}

impl UniqueIds {
    pub(crate) fn next(&self) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let (high, low) = (self.key.hash_one((count, 0_u8)), self.key.hash_one((count, 1_u8)));
        format!("0x{high:016x}{low:016x}")
    }
}

impl std::fmt::Debug for UniqueIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UniqueIds")
    }
}

impl IdProvider for UniqueIds {
    fn next_id(&self) -> SubscriptionId<'static> {
        SubscriptionId::Str(self.next().into())
    }
}
