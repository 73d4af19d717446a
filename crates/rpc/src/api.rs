//! What the methods share: the backend, the limits, the open filters; and how methods are
//! registered so that each decodes its parameters alike.

use crate::arguments::Arguments;
use crate::doors::Backend;
use crate::errors::Outcome;
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
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Held from the choice of a nonce until the pool has the transaction.
    pub(crate) sending: tokio::sync::Mutex<()>,
}

/// All methods over a backend, callable without a socket.
pub fn module(backend: Backend, config: RpcConfig) -> RpcModule<()> {
    let dev_chain = backend.controls.is_some();
    let admin = config.admin == Admin::On;
    let filters = Filters::new(config.max_filters, config.filter_lifetime);
    let opened_at = backend.chain.head().number();
    let (tips, sending) = (TipCache::default(), Default::default());
    let api = Api { backend, config, filters, tips, opened_at, sending };
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
            .register_blocking_method(name, move |params, api, _| {
                run(&api, &Arguments::new(&params, most)?)
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
