//! Proofs, checked with alloy-trie: of presence and absence, with nodes not in memory, and of
//! old states by a reverse difference.

mod trie_model;

use alloy_primitives::{B256, U256};
use alloy_trie::proof::verify_proof;
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles};
use landfall_chain::trie::{Leaves, Patched, Proof, StateTrie, Version};
use trie_model::*;

/// Checks a proof against the state it should be of.
fn check(proof: &Proof, root: B256, state: &State, key: B256, slots: &[B256]) {
    let account = state.get(&key).map(Account::trie_account);
    assert_eq!(proof.account, account);
    let value = account.map(alloy_rlp::encode);
    verify_proof(root, Nibbles::unpack(key), value, &proof.nodes).unwrap();
    let storage_root = account.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
    assert_eq!(proof.slots.len(), slots.len());
    for (slot, proof) in slots.iter().zip(&proof.slots) {
        let value = state.get(&key).and_then(|account| account.slots.get(slot)).copied();
        assert_eq!((proof.key, proof.value), (*slot, value.unwrap_or_default()));
        let value = value.map(alloy_rlp::encode);
        verify_proof(storage_root, Nibbles::unpack(slot), value, &proof.nodes).unwrap();
    }
}

fn prove_some(
    trie: &StateTrie,
    version: &Version,
    state: &State,
    leaves: &impl Leaves,
    rng: &mut Rng,
) {
    for _ in 0..20 {
        let mut account = key(rng.below(3000));
        if rng.percent(60) && !state.is_empty() {
            account = *state.keys().nth(rng.below(state.len() as u64) as usize).unwrap();
        }
        if rng.percent(20) {
            account[rng.below(32) as usize] ^= 1 << rng.below(8);
        }
        let slots: Vec<B256> = (0..6).map(|_| key(rng.below(500))).collect();
        let proof = trie.prove(version, account, &slots, leaves).unwrap();
        check(&proof, version.root, state, account, &slots);
    }
}

const SHAPES: [Shape; 4] = [
    Shape { accounts: 1, slots: 4, touched: 1, touched_slots: 3, deleted: 30 },
    Shape { accounts: 12, slots: 60, touched: 12, touched_slots: 40, deleted: 20 },
    Shape { accounts: 40, slots: 500, touched: 30, touched_slots: 400, deleted: 10 },
    Shape { accounts: 3000, slots: 20, touched: 2000, touched_slots: 8, deleted: 10 },
];

#[test]
fn proofs_of_every_kind_of_key_verify() {
    let mut rng = Rng::new(1);
    for shape in SHAPES {
        let mut trie = StateTrie::new();
        let mut tip = (trie.empty(), State::new());
        for _ in 0..12 {
            let flat = Flat { state: &tip.1, crown: &Crown::new() };
            prove_some(&trie, &tip.0, &tip.1, &flat, &mut rng);
            let (updates, after) = change(&mut rng, &tip.1, shape);
            let commit = trie.commit(&tip.0, &updates, 1, &flat).unwrap();
            // Also over the changes that are not in flat state yet.
            let patched = Patched::new(&flat, &updates, &commit.storage_roots);
            prove_some(&trie, &commit.version, &after, &patched, &mut rng);
            tip = (commit.version, after);
        }
    }
}

