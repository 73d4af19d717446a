//! The chain as its host sees it: forks, reorganisations, history, patches, restarts.

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_genesis::{Genesis, GenesisAccount};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, hex, keccak256};
use landfall_chain::store::{Disk, MemoryViews, SplitMix, TestDisk};
use landfall_chain::{Attributes, Chain, ChainOptions, ImportError, Patch, Place, ProofError};
use landfall_types::{ForkChoice, StateReader, Transaction};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Stores its call data's first word at slot `number % 16`, or clears the slot for a zero word.
const COUNTER: &[u8] = &[0x5f, 0x35, 0x60, 0x0f, 0x43, 0x16, 0x55, 0x00];
const CONTRACT: Address = Address::repeat_byte(0xcc);

fn account(index: u8) -> Address {
    Address::repeat_byte(index + 1)
}

fn genesis() -> Genesis {
    let mut genesis: Genesis = serde_json::from_str(
        r#"{"config":{"chainId":7,"homesteadBlock":0,"eip150Block":0,"eip155Block":0,
        "eip158Block":0,"byzantiumBlock":0,"constantinopleBlock":0,"petersburgBlock":0,
        "istanbulBlock":0,"berlinBlock":0,"londonBlock":0,"terminalTotalDifficulty":0,
        "terminalTotalDifficultyPassed":true,"shanghaiTime":0,"landfall":{"engine":"solo"}},
        "gasLimit":"0x1c9c380","difficulty":"0x0","alloc":{}}"#,
    )
    .unwrap();
    for index in 0..8 {
        let rich = GenesisAccount::default().with_balance(U256::from(10).pow(U256::from(21)));
        genesis.alloc.insert(account(index), rich);
    }
    let contract = GenesisAccount::default().with_code(Some(Bytes::from_static(COUNTER)));
    genesis.alloc.insert(CONTRACT, contract);
    genesis
}

fn open(disk: &Arc<TestDisk>, genesis: Option<Genesis>) -> Chain {
    let disk: Arc<dyn Disk> = disk.clone();
    let mut options = ChainOptions::new(genesis, Place::Disk(disk));
    options.segment_bytes = 64 << 10;
    Chain::open(options).unwrap()
}

fn transaction(nonce: u64, to: Address, value: u64, input: Bytes) -> Transaction {
    let fields = TxEip1559 {
        chain_id: 7,
        nonce,
        gas_limit: 100_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(to),
        value: U256::from(value),
        access_list: Default::default(),
        input,
    };
    fields.into_signed(Signature::test_signature()).into()
}

/// What the state should be after a block, kept by the test.
#[derive(Clone, Default)]
struct Model {
    balances: BTreeMap<Address, U256>,
    nonces: BTreeMap<Address, u64>,
    slots: BTreeMap<u64, U256>,
}

/// Builds one block of random transfers and contract calls on `parent`.
fn grow(
    chain: &mut Chain,
    parent: B256,
    random: &mut SplitMix,
    models: &mut BTreeMap<B256, Model>,
) -> B256 {
    let mut model = models[&parent].clone();
    let reader = chain.reader();
    let number = reader.number_of(parent).unwrap().unwrap() + 1;
    let extra_data = Bytes::from(random.next().to_be_bytes());
    let attributes = Attributes { gas_limit: 30_000_000, extra_data, ..Attributes::default() };
    let count = random.below(4);
    let fresh = Address::from_word(keccak256(random.next().to_be_bytes()));
    let mut slot = None;
    let block = chain
        .build(parent, attributes, |builder| {
            for _ in 0..count {
                let sender = account(random.below(8) as u8);
                let nonce = model.nonces.entry(sender).or_default();
                let value = 1 + random.below(1_000);
                let (transaction, word) = if random.below(2) == 0 {
                    (transaction(*nonce, fresh, value, Bytes::new()), None)
                } else {
                    let word = U256::from(random.below(3));
                    let input = Bytes::from(word.to_be_bytes::<32>());
                    (transaction(*nonce, CONTRACT, 0, input), Some(word))
                };
                let pushed = builder.push(&transaction, sender).unwrap();
                assert!(pushed.success);
                *nonce += 1;
                match word {
                    Some(word) => slot = Some(word),
                    None => *model.balances.entry(fresh).or_default() += U256::from(value),
                }
            }
        })
        .unwrap();
    if let Some(word) = slot {
        model.slots.insert(number % 16, word);
    }
    models.insert(block.block.hash(), model);
    block.block.hash()
}

