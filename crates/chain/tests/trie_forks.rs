//! Random sequences of commits with forks, finalising and abandoning, compared with the hash
//! builder.

mod trie_model;

use alloy_primitives::{B256, U256};
use alloy_trie::EMPTY_ROOT_HASH;
use landfall_chain::trie::{Commit, StateTrie, TrieError, Version};
use trie_model::*;

const SPACES: [u64; 5] = [3, 12, 60, 400, 2000];

fn shape(rng: &mut Rng, space: u64) -> Shape {
    let slots = SPACES[rng.below(4) as usize];
    let deleted = [5, 40, 95][rng.below(3) as usize];
    Shape { accounts: space, slots, touched: space.min(150), touched_slots: slots.min(40), deleted }
}

/// Commits a random change onto a version and compares every root.
fn grow(
    trie: &mut StateTrie,
    rng: &mut Rng,
    parent: &(Version, State),
    space: u64,
    threads: usize,
) -> (Version, State) {
    let shape = shape(rng, space);
    let (updates, after) = change(rng, &parent.1, shape);
    let flat = Flat { state: &parent.1, crown: &Crown::new() };
    let Commit { version, storage_roots } =
        trie.commit(&parent.0, &updates, threads, &flat).unwrap();
    assert_eq!(version.root, state_root(&after));
    for (update, root) in updates.iter().zip(storage_roots) {
        let expected = after.get(&update.key).map_or(EMPTY_ROOT_HASH, |a| a.storage_root);
        assert_eq!(root, expected, "storage root of {}", update.key);
    }
    (version, after)
}

#[test]
fn every_version_of_a_random_tree_has_the_root_of_the_hash_builder() {
    for seed in 1..=60u64 {
        let mut rng = Rng::new(seed);
        let space = SPACES[(seed % 5) as usize];
        let threads = 1 + (seed / 5 % 2) as usize;
        let mut trie = StateTrie::new();
        let mut base = (trie.empty(), State::new());
        assert_eq!(base.0.root, EMPTY_ROOT_HASH);
        for _ in 0..8 {
            let mut tree = vec![base.clone()];
            for _ in 0..6 {
                let parent = tree[rng.below(tree.len() as u64) as usize].clone();
                tree.push(grow(&mut trie, &mut rng, &parent, space, threads));
            }
            // Sometimes drop one by hand, with whatever descends from it.
            if rng.percent(50) {
                trie.abandon(tree[1 + rng.below(6) as usize].0);
            }
            trie.audit();
            let live: Vec<_> = tree.iter().filter(|(version, _)| trie.holds(version)).collect();
            base = live[rng.below(live.len() as u64) as usize].clone();
            trie.finalise(&base.0);
            trie.audit();
        }
    }
}

#[test]
fn after_the_last_account_is_deleted_nothing_is_held() {
    let mut trie = StateTrie::new();
    let mut rng = Rng::new(7);
    let empty = (trie.empty(), State::new());
    let full = grow(&mut trie, &mut rng, &empty, 400, 2);
    assert!(trie.audit() > 0);
    let flat = Flat { state: &full.1, crown: &Crown::new() };
    let gone = trie.commit(&full.0, &difference(&full.1, &State::new()), 2, &flat).unwrap();
    assert_eq!(gone.version.root, EMPTY_ROOT_HASH);
    trie.finalise(&gone.version);
    assert_eq!((trie.audit(), trie.live_bytes()), (0, 0));
}

#[test]
fn a_rebuilt_trie_has_the_same_root_and_goes_on() {
    for space in SPACES.into_iter().chain([30_000]) {
        let mut rng = Rng::new(space);
        let mut trie = StateTrie::new();
        let start = (trie.empty(), State::new());
        let mut shape = shape(&mut rng, space);
        (shape.touched, shape.deleted) = (space, 5);
        let (updates, state) = change(&mut rng, &start.1, shape);
        let flat = Flat { state: &start.1, crown: &Crown::new() };
        let commit = trie.commit(&start.0, &updates, 2, &flat).unwrap();
        assert_eq!(commit.version.root, state_root(&state));
        for threads in [1, 2] {
            let flat = Flat { state: &state, crown: &Crown::new() };
            let version = trie.rebuild(&flat, threads).unwrap();
            assert_eq!(version.root, commit.version.root);
            let mut tip = (version, state.clone());
            for _ in 0..3 {
                tip = grow(&mut trie, &mut rng, &tip, space, threads);
            }
            trie.finalise(&tip.0);
            trie.audit();
        }
    }
}

