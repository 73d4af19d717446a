//! Tests of the log on a disk that keeps its promises, and with single faults.

use std::sync::Arc;

use alloy_primitives::B256;

use super::{
    record::{MARK_LEN, RECORD_HEADER, SEGMENT_HEADER},
    *,
};

const GENESIS: B256 = B256::repeat_byte(0x11);

fn open_from(
    disk: &TestDisk,
    segment_bytes: u64,
    from: Option<Position>,
) -> Result<(Log, Recovered), LogError> {
    Log::open(Arc::new(disk.clone()), GENESIS, LogOptions { segment_bytes, from })
}

fn open(disk: &TestDisk) -> Log {
    open_from(disk, 1 << 20, None).unwrap().0
}

fn content(log: &Log) -> Vec<(u8, Vec<u8>)> {
    log.reader()
        .iter(Position::START)
        .map(|record| record.map(|record| (record.kind, record.payload)).unwrap())
        .collect()
}

fn segments(disk: &TestDisk) -> Vec<String> {
    disk.list("log").unwrap().into_iter().map(|name| format!("log/{name}")).collect()
}

fn size(disk: &TestDisk, path: &str) -> usize {
    disk.open(path).unwrap().size().unwrap() as usize
}

/// A log of several segments, all of it durable, and its records.
fn filled(disk: &TestDisk, segment_bytes: u64) -> Vec<Record> {
    let (mut log, _) = open_from(disk, segment_bytes, None).unwrap();
    let mut random = SplitMix(5);
    for batch in 0..12_u8 {
        for kind in 1..=random.below(4) as u8 + 1 {
            log.append(kind, &vec![batch; random.below(60) as usize]).unwrap();
        }
        log.sync().unwrap();
    }
    log.reader().iter(Position::START).map(Result::unwrap).collect()
}

#[test]
fn reads_what_is_buffered_written_and_durable() {
    let disk = TestDisk::new(1);
    let mut log = open(&disk);
    let reader = log.reader();
    let first = log.append(1, b"first").unwrap();
    assert_eq!(reader.read(first).unwrap().payload, b"first");
    assert_eq!(log.durable(), Position::START);
    let end = log.sync().unwrap();
    assert_eq!((log.durable(), reader.durable()), (end, end));
    let second = log.append(2, b"").unwrap();
    let big = log.append(3, &vec![7; 5 << 20]).unwrap();
    let last = log.append(4, b"last").unwrap();
    for (position, kind, len) in [(first, 1, 5), (second, 2, 0), (big, 3, 5 << 20), (last, 4, 4)] {
        let record = reader.read(position).unwrap();
        assert_eq!((record.position, record.kind, record.payload.len()), (position, kind, len));
    }
    let kinds: Vec<u8> = content(&log).iter().map(|record| record.0).collect();
    assert_eq!(kinds, [1, 2, 3, 4]);
    let next: Vec<u8> = reader.iter(big).map(|record| record.unwrap().kind).collect();
    assert_eq!(next, [3, 4]);
    assert!(matches!(reader.read(log.end()), Err(LogError::Beyond { .. })));
}

#[test]
fn never_serves_bytes_from_a_position_that_is_not_a_record() {
    let disk = TestDisk::new(1);
    let records = filled(&disk, 300);
    let mut log = open(&disk);
    log.append(9, b"buffered, not written yet").unwrap();
    let starts: Vec<Position> =
        log.reader().iter(Position::START).map(|record| record.unwrap().position).collect();
    assert_eq!(starts.len(), records.len() + 1);
    for position in (0..log.end().0).map(Position) {
        let result = log.reader().read(position);
        assert_eq!(result.is_ok(), starts.contains(&position), "{position}: {result:?}");
    }
}