fn check(chain: &Chain, hash: B256, model: &Model) {
    let state = chain.reader().state(hash).unwrap();
    for (address, balance) in &model.balances {
        let found = state.account(address).unwrap().map_or(U256::ZERO, |account| account.balance);
        assert_eq!(found, *balance, "balance of {address} at {hash}");
    }
    for (address, nonce) in &model.nonces {
        assert_eq!(state.account(address).unwrap().unwrap().nonce, *nonce, "nonce at {hash}");
    }
    for slot in 0..16 {
        let want = model.slots.get(&slot).copied().unwrap_or_default();
        assert_eq!(state.storage(&CONTRACT, U256::from(slot)).unwrap(), want, "slot {slot}");
    }
}

/// The canonical branch from a block down, lowest first.
fn branch(chain: &Chain, head: B256) -> Vec<B256> {
    let reader = chain.reader();
    let number = reader.number_of(head).unwrap().unwrap();
    (0..=number).map(|n| reader.hash_at(n).unwrap().unwrap()).collect()
}

fn random_history(seed: u64) {
    let mut random = SplitMix(seed);
    let disk = Arc::new(TestDisk::new(seed));
    let mut chain = open(&disk, Some(genesis()));
    let start = chain.reader().genesis_hash();
    let mut models: BTreeMap<B256, Model> = [(start, Model::default())].into();
    let mut head = start;
    let mut finalized = 0;
    for _ in 0..120 {
        // Grow the head, or a fork from some block that is not final.
        let trunk = branch(&chain, head);
        let from = if random.below(4) == 0 {
            finalized + random.below(trunk.len() as u64 - finalized)
        } else {
            trunk.len() as u64 - 1
        };
        let mut tip = trunk[from as usize];
        for _ in 0..1 + random.below(3) {
            tip = grow(&mut chain, tip, &mut random, &mut models);
        }
        let number = chain.reader().number_of(tip).unwrap().unwrap();
        let fork_point = from.min(number);
        let room = fork_point.saturating_sub(finalized);
        if room > 0 && random.below(3) == 0 {
            finalized += random.below(room + 1);
        }
        let choice = ForkChoice {
            head: tip,
            safe: trunk[finalized as usize],
            finalized: trunk[finalized as usize],
        };
        let adopted = chain.adopt(choice).unwrap();
        assert_eq!(adopted.added.last().unwrap().block.hash(), tip);
        assert_eq!(adopted.removed.len() as u64, trunk.len() as u64 - 1 - fork_point);
        head = tip;
        match random.below(6) {
            0 => chain.flush().unwrap(),
            1 => {
                // Half a flush: readers must be right in between.
                if let Some(job) = chain.begin_flush() {
                    let done = job.run();
                    let trunk = branch(&chain, head);
                    let at = trunk[random.below(trunk.len() as u64) as usize];
                    check(&chain, at, &models[&at]);
                    chain.finish_flush(done).unwrap();
                }
            }
            2 => {
                drop(chain);
                chain = open(&disk, None);
                assert_eq!(chain.reader().head().hash(), head, "seed {seed}: the head is kept");
                assert_eq!(chain.reader().head().finalized.0, finalized);
            }
            _ => {}
        }
    }
    for hash in branch(&chain, head) {
        check(&chain, hash, &models[&hash]);
    }
    prove_all(&chain, head);
}

/// Every block of the branch proves the contract with two slots against its own state root.
fn prove_all(chain: &Chain, head: B256) {
    let reader = chain.reader();
    for hash in branch(chain, head) {
        let root = reader.block(hash).unwrap().unwrap().block.header.state_root;
        let slots = [B256::ZERO, B256::with_last_byte(3)];
        let proof = reader.prove(hash, CONTRACT, &slots).unwrap();
        assert_eq!(keccak256(&proof.proof[0]), root, "the proof starts at the state root");
        let state = reader.state(hash).unwrap();
        for proved in &proof.storage {
            let value = state.storage(&CONTRACT, proved.slot.into()).unwrap();
            assert_eq!(proved.value, value);
        }
        let absent = reader.prove(hash, Address::repeat_byte(0xee), &[]).unwrap();
        assert_eq!(absent.account, None);
    }
}

#[test]
fn state_is_right_at_every_height_through_forks_flushes_and_restarts() {
    for seed in 0..12 {
        random_history(seed);
    }
}

