//! The arena of one shard: branch headers and their children in pools by size class.
//!
//! Nodes are immutable once put, except that eviction may unload what hangs below them. A version
//! frees at once what it made itself; what is older it lists as retired, and that is freed when
//! the version is final. Nothing here reads flat state or knows what a version contains.

use alloy_primitives::B256;
use alloy_primitives::map::HashMap;

use super::node::{CROWN_LEAVES, Child, Kind, Path, UNLOADED, branch_child, masks};

/// Header of a branch. Its extension is `extensions[extension]` (0: none), its children are block
/// `block` of the pool of its class.
#[derive(Clone, Copy)]
pub(super) struct Node {
    mask: u16,
    leaves: u16,
    inline: u16,
    flags: u8,
    /// Leaves below, 255 for more.
    pub(super) count: u8,
    /// The version that put it here.
    pub(super) born: u32,
    block: u32,
    extension: u32,
}

const LIVE: u8 = 1;
const CLEAN: u8 = 2;
/// Root of a storage trie that has crown records, so `owners` has the account's key.
const OWNED: u8 = 4;

impl Node {
    pub(super) fn is_live(&self) -> bool {
        self.flags & LIVE != 0
    }

    /// Read from the crown or from flat state, so the same as stored.
    pub(super) fn is_clean(&self) -> bool {
        self.flags & CLEAN != 0
    }

    fn width(&self) -> usize {
        self.mask.count_ones() as usize
    }

    fn pool(&self) -> usize {
        class(self.width())
    }
}

#[derive(Clone, Copy)]
struct Entry {
    reference: [u8; 32],
    id: u32,
}

/// Children that the blocks of each pool have room for. Few classes: as a state grows, its branches
/// fill, and the room of the narrow classes stands empty until [`Shard::give_back`].
const CLASSES: [usize; 4] = [2, 4, 8, 16];

/// The first class with room for so many children.
fn class(width: usize) -> usize {
    CLASSES.iter().position(|room| width <= *room).expect("a branch has at most sixteen children")
}

/// Slots of the first chunk of a pool. Chunks double up to 256 slots: there are 64 pools, and those of
/// the sixteen shards are full at about the same time.
const FIRST_CHUNK: usize = 64;
const GROWING: usize = 2;
const LARGEST_CHUNK: usize = FIRST_CHUNK << GROWING;
const GROWN: usize = FIRST_CHUNK * ((1 << GROWING) - 1);

fn chunk_slots(chunk: usize) -> usize {
    FIRST_CHUNK << chunk.min(GROWING)
}

/// Blocks of `width` entries each.
#[derive(Default)]
struct Pool {
    width: usize,
    /// Each with the capacity of its slots, and filled as far as they were ever used: what was not
    /// written takes no memory.
    chunks: Vec<Vec<Entry>>,
    slots: usize,
    next: usize,
    free: Vec<u32>,
}

impl Pool {
    fn alloc(&mut self) -> u32 {
        if let Some(slot) = self.free.pop() {
            return slot;
        }
        if self.next == self.slots {
            let slots = chunk_slots(self.chunks.len());
            self.chunks.push(Vec::with_capacity(slots * self.width));
            self.slots += slots;
        }
        let slot = self.next as u32;
        self.next += 1;
        let (chunk, at) = self.place(slot);
        let chunk = &mut self.chunks[chunk];
        if chunk.len() == at {
            chunk.resize(at + self.width, Entry { reference: [0; 32], id: UNLOADED });
        }
        slot
    }

    /// The chunk of a slot and the slot's first entry in it.
    fn place(&self, slot: u32) -> (usize, usize) {
        let slot = slot as usize;
        let (chunk, start) = if slot < GROWN {
            let chunk = (slot / FIRST_CHUNK + 1).ilog2() as usize;
            (chunk, FIRST_CHUNK * ((1 << chunk) - 1))
        } else {
            let chunk = (slot - GROWN) / LARGEST_CHUNK;
            (GROWING + chunk, GROWN + chunk * LARGEST_CHUNK)
        };
        (chunk, (slot - start) * self.width)
    }

    fn get(&self, slot: u32) -> &[Entry] {
        let (chunk, at) = self.place(slot);
        &self.chunks[chunk][at..at + self.width]
    }

