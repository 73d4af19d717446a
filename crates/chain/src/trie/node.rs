//! Nodes of the trie: nibble paths, references, their RLP, and crown records.
//!
//! Pure encoding. An extension is always folded into the branch below it, so only leaves and
//! branches exist here; nothing in this file allocates on the heap but [`encode_record`].

use alloy_primitives::{B256, keccak256};
use std::cmp::Ordering;
use std::ops::Deref;

/// Node ids from here up name no node in memory. The low byte is the number of leaves below the
/// child (255: or more), so that the loader knows whether a crown record is stored for it.
pub(super) const UNLOADED: u32 = 0xffff_ff00;

/// Nodes over at least this many leaves have a crown record; smaller subtrees are rebuilt from
/// flat state.
pub(super) const CROWN_LEAVES: u8 = 100;

/// A path of nibbles, at most a whole key long.
#[derive(Clone, Copy)]
pub(super) struct Path {
    nibbles: [u8; 64],
    len: usize,
}

impl Path {
    pub(super) const EMPTY: Path = Path { nibbles: [0; 64], len: 0 };

    /// The first `len` nibbles of `key`.
    pub(super) fn of_key(key: &B256, len: usize) -> Self {
        let mut path = Self::EMPTY;
        (0..len).for_each(|i| path.push(nibble(key, i)));
        path
    }

    pub(super) fn push(&mut self, nibble: u8) {
        self.nibbles[self.len] = nibble;
        self.len += 1;
    }

    pub(super) fn pop(&mut self) {
        self.len -= 1;
    }

    pub(super) fn extend(&mut self, nibbles: &[u8]) {
        self.nibbles[self.len..self.len + nibbles.len()].copy_from_slice(nibbles);
        self.len += nibbles.len();
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = len.min(self.len);
    }

    /// This path and one nibble more.
    pub(super) fn child(&self, nibble: u8) -> Self {
        let mut path = *self;
        path.push(nibble);
        path
    }
}

impl From<&[u8]> for Path {
    fn from(nibbles: &[u8]) -> Self {
        let mut path = Self::EMPTY;
        path.extend(nibbles);
        path
    }
}

impl Deref for Path {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.nibbles[..self.len]
    }
}

/// Nibble `i` of a key.
#[inline]
pub(super) fn nibble(key: &B256, i: usize) -> u8 {
    let byte = key[i / 2];
    if i.is_multiple_of(2) { byte >> 4 } else { byte & 15 }
}

/// Where the keys under `path` lie, seen from `key`: `Less` if `key` comes before them.
pub(super) fn compare(key: &B256, path: &[u8]) -> Ordering {
    (0..path.len()).map(|i| nibble(key, i)).cmp(path.iter().copied())
}

/// What hangs in a slot of a branch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Empty,
    Leaf,
    Branch,
}

/// A slot: the reference that the parent's RLP holds, and the arena node that hangs there. For an
/// account's leaf that node is the root of its storage trie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Child {
    /// keccak of the node's RLP, or (`inline`) the RLP itself, shorter than 32 bytes.
    pub(super) reference: [u8; 32],
    pub(super) id: u32,
    pub(super) kind: Kind,
    pub(super) inline: bool,
}

impl Child {
    pub(super) const EMPTY: Child =
        Child { reference: [0; 32], id: UNLOADED, kind: Kind::Empty, inline: false };

    /// Whether the parent's RLP would be the same.
    pub(super) fn same_node(&self, other: &Child) -> bool {
        self.kind == other.kind && self.inline == other.inline && self.reference == other.reference
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.id < UNLOADED
    }

    /// The root hash, if this is a whole trie's root.
    pub(super) fn root_hash(&self) -> B256 {
        match self.kind {
            Kind::Empty => alloy_trie::EMPTY_ROOT_HASH,
            _ if self.inline => keccak256(inline_rlp(&self.reference)),
            _ => B256::from(self.reference),
        }
    }
}

/// The RLP of a node kept in its parent's reference.
pub(super) fn inline_rlp(reference: &[u8; 32]) -> &[u8] {
    &reference[..usize::from(reference[0] - 0xc0) + 1]
}

/// An RLP list under construction in `N` bytes on the stack.
pub(super) struct List<const N: usize> {
    buf: [u8; N],
    end: usize,
}

impl<const N: usize> List<N> {
    fn new() -> Self {
        // Room for the longest header, which is written last.
        Self { buf: [0; N], end: 3 }
    }

