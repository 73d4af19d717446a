//! Engine records, verdicts and proofs: what is there again after a crash, wherever the views stand.

use crate::jobs_tests::{adopt, fresh, genesis, grow, open};
use crate::store::{MemoryViews, TestDisk};
use crate::{Chain, ChainOptions, ImportError, Place, Position, verify};
use alloy_primitives::{B256, Bytes};
use landfall_types::ForkChoice;

struct World {
    disk: TestDisk,
    views: MemoryViews,
    chain: Chain,
    trunk: Vec<B256>,
}

impl World {
    fn new() -> Self {
        let (disk, views) = (TestDisk::new(3), MemoryViews::default());
        let chain = open(&disk, &views);
        let trunk = vec![chain.reader().genesis_hash()];
        Self { disk, views, chain, trunk }
    }

    fn grow(&mut self, count: usize) {
        for _ in 0..count {
            let parent = *self.trunk.last().unwrap();
            self.trunk.push(grow(&mut self.chain, parent, 1));
        }
    }

    fn choice(&self, head: usize, finalized: usize) -> ForkChoice {
        let (head, finalized) = (self.trunk[head], self.trunk[finalized]);
        ForkChoice { head, safe: finalized, finalized }
    }

    /// The process is killed. What was not synced had not left its buffer, and is gone; the views
    /// are kept, or not.
    fn crash(self, keep_views: bool) -> Self {
        let Self { disk, mut views, chain, trunk } = self;
        drop(chain);
        disk.restart();
        if !keep_views {
            views = MemoryViews::default();
        }
        let chain = open(&disk, &views);
        Self { disk, views, chain, trunk }
    }

    fn record(&self, epoch: u64) -> Option<&[u8]> {
        self.chain.records().get(&epoch).map(|record| &record[..])
    }
}

fn proof(number: usize) -> Option<(u64, Bytes)> {
    Some((number as u64 / 5, Bytes::from(format!("proof of {number}").into_bytes())))
}

#[test]
fn newest_record_of_each_of_the_newest_epochs_is_there_after_a_restart() {
    let mut world = World::new();
    for epoch in 0..7 {
        world.chain.log_record(epoch, b"first").unwrap();
        world.chain.log_record(epoch, b"second").unwrap();
    }
    world.chain.sync().unwrap();
    for keep_views in [true, false] {
        world = world.crash(keep_views);
        let epochs: Vec<u64> = world.chain.records().keys().copied().collect();
        assert_eq!(epochs, [3, 4, 5, 6]);
        assert!(world.chain.records().values().all(|record| &record[..] == b"second"));
    }
}

#[test]
fn record_from_before_the_views_block_is_not_forgotten() {
    let mut world = World::new();
    world.chain.log_record(0, b"vote").unwrap();
    world.grow(3);
    adopt(&mut world.chain, world.trunk[3], world.trunk[3]);
    world.chain.flush().unwrap();
    let base = world.chain.reader().flushed();
    let world = world.crash(true);
    assert_eq!((world.chain.reader().flushed(), base), (3, 3), "the log is read from block 3 on");
    assert_eq!(world.record(0), Some(&b"vote"[..]));
}

#[test]
fn record_that_was_lost_does_not_come_back_from_the_views() {
    let mut world = World::new();
    world.chain.log_record(0, b"old").unwrap();
    world.grow(2);
    adopt(&mut world.chain, world.trunk[2], world.trunk[2]);
    world.chain.log_record(0, b"new").unwrap();
    assert_eq!(world.record(0), Some(&b"new"[..]));
    world.chain.flush().unwrap();
    let world = world.crash(true);
    // It may name a block that was lost with it.
    assert_eq!(world.record(0), Some(&b"old"[..]));
}

#[test]
fn record_is_durable_with_the_sync_that_began_after_it_and_not_before() {
    let mut world = World::new();
    let first = world.chain.log_record(0, b"first").unwrap();
    let job = world.chain.begin_sync().unwrap();
    let second = world.chain.log_record(0, b"second").unwrap();
    assert!(first >= world.chain.durable());
    world.chain.finish_sync(job.run()).unwrap();
    assert!(first < world.chain.durable() && second >= world.chain.durable());
    assert!(world.chain.end() > world.chain.durable());
    // The views carry the first: the second is in the log alone, and not for certain.
    world.grow(1);
    let rows = |chain: &mut Chain| {
        let mut batch = Default::default();
        chain.records.row(&mut batch);
        chain.shared.views.write(batch).unwrap();
        crate::records::Records::load(&chain.shared.views).unwrap()
    };
    assert_eq!(&rows(&mut world.chain).newest()[&0][..], b"first");
    world.chain.sync().unwrap();
    assert_eq!(&rows(&mut world.chain).newest()[&0][..], b"second");
    assert_eq!(world.chain.end(), world.chain.durable(), "nothing is left to sync");
}