    fn get_mut(&mut self, slot: u32) -> &mut [Entry] {
        let (chunk, at) = self.place(slot);
        &mut self.chunks[chunk][at..at + self.width]
    }

    fn used(&self) -> usize {
        self.next - self.free.len()
    }

    /// Whether its last chunk would not be missed: half of what is left stays free for new blocks.
    fn has_spare_chunk(&self) -> bool {
        let last = self.chunks.len().checked_sub(1);
        last.is_some_and(|last| self.slots - chunk_slots(last) >= 2 * self.used() + FIRST_CHUNK)
    }

    /// Moves the blocks of these places into the first slots, and frees the chunks beyond.
    fn compact<'a>(&mut self, blocks: impl Iterator<Item = &'a mut u32>) {
        let used = self.used() as u32;
        let mut gaps = std::mem::take(&mut self.free);
        gaps.retain(|slot| *slot < used);
        for block in blocks.filter(|block| **block >= used) {
            let to = gaps.pop().expect("there is a gap for each block beyond those in use");
            let ((from_chunk, from), (chunk, at)) = (self.place(*block), self.place(to));
            for i in 0..self.width {
                self.chunks[chunk][at + i] = self.chunks[from_chunk][from + i];
            }
            *block = to;
        }
        self.next = used as usize;
        while self.has_spare_chunk() {
            self.chunks.pop().expect("it has a last chunk");
            self.slots -= chunk_slots(self.chunks.len());
        }
    }
}

