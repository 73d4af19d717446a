//! Bugs for the simulator to find.
//!
//! `planted!(NAME)` stands in a condition. It is constant false unless the crate is built with the
//! feature `planted`, and then true only on a thread that planted that bug. A bug that no seed
//! shows says that a check is blind, or that a rule is not needed.

/// Whether a bug is planted; of several, any.
#[macro_export]
macro_rules! planted {
    ($($bug:ident)|+) => {{
        #[cfg(feature = "planted")]
        {
            $($crate::planted_here($crate::Bug::$bug))||+
        }
        #[cfg(not(feature = "planted"))]
        {
            false
        }
    }};
}

#[cfg(feature = "planted")]
macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One rule left out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug { $($(#[$doc])* $name,)* }

        impl Bug {
            /// Every bug that can be planted.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

#[cfg(feature = "planted")]
bugs! {
    // The replica and the log.
    /// Outputs wait for a record of their own step only (`engine.md`, row 1).
    BarrierPerStep,
    /// Nothing waits for the disk.
    SendBeforeSync,
    /// A built block enters the log when it is published (row 2).
    BuiltNotLogged,
    /// Records and blocks reach the disk apart (row 3).
    RecordWithoutBlocks,
    /// A decision is performed and not logged (row 4).
    FinalityNotLogged,
    /// A decision is logged when it is performed (row 5).
    FinalityLoggedLate,
    /// A proof is delivered only together with its block (row 6).
    ProofOnlyWithBlock,
    /// An instance starts from its epoch's anchor, not from what was logged (row 7).
    StartWithoutFinal,
    /// The rules of the running instance judge every header (row 11).
    RulesOfRunningInstance,
    /// A block that cannot be executed yet is remembered as invalid (row 12).
    BusyIsInvalid,
    /// Messages from and to non-members pass, and whoever is no member votes too (row 14).
    NoFilterOfMembers,
    /// The same `Build` again starts the job anew (row 15).
    BuildRestarts,
    /// Nobody announces its finalized height (row 23).
    NoStatus,
    /// A block is asked for once (row 24).
    FetchOnce,
    /// A node that lost its log votes under its old identity (row 36).
    DiskLoss,
    /// A vote is sent before the block it is for is durable.
    BodyNotDurable,
    /// A fork choice below `finalized` is adopted.
    AdoptBelowFinalized,
    /// A proof by one member is taken.
    ProofByOne,

    // Start.
    /// `start` sends what it finds (row 8).
    StartActs,
    /// `start` does not repeat the lost fork choice (row 9).
    StartSilent,

    // Shared by the protocols.
    /// A quorum is one weight short.
    QuorumOffByOne,
    /// Votes are counted by signature, not by signer.
    VotesBySignature,

    // Raft.
    /// The vote of a term is not in the record.
    RaftForgetsVote,
    /// A grant does not compare logs.
    RaftNoLogComparison,
    /// Blocks of earlier terms are committed by counting, the branch not taken anew (row 19).
    RaftNoCurrentTerm,
    /// The term of the last block stands for the stamp (row 19).
    RaftTermInBlock,

    // PBFT.
    /// Prepare is sent before the accepted proposal is in the record.
    PbftNoPersistBeforePrepare,
    /// A prepared node never prepares another block, however justified.
    PbftLocksForever,
    /// A round change does not carry the prepared certificate.
    PbftForgetsPrepared,
    /// A proposal's justification is not checked.
    PbftJustificationUnchecked,
    /// The timeout of a round has no upper bound.
    PbftTimersUncapped,
    /// A round change is sent once.
    PbftNoRetransmit,
    /// Those are passed over whose commit this node did not hear itself.
    PbftTurnsByOwnView,
    /// Any certificate will do that a block carries, if it is one.
    PbftCarriedUnchecked,
    /// The proposal is carried by the block's seal, which the tree drops when it has the block
    /// (row 18).
    ProposalInSeal,

    // Proof of work.
    /// The sign of the difficulty's exponent is wrong.
    AsertSign,
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug on this thread, or removes it.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether a bug is planted on this thread.
#[cfg(feature = "planted")]
#[doc(hidden)]
pub fn planted_here(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