#[test]
fn goes_on_where_it_ended_across_segments() {
    let disk = TestDisk::new(1);
    let records = filled(&disk, 200);
    assert!(segments(&disk).len() > 3);
    let (mut log, recovered) = open_from(&disk, 200, None).unwrap();
    assert_eq!((recovered.records, recovered.cut), (records.len() as u64, 0));
    log.append(9, b"more").unwrap();
    log.sync().unwrap();
    drop(log);
    let (log, recovered) = open_from(&disk, 200, None).unwrap();
    assert_eq!(recovered.records, records.len() as u64 + 1);
    let found: Vec<Record> = log.reader().iter(Position::START).map(Result::unwrap).collect();
    assert_eq!(found[..records.len()], records);
    assert_eq!(found.last().unwrap().payload, b"more");
    for record in found {
        assert_eq!(log.reader().read(record.position).unwrap(), record);
    }
}

#[test]
fn opening_again_and_again_adds_nothing() {
    let disk = TestDisk::new(1);
    filled(&disk, 1 << 20);
    let end = open(&disk).end();
    for _ in 0..3 {
        assert_eq!(open(&disk).end(), end);
    }
    disk.crash(3);
    assert!(open(&disk).end() <= end);
}

#[test]
fn one_sync_per_batch_and_none_without_records() {
    let disk = TestDisk::new(1);
    let mut log = open(&disk);
    let count = || disk.syncs_by_place().get("batch").copied().unwrap_or(0);
    assert_eq!(log.sync().unwrap(), Position::START);
    assert_eq!(count(), 0);
    for _ in 0..100 {
        log.append(1, &[3; 1000]).unwrap();
    }
    let durable = log.sync().unwrap();
    assert_eq!(count(), 1);
    assert_eq!(log.sync().unwrap(), durable);
    assert_eq!(count(), 1);
}

#[test]
fn appends_go_on_while_another_thread_syncs() {
    let disk = TestDisk::new(1);
    let (mut log, _) = open_from(&disk, 500, None).unwrap();
    let mut expected = Vec::new();
    for round in 0..50_u8 {
        log.append(1, &[round; 30]).unwrap();
        let before = log.end();
        let job = log.begin_sync().unwrap();
        let worker = std::thread::spawn(move || job.run());
        log.append(2, &[round; 40]).unwrap();
        let reader = log.reader();
        let seen = std::thread::spawn(move || reader.iter(Position::START).count());
        assert_eq!(seen.join().unwrap(), 2 * (round as usize + 1));
        assert_eq!(log.finish_sync(worker.join().unwrap()).unwrap(), before);
        expected.extend([(1, vec![round; 30]), (2, vec![round; 40])]);
    }
    log.sync().unwrap();
    assert!(segments(&disk).len() > 5);
    assert_eq!(content(&log), expected);
    drop(log);
    disk.crash(0);
    assert_eq!(content(&open(&disk)), expected);
}

#[test]
fn torn_tail_is_cut_and_the_rest_kept() {
    let disk = TestDisk::new(1);
    let mut log = open(&disk);
    log.append(1, b"kept").unwrap();
    log.sync().unwrap();
    let path = &segments(&disk)[0];
    let synced = size(&disk, path);
    log.append(2, &[5; 100]).unwrap();
    log.append(3, b"whole, but behind a tear").unwrap();
    let job = log.begin_sync().unwrap();
    drop((log, job));
    for tear in synced..synced + RECORD_HEADER + 100 {
        let disk = disk.fork();
        disk.flip_bit(path, tear, 3);
        disk.restart();
        let (log, recovered) = open_from(&disk, 1 << 20, None).unwrap();
        assert_eq!(content(&log), [(1, b"kept".to_vec())], "tear at {tear}");
        assert!(recovered.cut > 100);
        drop(log);
        assert_eq!(open_from(&disk, 1 << 20, None).unwrap().1.cut, 0);
    }
}

