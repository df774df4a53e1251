//! A map in one piece of memory, by ascending key: for books with few entries that are looked through and put back often.

/// Values by key.
#[derive(Debug)]
pub(crate) struct Sorted<V>(Vec<(u64, V)>);

impl<V> Default for Sorted<V> {
    fn default() -> Self {
        Sorted(Vec::new())
    }
}

impl<V: Clone> Clone for Sorted<V> {
    fn clone(&self) -> Self {
        Sorted(self.0.clone())
    }
    /// Keeps the memory that it has.
    fn clone_from(&mut self, from: &Self) {
        self.0.clone_from(&from.0);
    }
}

impl<V> Sorted<V> {
    /// The number of entries with keys below `key`.
    fn below(&self, key: u64) -> usize {
        self.0.partition_point(|e| e.0 < key)
    }

    fn find(&self, key: u64) -> Option<usize> {
        let i = self.below(key);
        (self.0.get(i)?.0 == key).then_some(i)
    }

    pub(crate) fn get(&self, key: u64) -> Option<&V> {
        self.find(key).map(|i| &self.0[i].1)
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        self.find(key).map(|i| &mut self.0[i].1)
    }

    pub(crate) fn contains(&self, key: u64) -> bool {
        self.find(key).is_some()
    }

    /// Enters a value, in place of the one that is there. Whether there was none.
    pub(crate) fn insert(&mut self, key: u64, value: V) -> bool {
        let i = self.below(key);
        match self.0.get_mut(i) {
            Some(e) if e.0 == key => {
                e.1 = value;
                false
            }
            _ => {
                self.0.insert(i, (key, value));
                true
            }
        }
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<V> {
        self.find(key).map(|i| self.0.remove(i).1)
    }

    /// The entry with the largest key that is not above `key`.
    pub(crate) fn at_or_below(&self, key: u64) -> Option<(u64, &V)> {
        let i = self.0.partition_point(|e| e.0 <= key);
        let (k, v) = self.0.get(i.checked_sub(1)?)?;
        Some((*k, v))
    }

    /// Entries with keys from `first` up to but not including `end`, ascending.
    pub(crate) fn range(&self, first: u64, end: u64) -> &[(u64, V)] {
        let (a, b) = (self.below(first), self.below(end));
        &self.0[a..b.max(a)]
    }

    /// All entries, ascending.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, (u64, V)> {
        self.0.iter()
    }

    /// All entries, ascending.
    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, (u64, V)> {
        self.0.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use racewalk_sched::controlled::Rng;
    use std::collections::BTreeMap;

    /// Random operations on it and on a tree. Seen to fail with `<` in `at_or_below`.
    #[test]
    fn agrees_with_a_tree() {
        let mut rng = Rng(3);
        let (mut map, mut tree) = (Sorted::default(), BTreeMap::new());
        for n in 0..5000u64 {
            let key = rng.below(40);
            match rng.below(3) {
                0 => assert_eq!(map.insert(key, n), tree.insert(key, n).is_none()),
                1 => assert_eq!(map.remove(key), tree.remove(&key)),
                _ => {
                    assert_eq!(map.get_mut(key), tree.get_mut(&key));
                    assert_eq!(map.contains(key), tree.contains_key(&key));
                }
            }
            assert_eq!(map.at_or_below(key), tree.range(..=key).next_back().map(|(&k, v)| (k, v)));
            let end = key + rng.below(20);
            assert!(map.range(key, end).iter().map(|e| (&e.0, &e.1)).eq(tree.range(key..end)));
            assert!(map.iter().map(|e| (&e.0, &e.1)).eq(&tree));
        }
        assert!(map.range(9, 3).is_empty());
    }
}
