//! Merkle proofs of the present and of the recent past.
//!
//! A state that is still a version of the trie is proved from it. An older one is computed on the
//! side: the changes since then, undone and merged, are committed onto the finalised version, and
//! the root that comes of it must be the old header's.

use crate::flat::{account_key, slot_key};
use crate::ledger::BlockRecord;
use crate::shared::{Shared, StateView, unreadable};
use crate::tree::Step;
use crate::trie::{
    AccountFields, AccountUpdate, Leaves, Patched, Proof, SlotUpdate, StateTrie, TrieError, Version,
};
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_trie::EMPTY_ROOT_HASH;
use landfall_types::{Account, StateError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many blocks back from the head a proof is given.
pub const PROOF_WINDOW: u64 = 1_024;
/// Accounts and slots that are undone for a proof, at most. They are committed under the lock of the
/// trie, for which who decides blocks waits.
const MOST_UNDONE: usize = 50_000;
/// How often a flush may come between.
const ATTEMPTS: usize = 4;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The block lies further back than proofs are given for, or too much has changed since.
    #[error(
        "proofs are kept for the last {PROOF_WINDOW} blocks, as long as no more than {MOST_UNDONE} \
         accounts and slots have changed since; the oldest is {oldest}"
    )]
    TooOld {
        /// The oldest block that can be proved now.
        oldest: u64,
    },
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The trie is damaged.
    #[error(transparent)]
    Trie(#[from] TrieError),
}

/// An account with its Merkle proof, as `eth_getProof` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountProof {
    /// The account, if it exists.
    pub account: Option<Account>,
    /// The root of its storage.
    pub storage_root: B256,
    /// Nodes from the root down.
    pub proof: Vec<Bytes>,
    /// The slots that were asked for, in that order.
    pub storage: Vec<ProvedSlot>,
}

/// A slot with its Merkle proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvedSlot {
    /// The slot.
    pub slot: B256,
    /// Its value.
    pub value: U256,
    /// Nodes from the storage root down.
    pub proof: Vec<Bytes>,
}

pub(crate) fn prove(
    shared: &Arc<Shared>,
    view: &StateView,
    address: Address,
    slots: &[B256],
) -> Result<AccountProof, ProofError> {
    let head = shared.visible.read().number();
    let oldest = head.saturating_sub(PROOF_WINDOW).max(shared.genesis_number);
    if view.number < oldest {
        return Err(ProofError::TooOld { oldest });
    }
    let key = account_key(&address);
    let keys: Vec<B256> = slots.iter().map(|slot| slot_key((*slot).into())).collect();
    if let Some(proof) = prove_present(shared, view, key, &keys)? {
        return Ok(assemble(proof, slots));
    }
    Ok(assemble(prove_past(shared, view, key, &keys)?, slots))
}

/// Proves a state that is a version of the trie.
fn prove_present(
    shared: &Arc<Shared>,
    view: &StateView,
    key: B256,
    slots: &[B256],
) -> Result<Option<Proof>, ProofError> {
    let trie = shared.trie.lock();
    let version = view.layer.and_then(|id| shared.tree.read().layer(id).map(|l| l.version));
    let Some(version) = version.filter(|version| trie.holds(version)) else { return Ok(None) };
    Ok(Some(trie.prove(&version, key, slots, view)?))
}

fn assemble(proof: Proof, slots: &[B256]) -> AccountProof {
    let account = proof.account.map(|account| Account {
        nonce: account.nonce,
        balance: account.balance,
        code_hash: account.code_hash,
    });
    let storage = slots
        .iter()
        .zip(proof.slots)
        .map(|(slot, proved)| ProvedSlot { slot: *slot, value: proved.value, proof: proved.nodes })
        .collect();
    AccountProof {
        account,
        storage_root: proof.account.map_or(EMPTY_ROOT_HASH, |account| account.storage_root),
        proof: proof.nodes,
        storage,
    }
}