#[test]
fn finalized_never_moves_back_and_its_forks_are_refused() {
    let disk = Arc::new(TestDisk::new(1));
    let mut chain = open(&disk, Some(genesis()));
    let start = chain.reader().genesis_hash();
    let mut random = SplitMix(1);
    let mut models: BTreeMap<B256, Model> = [(start, Model::default())].into();
    let one = grow(&mut chain, start, &mut random, &mut models);
    let two = grow(&mut chain, one, &mut random, &mut models);
    chain.adopt(ForkChoice { head: two, safe: two, finalized: one }).unwrap();
    let back = chain.adopt(ForkChoice { head: two, safe: two, finalized: start });
    assert!(back.unwrap_err().to_string().contains("moves back"));
    let other = grow(&mut chain, start, &mut random, &mut models);
    assert_ne!(other, one);
    let fork = chain.adopt(ForkChoice { head: other, safe: other, finalized: other });
    assert!(fork.unwrap_err().to_string().contains("does not descend"));
}

#[test]
fn block_is_invisible_until_it_is_adopted() {
    let disk = Arc::new(TestDisk::new(2));
    let mut chain = open(&disk, Some(genesis()));
    let start = chain.reader().genesis_hash();
    let mut random = SplitMix(9);
    let mut models: BTreeMap<B256, Model> = [(start, Model::default())].into();
    let one = grow(&mut chain, start, &mut random, &mut models);
    assert!(chain.reader().block(one).unwrap().is_none());
    assert_eq!(chain.reader().head().number(), 0);
    chain.adopt(ForkChoice { head: one, safe: start, finalized: start }).unwrap();
    assert!(chain.reader().block(one).unwrap().is_some());
}

#[test]
fn a_fork_choice_names_the_accounts_that_changed_on_both_branches() {
    let disk = Arc::new(TestDisk::new(8));
    let mut chain = open(&disk, Some(genesis()));
    let start = chain.reader().genesis_hash();
    let block = |chain: &mut Chain, sender: Address, to: Address, input: Bytes| {
        let attributes = Attributes { gas_limit: 30_000_000, ..Attributes::default() };
        let pushed = transaction(0, to, 0, input);
        let built = chain.build(start, attributes, |builder| {
            assert!(builder.push(&pushed, sender).unwrap().success);
        });
        built.unwrap().block.hash()
    };
    let one = U256::from(1).to_be_bytes::<32>();
    let calls = block(&mut chain, account(0), CONTRACT, one.into());
    let sends = block(&mut chain, account(1), account(2), Bytes::new());
    let mut adopt =
        |head| chain.adopt(ForkChoice { head, safe: start, finalized: start }).unwrap().touched;
    let first = adopt(calls);
    assert!(first.contains(&account(0)) && first.contains(&CONTRACT), "{first:?}");
    assert!(!first.contains(&account(1)), "{first:?}");
    let both = adopt(sends);
    let changed = [account(0), account(1), CONTRACT];
    assert!(changed.iter().all(|address| both.contains(address)), "{both:?}");
    assert!(both.is_sorted() && first.is_sorted());
}

#[test]
fn same_block_built_twice_is_one_block() {
    let disk = Arc::new(TestDisk::new(6));
    let mut chain = open(&disk, Some(genesis()));
    let start = chain.reader().genesis_hash();
    let attributes = Attributes { gas_limit: 30_000_000, ..Attributes::default() };
    let first = chain.build(start, attributes.clone(), |_| ()).unwrap().block.hash();
    chain.adopt(ForkChoice { head: first, safe: start, finalized: start }).unwrap();
    chain.adopt(ForkChoice { head: start, safe: start, finalized: start }).unwrap();
    let again = chain.build(start, attributes.clone(), |_| ()).unwrap().block.hash();
    assert_eq!(first, again);
    let next = chain.build(first, attributes, |_| ()).unwrap().block.hash();
    chain.adopt(ForkChoice { head: next, safe: next, finalized: next }).unwrap();
    chain.flush().unwrap();
    drop(chain);
    assert_eq!(open(&disk, None).reader().head().hash(), next);
}

