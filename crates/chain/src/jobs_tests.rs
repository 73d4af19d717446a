//! Jobs beside flushes, reverts and each other: right, or refused as left behind; never wrong,
//! never a panic, and no version of the trie is lost.

use crate::jobs::{Begin, Executed};
use crate::pool::Recovered;
use crate::store::{Disk, MemoryViews, TestDisk};
use crate::{Attributes, Chain, ChainOptions, FlushDone, FlushJob, ImportError, Place};
use alloy_consensus::TxLegacy;
use alloy_genesis::{Genesis, GenesisAccount};
use alloy_primitives::{Address, B64, B256, Bytes, TxKind, U256};
use landfall_evm::BlockBuilder;
use landfall_types::{Block, ForkChoice, Transaction};
use std::sync::Arc;

const SENDER: Address = Address::repeat_byte(0x11);
const CONTRACT: Address = Address::repeat_byte(0xcc);
/// Stores the hash of the block three below at slot `number % 16`: a state of another branch shows.
const HASH_KEEPER: &[u8] = &[0x60, 0x03, 0x43, 0x03, 0x40, 0x60, 0x0f, 0x43, 0x16, 0x55, 0x00];

pub(crate) fn genesis() -> Genesis {
    let mut genesis: Genesis = serde_json::from_str(
        r#"{"config":{"chainId":7,"homesteadBlock":0,"eip150Block":0,"eip155Block":0,
        "eip158Block":0,"byzantiumBlock":0,"constantinopleBlock":0,"petersburgBlock":0,
        "istanbulBlock":0,"berlinBlock":0,"londonBlock":0,"shanghaiTime":0,"cancunTime":0,
        "landfall":{"impersonation":true}},
        "gasLimit":"0x1c9c380","difficulty":"0x0","alloc":{}}"#,
    )
    .unwrap();
    let rich = GenesisAccount::default().with_balance(U256::from(10).pow(U256::from(21)));
    genesis.alloc.insert(SENDER, rich);
    let contract = GenesisAccount::default().with_code(Some(Bytes::from_static(HASH_KEEPER)));
    genesis.alloc.insert(CONTRACT, contract);
    genesis
}

pub(crate) fn open(disk: &TestDisk, views: &MemoryViews) -> Chain {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Chain::open(ChainOptions::new(Some(genesis()), Place::Kept(disk, views.clone()))).unwrap()
}

pub(crate) fn fresh() -> Chain {
    open(&TestDisk::new(1), &MemoryViews::default())
}

pub(crate) fn attributes(byte: u8) -> Attributes {
    let extra_data = Bytes::copy_from_slice(&[byte]);
    Attributes { gas_limit: 30_000_000, extra_data, ..Attributes::default() }
}

fn fields(nonce: u64, to: Address) -> TxLegacy {
    TxLegacy {
        chain_id: Some(7),
        nonce,
        gas_price: 10_000_000_000,
        gas_limit: 100_000,
        to: TxKind::Call(to),
        value: U256::ZERO,
        input: Bytes::new(),
    }
}

fn transaction(nonce: u64, to: Address) -> Transaction {
    (*Recovered::impersonated(fields(nonce, to).into(), SENDER).transaction).clone()
}

/// One call of the contract and one of nobody; each block of a branch has the next two nonces.
fn push(builder: &mut BlockBuilder<'_>, place: u64) -> bool {
    let nonce = (builder.header().number - 1) * 2 + place;
    let to = if place == 0 { CONTRACT } else { Address::repeat_byte(nonce as u8) };
    builder.push(&transaction(nonce, to), SENDER).is_ok()
}

pub(crate) fn grow(chain: &mut Chain, parent: B256, byte: u8) -> B256 {
    let fill = |builder: &mut BlockBuilder<'_>| assert!(push(builder, 0) && push(builder, 1));
    chain.build(parent, attributes(byte), fill).unwrap().block.hash()
}

pub(crate) fn adopt(chain: &mut Chain, head: B256, finalized: B256) {
    chain.adopt(ForkChoice { head, safe: finalized, finalized }).unwrap();
}

/// EIP-3607 keeps a contract from sending; who may speak for anybody speaks for it too.
#[test]
fn an_impersonated_contract_sends() {
    let mut genesis = genesis();
    let balance = U256::from(10).pow(U256::from(18));
    genesis.alloc.get_mut(&CONTRACT).expect("it is there").balance = balance;
    let open = || {
        let place = Place::Disk(Arc::new(TestDisk::new(1)) as Arc<dyn Disk>);
        Chain::open(ChainOptions::new(Some(genesis.clone()), place)).unwrap()
    };
    let (mut chain, mut other) = (open(), open());
    let sent = Recovered::impersonated(fields(0, SENDER).into(), CONTRACT);
    let start = chain.reader().genesis_hash();
    let built = chain.build(start, attributes(1), |builder| {
        assert!(builder.push(&sent.transaction, CONTRACT).expect("it may send").success);
    });
    let block = built.unwrap().block.clone();
    assert_eq!(other.import(block.clone()).unwrap(), block.hash());
}