#[test]
fn slots_with_inline_nodes_come_and_go() {
    // Eight slots that differ in the last two nibbles only, with one-byte values.
    let slot = |i: u8| {
        let mut key = B256::repeat_byte(0x77);
        key[31] = [0x11, 0x12, 0x1f, 0x21, 0x22, 0x31, 0xf0, 0xff][usize::from(i)];
        key
    };
    let account = |mask: u8| {
        let set = (0..8).filter(|i| mask >> i & 1 == 1);
        let slots: std::collections::BTreeMap<_, _> =
            set.map(|i| (slot(i), U256::from(1 + i))).collect();
        let fields = landfall_chain::trie::AccountFields {
            nonce: 1,
            balance: U256::ZERO,
            code_hash: B256::repeat_byte(1),
        };
        let storage_root = storage_root(&slots);
        State::from([(B256::repeat_byte(9), Account { fields, slots: slots.into(), storage_root })])
    };
    let mut trie = StateTrie::new();
    let mut rng = Rng::new(3);
    let mut tip = (trie.empty(), State::new());
    for _ in 0..2_000 {
        let next = account(rng.next() as u8);
        let flat = Flat { state: &tip.1, crown: &Crown::new() };
        let updates = difference(&tip.1, &next);
        let commit = trie.commit(&tip.0, &updates, 1, &flat).unwrap();
        assert_eq!(commit.version.root, state_root(&next));
        trie.finalise(&commit.version);
        trie.audit();
        tip = (commit.version, next);
    }
}

#[test]
fn a_commit_that_contradicts_flat_state_fails_and_leaves_the_trie_as_it_was() {
    let mut trie = StateTrie::new();
    let mut rng = Rng::new(11);
    let empty = (trie.empty(), State::new());
    let base = grow(&mut trie, &mut rng, &empty, 60, 1);
    let nodes = trie.audit();
    let mut refused = 0;
    for _ in 0..300 {
        let shape = shape(&mut rng, 60);
        let (mut updates, _) = change(&mut rng, &base.1, shape);
        let i = rng.below(updates.len() as u64) as usize;
        updates[i].existed ^= true;
        let flat = Flat { state: &base.1, crown: &Crown::new() };
        match trie.commit(&base.0, &updates, 1, &flat) {
            Err(error) => {
                assert!(error.to_string().contains("damaged"), "{error}");
                refused += 1;
            }
            Ok(commit) => trie.abandon(commit.version),
        }
        assert_eq!(trie.audit(), nodes);
    }
    assert!(refused > 50, "{refused} of 300 refused");
    grow(&mut trie, &mut rng, &base, 60, 1);
}

#[test]
fn a_rebuild_reports_slots_that_are_not_of_the_storage_root() {
    let mut rng = Rng::new(13);
    let shape = Shape { accounts: 30, slots: 200, touched: 30, touched_slots: 150, deleted: 0 };
    let (_, state) = change(&mut rng, &State::new(), shape);
    for (key, account) in state.iter().filter(|(_, account)| !account.slots.is_empty()) {
        let mut wrong = state.clone();
        let slots = &mut wrong.get_mut(key).unwrap().slots;
        let slot = *account.slots.keys().next_back().unwrap();
        std::sync::Arc::make_mut(slots).remove(&slot);
        let flat = Flat { state: &wrong, crown: &Crown::new() };
        let error = StateTrie::new().rebuild(&flat, 2).unwrap_err();
        assert!(matches!(error, TrieError::Damaged { owner: Some(o), .. } if o == *key), "{error}");
    }
}