#[test]
fn inline_nodes_are_proved_inside_their_parents() {
    // Slots that differ in the last two or four nibbles, with one-byte values.
    let near = |a: u8, b: u8| {
        let mut key = B256::repeat_byte(0x77);
        (key[30], key[31]) = (a, b);
        key
    };
    let keys = [near(0x77, 0x11), near(0x77, 0x12), near(0x77, 0x21), near(0x12, 3), near(0x12, 4)];
    for mask in 1..1 << keys.len() {
        let set = keys.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1);
        let slots: std::collections::BTreeMap<_, _> =
            set.map(|(i, key)| (*key, U256::from(i + 1))).collect();
        let fields = landfall_chain::trie::AccountFields {
            nonce: 0,
            balance: U256::ONE,
            code_hash: B256::repeat_byte(1),
        };
        let account = Account { fields, storage_root: storage_root(&slots), slots: slots.into() };
        let owner = B256::repeat_byte(0x33);
        let state = State::from([(owner, account)]);
        let (mut trie, none) = (StateTrie::new(), State::new());
        let empty = trie.empty();
        let flat = Flat { state: &none, crown: &Crown::new() };
        let updates = difference(&none, &state);
        let version = trie.commit(&empty, &updates, 1, &flat).unwrap().version;
        let flat = Flat { state: &state, crown: &Crown::new() };
        let mut asked = keys.to_vec();
        asked.extend([near(0x77, 0x13), near(0x77, 0x31), near(0x12, 5), near(0x34, 0)]);
        let proof = trie.prove(&version, owner, &asked, &flat).unwrap();
        check(&proof, version.root, &state, owner, &asked);
        let inline = proof.slots.iter().flat_map(|s| s.nodes.iter().skip(1)).any(|n| n.len() < 32);
        assert!(!inline, "a node below 32 bytes is listed only as a root");
    }
}

#[test]
fn an_old_state_is_proved_by_the_reverse_difference_and_then_dropped() {
    for seed in 0..8u64 {
        let mut rng = Rng::new(seed + 100);
        let shape = SHAPES[(seed % 4) as usize];
        let mut trie = StateTrie::new();
        let mut tip = (trie.empty(), State::new());
        let mut history = vec![tip.clone()];
        for _ in 0..10 {
            let (updates, after) = change(&mut rng, &tip.1, shape);
            let flat = Flat { state: &tip.1, crown: &Crown::new() };
            tip = (trie.commit(&tip.0, &updates, 2, &flat).unwrap().version, after);
            history.push(tip.clone());
        }
        trie.finalise(&tip.0);
        let mut crown = Crown::new();
        store(&mut crown, trie.crown(&tip.0));
        trie.flushed(&tip.0);
        let flat = Flat { state: &tip.1, crown: &crown };
        if seed % 2 == 0 {
            trie.evict(0);
        } else {
            trie = StateTrie::new();
            tip.0 = trie.open(tip.0.root, &flat).unwrap();
        }
        // A head goes on above the finalised version meanwhile.
        let (updates, after) = change(&mut rng, &tip.1, shape);
        let head = (trie.commit(&tip.0, &updates, 2, &flat).unwrap().version, after);
        for (old, state) in history.iter().rev() {
            let nodes = trie.audit();
            let reverse = difference(&tip.1, state);
            let commit = trie.commit(&tip.0, &reverse, 2, &flat).unwrap();
            assert_eq!(commit.version.root, old.root, "the old header's root");
            let then = Patched::new(&flat, &reverse, &commit.storage_roots);
            prove_some(&trie, &commit.version, state, &then, &mut rng);
            trie.abandon(commit.version);
            assert_eq!(trie.audit(), nodes, "nothing of it stays");
        }
        let now = Flat { state: &head.1, crown: &crown };
        prove_some(&trie, &head.0, &head.1, &now, &mut rng);
    }
}

#[test]
fn a_changed_node_makes_a_proof_invalid() {
    let mut rng = Rng::new(5);
    let mut trie = StateTrie::new();
    let empty = trie.empty();
    let none = State::new();
    let (updates, state) = change(&mut rng, &none, SHAPES[3]);
    let flat = Flat { state: &none, crown: &Crown::new() };
    let version = trie.commit(&empty, &updates, 2, &flat).unwrap().version;
    let flat = Flat { state: &state, crown: &Crown::new() };
    let key = *state.keys().next().unwrap();
    let proof = trie.prove(&version, key, &[], &flat).unwrap();
    let value = || proof.account.map(alloy_rlp::encode);
    assert!(verify_proof(version.root, Nibbles::unpack(key), value(), &proof.nodes).is_ok());
    assert!(verify_proof(version.root, Nibbles::unpack(key), None, &proof.nodes).is_err());
    for i in 0..proof.nodes.len() {
        let mut nodes = proof.nodes.clone();
        nodes.remove(i);
        assert!(verify_proof(version.root, Nibbles::unpack(key), value(), &nodes).is_err());
    }
}