/// Proves a state below the oldest version of the trie. What is undone is gathered without the trie's
/// lock: who decides blocks waits for that lock, and it is long.
fn prove_past(
    shared: &Arc<Shared>,
    view: &StateView,
    key: B256,
    slots: &[B256],
) -> Result<Proof, ProofError> {
    for _ in 0..ATTEMPTS {
        let Some((base, number, version)) = oldest_version(shared, &shared.trie.lock()) else {
            return Err(StateError("the trie holds no version of the tree".into()).into());
        };
        let gathered = undo(shared, view, &base, number);
        let root = root_of(shared, view.number)?;
        let mut trie = shared.trie.lock();
        // Else a flush has let go of it meanwhile, and what was gathered may be of both sides of it.
        if trie.holds(&version) {
            let updates = gathered?;
            return prove_undone(&mut trie, root, (&base, version, &updates), (key, slots));
        }
    }
    Err(StateError("blocks become final faster than they can be undone: ask again".into()).into())
}

/// Commits what undoes the blocks since, on the side, and proves from that.
fn prove_undone(
    trie: &mut StateTrie,
    root: Option<B256>,
    (base, version, updates): (&StateView, Version, &[AccountUpdate]),
    (key, slots): (B256, &[B256]),
) -> Result<Proof, ProofError> {
    let commit = trie.commit(&version, updates, 2, base)?;
    let result = if root == Some(commit.version.root) {
        let leaves = Patched::new(base, updates, &commit.storage_roots);
        trie.prove(&commit.version, key, slots, &leaves).map_err(ProofError::from)
    } else {
        Err(StateError("undoing the changes since gives another root".into()).into())
    };
    trie.abandon(commit.version);
    result
}

/// The state root in the header of a canonical block.
fn root_of(shared: &Shared, number: u64) -> Result<Option<B256>, StateError> {
    let live = {
        let tree = shared.tree.read();
        tree.canonical(number).and_then(|id| match &tree.at(id).step {
            Step::Block { block, .. } => Some(block.block.header.state_root),
            _ => None,
        })
    };
    if live.is_some() {
        return Ok(live);
    }
    let viewed = shared.viewed_number(number)?;
    let block = viewed.map(|(_, position)| shared.read_block(position)).transpose()?;
    Ok(block.map(|block| block.block.header.state_root))
}

/// The lowest layer whose version the trie still holds: the base, or the block of a flush that is
/// under way.
fn oldest_version(shared: &Arc<Shared>, trie: &StateTrie) -> Option<(StateView, u64, Version)> {
    let tree = shared.tree.read();
    let path = std::iter::once(tree.base()).chain(tree.path_from_base(tree.head()));
    path.map(|id| (id, tree.at(id)))
        .find(|(_, layer)| trie.holds(&layer.version))
        .map(|(id, layer)| (shared.state_in(&tree, id), layer.number, layer.version))
}

/// The updates that lead from `base` (block `number`) back to the state of `view`.
fn undo(
    shared: &Arc<Shared>,
    view: &StateView,
    base: &StateView,
    number: u64,
) -> Result<Vec<AccountUpdate>, ProofError> {
    let mut count = 0;
    let mut touched: BTreeMap<Address, std::collections::BTreeSet<U256>> = BTreeMap::new();
    let mut wiped: std::collections::BTreeSet<B256> = Default::default();
    // From the newest on, to know how far it goes.
    for changed in (view.number + 1..=number).rev() {
        let Some(position) = position_of(shared, changed)? else {
            return Err(StateError(format!("block {changed} is missing")).into());
        };
        let record = shared.log.read(position).map_err(unreadable)?;
        let changes = BlockRecord::decode_changes(&record.payload).map_err(unreadable)?;
        for (address, change) in changes.accounts {
            if change.wiped || change.account.after.is_none() {
                wiped.insert(account_key(&address));
            }
            let slots = touched.entry(address).or_insert_with(|| {
                count += 1;
                Default::default()
            });
            count += change.storage.keys().filter(|slot| slots.insert(**slot)).count();
        }
        if count > MOST_UNDONE {
            return Err(ProofError::TooOld { oldest: changed });
        }
    }
    patched_since(shared, view.number, number, &mut touched)?;
    let mut updates = Vec::new();
    for (address, slots) in touched {
        let key = account_key(&address);
        let mut slots: Vec<B256> = slots.into_iter().map(slot_key).collect();
        if wiped.contains(&key) {
            // Everything that the account ever held may differ.
            slots.extend(history_slots(shared, &key)?);
            if slots.len() > MOST_UNDONE {
                return Err(ProofError::TooOld { oldest: number });
            }
        }
        slots.sort_unstable();
        slots.dedup();
        updates.push(undo_account(view, base, key, &slots)?);
    }
    updates.sort_unstable_by_key(|update| update.key);
    Ok(updates)
}

