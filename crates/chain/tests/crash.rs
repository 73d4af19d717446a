//! Nothing lost: the whole chain on a disk that loses power at every operation.
//!
//! A seeded workload creates a chain, builds, forks, patches, flushes and reopens it. The process
//! is stopped at every single operation on the disk, creation and recovery included; power goes
//! with it or not; then the chain is opened again, with the views of the last batch or without
//! any. What was acknowledged (a fork choice that returned) must be there: the same blocks with
//! the same state roots, every transaction in its place, the same finality proofs, and the chain
//! must go on from there. Of what was logged beside it (engines' records, blocks that nobody
//! adopted) a prefix must be there, and not less of it than a finished sync confirmed.

use alloy_consensus::{SignableTransaction, TxLegacy};
use alloy_genesis::{Genesis, GenesisAccount};
use alloy_primitives::{Address, B256, Bytes, Signature, TxHash, TxKind, U256};
use landfall_chain::store::{Disk, MemoryViews, SplitMix, TestDisk};
use landfall_chain::{Attributes, Chain, ChainOptions, ImportError, Patch, Place};
use landfall_types::{ForkChoice, StateReader};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Crash points that the test must reach.
const POINTS: u64 = 10_000;
/// Fork choices in one workload.
const STEPS: u64 = 14;
const SENDER: Address = Address::repeat_byte(0x11);

fn genesis() -> Genesis {
    let mut genesis: Genesis = serde_json::from_str(
        r#"{"config":{"chainId":7,"homesteadBlock":0,"eip150Block":0,"eip155Block":0,
        "eip158Block":0,"byzantiumBlock":0,"constantinopleBlock":0,"petersburgBlock":0,
        "istanbulBlock":0,"berlinBlock":0,"londonBlock":0,"terminalTotalDifficulty":0,
        "shanghaiTime":0,"landfall":{"engine":"solo"}},
        "gasLimit":"0x1c9c380","difficulty":"0x0","alloc":{}}"#,
    )
    .unwrap();
    let rich = GenesisAccount::default().with_balance(U256::from(10).pow(U256::from(21)));
    genesis.alloc.insert(SENDER, rich);
    genesis
}

/// What the world was told: the canonical branch, block by block.
#[derive(Clone, Debug, Default, PartialEq)]
struct Acknowledged {
    blocks: Vec<(B256, B256, Vec<TxHash>)>,
    finalized: u64,
    patched: U256,
    /// Numbers of the blocks that were made final with a proof.
    proofs: Vec<u64>,
}

/// What may be there after a crash: the last acknowledged, or what was being acknowledged.
#[derive(Default)]
struct Told {
    last: Option<Acknowledged>,
    trying: Option<Acknowledged>,
    side: Side,
}

/// What was logged without being shown to anybody, in order.
#[derive(Clone, Default)]
struct Side {
    /// Epoch and record.
    records: Vec<(u64, u64)>,
    /// How many of the records a finished sync has confirmed.
    confirmed: usize,
    /// Blocks that a finished sync has confirmed, adopted or not, with their parents.
    blocks: HashMap<B256, B256>,
    /// Blocks that were inserted since.
    waiting: Vec<(B256, B256)>,
}

impl Side {
    /// The newest record of each of the four newest epochs, after the first `count`.
    fn newest(&self, count: usize) -> BTreeMap<u64, Bytes> {
        let mut newest = BTreeMap::new();
        for (epoch, record) in &self.records[..count] {
            newest.insert(*epoch, Bytes::from(record.to_be_bytes()));
            while newest.len() > 4 {
                newest.pop_first();
            }
        }
        newest
    }

    /// Appends a record; its number tells it from all others.
    fn log(&mut self, chain: &mut Chain, random: &mut SplitMix) -> Result<(), ImportError> {
        let number = self.records.len() as u64;
        let epoch = number / 9 + random.below(2);
        self.records.push((epoch, number));
        chain.log_record(epoch, &number.to_be_bytes())?;
        Ok(())
    }