/// Every bit of every file: what had been durable is refused with its place, or is untouched.
#[test]
fn flipped_bit_in_what_was_durable_is_refused_with_its_place() {
    let disk = TestDisk::new(1);
    let records = filled(&disk, 400);
    let paths = segments(&disk);
    assert!(paths.len() > 2);
    let mut refused = 0;
    for (index, path) in paths.iter().enumerate() {
        let len = size(&disk, path);
        for offset in 0..len {
            let disk = disk.fork();
            disk.flip_bit(path, offset, (offset % 8) as u8);
            // The last mark is not proven by anything, and says nothing of worth when it is alone.
            if index + 1 == paths.len() && offset >= len - MARK_LEN {
                let log = open_from(&disk, 400, None).unwrap().0;
                assert_eq!(content(&log).len(), records.len());
                continue;
            }
            match open_from(&disk, 400, None).map(drop) {
                Err(LogError::Damaged { segment, offset: at, .. }) => {
                    assert_eq!(&segment, path);
                    let header = offset < SEGMENT_HEADER as usize;
                    assert_eq!(at == 0, header, "flip at {offset} reported at {at}");
                    assert!(at as usize <= offset && offset < at as usize + 64 + RECORD_HEADER);
                    refused += 1;
                }
                other => panic!("{path} byte {offset}: {other:?}"),
            }
        }
    }
    assert!(refused > 1000);
}

#[test]
fn checkpoint_that_is_damaged_is_refused_even_at_the_very_end() {
    let disk = TestDisk::new(1);
    let last = filled(&disk, 1 << 20).pop().unwrap();
    let path = &segments(&disk)[0];
    // Without the last mark nothing but the checkpoint says that the last record was durable.
    let len = size(&disk, path);
    disk.open(path).unwrap().truncate((len - MARK_LEN) as u64).unwrap();
    disk.flip_bit(path, len - MARK_LEN - 1, 0);
    let error = open_from(&disk.fork(), 1 << 20, Some(last.position)).map(drop).unwrap_err();
    assert!(matches!(error, LogError::Damaged { position, .. } if position == last.position));
    let (_, recovered) = open_from(&disk, 1 << 20, None).unwrap();
    assert_eq!(recovered.end, last.position);
}

#[test]
fn what_recovery_kept_is_proven_by_the_mark_that_it_leaves() {
    let disk = TestDisk::new(1);
    let mut log = open(&disk);
    log.append(1, b"written, but the process was killed").unwrap();
    drop((log.begin_sync().unwrap(), log));
    disk.restart();
    assert_eq!(content(&open(&disk)).len(), 1);
    disk.flip_bit(&segments(&disk)[0], SEGMENT_HEADER as usize + 20, 0);
    assert!(matches!(open_from(&disk, 1 << 20, None), Err(LogError::Damaged { .. })));
}

#[test]
fn finds_the_proof_wherever_it_lies_behind_the_damage() {
    // Around the size of the pieces in which recovery looks for it.
    for less in 0..40 {
        let disk = TestDisk::new(1);
        let mut log = open(&disk);
        log.append(1, &vec![1; (1 << 20) - less]).unwrap();
        log.sync().unwrap();
        drop(log);
        disk.flip_bit(&segments(&disk)[0], SEGMENT_HEADER as usize + 2, 0);
        let result = open_from(&disk, 1 << 30, None).map(drop);
        assert!(matches!(result, Err(LogError::Damaged { .. })), "{less}: {result:?}");
    }
}

