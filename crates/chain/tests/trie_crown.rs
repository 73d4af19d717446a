//! The stored crown: flush, eviction beside live versions, opening again, and damage.

mod trie_model;

use alloy_primitives::{B256, U256};
use landfall_chain::trie::{StateTrie, TrieError, Version};
use trie_model::*;

/// A trie with what a node would have on disk.
struct Stored {
    trie: StateTrie,
    rng: Rng,
    crown: Crown,
    /// The last flushed state.
    flat: State,
    base: (Version, State),
    shape: Shape,
}

impl Stored {
    fn new(seed: u64) -> Self {
        let mut trie = StateTrie::new();
        let base = (trie.empty(), State::new());
        let mut rng = Rng::new(seed);
        // A few accounts with large storage, or many with small.
        let shape = if seed.is_multiple_of(2) {
            Shape { accounts: 30, slots: 2500, touched: 12, touched_slots: 500, deleted: 8 }
        } else {
            Shape { accounts: 5000, slots: 30, touched: 600, touched_slots: 5, deleted: 15 }
        };
        let grown = Shape { touched: shape.accounts, ..shape };
        let (updates, after) = change(&mut rng, &base.1, grown);
        let mut stored = Self { trie, rng, crown: Crown::new(), flat: State::new(), base, shape };
        stored.base = stored.commit(&stored.base.clone(), updates, after);
        stored.finalise_and_flush();
        stored
    }

    fn commit(
        &mut self,
        parent: &(Version, State),
        updates: Vec<landfall_chain::trie::AccountUpdate>,
        after: State,
    ) -> (Version, State) {
        let flat = Flat { state: &parent.1, crown: &self.crown };
        let version = self.trie.commit(&parent.0, &updates, 2, &flat).unwrap().version;
        assert_eq!(version.root, state_root(&after));
        (version, after)
    }

    fn grow(&mut self, parent: &(Version, State)) -> (Version, State) {
        let deleted = [0, self.shape.deleted, 60][self.rng.below(3) as usize];
        let shape = Shape { deleted, ..self.shape };
        let (updates, after) = change(&mut self.rng, &parent.1, shape);
        self.commit(parent, updates, after)
    }

    fn finalise_and_flush(&mut self) {
        self.trie.finalise(&self.base.0);
        store(&mut self.crown, self.trie.crown(&self.base.0));
        self.trie.flushed(&self.base.0);
        assert_eq!(self.trie.crown(&self.base.0), [], "all is flushed");
        self.flat = self.base.1.clone();
    }

    fn open(&mut self) -> Result<(), TrieError> {
        self.trie = StateTrie::new();
        let root = state_root(&self.flat);
        let flat = Flat { state: &self.flat, crown: &self.crown };
        let version = self.trie.open(root, &flat)?;
        assert_eq!(self.trie.audit(), 0, "nothing is loaded yet");
        self.base = (version, self.flat.clone());
        Ok(())
    }
}

#[test]
fn a_trie_opened_from_its_crown_goes_on_with_equal_roots() {
    for seed in 0..10 {
        let mut stored = Stored::new(seed);
        assert!(stored.crown.len() > 3, "a crown of {} records", stored.crown.len());
        for round in 0..12 {
            let mut tip = stored.base.clone();
            for _ in 0..stored.rng.below(3) {
                tip = stored.grow(&tip);
            }
            stored.base = tip;
            stored.trie.finalise(&stored.base.0);
            stored.trie.audit();
            // A crash loses what was not flushed.
            if round % 3 != 0 {
                stored.finalise_and_flush();
            }
            stored.open().unwrap();
        }
        let rebuilt = Flat { state: &stored.flat, crown: &Crown::new() };
        let version = stored.trie.rebuild(&rebuilt, 2).unwrap();
        assert_eq!(version.root, stored.base.0.root);
        for record in stored.trie.crown(&version) {
            let kept = &stored.crown[&(record.owner, record.path.clone())];
            assert_eq!(*kept, record.record, "records depend on the state alone");
        }
    }
}

