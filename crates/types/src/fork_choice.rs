//! The verdict of every consensus protocol.

use alloy_primitives::B256;
use alloy_rlp::{RlpDecodable, RlpEncodable};

/// Which block the chain stands on: the value that each protocol hands to the chain.
///
/// The three lie on one branch, `finalized` at or below `safe` at or below `head`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct ForkChoice {
    /// The block that new blocks extend.
    pub head: B256,
    /// The newest block that an honest majority is expected never to leave.
    pub safe: B256,
    /// The newest block that can never be left. It never moves back.
    pub finalized: B256,
}