/// The same with a checkpoint: what lies before it is not read at once, but never served.
#[test]
fn flipped_bit_before_the_checkpoint_is_never_served() {
    let disk = TestDisk::new(1);
    let records = filled(&disk, 400);
    let from = records.last().unwrap().position;
    let mut refused_later = 0;
    for path in segments(&disk) {
        for offset in 0..size(&disk, &path) {
            let disk = disk.fork();
            disk.flip_bit(&path, offset, (offset % 8) as u8);
            let Ok((log, _)) = open_from(&disk, 400, Some(from)) else { continue };
            for record in &records {
                match log.reader().read(record.position) {
                    Ok(found) => assert_eq!(&found, record),
                    Err(LogError::Damaged { segment, .. }) => {
                        assert_eq!(segment, path);
                        refused_later += 1;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            let good = log.reader().iter(Position::START).take_while(Result::is_ok);
            for (found, record) in good.zip(&records) {
                assert_eq!(&found.unwrap(), record);
            }
        }
    }
    assert!(refused_later > 1000);
}

#[test]
fn checkpoint_must_name_a_valid_record_of_the_log() {
    let disk = TestDisk::new(1);
    let records = filled(&disk, 400);
    for record in &records {
        let (_, recovered) = open_from(&disk, 400, Some(record.position)).unwrap();
        let behind = records.iter().filter(|other| other.position >= record.position).count();
        assert_eq!(recovered.records, behind as u64);
    }
    let last = records.last().unwrap();
    for wrong in [last.position.0 + 1, last.next.0 + 1000, u64::MAX] {
        let result = open_from(&disk, 400, Some(Position(wrong))).map(drop);
        assert!(matches!(result, Err(LogError::Damaged { .. })), "{wrong}: {result:?}");
    }
    assert_eq!(content(&open(&disk)).len(), records.len());
}

#[test]
fn missing_or_shortened_segment_is_refused() {
    let disk = TestDisk::new(1);
    filled(&disk, 200);
    let paths = segments(&disk);
    let fork = disk.fork();
    let middle = &paths[1];
    fork.open(middle).unwrap().truncate(size(&disk, middle) as u64 - 1).unwrap();
    let error = open_from(&fork, 200, None).map(drop).unwrap_err();
    assert!(matches!(&error, LogError::Damaged { segment, .. } if *segment == paths[2]), "{error}");

    // The second segment is all there is.
    let fork = TestDisk::new(2);
    fork.create_dir("log").unwrap();
    let mut bytes = vec![0; size(&disk, middle)];
    disk.open(middle).unwrap().read_at(0, &mut bytes).unwrap();
    fork.create(middle).unwrap().write_at(0, &bytes).unwrap();
    let error = open_from(&fork, 200, None).map(drop).unwrap_err();
    assert!(matches!(&error, LogError::Damaged { segment, .. } if segment == middle), "{error}");
}

#[test]
fn segment_of_another_log_of_the_same_chain_is_refused() {
    let (disk, other) = (TestDisk::new(1), TestDisk::new(2));
    filled(&disk, 200);
    filled(&other, 200);
    let last = segments(&disk).pop().unwrap();
    let mut bytes = vec![0; size(&other, &last)];
    other.open(&last).unwrap().read_at(0, &mut bytes).unwrap();
    disk.open(&last).unwrap().write_at(0, &bytes).unwrap();
    let error = open_from(&disk, 200, None).map(drop).unwrap_err();
    assert!(error.to_string().contains("another log"), "{error}");
}

#[test]
fn directory_of_another_chain_and_a_locked_one_are_named() {
    let disk = TestDisk::new(1);
    let log = open(&disk);
    assert!(open_from(&disk, 200, None).err().unwrap().is_locked());
    drop(log);
    let other = B256::repeat_byte(0x22);
    let result = Log::open(Arc::new(disk), other, LogOptions::default()).map(drop);
    let error = result.unwrap_err();
    assert!(matches!(error, LogError::Foreign { found: GENESIS, .. }), "{error}");
}

#[test]
fn failed_sync_stops_the_log_for_good() {
    for lose in [false, true] {
        let disk = TestDisk::new(1);
        let mut log = open(&disk);
        log.append(1, b"durable").unwrap();
        let durable = log.sync().unwrap();
        log.append(2, b"lost").unwrap();
        disk.fail_sync(1, lose);
        let first = log.sync().unwrap_err().to_string();
        assert!(first.contains("cannot sync log/"), "{first}");
        assert_eq!(log.append(3, b"after").unwrap_err().to_string(), first);
        assert_eq!(log.sync().unwrap_err().to_string(), first);
        assert_eq!(log.durable(), durable);
        drop(log);

        // The cache still serves the record; after recovery it must survive a loss of power.
        disk.restart();
        let mut log = open(&disk);
        let found = content(&log);
        assert_eq!(found.len(), 2);
        log.append(4, b"next").unwrap();
        log.sync().unwrap();
        drop(log);
        for seed in 0..20 {
            let disk = disk.fork();
            disk.crash(seed);
            let after = content(&open(&disk));
            assert_eq!((&after[..2], after.len()), (&found[..], 3));
        }
    }
}

#[test]
fn cut_whose_sync_failed_is_cut_again() {
    let disk = TestDisk::new(1);
    let mut log = open(&disk);
    log.append(1, b"kept").unwrap();
    log.sync().unwrap();
    let path = &segments(&disk)[0];
    let synced = size(&disk, path);
    log.append(2, b"torn").unwrap();
    log.append(3, b"whole, behind the tear").unwrap();
    drop((log.begin_sync().unwrap(), log));
    disk.open(path).unwrap().sync("test").unwrap();
    disk.flip_bit(path, synced, 0);
    disk.restart();
    disk.fail_sync(2, true);
    assert!(open_from(&disk, 1 << 20, None).is_err());
    disk.restart();
    let mut log = open(&disk);
    log.append(4, b"next").unwrap();
    log.sync().unwrap();
    drop(log);
    for seed in 0..20 {
        let disk = disk.fork();
        disk.crash(seed);
        let kinds: Vec<u8> = content(&open(&disk)).iter().map(|record| record.0).collect();
        assert_eq!(kinds, [1, 4], "seed {seed}");
    }
}

#[test]
fn full_disk_stops_the_log_and_it_resumes_when_there_is_room() {
    let disk = TestDisk::new(1);
    for room in 0..400 {
        let disk = disk.fork();
        let mut log = open(&disk);
        log.append(1, b"durable").unwrap();
        log.sync().unwrap();
        disk.set_capacity(Some(disk.used() + room));
        let mut acknowledged = 1;
        let error = loop {
            let result = log.append(2, &[acknowledged; 20]).and_then(|_| log.sync());
            match result {
                Ok(_) => acknowledged += 1,
                Err(error) => break error,
            }
        };
        assert!(error.is_full() && error.to_string().contains("no space left"), "{error}");
        assert!(log.append(2, b"more").unwrap_err().is_full());
        drop(log);
        disk.restart();
        if let Err(error) = open_from(&disk, 1 << 20, None).map(drop) {
            assert!(error.is_full(), "{error}");
        }
        disk.set_capacity(None);
        let mut log = open(&disk);
        assert!(content(&log).len() >= acknowledged as usize);
        log.append(3, b"resumed").unwrap();
        log.sync().unwrap();
        drop(log);
        disk.crash(room);
        assert_eq!(content(&open(&disk)).last().unwrap().1, b"resumed");
    }
}

#[test]
fn refused_write_reaches_the_caller_with_the_file_named() {
    let disk = TestDisk::new(1);
    let mut log = open(&disk);
    disk.refuse(Operation::Write);
    log.append(1, b"x").unwrap();
    let error = log.sync().unwrap_err().to_string();
    assert_eq!(error, "cannot write log/0000000000000000.seg: refused");
}

#[test]
fn works_in_a_directory_of_the_operating_system() {
    let root = std::env::temp_dir().join(format!("landfall-log-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);
    let open = || {
        let disk = OsDisk::open(&root).unwrap();
        Log::open(Arc::new(disk), GENESIS, LogOptions { segment_bytes: 4096, from: None }).unwrap()
    };
    let mut expected = Vec::new();
    for life in 0..3_u8 {
        let (mut log, recovered) = open();
        assert_eq!((recovered.records, recovered.cut), (expected.len() as u64, 0));
        assert_eq!(content(&log), expected);
        for batch in 0..20_u8 {
            expected.push((1 + batch, vec![life; 500]));
            log.append(1 + batch, &[life; 500]).unwrap();
            log.sync().unwrap();
        }
        assert_eq!(content(&log), expected);
    }
    std::fs::remove_dir_all(root).unwrap();
}
