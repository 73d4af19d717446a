//! The controls' way to the thread that owns a development chain: tasks for it, and switches.

use crate::door::Shared;
use crate::sealer::{Sealer, Trouble};
use alloy_primitives::Address;
use alloy_primitives::map::HashSet;
use landfall_rpc::{Answer, ControlError};
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use tokio::sync::{mpsc, oneshot};

/// Tasks that wait for the sealer.
pub const QUEUED_TASKS: usize = 256;

/// Something that the thread which owns the chain does between two blocks.
pub type Task = Box<dyn FnOnce(&mut Sealer) + Send>;

/// What the controls switch and the sealer looks at.
#[derive(Default)]
pub struct Switches {
    /// Whether transactions are sealed at once.
    pub automine: AtomicBool,
    /// Milliseconds between two blocks; zero is never.
    pub interval: AtomicU64,
    /// Accounts that may send without a key.
    pub impersonated: RwLock<HashSet<Address>>,
    /// Every account may.
    pub impersonate_all: AtomicBool,
}

/// A handle to a running development chain.
pub struct Host {
    pub(crate) shared: Arc<Shared>,
    pub(crate) switches: Arc<Switches>,
    tasks: mpsc::Sender<Task>,
}

impl Host {
    /// A handle to the sealer at the other end of `tasks`.
    pub fn new(shared: Arc<Shared>, switches: Arc<Switches>, tasks: mpsc::Sender<Task>) -> Self {
        Self { shared, switches, tasks }
    }

    /// Has the sealer do something, and waits for the answer.
    pub fn ask<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Sealer) -> Result<T, Trouble> + Send + 'static,
    ) -> Answer<'_, Result<T, ControlError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let task: Task = Box::new(move |sealer| {
                let outcome = run(sealer).map_err(|trouble| sealer.note(trouble));
                // Who asked may be gone.
                let _ = reply.send(outcome);
            });
            let stopping = || ControlError("the node is stopping".into());
            self.tasks.send(task).await.map_err(|_| stopping())?;
            answer.await.map_err(|_| stopping())?.map_err(ControlError)
        })
    }
}