#[test]
fn patch_is_visible_at_once_survives_a_restart_and_is_left_by_a_revert() {
    let disk = Arc::new(TestDisk::new(3));
    let mut chain = open(&disk, Some(genesis()));
    let start = chain.reader().genesis_hash();
    let who = Address::repeat_byte(0xab);
    let balance = |chain: &Chain| {
        chain.reader().latest_state().account(&who).unwrap().map(|account| account.balance)
    };
    let before = chain.mark();
    chain.patch(Patch::Balance { address: who, balance: U256::from(5) }).unwrap();
    chain
        .patch(Patch::Storage { address: CONTRACT, slot: U256::ONE, value: U256::from(9) })
        .unwrap();
    assert_eq!(balance(&chain), Some(U256::from(5)));
    let patched = chain.mark();
    drop(chain);
    let mut chain = open(&disk, None);
    assert_eq!(balance(&chain), Some(U256::from(5)));
    let block = chain
        .build(start, Attributes { gas_limit: 30_000_000, ..Attributes::default() }, |_| ())
        .unwrap();
    let hash = block.block.hash();
    chain.adopt(ForkChoice { head: hash, safe: start, finalized: start }).unwrap();
    assert_eq!(balance(&chain), Some(U256::from(5)), "the next block stands on the patch");
    let proof = chain.reader().prove(hash, CONTRACT, &[B256::with_last_byte(1)]).unwrap();
    assert_eq!(proof.storage[0].value, U256::from(9));
    chain.revert(patched, start, start).unwrap();
    assert_eq!(balance(&chain), Some(U256::from(5)));
    chain.revert(before, start, start).unwrap();
    assert_eq!(balance(&chain), None);
    drop(chain);
    let chain = open(&disk, None);
    assert_eq!(balance(&chain), None, "the revert is kept");
}

#[test]
fn history_of_a_patched_chain_is_right_after_a_flush() {
    let disk = Arc::new(TestDisk::new(4));
    let mut chain = open(&disk, Some(genesis()));
    let who = Address::repeat_byte(0xab);
    let attributes = Attributes { gas_limit: 30_000_000, ..Attributes::default() };
    let mut hashes = vec![chain.reader().genesis_hash()];
    for number in 1..=6u64 {
        chain.patch(Patch::Balance { address: who, balance: U256::from(number) }).unwrap();
        let parent = *hashes.last().unwrap();
        let block = chain.build(parent, attributes.clone(), |_| ()).unwrap();
        hashes.push(block.block.hash());
        let finalized = hashes[hashes.len() / 2];
        let head = *hashes.last().unwrap();
        chain.adopt(ForkChoice { head, safe: finalized, finalized }).unwrap();
        chain.flush().unwrap();
    }
    for (number, hash) in hashes.iter().enumerate() {
        let account = chain.reader().state(*hash).unwrap().account(&who).unwrap();
        let balance = account.map_or(U256::ZERO, |account| account.balance);
        assert_eq!(balance, U256::from(number), "after block {number}");
        let proof = chain.reader().prove(*hash, who, &[]).unwrap();
        assert_eq!(proof.account.map_or(U256::ZERO, |a| a.balance), U256::from(number));
    }
}

#[test]
fn proof_beyond_the_window_is_refused_with_the_oldest_block_named() {
    let disk = Arc::new(TestDisk::new(5));
    let mut chain = open(&disk, Some(genesis()));
    let start = chain.reader().genesis_hash();
    let attributes = Attributes { gas_limit: 30_000_000, ..Attributes::default() };
    let mut head = start;
    for _ in 0..1_030 {
        head = chain.build(head, attributes.clone(), |_| ()).unwrap().block.hash();
        chain.adopt(ForkChoice { head, safe: head, finalized: head }).unwrap();
        if chain.flush_due() {
            chain.flush().unwrap();
        }
    }
    let reader = chain.reader();
    let refused = reader.prove(reader.hash_at(5).unwrap().unwrap(), account(0), &[]);
    assert!(matches!(refused, Err(ProofError::TooOld { oldest: 6 })));
    let oldest = reader.hash_at(6).unwrap().unwrap();
    reader.prove(oldest, account(0), &[]).unwrap();
}

/// Without that, each version since the last flush keeps its nodes, however little the trie may take.
#[test]
fn a_trie_that_is_full_is_flushed_before_the_usual_time() {
    let disk: Arc<dyn Disk> = Arc::new(TestDisk::new(11));
    let mut options = ChainOptions::new(Some(genesis()), Place::Disk(disk));
    options.caches.trie = 256 << 10;
    let mut chain = Chain::open(options).unwrap();
    let mut head = chain.reader().genesis_hash();
    let attributes = Attributes { gas_limit: 30_000_000, ..Attributes::default() };
    let (mut flushes, mut most) = (Vec::new(), [0; 2]);
    for number in 1..=200_u64 {
        let block = chain.build(head, attributes.clone(), |builder| {
            for nonce in 20 * (number - 1)..20 * number {
                let fresh = Address::from_word(keccak256(nonce.to_be_bytes()));
                builder.push(&transaction(nonce, fresh, 1, Bytes::new()), account(0)).unwrap();
            }
        });
        head = block.unwrap().block.hash();
        chain.adopt(ForkChoice { head, safe: head, finalized: head }).unwrap();
        if chain.flush_due() {
            chain.flush().unwrap();
            flushes.push(number);
        }
        let half = &mut most[usize::from(number > 100)];
        *half = chain.reader().trie_bytes().max(*half);
    }
    assert!(flushes.len() >= 4, "flushed at {flushes:?}");
    assert!(flushes.windows(2).all(|pair| pair[1] - pair[0] >= 16), "flushed at {flushes:?}");
    assert!(most[1] < most[0] + most[0] / 2, "the trie takes {most:?} bytes");
}

