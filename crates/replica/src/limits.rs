//! Bounds and paces: how much a replica keeps, and how much of it for one peer.

use landfall_types::Span;

/// Bounds and paces of a replica.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Between two announcements of the finalised height and the head.
    pub status_interval: Span,
    /// A block that was asked for in vain is asked for again after this.
    pub fetch_retry: Span,
    /// A block that nobody wants any more is forgotten after this.
    pub fetch_expiry: Span,
    /// Blocks that wait for parent, epoch, time or execution.
    pub waiting_blocks: usize,
    /// Of these, blocks that one member sealed; of others, that one peer brought.
    pub waiting_of_peer: usize,
    /// Bytes of these. Beyond either bound, blocks give way of who has the most.
    pub waiting_bytes: usize,
    /// Of these, blocks of one member of an agreement that are executed at a time.
    pub executing_of_member: usize,
    /// Blocks of one member of an agreement on one parent, beyond those that are asked for.
    pub siblings_of_member: usize,
    /// A block that waited for so long is forgotten.
    pub waiting_expiry: Span,
    /// Blocks asked for because peers spoke of them.
    pub wanted_blocks: usize,
    /// Of these, because of peers that are no members.
    pub wanted_of_strangers: usize,
    /// Of these, because of one peer; and as many again that the engine or a proof needs.
    pub wanted_of_peer: usize,
    /// Hashes of invalid blocks that are remembered.
    pub invalid_blocks: usize,
    /// Messages whose signers are being recovered.
    pub recovering: usize,
    /// Of these, messages of one peer: whoever floods keeps nobody else's votes out.
    pub recovering_of_peer: usize,
    /// Of these, messages of peers that are no members, together: many names keep no vote out.
    pub recovering_of_strangers: usize,
    /// Bytes of blocks of one peer among these; one larger block may be.
    pub recovering_bytes: usize,
    /// Blocks in one answer to a range.
    pub range_blocks: u64,
    /// Bytes of blocks in one answer to a range, if they are more than one.
    pub range_bytes: usize,
    /// Bytes of blocks that one peer is answered with in a second; the last answer may exceed it.
    pub answer_bytes: usize,
    /// Heights for which votes are kept as evidence.
    pub evidence_window: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            status_interval: Span(500),
            fetch_retry: Span(500),
            fetch_expiry: Span(10_000),
            waiting_blocks: 512,
            waiting_of_peer: 128,
            waiting_bytes: 128 << 20,
            executing_of_member: 2,
            siblings_of_member: 16,
            waiting_expiry: Span(120_000),
            wanted_blocks: 512,
            wanted_of_strangers: 384,
            wanted_of_peer: 64,
            invalid_blocks: 1_024,
            recovering: 1_024,
            recovering_of_peer: 128,
            recovering_of_strangers: 512,
            recovering_bytes: 16 << 20,
            range_blocks: 64,
            range_bytes: 8 << 20,
            answer_bytes: 16 << 20,
            evidence_window: 128,
        }
    }
}