#[test]
fn records_that_wait_for_a_sync_are_bounded() {
    let mut world = World::new();
    world.chain.log_record(0, b"before").unwrap();
    let job = world.chain.begin_sync().unwrap();
    for number in 0..1_000_u64 {
        world.chain.log_record(number % 2, &number.to_be_bytes()).unwrap();
    }
    assert!(world.chain.records.waiting.len() <= 3);
    world.chain.finish_sync(job.run()).unwrap();
    world.chain.sync().unwrap();
    let world = world.crash(true);
    assert_eq!(world.record(0), Some(&998_u64.to_be_bytes()[..]));
    assert_eq!(world.record(1), Some(&999_u64.to_be_bytes()[..]));
}

#[test]
fn choice_is_judged_by_the_last_logged_one_not_by_the_visible_one() {
    let mut world = World::new();
    world.grow(4);
    let other = grow(&mut world.chain, world.trunk[1], 9);
    world.chain.log_choice(world.choice(4, 2), proof(2)).unwrap();
    assert_eq!(world.chain.reader().head().number(), 0, "nothing is shown yet");
    let back = world.chain.log_choice(world.choice(4, 1), proof(1)).unwrap_err();
    assert!(back.to_string().contains("finalized 1 moves back from 2"), "{back}");
    let choice = ForkChoice { head: other, safe: world.trunk[1], finalized: world.trunk[1] };
    assert!(matches!(world.chain.log_choice(choice, None), Err(ImportError::ForkChoice(_))));
    world.chain.log_choice(world.choice(4, 3), proof(3)).unwrap();
    world.chain.sync().unwrap();
    world.chain.show(world.choice(4, 3)).unwrap();
    assert_eq!(world.chain.reader().head().finalized.0, 3, "the one in between is passed over");
    assert_eq!(world.chain.show(world.choice(4, 3)).unwrap().added.len(), 0);
}

#[test]
#[should_panic(expected = "is shown and not durable")]
fn choice_is_not_shown_before_it_is_durable() {
    let mut world = World::new();
    world.grow(2);
    world.chain.sync().unwrap();
    world.chain.log_choice(world.choice(2, 1), None).unwrap();
    let _ = world.chain.show(world.choice(2, 1));
}

#[test]
#[should_panic(expected = "a fork choice is logged before it is shown")]
fn choice_is_not_shown_without_being_logged() {
    let mut world = World::new();
    world.grow(2);
    world.chain.sync().unwrap();
    let _ = world.chain.show(world.choice(2, 1));
}

#[test]
fn durable_choice_that_was_never_shown_is_visible_after_a_crash_and_a_lost_one_is_not() {
    let mut world = World::new();
    world.grow(4);
    world.chain.log_choice(world.choice(3, 2), proof(2)).unwrap();
    world.chain.sync().unwrap();
    world.chain.log_choice(world.choice(4, 3), proof(3)).unwrap();
    assert_eq!(world.chain.finality_proof(), proof(3));
    for keep_views in [true, false] {
        world = world.crash(keep_views);
        let head = world.chain.reader().head();
        assert_eq!((head.number(), head.finalized.0), (3, 2));
        assert_eq!(world.chain.finality_proof(), proof(2));
        let found = world.chain.reader().proof_at_or_above(1).unwrap();
        assert_eq!(found, proof(2).map(|(epoch, bytes)| (2, epoch, bytes)));
        assert_eq!(world.chain.reader().proof_at_or_above(3).unwrap(), None);
    }
}

