//! The root of a small trie with keys of any length: transactions, receipts, withdrawals, tests.

use alloy_primitives::{B256, keccak256};
use alloy_rlp::Header;
use alloy_trie::EMPTY_ROOT_HASH;
use std::collections::BTreeMap;

type Entry<'a> = (Vec<u8>, &'a [u8]);

/// The root of the Merkle-Patricia trie that maps these keys, as they are, to these values. An
/// empty value is the same as none.
pub fn root(entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> B256 {
    let nibbles = |key: &[u8]| key.iter().flat_map(|byte| [byte >> 4, byte & 15]).collect();
    let kept = entries.iter().filter(|(_, value)| !value.is_empty());
    let entries: Vec<Entry<'_>> = kept.map(|(k, v)| (nibbles(k), v.as_slice())).collect();
    if entries.is_empty() { EMPTY_ROOT_HASH } else { keccak256(node(&entries, 0)) }
}

/// The root over a list's items under the keys `rlp(index)`.
pub fn ordered_root<'a>(items: impl IntoIterator<Item = &'a [u8]>) -> B256 {
    let entry = |(i, item): (usize, &[u8])| (alloy_rlp::encode(i), item.to_vec());
    root(&items.into_iter().enumerate().map(entry).collect())
}

/// The RLP of the node over sorted entries that share their first `depth` nibbles.
fn node(entries: &[Entry<'_>], depth: usize) -> Vec<u8> {
    let (first, last) = (&entries[0].0[depth..], &entries[entries.len() - 1].0[depth..]);
    if let [(_, value)] = entries {
        return list(&[string(&compact(first, true)), string(value)]);
    }
    let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    if shared > 0 {
        let below = reference(node(entries, depth + shared));
        return list(&[string(&compact(&first[..shared], false)), below]);
    }
    let (value, rest) = match entries.split_first() {
        Some(((key, value), rest)) if key.len() == depth => (*value, rest),
        _ => (&[][..], entries),
    };
    let mut items = vec![string(&[]); 16];
    for group in rest.chunk_by(|a, b| a.0[depth] == b.0[depth]) {
        items[usize::from(group[0].0[depth])] = reference(node(group, depth + 1));
    }
    items.push(string(value));
    list(&items)
}

/// A node below 32 bytes stands in its parent, others by their hash.
fn reference(node: Vec<u8>) -> Vec<u8> {
    if node.len() < 32 { node } else { string(keccak256(node).as_slice()) }
}

fn compact(nibbles: &[u8], leaf: bool) -> Vec<u8> {
    let odd = nibbles.len() % 2;
    let flag = (u8::from(leaf) * 2 + odd as u8) << 4;
    let mut bytes = vec![if odd == 1 { flag | nibbles[0] } else { flag }];
    bytes.extend(nibbles[odd..].chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]));
    bytes
}

fn string(bytes: &[u8]) -> Vec<u8> {
    alloy_rlp::encode(bytes)
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let payload = items.concat();
    let mut out = Vec::with_capacity(payload.len() + 4);
    Header { list: true, payload_length: payload.len() }.encode(&mut out);
    out.extend(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> BTreeMap<Vec<u8>, Vec<u8>> {
        pairs.iter().map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec())).collect()
    }

    #[test]
    fn a_key_may_be_the_beginning_of_another() {
        let pairs = [("do", "verb"), ("dog", "puppy"), ("doge", "coin"), ("horse", "stallion")];
        let root = root(&entries(&pairs)).to_string();
        assert_eq!(root, "0x5991bb8c6514148a29db676a14ac506cd2cd5775ace63c30a4fe457715e9ac84");
    }

    #[test]
    fn an_empty_value_is_no_entry() {
        assert_eq!(root(&entries(&[("dog", "")])), EMPTY_ROOT_HASH);
        let pairs = [("dog", "puppy"), ("cat", "")];
        assert_eq!(root(&entries(&pairs)), root(&entries(&pairs[..1])));
    }

    #[test]
    fn lists_have_the_root_that_alloy_computes() {
        for len in [0usize, 1, 2, 17, 128, 129, 300] {
            let items: Vec<Vec<u8>> = (0..len).map(|i| vec![i as u8 | 1; 1 + i % 70]).collect();
            let expected = alloy_trie::root::ordered_trie_root_with_encoder(&items, |item, out| {
                out.extend_from_slice(item);
            });
            assert_eq!(ordered_root(items.iter().map(Vec::as_slice)), expected, "{len} items");
        }
    }
}