#[test]
fn reverted_blocks_are_forgotten() {
    let disk = Arc::new(TestDisk::new(7));
    let mut chain = open(&disk, Some(genesis()));
    let start = chain.reader().genesis_hash();
    let mut random = SplitMix(7);
    let mut models: BTreeMap<B256, Model> = [(start, Model::default())].into();
    for _ in 0..50 {
        let mark = chain.mark();
        let mut head = start;
        for _ in 0..5 {
            head = grow(&mut chain, head, &mut random, &mut models);
            chain.adopt(ForkChoice { head, safe: start, finalized: start }).unwrap();
        }
        chain.revert(mark, start, start).unwrap();
        assert_eq!(chain.reader().number_of(head).unwrap(), None, "the memory is free again");
        check(&chain, start, &models[&start]);
    }
    let head = grow(&mut chain, start, &mut random, &mut models);
    chain.adopt(ForkChoice { head, safe: head, finalized: head }).unwrap();
    drop(chain);
    let chain = open(&disk, None);
    assert_eq!(chain.reader().head().hash(), head);
    check(&chain, head, &models[&head]);
}

#[test]
fn a_directory_opens_again_when_validators_have_moved_and_not_when_others_vote() {
    let genesis = |id: u8, node_key: u8, address: &str| {
        let mut genesis = genesis();
        let validator = json!({
            "id": Address::repeat_byte(id), "nodeKey": format!("0x{}", hex::encode([node_key; 33])),
            "name": address, "address": address, "weight": 1,
        });
        let landfall = json!({ "engine": "pbft", "validators": [validator] });
        genesis.config.extra_fields.insert("landfall".into(), landfall);
        genesis
    };
    let disk = Arc::new(TestDisk::new(1));
    drop(open(&disk, Some(genesis(1, 2, "10.0.0.1:30303"))));
    drop(open(&disk, Some(genesis(1, 3, "10.0.0.2:30303"))));
    let place = Place::Disk(disk);
    let others = Chain::open(ChainOptions::new(Some(genesis(4, 2, "10.0.0.1:30303")), place));
    let error = others.err().expect("another validator votes").to_string();
    assert!(error.contains("belongs to another chain"), "{error}");
}

#[test]
fn creation_of_a_large_genesis_resumes_wherever_it_was_interrupted() {
    let mut large = genesis();
    for index in 0..45_000u64 {
        let address = Address::from_word(keccak256(index.to_be_bytes()));
        large.alloc.insert(address, GenesisAccount::default().with_balance(U256::from(index)));
    }
    let whole = Arc::new(TestDisk::new(8));
    let hash = open(&whole, Some(large.clone())).reader().genesis_hash();
    let options = |disk: &TestDisk, views: &MemoryViews| {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        ChainOptions::new(Some(large.clone()), Place::Kept(disk, views.clone()))
    };
    let mut interrupted = 0;
    for operation in 1..=whole.operations() {
        let (disk, views) = (TestDisk::new(8), MemoryViews::default());
        disk.stop_at(operation);
        interrupted += u64::from(Chain::open(options(&disk, &views)).is_err());
        disk.crash(operation);
        let chain = Chain::open(options(&disk, &views)).unwrap();
        assert_eq!(chain.reader().genesis_hash(), hash, "stopped at operation {operation}");
    }
    assert!(interrupted > 3, "{interrupted} creations were interrupted");
}

#[test]
fn block_beside_a_finalised_one_is_refused_for_good() {
    let disk = Arc::new(TestDisk::new(9));
    let mut chain = open(&disk, Some(genesis()));
    let start = chain.reader().genesis_hash();
    let attributes = |byte: u8| Attributes {
        gas_limit: 30_000_000,
        extra_data: Bytes::copy_from_slice(&[byte]),
        ..Attributes::default()
    };
    let other = chain.build(start, attributes(1), |_| ()).unwrap().block.clone();
    let one = chain.build(start, attributes(2), |_| ()).unwrap().block.hash();
    chain.adopt(ForkChoice { head: one, safe: one, finalized: one }).unwrap();
    chain.flush().unwrap();
    let refused = chain.import(other.clone());
    assert!(matches!(refused, Err(ImportError::Finalized(hash)) if hash == other.hash()));
}