/// As many versions as layers, and no node that none of them holds.
fn audit(chain: &Chain) {
    let trie = chain.shared.trie.lock();
    trie.audit();
    let layers = chain.shared.tree.read().layers().count();
    // Between the two ends of a flush the tree still has the layers that the trie let go.
    if !chain.flushing {
        assert_eq!(trie.versions(), layers, "a version is lost, or there is one too many");
    }
}

/// Blocks 0, 1, 2, 3 and beside 2 another; 2 is final.
struct Forked {
    chain: Chain,
    disk: TestDisk,
    views: MemoryViews,
    trunk: [B256; 4],
    beside: B256,
}

impl Forked {
    fn new() -> Self {
        let (disk, views) = (TestDisk::new(1), MemoryViews::default());
        let mut chain = open(&disk, &views);
        let zero = chain.reader().genesis_hash();
        let one = grow(&mut chain, zero, 1);
        let beside = grow(&mut chain, one, 9);
        let two = grow(&mut chain, one, 1);
        let three = grow(&mut chain, two, 1);
        adopt(&mut chain, three, two);
        Self { chain, disk, views, trunk: [zero, one, two, three], beside }
    }
}

/// The three steps of a flush, whenever the test wants them.
#[derive(Default)]
struct Flush {
    job: Option<FlushJob>,
    done: Option<FlushDone>,
    steps: u64,
}

impl Flush {
    fn step(&mut self, chain: &mut Chain) {
        self.steps += 1;
        match self.steps {
            1 => self.job = Some(chain.begin_flush().expect("block 2 is final")),
            2 => self.done = self.job.take().map(FlushJob::run),
            3 => chain.finish_flush(self.done.take().expect("step 2")).unwrap(),
            _ => unreachable!("a flush has three steps"),
        }
    }

    /// Takes the steps that are planned for a moment.
    fn at(&mut self, moment: usize, plan: &[usize; 3], chain: &mut Chain) {
        for _ in plan.iter().filter(|at| **at == moment) {
            self.step(chain);
        }
    }
}

/// Every way to spread the three steps of a flush over the five moments of a job: before it
/// begins, before it runs, within, before it is inserted, and after.
fn plans() -> Vec<[usize; 3]> {
    let mut plans = Vec::new();
    for first in 0..5 {
        for second in first..5 {
            plans.extend((second..5).map(|third| [first, second, third]));
        }
    }
    plans
}

/// Builds on a parent while a flush goes on as planned.
fn build_beside_a_flush(
    chain: &mut Chain,
    parent: B256,
    plan: &[usize; 3],
) -> Result<B256, ImportError> {
    let mut flush = Flush::default();
    flush.at(0, plan, chain);
    let job = chain.begin_build(parent, attributes(5));
    flush.at(1, plan, chain);
    let executed = job.and_then(|job| {
        job.run(|builder| {
            push(builder, 0);
            flush.at(2, plan, chain);
            push(builder, 1);
            Ok(())
        })
    });
    while flush.steps < plan.iter().filter(|at| **at <= 3).count() as u64 {
        flush.step(chain);
    }
    let inserted = executed.and_then(|executed| chain.insert(executed));
    flush.at(4, plan, chain);
    inserted.map(|stored| stored.block.hash())
}

#[test]
fn job_beside_a_flush_ends_right_or_as_left_behind_at_every_interleaving() {
    assert_eq!(plans().len(), 35);
    let reference = |pick: fn(&Forked) -> B256| {
        let mut world = Forked::new();
        let parent = pick(&world);
        let fill = |builder: &mut BlockBuilder<'_>| assert!(push(builder, 0) && push(builder, 1));
        world.chain.build(parent, attributes(5), fill).unwrap().block.hash()
    };
    type Pick = fn(&Forked) -> B256;
    let parents: [(&str, Pick, bool); 5] = [
        ("the base", |w| w.trunk[0], false),
        ("below the flushed block", |w| w.trunk[1], false),
        ("beside the flushed block", |w| w.beside, false),
        ("the flushed block", |w| w.trunk[2], true),
        ("above the flushed block", |w| w.trunk[3], true),
    ];
    for (name, pick, lives) in parents {
        let want = reference(pick);
        for plan in plans() {
            let mut world = Forked::new();
            let parent = pick(&world);
            let found = build_beside_a_flush(&mut world.chain, parent, &plan);
            let begun = plan[0] < 4;
            match found {
                Ok(hash) => {
                    assert!(lives || !begun, "{name}, {plan:?}: a branch that is gone grew");
                    assert_eq!(hash, want, "{name}, {plan:?}: another block");
                }
                Err(ImportError::Finalized(_)) => {
                    assert!(!lives && begun, "{name}, {plan:?}: refused");
                }
                Err(ImportError::Unknown(_)) => assert!(!lives && plan[0] == 0, "{name}, {plan:?}"),
                Err(error) => panic!("{name}, {plan:?}: {error}"),
            }
            assert_eq!(world.chain.jobs_out(), 0);
            audit(&world.chain);
            goes_on(world);
        }
    }
}

