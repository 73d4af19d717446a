use crate::jobs_tests::{adopt, genesis, grow};
use crate::store::{Disk, DiskError, DiskFile, DiskLock, TestDisk};
use crate::{Chain, ChainOptions, Place};
use alloy_primitives::Address;
use parking_lot::Mutex;
use std::sync::Arc;

type Hook = Arc<Mutex<Option<Box<dyn FnMut() + Send>>>>;

/// A disk that does something whenever a file is read.
struct Watched {
    disk: TestDisk,
    hook: Hook,
}

struct WatchedFile {
    file: Arc<dyn DiskFile>,
    hook: Hook,
}

impl Watched {
    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(WatchedFile { file, hook: self.hook.clone() })
    }
}

impl Disk for Watched {
    fn create_dir(&self, dir: &str) -> Result<(), DiskError> {
        self.disk.create_dir(dir)
    }
    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        self.disk.list(dir)
    }
    fn create(&self, path: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        Ok(self.file(self.disk.create(path)?))
    }
    fn open(&self, path: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        Ok(self.file(self.disk.open(path)?))
    }
    fn sync_dir(&self, dir: &str, why: &'static str) -> Result<(), DiskError> {
        self.disk.sync_dir(dir, why)
    }
    fn lock(&self) -> Result<DiskLock, DiskError> {
        self.disk.lock()
    }
    fn random(&self) -> u64 {
        self.disk.random()
    }
    fn display(&self, path: &str) -> String {
        self.disk.display(path)
    }
}

impl DiskFile for WatchedFile {
    fn size(&self) -> Result<u64, DiskError> {
        self.file.size()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        // Taken out meanwhile: what the hook reads is not watched.
        let hook = self.hook.lock().take();
        if let Some(mut hook) = hook {
            hook();
            *self.hook.lock() = Some(hook);
        }
        self.file.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.write_at(offset, bytes)
    }
    fn truncate(&self, len: u64) -> Result<(), DiskError> {
        self.file.truncate(len)
    }
    fn sync(&self, why: &'static str) -> Result<(), DiskError> {
        self.file.sync(why)
    }
}

/// Who decides blocks waits for the trie's lock: nothing is read under it, and a flush that ends in
/// between only makes the proof begin anew.
#[test]
fn an_old_proof_reads_without_the_lock_of_the_trie_and_beside_a_flush() {
    let hook = Hook::default();
    let disk = Arc::new(Watched { disk: TestDisk::new(1), hook: hook.clone() });
    let mut chain = Chain::open(ChainOptions::new(Some(genesis()), Place::Disk(disk))).unwrap();
    let mut blocks = vec![chain.reader().genesis_hash()];
    for _ in 0..20 {
        let head = grow(&mut chain, *blocks.last().unwrap(), 1);
        adopt(&mut chain, head, head);
        blocks.push(head);
        if blocks.len() == 11 {
            chain.flush().unwrap();
        }
    }
    let reader = chain.reader();
    let shared = chain.shared.clone();
    let chain = Arc::new(Mutex::new(chain));
    let (reads, flushes) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let (counted, flushed) = (reads.clone(), flushes.clone());
    *hook.lock() = Some(Box::new(move || {
        assert!(shared.trie.try_lock().is_some(), "the log is read under the lock of the trie");
        *counted.lock() += 1;
        // Once, in the midst of the gathering: the version that it stands on is gone then.
        if *counted.lock() == 3 {
            chain.lock().flush().unwrap();
            *flushed.lock() += 1;
        }
    }));
    let address = Address::repeat_byte(0xcc);
    let proof = reader.prove(blocks[4], address, &[]).unwrap();
    hook.lock().take();
    assert!(*reads.lock() > 10 && *flushes.lock() == 1);
    // The hash of a storage root that was checked against the header of that block.
    assert!(proof.account.is_some() && !proof.proof.is_empty());
}