/// A sixteenth of the state: the accounts of one first nibble, and their storage tries.
pub(super) struct Shard {
    nodes: Vec<Node>,
    free: Vec<u32>,
    pools: [Pool; CLASSES.len()],
    extensions: Vec<Box<[u8]>>,
    free_extensions: Vec<u32>,
    /// The account of each storage trie large enough for crown records, by its root.
    owners: HashMap<u32, B256>,
    /// Room for children in the blocks that are in use.
    entries: usize,
    version: u32,
    loading: bool,
    /// Nodes put by the version at work; some may be freed again.
    made: Vec<u32>,
    /// Older nodes that the version at work no longer uses.
    retired: Vec<u32>,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            pools: CLASSES.map(|width| Pool { width, ..Pool::default() }),
            extensions: vec![Box::default()],
            free_extensions: Vec::new(),
            owners: HashMap::default(),
            entries: 0,
            version: 0,
            loading: false,
            made: Vec::new(),
            retired: Vec::new(),
        }
    }

    /// Starts the work of a version.
    pub(super) fn begin(&mut self, version: u32) {
        self.version = version;
        self.loading = false;
        assert!(self.made.is_empty() && self.retired.is_empty(), "a version was left unsealed");
    }

    /// Ends the work of a version: what it made and what it retired.
    pub(super) fn end(&mut self) -> (Vec<u32>, Vec<u32>) {
        (std::mem::take(&mut self.made), std::mem::take(&mut self.retired))
    }

    /// Marks what is put while `read` runs as the same as stored.
    pub(super) fn loading<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        self.loading = true;
        let result = read(self);
        self.loading = false;
        result
    }

    pub(super) fn node(&self, id: u32) -> &Node {
        &self.nodes[id as usize]
    }

    /// The number of leaves under a slot, 255 for more.
    pub(super) fn count(&self, child: &Child) -> u8 {
        match child.kind {
            Kind::Empty => 0,
            Kind::Leaf => 1,
            Kind::Branch if child.is_loaded() => self.node(child.id).count,
            Kind::Branch => (child.id - UNLOADED) as u8,
        }
    }

    /// Stores a branch and hashes it.
    pub(super) fn branch(&mut self, extension: &[u8], children: &[Child; 16]) -> Child {
        let id = self.put(extension, children);
        branch_child(extension, children, id)
    }

    fn put(&mut self, extension: &[u8], children: &[Child; 16]) -> u32 {
        let [mask, leaves, inline] = masks(children);
        let count = children.iter().fold(0u8, |sum, child| sum.saturating_add(self.count(child)));
        let pool = &mut self.pools[class(mask.count_ones() as usize)];
        let block = pool.alloc();
        let occupied = children.iter().filter(|child| child.kind != Kind::Empty);
        for (entry, child) in pool.get_mut(block).iter_mut().zip(occupied) {
            *entry = Entry { reference: child.reference, id: child.id };
        }
        self.entries += pool.width;
        let extension = self.put_extension(extension);
        let flags = LIVE | if self.loading { CLEAN } else { 0 };
        let node =
            Node { mask, leaves, inline, flags, count, born: self.version, block, extension };
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                let id = self.nodes.len() as u32;
                assert!(id < UNLOADED, "a shard of the state trie has run out of node ids");
                self.nodes.push(node);
                id
            }
        };
        self.made.push(id);
        id
    }

    fn put_extension(&mut self, extension: &[u8]) -> u32 {
        if extension.is_empty() {
            return 0;
        }
        match self.free_extensions.pop() {
            Some(at) => {
                self.extensions[at as usize] = extension.into();
                at
            }
            None => {
                self.extensions.push(extension.into());
                (self.extensions.len() - 1) as u32
            }
        }
    }

    /// Notes whose storage a trie is, as crown records need it. Only new nodes are noted.
    pub(super) fn own(&mut self, root: &Child, owner: B256) {
        if root.is_loaded() && self.count(root) >= CROWN_LEAVES {
            self.nodes[root.id as usize].flags |= OWNED;
            self.owners.insert(root.id, owner);
        }
    }

    /// The account of a storage trie that has crown records.
    pub(super) fn owner(&self, root: u32) -> Option<B256> {
        self.owners.get(&root).copied()
    }

    pub(super) fn extension(&self, id: u32) -> &[u8] {
        &self.extensions[self.node(id).extension as usize]
    }

    /// A node's extension and its sixteen slots.
    pub(super) fn expand(&self, id: u32) -> (Path, [Child; 16]) {
        let node = self.node(id);
        assert!(node.is_live(), "a slot of the state trie names a freed node");
        let mut children = [Child::EMPTY; 16];
        let mut mask = node.mask;
        for entry in &self.pools[node.pool()].get(node.block)[..node.width()] {
            let i = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            let leaf = node.leaves >> i & 1 == 1;
            children[i] = Child {
                reference: entry.reference,
                id: entry.id,
                kind: if leaf { Kind::Leaf } else { Kind::Branch },
                inline: node.inline >> i & 1 == 1,
            };
        }
        (Path::from(self.extension(id)), children)
    }

    /// One slot of a node.
    pub(super) fn slot(&self, id: u32, nibble: u8) -> Child {
        let node = self.node(id);
        if node.mask >> nibble & 1 == 0 {
            return Child::EMPTY;
        }
        let before = (node.mask & ((1 << nibble) - 1)).count_ones() as usize;
        let entry = self.pools[node.pool()].get(node.block)[before];
        let leaf = node.leaves >> nibble & 1 == 1;
        let kind = if leaf { Kind::Leaf } else { Kind::Branch };
        let inline = node.inline >> nibble & 1 == 1;
        Child { reference: entry.reference, id: entry.id, kind, inline }
    }

    /// How many nodes a node may have below it, and the id in each place; see [`Self::unload`].
    pub(super) fn width(&self, id: u32) -> usize {
        self.node(id).width()
    }

    /// The id of what hangs in the `place`th occupied slot: a branch, or an account's storage.
    pub(super) fn below(&self, id: u32, place: usize) -> u32 {
        let node = self.node(id);
        self.pools[node.pool()].get(node.block)[place].id
    }

    /// Forgets that the node in the `place`th occupied slot is in memory.
    pub(super) fn unload(&mut self, id: u32, place: usize) {
        let node = self.nodes[id as usize];
        let below = self.below(id, place);
        let unloaded = self.unloaded(below);
        self.pools[node.pool()].get_mut(node.block)[place].id = unloaded;
    }

    /// The id that stands for a node no longer in memory. Its header is still read here.
    pub(super) fn unloaded(&self, id: u32) -> u32 {
        UNLOADED + u32::from(self.nodes[id as usize].count)
    }

    pub(super) fn release(&mut self, id: u32) {
        let node = self.nodes[id as usize];
        assert!(node.is_live(), "a node of the state trie was freed twice");
        self.nodes[id as usize].flags = 0;
        if node.flags & OWNED != 0 {
            self.owners.remove(&id);
        }
        let pool = &mut self.pools[node.pool()];
        pool.free.push(node.block);
        self.entries -= pool.width;
        if node.extension != 0 {
            self.extensions[node.extension as usize] = Box::default();
            self.free_extensions.push(node.extension);
        }
        self.free.push(id);
    }

    /// The version at work replaces a node.
    pub(super) fn retire(&mut self, id: u32) {
        if self.node(id).born == self.version {
            self.release(id);
        } else {
            self.retired.push(id);
        }
    }

    /// The version at work drops a node and all that is loaded below it.
    pub(super) fn retire_tree(&mut self, id: u32) {
        self.each_below(id, &mut |shard, id| shard.retire(id));
    }

    /// Frees a node and all that is loaded below it.
    pub(super) fn release_tree(&mut self, id: u32) {
        self.each_below(id, &mut |shard, id| shard.release(id));
    }

    fn each_below(&mut self, id: u32, visit: &mut impl FnMut(&mut Self, u32)) {
        for place in 0..self.width(id) {
            let below = self.below(id, place);
            if below < UNLOADED {
                self.each_below(below, visit);
            }
        }
        visit(self, id);
    }

    /// Frees what a dropped version made.
    pub(super) fn release_made(&mut self, mut made: Vec<u32>, version: u32) {
        made.sort_unstable();
        made.dedup();
        for id in made {
            let node = self.node(id);
            if node.is_live() && node.born == version {
                self.release(id);
            }
        }
    }

    /// Gives memory back to the allocator, if much of it is not in use.
    pub(super) fn give_back(&mut self) {
        for (class, pool) in self.pools.iter_mut().enumerate() {
            if pool.has_spare_chunk() {
                let nodes = self.nodes.iter_mut().filter(|n| n.is_live() && n.pool() == class);
                pool.compact(nodes.map(|node| &mut node.block));
            }
        }
    }

    pub(super) fn live(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Bytes of the nodes that are live, without the room kept for new ones.
    pub(super) fn bytes(&self) -> usize {
        self.live() * size_of::<Node>() + self.entries * size_of::<Entry>()
    }

    /// Bytes taken from the allocator.
    pub(super) fn capacity(&self) -> usize {
        let pools = self.pools.iter().map(|pool| pool.slots * pool.width * size_of::<Entry>());
        let free = self.owners.capacity() * 40
            + self.pools.iter().map(|pool| pool.free.capacity() * 4).sum::<usize>();
        let extensions = self.extensions.capacity() * size_of::<Box<[u8]>>();
        let headers = self.nodes.capacity() * size_of::<Node>() + self.free.capacity() * 4;
        pools.sum::<usize>() + free + extensions + headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_gives_every_slot_its_own_entries() {
        let mut pool = Pool { width: 3, ..Pool::default() };
        for i in 0..5_000u32 {
            let slot = pool.alloc();
            assert_eq!(slot, i);
            pool.get_mut(slot).iter_mut().for_each(|entry| entry.id = i);
        }
        for i in 0..5_000 {
            assert!(pool.get(i).len() == 3 && pool.get(i).iter().all(|entry| entry.id == i));
        }
    }

    #[test]
    fn a_pool_gives_back_what_is_free_and_moves_the_rest() {
        let mut pool = Pool { width: 3, ..Pool::default() };
        let mut blocks: Vec<u32> = (0..20_000).map(|_| pool.alloc()).collect();
        for block in &blocks {
            pool.get_mut(*block).iter_mut().for_each(|entry| entry.id = *block);
        }
        let mut kept: Vec<u32> = blocks.iter().copied().filter(|block| block % 10 == 0).collect();
        blocks.retain(|block| block % 10 != 0);
        pool.free = blocks;
        let ids = kept.clone();
        assert!(pool.has_spare_chunk());
        pool.compact(kept.iter_mut());
        assert!(pool.slots < 2 * 2_000 + LARGEST_CHUNK + FIRST_CHUNK, "{} slots", pool.slots);
        let chunks = pool.chunks.iter().map(|chunk| chunk.capacity() / 3);
        assert_eq!(pool.slots, chunks.sum::<usize>());
        for (block, id) in kept.iter().zip(ids) {
            assert!(pool.get(*block).iter().all(|entry| entry.id == id));
        }
        let next: Vec<u32> = (0..5_000).map(|_| pool.alloc()).collect();
        assert!(next.iter().all(|slot| !kept.contains(slot)), "a block in use was given away");
    }

    #[test]
    fn a_header_takes_twenty_bytes() {
        assert_eq!(size_of::<Node>(), 20);
    }
}