    /// One sync, with records that are logged while it runs.
    fn sync(&mut self, chain: &mut Chain, random: &mut SplitMix) -> Result<(), ImportError> {
        let (records, blocks) = (self.records.len(), std::mem::take(&mut self.waiting));
        let job = chain.begin_sync()?;
        if random.below(3) == 0 {
            self.log(chain, random)?;
        }
        let done = job.run();
        if random.below(3) == 0 {
            self.log(chain, random)?;
        }
        chain.finish_sync(done)?;
        self.confirmed = records;
        self.blocks.extend(blocks);
        Ok(())
    }

    /// What a chain holds after a crash: the records of a prefix that is long enough, and every
    /// block that was confirmed and stands on what is final.
    fn check(&mut self, chain: &Chain) -> Result<(), String> {
        let found = chain.records();
        let count = (self.confirmed..=self.records.len())
            .find(|count| self.newest(*count) == *found)
            .ok_or_else(|| {
                let (confirmed, all) = (self.confirmed, &self.records);
                format!("records {found:?} are of no prefix beyond {confirmed} of {all:?}")
            })?;
        self.records.truncate(count);
        let mut live: HashSet<B256> =
            chain.live_blocks().iter().map(|stored| stored.block.hash()).collect();
        let finalized = chain.reader().head().finalized.1;
        live.insert(finalized);
        for hash in self.blocks.keys() {
            let mut branch = std::iter::successors(Some(hash), |hash| self.blocks.get(*hash));
            if branch.any(|below| *below == finalized) && !live.contains(hash) {
                return Err(format!("block {hash} on the final block {finalized} is lost"));
            }
        }
        Ok(())
    }
}

struct World {
    disk: TestDisk,
    views: MemoryViews,
    told: Told,
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = TestDisk::new(seed);
        Self { disk, views: MemoryViews::default(), told: Told::default() }
    }

    fn open(&self) -> Result<Chain, String> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let place = Place::Kept(disk, self.views.clone());
        let mut options = ChainOptions::new(Some(genesis()), place);
        options.segment_bytes = 3_000;
        Chain::open(options).map_err(|error| error.to_string())
    }
}

fn describe(chain: &Chain) -> Acknowledged {
    let reader = chain.reader();
    let blocks = (0..=reader.head().number())
        .map(|number| {
            let block = reader.block_at(number).unwrap().expect("canonical blocks are there");
            let hashes = block.block.body.transactions.iter().map(|t| *t.tx_hash()).collect();
            (block.block.hash(), block.block.header.state_root, hashes)
        })
        .collect();
    let patched = reader.latest_state().account(&Address::repeat_byte(0xab)).unwrap();
    let mut proofs = Vec::new();
    while let Some((number, epoch, proof)) =
        reader.proof_at_or_above(proofs.last().map_or(0, |last| last + 1)).unwrap()
    {
        let hash = reader.hash_at(number).unwrap().expect("what is proved is canonical");
        assert_eq!((epoch, &proof[..]), (number / 5, hash.as_slice()), "the proof of another");
        proofs.push(number);
    }
    Acknowledged {
        blocks,
        finalized: reader.head().finalized.0,
        patched: patched.map_or(U256::ZERO, |account| account.balance),
        proofs,
    }
}