    fn byte(&mut self, byte: u8) {
        self.buf[self.end] = byte;
        self.end += 1;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.buf[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    fn string(&mut self, bytes: &[u8]) {
        match bytes {
            [byte] if *byte < 0x80 => return self.byte(*byte),
            _ if bytes.len() < 56 => self.byte(0x80 + bytes.len() as u8),
            _ => {
                assert!(bytes.len() < 256, "a trie value is at most 255 bytes");
                self.bytes(&[0xb8, bytes.len() as u8]);
            }
        }
        self.bytes(bytes);
    }

    fn child(&mut self, child: &Child) {
        match child.kind {
            Kind::Empty => self.byte(0x80),
            _ if child.inline => self.bytes(inline_rlp(&child.reference)),
            _ => {
                self.byte(0xa0);
                self.bytes(&child.reference);
            }
        }
    }

    fn start(&mut self) -> usize {
        let len = self.end - 3;
        if len < 56 {
            self.buf[2] = 0xc0 + len as u8;
            2
        } else if len < 256 {
            self.buf[1..3].copy_from_slice(&[0xf8, len as u8]);
            1
        } else {
            self.buf[..3].copy_from_slice(&[0xf9, (len >> 8) as u8, len as u8]);
            0
        }
    }

    /// The finished node.
    pub(super) fn rlp(&mut self) -> &[u8] {
        let start = self.start();
        &self.buf[start..self.end]
    }

    fn reference(&mut self) -> ([u8; 32], bool) {
        let rlp = self.rlp();
        if rlp.len() >= 32 {
            return (keccak256(rlp).0, false);
        }
        let mut reference = [0; 32];
        reference[..rlp.len()].copy_from_slice(rlp);
        (reference, true)
    }
}

/// A leaf at `depth`: the rest of the key, and the value.
pub(super) fn leaf_node(key: &B256, depth: usize, value: &[u8]) -> List<320> {
    let mut compact = [0u8; 33];
    compact[0] = if depth % 2 == 1 { 0x30 | nibble(key, depth) } else { 0x20 };
    let rest = &key[depth.div_ceil(2)..];
    compact[1..=rest.len()].copy_from_slice(rest);
    let mut list = List::new();
    list.string(&compact[..=rest.len()]);
    list.string(value);
    list
}

/// A branch without its extension.
pub(super) fn branch_node(children: &[Child; 16]) -> List<544> {
    let mut list = List::new();
    children.iter().for_each(|child| list.child(child));
    list.byte(0x80);
    list
}

/// An extension to `below`.
pub(super) fn extension_node(extension: &[u8], below: &Child) -> List<80> {
    let mut compact = [0u8; 33];
    let odd = extension.len() % 2;
    compact[0] = if odd == 1 { 0x10 | extension[0] } else { 0 };
    let pairs = extension[odd..].chunks_exact(2);
    let len = 1 + pairs.len();
    for (byte, pair) in compact[1..].iter_mut().zip(pairs) {
        *byte = pair[0] << 4 | pair[1];
    }
    let mut list = List::new();
    list.string(&compact[..len]);
    list.child(below);
    list
}

/// The slot of a leaf at `depth`; `id` is the account's storage trie.
pub(super) fn leaf_child(key: &B256, depth: usize, value: &[u8], id: u32) -> Child {
    let (reference, inline) = leaf_node(key, depth, value).reference();
    Child { reference, id, kind: Kind::Leaf, inline }
}

/// The slot of a branch (and the extension to it).
pub(super) fn branch_child(extension: &[u8], children: &[Child; 16], id: u32) -> Child {
    let (reference, inline) = branch_node(children).reference();
    let branch = Child { reference, id, kind: Kind::Branch, inline };
    if extension.is_empty() {
        return branch;
    }
    let (reference, inline) = extension_node(extension, &branch).reference();
    Child { reference, inline, ..branch }
}

/// The masks of a branch: occupied slots, leaves, inline references.
pub(super) fn masks(children: &[Child; 16]) -> [u16; 3] {
    let mut masks = [0; 3];
    for (i, child) in children.iter().enumerate() {
        masks[0] |= u16::from(child.kind != Kind::Empty) << i;
        masks[1] |= u16::from(child.kind == Kind::Leaf) << i;
        masks[2] |= u16::from(child.inline) << i;
    }
    masks
}

/// A crown record: three masks, extension, then for each child its reference and, of a branch,
/// its number of leaves (`counts`); a CRC over the record and its path ends it, since the node's
/// hash does not cover which children are leaves.
pub(super) fn encode_record(
    path: &[u8],
    extension: &[u8],
    children: &[Child; 16],
    counts: &[u8; 16],
) -> Vec<u8> {
    let masks = masks(children);
    let size = 11 + extension.len() + 33 * masks[0].count_ones() as usize;
    let mut record = Vec::with_capacity(size);
    masks.iter().for_each(|mask| record.extend(mask.to_le_bytes()));
    record.push(extension.len() as u8);
    record.extend_from_slice(extension);
    for (child, count) in children.iter().zip(counts).filter(|(c, _)| c.kind != Kind::Empty) {
        record.extend_from_slice(&child.reference);
        if child.kind == Kind::Branch {
            record.push(*count);
        }
    }
    let sum = checksum(path, &record);
    record.extend(sum.to_le_bytes());
    record
}

/// Reads a crown record back; its branches are not in memory. `None` if it is malformed.
pub(super) fn decode_record(path: &[u8], record: &[u8]) -> Option<(Path, [Child; 16])> {
    let (record, sum) = record.split_last_chunk::<4>()?;
    if u32::from_le_bytes(*sum) != checksum(path, record) {
        return None;
    }
    let mut rest = record;
    let mut take = |n: usize| rest.split_off(..n);
    let mut masks = [0u16; 3];
    for mask in &mut masks {
        *mask = u16::from_le_bytes(take(2)?.try_into().ok()?);
    }
    let len = usize::from(take(1)?[0]);
    let extension = take(len)?;
    if path.len() + len >= 64 || extension.iter().any(|n| *n > 15) {
        return None;
    }
    let mut children = [Child::EMPTY; 16];
    for (i, child) in children.iter_mut().enumerate().filter(|(i, _)| masks[0] >> i & 1 == 1) {
        let reference: [u8; 32] = take(32)?.try_into().ok()?;
        let leaf = masks[1] >> i & 1 == 1;
        let inline = masks[2] >> i & 1 == 1;
        if inline && !(0xc0..0xdf).contains(&reference[0]) {
            return None;
        }
        let kind = if leaf { Kind::Leaf } else { Kind::Branch };
        let id = UNLOADED + if leaf { 0 } else { u32::from(take(1)?[0]) };
        *child = Child { reference, id, kind, inline };
    }
    rest.is_empty().then(|| (Path::from(extension), children))
}

fn checksum(path: &[u8], record: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(path);
    crc.update(record);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch() -> [Child; 16] {
        let mut children = [Child::EMPTY; 16];
        children[3] = leaf_child(&B256::repeat_byte(0x37), 2, &[7], UNLOADED);
        children[9] =
            Child { reference: [5; 32], id: UNLOADED + 200, kind: Kind::Branch, inline: false };
        children[10] = leaf_child(&B256::repeat_byte(0x37), 62, &[7], UNLOADED);
        children
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let record = encode_record(&[1, 2], &[4, 5], &branch(), &[200; 16]);
        let (extension, children) = decode_record(&[1, 2], &record).unwrap();
        assert_eq!(&*extension, &[4, 5]);
        for (read, written) in children.iter().zip(branch()) {
            assert!(read.same_node(&written));
            assert_eq!(read.id, written.id);
        }
        assert!(children[10].inline);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_record_is_noticed() {
        let record = encode_record(&[1, 2], &[4, 5], &branch(), &[1; 16]);
        for bit in 0..record.len() * 8 {
            let mut torn = record.clone();
            torn[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_record(&[1, 2], &torn).is_none(), "bit {bit}");
        }
        for len in 0..record.len() {
            assert!(decode_record(&[1, 2], &record[..len]).is_none(), "cut at {len}");
        }
        assert!(decode_record(&[1, 3], &record).is_none(), "at another path");
    }

    #[test]
    fn compares_a_key_with_the_keys_under_a_path() {
        let key = B256::repeat_byte(0x45);
        assert_eq!(compare(&key, &[4, 5, 4]), Ordering::Equal);
        assert_eq!(compare(&key, &[4, 6]), Ordering::Less);
        assert_eq!(compare(&key, &[4, 4, 15]), Ordering::Greater);
    }
}