/// The chain grows by a block, and is the same after it was opened again.
fn goes_on(world: Forked) {
    let Forked { mut chain, disk, views, trunk, .. } = world;
    let four = grow(&mut chain, trunk[3], 1);
    adopt(&mut chain, four, trunk[3]);
    drop(chain);
    let chain = open(&disk, &views);
    assert_eq!(chain.reader().head().hash(), four);
    audit(&chain);
}

#[test]
fn execution_beside_a_flush_ends_right_or_as_left_behind() {
    for plan in plans() {
        // Its own block 3 on block 2, and a block 3 on the branch that is lost.
        let mut maker = Forked::new();
        let good = grow(&mut maker.chain, maker.trunk[3], 7);
        let lost = grow(&mut maker.chain, maker.beside, 7);
        let block = |hash| maker.chain.reader().live_block(&hash).unwrap().block.clone();
        for (block, lives) in [(block(good), true), (block(lost), false)] {
            let mut world = Forked::new();
            let hash = block.hash();
            let (chain, mut flush) = (&mut world.chain, Flush::default());
            flush.at(0, &plan, chain);
            let begun = chain.begin_execute(block);
            flush.at(1, &plan, chain);
            flush.at(2, &plan, chain);
            let executed = begun.and_then(|begin| match begin {
                Begin::Job(job) => job.run(),
                Begin::Known(_) => panic!("nobody has it"),
            });
            flush.at(3, &plan, chain);
            let inserted = executed.and_then(|executed| chain.insert(executed));
            flush.at(4, &plan, chain);
            match inserted {
                Ok(stored) => {
                    assert_eq!(stored.block.hash(), hash);
                    assert!(lives || plan[0] == 4, "{plan:?}");
                }
                Err(ImportError::Finalized(_)) => assert!(!lives && plan[0] < 4, "{plan:?}"),
                Err(ImportError::Unknown(_)) => assert!(!lives && plan[0] == 0, "{plan:?}"),
                Err(error) => panic!("{plan:?}: {error}"),
            }
            assert_eq!(chain.jobs_out(), 0);
            audit(chain);
        }
    }
}

#[test]
fn dropped_job_and_dropped_block_give_back_what_they_hold() {
    let mut world = Forked::new();
    let head = world.trunk[3];
    let chain = &mut world.chain;
    let versions = chain.shared.trie.lock().versions();
    let job = chain.begin_build(head, attributes(1)).unwrap();
    assert_eq!(chain.jobs_out(), 1);
    drop(job);
    assert_eq!(chain.jobs_out(), 0);
    let executed = chain.begin_build(head, attributes(1)).unwrap().run(|_| Ok(())).unwrap();
    assert_eq!((chain.jobs_out(), chain.shared.trie.lock().versions()), (1, versions + 1));
    drop(executed);
    assert_eq!((chain.jobs_out(), chain.shared.trie.lock().versions()), (0, versions));
    audit(chain);
}