/// One step of the workload: builds on a block of the branch and adopts.
fn step(chain: &mut Chain, told: &mut Told, random: &mut SplitMix) -> Result<(), ImportError> {
    let now = told.last.clone().unwrap_or_else(|| describe(chain));
    let height = now.blocks.len() as u64 - 1;
    if random.below(2) == 0 {
        told.side.log(chain, random)?;
    }
    if random.below(5) == 0 {
        let balance = U256::from(1 + random.below(1_000_000));
        told.trying = Some(Acknowledged { patched: balance, ..now });
        chain.patch(Patch::Balance { address: Address::repeat_byte(0xab), balance })?;
        told.last = told.trying.take();
        return Ok(());
    }
    let back = random.below(3).min(height - now.finalized);
    let from = if random.below(4) == 0 { height - back } else { height };
    let mut next = Acknowledged { blocks: now.blocks[..=from as usize].to_vec(), ..now };
    for _ in 0..1 + random.below(2) {
        let parent = next.blocks.last().unwrap().0;
        let block = build(chain, parent, random)?;
        told.side.waiting.push((block.0, parent));
        next.blocks.push(block);
    }
    if random.below(4) == 0 {
        // A rival of the new head, which nobody adopts.
        let parent = next.blocks[next.blocks.len() - 2].0;
        let rival = build(chain, parent, random)?;
        told.side.waiting.push((rival.0, parent));
    }
    let head = next.blocks.last().unwrap().0;
    let before = next.finalized;
    next.finalized = next.finalized.max((next.blocks.len() as u64 - 1).saturating_sub(4).min(from));
    let proved = next.finalized > before && random.below(3) > 0;
    let finalized = next.blocks[next.finalized as usize].0;
    let state = chain.reader().state(head)?;
    let patched = state.account(&Address::repeat_byte(0xab))?;
    next.patched = patched.map_or(U256::ZERO, |account| account.balance);
    let proof = proved.then(|| {
        next.proofs.push(next.finalized);
        (next.finalized / 5, Bytes::copy_from_slice(finalized.as_slice()))
    });
    told.trying = Some(next);
    let choice = ForkChoice { head, safe: finalized, finalized };
    chain.log_choice(choice, proof)?;
    told.side.sync(chain, random)?;
    chain.show(choice)?;
    told.last = told.trying.take();
    if random.below(4) == 0 {
        chain.flush()?;
    }
    Ok(())
}

fn build(
    chain: &mut Chain,
    parent: B256,
    random: &mut SplitMix,
) -> Result<(B256, B256, Vec<TxHash>), ImportError> {
    let nonce = chain.reader().state(parent)?.account(&SENDER)?.map_or(0, |a| a.nonce);
    let extra_data = Bytes::from(random.next().to_be_bytes());
    let attributes = Attributes { gas_limit: 30_000_000, extra_data, ..Attributes::default() };
    let count = 1 + random.below(3);
    let block = chain.build(parent, attributes, |builder| {
        for index in 0..count {
            let fields = TxLegacy {
                chain_id: Some(7),
                nonce: nonce + index,
                gas_price: 10_000_000_000,
                gas_limit: 21_000,
                to: TxKind::Call(Address::from_word(B256::from(U256::from(random.next())))),
                value: U256::from(1),
                input: Bytes::new(),
            };
            let transaction = fields.into_signed(Signature::test_signature()).into();
            builder.push(&transaction, SENDER).expect("a transfer of a rich account");
        }
    })?;
    let hashes = block.block.body.transactions.iter().map(|t| *t.tx_hash()).collect();
    Ok((block.block.hash(), block.block.header.state_root, hashes))
}

/// The workload until it ends or the disk stops; true if it ended.
fn work(world: &mut World, seed: u64) -> bool {
    let mut random = SplitMix(seed);
    let Ok(mut chain) = world.open() else { return false };
    world.told.last.get_or_insert_with(|| describe(&chain));
    for index in 0..STEPS {
        match step(&mut chain, &mut world.told, &mut random) {
            Ok(()) => {}
            Err(error) => {
                assert!(error.is_fatal(), "seed {seed}: {error}");
                let again = chain.adopt(ForkChoice {
                    head: chain.reader().genesis_hash(),
                    safe: chain.reader().genesis_hash(),
                    finalized: chain.reader().genesis_hash(),
                });
                assert!(again.is_err(), "nothing is acknowledged after a failure");
                return false;
            }
        }
        if index == STEPS / 2 {
            drop(chain);
            match world.open() {
                Ok(opened) => chain = opened,
                Err(_) => return false,
            }
            let side = &mut world.told.side;
            side.waiting.clear();
            side.check(&chain).unwrap_or_else(|lost| panic!("seed {seed}, reopened: {lost}"));
        }
    }
    true
}