fn undo_account(
    view: &StateView,
    base: &StateView,
    key: B256,
    slots: &[B256],
) -> Result<AccountUpdate, StateError> {
    let (old, new) = (view.flat_account(&key)?, base.flat_account(&key)?);
    let mut updates = Vec::new();
    for slot in slots {
        let joined = crate::flat::joined(&key, slot);
        let (value, now) = (view.flat_slot(&joined)?, base.flat_slot(&joined)?);
        if value != now {
            updates.push(SlotUpdate { key: *slot, existed: !now.is_zero(), value });
        }
    }
    Ok(AccountUpdate {
        key,
        existed: new.is_some(),
        account: old.map(|flat| AccountFields {
            nonce: flat.account.nonce,
            balance: flat.account.balance,
            code_hash: flat.account.code_hash,
        }),
        storage_root_before: new.map_or(EMPTY_ROOT_HASH, |flat| flat.storage_root),
        wiped: false,
        slots: if old.is_some() { updates } else { Vec::new() },
    })
}

fn position_of(shared: &Shared, number: u64) -> Result<Option<crate::store::Position>, StateError> {
    let live = {
        let tree = shared.tree.read();
        tree.canonical(number).and_then(|id| match &tree.at(id).step {
            Step::Block { position, .. } => Some(*position),
            _ => None,
        })
    };
    match live {
        Some(position) => Ok(Some(position)),
        None => Ok(shared.viewed_number(number)?.map(|(_, position)| position)),
    }
}

/// Adds what patches changed between two blocks: history names hashed keys only, so they are
/// found in the records of the log between the two.
fn patched_since(
    shared: &Shared,
    from: u64,
    to: u64,
    touched: &mut BTreeMap<Address, std::collections::BTreeSet<U256>>,
) -> Result<(), StateError> {
    if shared.spec.rules != landfall_types::Rules::Landfall {
        return Ok(());
    }
    let (Some(start), Some(end)) = (position_of(shared, from)?, position_of(shared, to)?) else {
        return Ok(());
    };
    for record in shared.log.iter(start) {
        let record = record.map_err(unreadable)?;
        if record.position >= end {
            break;
        }
        if record.kind == crate::ledger::PATCH {
            let patch = crate::ledger::PatchRecord::decode(&record.payload).map_err(unreadable)?;
            for (address, change) in patch.changes.accounts {
                touched.entry(address).or_default().extend(change.storage.keys());
            }
        }
    }
    Ok(())
}

/// Every slot of an account that history or flat state knows.
fn history_slots(shared: &Arc<Shared>, key: &B256) -> Result<Vec<B256>, StateError> {
    use crate::store::views::Table;
    use std::ops::Bound;
    let mut found = Vec::new();
    for table in [Table::Slots, Table::SlotHistory] {
        let rows = shared
            .views
            .scan(table, key.as_slice(), Bound::Unbounded, usize::MAX)
            .map_err(unreadable)?;
        found.extend(rows.iter().map(|(row, _)| B256::from_slice(&row[32..64])));
    }
    let base = {
        let tree = shared.tree.read();
        shared.state_in(&tree, tree.base())
    };
    let live = base.slots(*key, &[], usize::MAX).map_err(unreadable)?;
    found.extend(live.into_iter().map(|(slot, _)| slot));
    Ok(found)
}

#[cfg(test)]
#[path = "proofs_tests.rs"]
mod tests;