#[test]
fn jobs_on_one_parent_do_not_disturb_each_other() {
    let mut world = Forked::new();
    let (head, chain) = (world.trunk[3], &mut world.chain);
    let build = |chain: &mut Chain, byte| chain.begin_build(head, attributes(byte)).unwrap();
    let jobs: Vec<_> = (1..=4).map(|byte| build(chain, byte)).collect();
    let executed: Vec<Executed> = std::thread::scope(|scope| {
        let fill = |builder: &mut BlockBuilder<'_>| {
            assert!(push(builder, 0) && push(builder, 1));
            Ok(())
        };
        let threads: Vec<_> =
            jobs.into_iter().map(|job| scope.spawn(move || job.run(fill).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let hashes: Vec<B256> = executed.iter().map(Executed::hash).collect();
    for one in executed {
        chain.insert(one).unwrap();
    }
    audit(chain);
    for (byte, hash) in (1..=4).zip(hashes) {
        let mut alone = Forked::new();
        assert_eq!(grow(&mut alone.chain, head, byte), hash, "as if it had been alone");
        chain.reader().state(hash).unwrap();
    }
}

#[test]
fn block_that_was_made_twice_is_one_block_and_stays_one_after_a_flush() {
    let mut world = Forked::new();
    let (head, chain) = (world.trunk[3], &mut world.chain);
    let run = |chain: &mut Chain| {
        chain.begin_build(head, attributes(1)).unwrap().run(|_| Ok(())).unwrap()
    };
    let (one, two, three) = (run(chain), run(chain), run(chain));
    let hash = chain.insert(one).unwrap().block.hash();
    let end = chain.end();
    assert_eq!(chain.insert(two).unwrap().block.hash(), hash);
    assert_eq!(chain.end(), end, "nothing was logged again");
    adopt(chain, hash, hash);
    chain.flush().unwrap();
    assert_eq!(chain.insert(three).unwrap().block.hash(), hash);
    assert_eq!(chain.end(), end_of_adopt(chain));
    audit(chain);
}

fn end_of_adopt(chain: &Chain) -> crate::Position {
    let records = chain.log.reader().iter(crate::Position::START);
    records.map(|record| record.unwrap().next).last().unwrap()
}

#[test]
fn nonce_of_work_and_seal_are_set_after_execution() {
    let mut world = Forked::new();
    let (head, chain) = (world.trunk[3], &mut world.chain);
    let difficulty = U256::from(77);
    let attributes = Attributes { difficulty, ..attributes(1) };
    let job = chain.begin_build(head, attributes).unwrap();
    let mut executed = job
        .run(|builder| {
            assert!(push(builder, 0));
            Ok(())
        })
        .unwrap();
    let before = executed.hash();
    executed.set_nonce(B64::with_last_byte(9));
    executed.set_seal(Bytes::from_static(b"signed"));
    assert_ne!(executed.hash(), before);
    let sealed: Block = executed.block().clone();
    assert_eq!(sealed.header.difficulty, difficulty);
    let hash = chain.insert(executed).unwrap().block.hash();
    // Another node takes it as it is, nonce and difficulty included.
    let mut other = Forked::new();
    assert_eq!(other.chain.import(sealed.clone()).unwrap(), hash);
    adopt(&mut other.chain, hash, hash);
    assert_eq!(other.chain.reader().head().block.block, sealed);
}

#[test]
fn job_under_a_revert_is_left_behind() {
    let mut chain = fresh();
    let zero = chain.reader().genesis_hash();
    let mark = chain.mark();
    let one = grow(&mut chain, zero, 1);
    adopt(&mut chain, one, zero);
    let before = chain.begin_build(one, attributes(2)).unwrap();
    let made = chain.begin_build(one, attributes(3)).unwrap().run(|_| Ok(())).unwrap();
    chain.revert(mark, zero, zero).unwrap();
    assert!(matches!(before.run(|_| Ok(())), Err(ImportError::Finalized(_))));
    assert!(matches!(chain.insert(made), Err(ImportError::Finalized(_))));
    audit(&chain);
}

#[test]
fn blocks_are_executed_on_threads_while_flushes_are_written() {
    let mut maker = fresh();
    let mut head = maker.reader().genesis_hash();
    let mut rounds: Vec<[Block; 2]> = Vec::new();
    for _ in 0..60 {
        let [one, other] = [1, 2].map(|byte| grow(&mut maker, head, byte));
        let block = |hash| maker.reader().live_block(&hash).unwrap().block.clone();
        rounds.push([block(one), block(other)]);
        head = one;
    }
    let mut chain = fresh();
    let mut trunk = vec![chain.reader().genesis_hash()];
    for pair in rounds {
        let jobs: Vec<_> = pair
            .into_iter()
            .map(|block| match chain.begin_execute(block).unwrap() {
                Begin::Job(job) => job,
                Begin::Known(hash) => panic!("{hash} is new"),
            })
            .collect();
        let flush = chain.begin_flush();
        let (executed, done) = std::thread::scope(|scope| {
            let flush = flush.map(|job| scope.spawn(move || job.run()));
            let threads: Vec<_> =
                jobs.into_iter().map(|job| scope.spawn(move || job.run())).collect();
            let executed: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
            (executed, flush.map(|thread| thread.join().unwrap()))
        });
        let mut hashes = Vec::new();
        for result in executed {
            let executed = result.unwrap_or_else(|error| panic!("{error}"));
            hashes.push(chain.insert(executed).unwrap().block.hash());
        }
        if let Some(done) = done {
            chain.finish_flush(done).unwrap();
        }
        trunk.push(hashes[0]);
        let finalized = trunk[trunk.len().saturating_sub(3)];
        adopt(&mut chain, hashes[0], finalized);
        audit(&chain);
    }
    assert_eq!(chain.reader().head().number(), 60);
    assert!(chain.reader().flushed() > 50);
}
