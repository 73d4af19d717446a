//! What readers see as the present.

use crate::StoredBlock;
use crate::tree::LayerId;
use alloy_primitives::B256;
use std::sync::Arc;

/// The fork choice made visible: all of it is durable.
#[derive(Clone)]
pub struct Head {
    /// The newest block.
    pub block: Arc<StoredBlock>,
    /// Number and hash of the safe block.
    pub safe: (u64, B256),
    /// Number and hash of the finalised block.
    pub finalized: (u64, B256),
    /// The state that `latest` means: the block's, or that of a patch on top of it.
    pub(crate) layer: LayerId,
    /// That layer is a patch.
    pub(crate) patched: bool,
}

impl Head {
    /// Number of the newest block.
    pub fn number(&self) -> u64 {
        self.block.block.number()
    }

    /// Hash of the newest block.
    pub fn hash(&self) -> B256 {
        self.block.block.hash()
    }
}
