//! A bounded map from which what came first goes first.

use std::collections::{BTreeMap, VecDeque};

/// The order of the keys says nothing about their age: a vote's term may have nothing to do with its
/// height.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    entries: BTreeMap<K, V>,
    order: VecDeque<K>,
    most: usize,
}

impl<K: Ord + Copy, V> Recent<K, V> {
    /// Room for so many entries.
    pub fn new(most: usize) -> Self {
        Self { entries: BTreeMap::new(), order: VecDeque::new(), most }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    /// Keeps an entry. One that is there has its new value and its old age.
    pub fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key, value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.most {
            let first = self.order.pop_front().expect("there is one more than may be");
            self.entries.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_first_goes_first_whatever_its_key() {
        let mut recent = Recent::new(2);
        recent.insert(9, 'a');
        recent.insert(1, 'b');
        recent.insert(9, 'c');
        recent.insert(5, 'd');
        assert_eq!([9, 1, 5].map(|key| recent.get(&key).copied()), [None, Some('b'), Some('d')]);
    }
}
