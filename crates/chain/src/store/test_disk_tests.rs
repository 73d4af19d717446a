//! Tests of the test disk: it must be as bad as it claims.

use std::{collections::BTreeSet, sync::Arc};

use super::*;

fn content(disk: &TestDisk, path: &str) -> Vec<u8> {
    let file = disk.open(path).unwrap();
    let mut bytes = vec![0; file.size().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

fn durable_file(disk: &TestDisk, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.create("f").unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync("file").unwrap();
    disk.sync_dir("", "entry").unwrap();
    file
}

#[test]
fn crash_keeps_what_was_synced_and_any_part_of_the_rest() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let disk = TestDisk::new(0);
        durable_file(&disk, b"abcd").write_at(4, b"efgh").unwrap();
        disk.crash(seed);
        let found = content(&disk, "f");
        assert!(found.starts_with(b"abcd"));
        outcomes.insert(found.len());
    }
    assert_eq!(outcomes, BTreeSet::from([4, 5, 6, 7, 8]));
}

#[test]
fn crash_may_lose_a_truncation_and_keep_a_later_write() {
    let found: BTreeSet<_> = (0..200)
        .map(|seed| {
            let disk = TestDisk::new(0);
            let file = durable_file(&disk, b"abcd");
            file.truncate(1).unwrap();
            file.write_at(1, b"x").unwrap();
            disk.crash(seed);
            content(&disk, "f")
        })
        .collect();
    for wanted in [&b"abcd"[..], b"axcd", b"a", b"ax"] {
        assert!(found.contains(wanted), "{found:?}");
    }
}

#[test]
fn crash_loses_entries_that_were_not_synced_even_of_synced_files() {
    let survivors = (0..100).filter(|seed| {
        let disk = TestDisk::new(0);
        disk.create("f").unwrap().sync("file").unwrap();
        disk.crash(*seed);
        disk.open("f").is_ok()
    });
    assert!((20..80).contains(&survivors.count()));
}

#[test]
fn crash_loses_what_lies_in_a_lost_directory() {
    let disk = TestDisk::new(0);
    disk.create_dir("d").unwrap();
    disk.create("d/f").unwrap();
    disk.sync_dir("d", "inner").unwrap();
    let seed = (0..).find(|seed| {
        let fork = disk.fork();
        fork.crash(*seed);
        fork.list("d").is_err()
    });
    disk.crash(seed.unwrap());
    assert!(disk.open("d/f").is_err());
}

#[test]
fn stops_at_the_operation_and_fails_everything_after_it() {
    let disk = TestDisk::new(0);
    let file = durable_file(&disk, b"abcd");
    disk.stop_at(disk.operations() + 2);
    file.write_at(4, b"e").unwrap();
    assert!(file.sync("file").is_err());
    assert!(disk.stopped() && file.size().is_err() && disk.open("f").is_err());
    disk.restart();
    assert_eq!(content(&disk, "f"), b"abcde");
    assert!(file.size().is_err(), "a handle of the dead process");
}

#[test]
fn failed_sync_that_loses_is_not_repaired_by_the_next() {
    let disk = TestDisk::new(0);
    let file = durable_file(&disk, b"abcd");
    file.write_at(4, b"efgh").unwrap();
    disk.fail_sync(1, true);
    assert!(file.sync("file").is_err());
    assert_eq!(content(&disk, "f"), b"abcdefgh");
    file.sync("file").unwrap();
    disk.crash(0);
    assert_eq!(content(&disk, "f"), b"abcd");
}

#[test]
fn ignored_sync_is_no_sync() {
    let lost = |prepare: fn(&TestDisk)| {
        (0..50).any(|seed| {
            let disk = TestDisk::new(0);
            let file = durable_file(&disk, b"abcd");
            prepare(&disk);
            file.write_at(0, b"ABCD").unwrap();
            file.sync("file").unwrap();
            disk.crash(seed);
            content(&disk, "f") != b"ABCD"
        })
    };
    assert!(!lost(|_| {}));
    assert!(!lost(|disk| disk.ignore_sync(2)));
    assert!(lost(|disk| disk.ignore_sync(1)));
    assert!(!lost(|disk| disk.ignore_syncs_of("entry")));
    assert!(lost(|disk| disk.ignore_syncs_of("file")));
}

#[test]
fn fills_up_refuses_flips_and_locks() {
    let disk = TestDisk::new(0);
    let file = durable_file(&disk, b"abcd");
    disk.set_capacity(Some(6));
    assert!(file.write_at(2, b"cdefgh").unwrap_err().is_full());
    assert_eq!((content(&disk, "f"), disk.used()), (b"abcdef".to_vec(), 6));
    disk.set_capacity(None);
    disk.refuse(Operation::Write);
    assert!(file.write_at(0, b"x").is_err());
    disk.accept_all();
    disk.flip_bit("f", 0, 1);
    assert_eq!(content(&disk, "f"), b"cbcdef");
    let held = disk.lock().unwrap();
    assert!(disk.lock().err().unwrap().is_locked());
    drop(held);
    drop(disk.lock().unwrap());
}