/// Opens what is left and compares; the error says what was lost.
fn verdict(world: &mut World) -> Result<(), String> {
    let mut chain = world.open().map_err(|error| format!("does not open: {error}"))?;
    let found = describe(&chain);
    let told = &world.told;
    if told.last.is_none() && found.blocks.len() == 1 {
        return Ok(());
    }
    if told.last.as_ref() != Some(&found) && told.trying.as_ref() != Some(&found) {
        return Err(format!("found {found:?}, told {:?} or {:?}", told.last, told.trying));
    }
    world.told.side.check(&chain)?;
    for (number, (_, _, hashes)) in found.blocks.iter().enumerate() {
        for hash in hashes {
            let place = chain.reader().transaction(*hash).map_err(|e| e.to_string())?;
            let number = number as u64;
            if place.is_none_or(|(block, _)| block.block.number() != number) {
                return Err(format!("transaction {hash} of block {number} is not found"));
            }
        }
    }
    // And it goes on.
    let side = Side { records: world.told.side.records.clone(), ..Side::default() };
    let mut told = Told { last: Some(found), trying: None, side };
    let mut random = SplitMix(99);
    for _ in 0..2 {
        step(&mut chain, &mut told, &mut random).map_err(|error| format!("stuck: {error}"))?;
    }
    Ok(())
}

/// Stops the workload at one operation, loses power or not, opens again.
fn crash_at(seed: u64, operation: u64, weaken: impl FnOnce(&TestDisk)) -> Result<(), String> {
    let mut world = World::new(seed);
    world.disk.stop_at(operation);
    weaken(&world.disk);
    work(&mut world, seed);
    let mut random = SplitMix(seed ^ operation << 20);
    if random.below(4) == 0 {
        world.disk.restart();
    } else {
        world.disk.crash(random.next());
    }
    if random.below(3) == 0 {
        // The views are lost too: everything is made from the log.
        world.views = MemoryViews::default();
    }
    if random.below(3) == 0 {
        // Again, in the middle of the recovery.
        world.disk.stop_at(world.disk.operations() + 1 + random.below(6));
        drop(world.open());
        world.disk.crash(random.next());
    }
    verdict(&mut world)
}

fn operations(seed: u64) -> u64 {
    let mut world = World::new(seed);
    assert!(work(&mut world, seed), "the workload ends on a sound disk");
    world.disk.operations()
}

#[test]
fn nothing_acknowledged_is_lost_at_any_crash_point() {
    let seeds = AtomicU64::new(0);
    let points = AtomicU64::new(0);
    let worker = || {
        while points.load(Ordering::Relaxed) < POINTS {
            let seed = seeds.fetch_add(1, Ordering::Relaxed);
            for operation in 1..=operations(seed) {
                if let Err(lost) = crash_at(seed, operation, |_| ()) {
                    panic!("seed {seed}, operation {operation}: {lost}");
                }
                points.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(worker);
        worker();
    });
    println!("{} crash points over {} workloads", points.into_inner(), seeds.into_inner());
}

/// Syncs that carry an acknowledgement: without one of them a crash must show a loss.
#[test]
fn leaving_out_the_syncs_of_any_place_is_noticed() {
    let mut world = World::new(0);
    assert!(work(&mut world, 0));
    let places: Vec<&str> = world.disk.syncs_by_place().into_keys().collect();
    assert!(places.len() >= 3, "batches, segments and directories are synced: {places:?}");
    for place in places {
        let noticed = (0..40).any(|seed| {
            let operations = operations(seed);
            (1..=operations)
                .any(|at| crash_at(seed, at, |disk| disk.ignore_syncs_of(place)).is_err())
        });
        assert!(noticed, "nothing is lost without the syncs of `{place}`: it is not needed");
    }
}

#[test]
fn failed_sync_stops_the_chain_and_loses_nothing() {
    for seed in 0..10 {
        for nth in 1..20 {
            for lose in [false, true] {
                let mut world = World::new(seed);
                world.disk.fail_sync(nth, lose);
                work(&mut world, seed);
                world.disk.crash(seed + nth);
                verdict(&mut world)
                    .unwrap_or_else(|lost| panic!("seed {seed}, sync {nth}: {lost}"));
            }
        }
    }
}

#[test]
fn full_disk_stops_the_chain_and_it_resumes_with_room() {
    for seed in 0..10 {
        let mut whole = World::new(seed);
        assert!(work(&mut whole, seed));
        for part in 1..10 {
            let mut world = World::new(seed);
            world.disk.set_capacity(Some(whole.disk.used() * part / 10));
            assert!(!work(&mut world, seed), "the disk is too small");
            world.disk.restart();
            world.disk.set_capacity(None);
            verdict(&mut world).unwrap_or_else(|lost| panic!("seed {seed}, part {part}: {lost}"));
        }
    }
}