#[test]
fn eviction_beside_several_live_versions_loses_nothing() {
    let mut evicted = 0;
    for seed in 0..10 {
        let mut stored = Stored::new(seed);
        for _ in 0..8 {
            let mut tree = vec![stored.base.clone()];
            for _ in 0..5 {
                let parent = tree[stored.rng.below(tree.len() as u64) as usize].clone();
                tree.push(stored.grow(&parent));
                if stored.rng.percent(40) {
                    let before = stored.trie.live_bytes();
                    let budget = before * stored.rng.below(100) as usize / 100;
                    stored.trie.evict(budget);
                    stored.trie.audit();
                    evicted += before - stored.trie.live_bytes();
                }
            }
            stored.base = tree[1 + stored.rng.below(5) as usize].clone();
            stored.trie.finalise(&stored.base.0);
            stored.trie.audit();
            if stored.rng.percent(70) {
                stored.finalise_and_flush();
            }
        }
        // With all flushed and one version left, nothing need stay in memory.
        stored.base = stored.grow(&stored.base.clone());
        stored.finalise_and_flush();
        stored.trie.evict(0);
        assert_eq!((stored.trie.audit(), stored.trie.live_bytes()), (0, 0));
        let base = stored.base.clone();
        stored.grow(&base);
    }
    assert!(evicted > 1_000_000, "{evicted} bytes evicted");
}

#[test]
fn a_damaged_crown_record_is_reported_and_never_used() {
    let (mut reported, mut in_storage) = (0, 0);
    for seed in 0..24 {
        let mut stored = Stored::new(seed % 4);
        let old = stored.crown.clone();
        for _ in 0..3 {
            stored.base = stored.grow(&stored.base.clone());
        }
        stored.finalise_and_flush();
        // Seeds with large storage damage that, the others the account trie.
        let changed = |key: &(Option<B256>, Vec<u8>)| {
            key.0.is_some() == (seed % 2 == 0)
                && old.get(key).is_some_and(|record| *record != stored.crown[key])
        };
        let keys: Vec<_> = stored.crown.keys().filter(|k| changed(k)).cloned().collect();
        let key = keys[stored.rng.below(keys.len() as u64) as usize].clone();
        let record = stored.crown.get_mut(&key).unwrap();
        match seed % 3 {
            0 => {
                let bit = stored.rng.below(record.len() as u64 * 8) as usize;
                record[bit / 8] ^= 1 << (bit % 8);
            }
            1 => *record = old[&key].clone(),
            _ => drop(stored.crown.remove(&key)),
        }
        let mut result = stored.open();
        // Each of some different changes may or may not come by the damaged record.
        for _ in 0..5 {
            let base = stored.base.clone();
            let slots = stored.shape.slots;
            let shape = Shape { touched: 3000, touched_slots: 2 * slots, ..stored.shape };
            let (updates, after) = change(&mut stored.rng, &base.1, shape);
            let flat = Flat { state: &base.1, crown: &stored.crown };
            result = result.and_then(|()| {
                let commit = stored.trie.commit(&base.0, &updates, 2, &flat)?;
                assert_eq!(commit.version.root, state_root(&after), "used though damaged");
                stored.trie.abandon(commit.version);
                assert_eq!(stored.trie.audit(), 0);
                Ok(())
            });
        }
        if let Err(error) = result {
            let TrieError::Damaged { owner, path, .. } = &error else { panic!("{error}") };
            assert_eq!((owner, path), (&key.0, &key.1), "{error}");
            reported += 1;
            in_storage += u32::from(owner.is_some());
        }
    }
    assert!(reported > 20 && in_storage > 8, "{reported} reported, {in_storage} in storage");
}

#[test]
fn flat_state_that_is_not_of_the_root_is_reported_and_never_used() {
    let mut reported = [0, 0];
    for seed in 0..40 {
        let mut stored = Stored::new(seed % 4);
        // Whole subtrees are read if they are not in memory, single leaves if they are.
        if seed / 4 % 2 == 0 {
            stored.open().unwrap();
        }
        let base = stored.base.clone();
        let (updates, after) = change(&mut stored.rng, &base.1, stored.shape);
        // Another balance or slot in accounts that the commit does not know of.
        let mut wrong = base.1.clone();
        for (key, account) in &mut wrong {
            let known = updates.iter().any(|update| update.key == *key);
            if !known || stored.shape.accounts > 100 {
                account.fields.nonce ^= 1;
            } else {
                std::sync::Arc::make_mut(&mut account.slots)
                    .values_mut()
                    .for_each(|value| *value ^= U256::ONE << 9);
            }
        }
        let flat = Flat { state: &wrong, crown: &stored.crown };
        match stored.trie.commit(&base.0, &updates, 2, &flat) {
            Ok(commit) => assert_eq!(commit.version.root, state_root(&after)),
            Err(TrieError::Damaged { .. }) => reported[seed as usize / 4 % 2] += 1,
            Err(error) => panic!("{error}"),
        }
        stored.trie.audit();
    }
    assert!(reported[0] > 15 && reported[1] > 5, "{reported:?} of twice 20");
}