#[test]
fn lowest_proof_at_or_above_is_the_same_before_within_and_after_a_flush() {
    let mut world = World::new();
    world.grow(12);
    for finalized in [2, 3, 7, 11] {
        let choice = world.choice(12, finalized);
        world.chain.log_choice(choice, proof(finalized)).unwrap();
        world.chain.sync().unwrap();
        world.chain.show(choice).unwrap();
    }
    let check = |chain: &Chain| {
        for number in 0..=12 {
            let want = [2, 3, 7, 11].into_iter().find(|proved| *proved >= number);
            let want = want.and_then(|n| proof(n).map(|(epoch, bytes)| (n as u64, epoch, bytes)));
            assert_eq!(chain.reader().proof_at_or_above(number as u64).unwrap(), want);
        }
        assert_eq!(chain.finality_proof(), proof(11));
    };
    check(&world.chain);
    let job = world.chain.begin_flush().unwrap();
    check(&world.chain);
    let done = job.run();
    check(&world.chain);
    world.chain.finish_flush(done).unwrap();
    assert!(world.chain.shared.proofs.read().is_empty(), "the views have them");
    check(&world.chain);
    // A later choice without a new final block changes nothing, with a proof or not.
    world.chain.log_choice(world.choice(12, 11), Some((9, Bytes::new()))).unwrap();
    world.chain.sync().unwrap();
    check(&world.chain);
    for keep_views in [true, false] {
        world = world.crash(keep_views);
        check(&world.chain);
    }
}

#[test]
fn every_executed_block_on_the_final_one_is_there_after_a_crash_parents_first() {
    let mut world = World::new();
    world.grow(6);
    let trunk = world.trunk.clone();
    let beside_final = grow(&mut world.chain, trunk[1], 9);
    let beside_head = grow(&mut world.chain, trunk[3], 9);
    let on_it = grow(&mut world.chain, beside_head, 9);
    world.chain.log_choice(world.choice(4, 3), None).unwrap();
    world.chain.sync().unwrap();
    let lost = grow(&mut world.chain, on_it, 9);
    let hashes = |chain: &Chain| -> Vec<B256> {
        chain.live_blocks().iter().map(|stored| stored.block.hash()).collect()
    };
    assert!(hashes(&world.chain).contains(&lost));
    for keep_views in [true, false] {
        world = world.crash(keep_views);
        let found = hashes(&world.chain);
        let mut want = vec![trunk[3], trunk[4], trunk[5], trunk[6], beside_head, on_it];
        for hash in &found {
            let block = world.chain.reader().live_block(hash).unwrap();
            let parent = block.block.parent();
            let before = found.iter().take_while(|other| *other != hash);
            assert!(*hash == trunk[3] || before.into_iter().any(|other| *other == parent));
        }
        let mut sorted = found.clone();
        sorted.sort();
        want.sort();
        assert_eq!(sorted, want, "neither {beside_final} nor {lost}");
        world.chain.flush().unwrap();
        assert!(!hashes(&world.chain).contains(&trunk[3]), "the views hold it");
        assert_eq!(world.chain.live_blocks().len(), 5);
    }
}

#[test]
fn verification_and_rebuilding_know_records_and_proofs() {
    let directory = std::env::temp_dir().join(format!("landfall-records-{}", std::process::id()));
    let options = |rebuild| ChainOptions {
        rebuild,
        ..ChainOptions::new(Some(genesis()), Place::Directory(directory.clone()))
    };
    let mut chain = Chain::open(options(false)).unwrap();
    let mut head = chain.reader().genesis_hash();
    for number in 1..=20_usize {
        head = grow(&mut chain, head, 1);
        chain.log_record(number as u64 / 5, &[number as u8]).unwrap();
        let choice = ForkChoice { head, safe: head, finalized: head };
        chain.log_choice(choice, proof(number).filter(|_| number % 3 == 0)).unwrap();
        chain.sync().unwrap();
        chain.show(choice).unwrap();
        if number % 7 == 0 {
            chain.flush().unwrap();
        }
    }
    let records = chain.records().clone();
    drop(chain);
    assert_eq!(verify(&directory, None).unwrap().blocks, 20);
    for rebuild in [false, true] {
        let mut chain = Chain::open(options(rebuild)).unwrap();
        chain.flush().unwrap();
        assert_eq!(*chain.records(), records);
        let found = chain.reader().proof_at_or_above(13).unwrap();
        assert_eq!(found, proof(15).map(|(epoch, bytes)| (15, epoch, bytes)));
        assert_eq!(chain.finality_proof(), None, "block 20 is final without one");
        drop(chain);
        verify(&directory, None).unwrap();
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn end_of_a_log_without_anything_new_is_durable() {
    let mut chain = fresh();
    for _ in 0..3 {
        chain.log_record(0, b"x").unwrap();
        assert!(chain.end() > chain.durable());
        chain.sync().unwrap();
        assert!(chain.end() <= chain.durable() && chain.end() > Position::START);
    }
}
