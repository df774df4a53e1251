//! The free lists of the frame allocator: which block goes out, how blocks split and merge.

/// The largest order: blocks of 2^12 frames, which a huge page of 16 MiB takes.
pub const MAX_ORDER: u32 = 12;
const ORDERS: usize = MAX_ORDER as usize + 1;
/// Levels of summaries that 2^36 frames need.
const LEVELS: usize = 6;

/// Where the bits of one order are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Order {
    /// First word of each level. Bit n of level 0: block n is free. Bit n of a level above: word n below has a bit.
    levels: [usize; LEVELS],
    /// Levels that there are; the last one is a single word.
    depth: usize,
}

/// The lowest free block of each order goes out first. All bits are in one piece of memory, which is quickly copied.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct FreeLists {
    words: Vec<u64>,
    orders: [Order; ORDERS],
}

impl Clone for FreeLists {
    fn clone(&self) -> Self {
        FreeLists { words: self.words.clone(), orders: self.orders }
    }
    /// Keeps the memory that it has.
    fn clone_from(&mut self, from: &Self) {
        self.words.clone_from(&from.words);
        self.orders = from.orders;
    }
}

impl FreeLists {
    /// Nothing is free of frames 0 to `end`, not included.
    pub(crate) fn new(end: u64) -> Self {
        let (mut orders, mut words) = ([Order::default(); ORDERS], 0);
        for (o, order) in orders.iter_mut().enumerate() {
            let mut n = (end as usize >> o) + 1;
            while order.depth == 0 || n > 1 {
                n = n.div_ceil(64);
                order.levels[order.depth] = words;
                order.depth += 1;
                words += n;
            }
        }
        FreeLists { words: vec![0; words], orders }
    }

    fn insert(&mut self, order: u32, block: u64) {
        let o = self.orders[order as usize];
        let mut n = (block >> order) as usize;
        for level in &o.levels[..o.depth] {
            let word = &mut self.words[level + n / 64];
            let had = *word;
            *word |= 1 << (n % 64);
            if had != 0 {
                return;
            }
            n /= 64;
        }
    }

    /// Whether it was there.
    fn remove(&mut self, order: u32, block: u64) -> bool {
        let o = self.orders[order as usize];
        let mut n = (block >> order) as usize;
        if self.words.get(o.levels[0] + n / 64).is_none_or(|w| w >> (n % 64) & 1 == 0) {
            return false;
        }
        for level in &o.levels[..o.depth] {
            let word = &mut self.words[level + n / 64];
            *word &= !(1 << (n % 64));
            if *word != 0 {
                break;
            }
            n /= 64;
        }
        true
    }

    fn first(&self, order: u32) -> Option<u64> {
        let o = self.orders[order as usize];
        let mut n = 0;
        for level in o.levels[..o.depth].iter().rev() {
            let word = self.words[level + n];
            if word == 0 {
                return None;
            }
            n = n * 64 + word.trailing_zeros() as usize;
        }
        Some((n as u64) << order)
    }

    /// Frames from `from` to `to`, not included, are free from here on.
    pub(crate) fn add_range(&mut self, mut from: u64, to: u64) {
        while from < to {
            let mut order = from.trailing_zeros().min(MAX_ORDER);
            while from + (1 << order) > to {
                order -= 1;
            }
            self.insert(order, from);
            from += 1 << order;
        }
    }

    /// A block of 2^`order` frames.
    pub(crate) fn take(&mut self, order: u32) -> Option<u64> {
        let (found, block) = (order..=MAX_ORDER).find_map(|o| Some((o, self.first(o)?)))?;
        self.remove(found, block);
        for o in (order..found).rev() {
            self.insert(o, block + (1 << o));
        }
        Some(block)
    }

    /// Takes a block back, and merges it with its buddies as far as they are free.
    pub(crate) fn give(&mut self, mut block: u64, mut order: u32) {
        while order < MAX_ORDER && self.remove(order, block ^ 1 << order) {
            block &= !(1 << order);
            order += 1;
        }
        self.insert(order, block);
    }

    /// Free frames.
    pub(crate) fn frames(&self) -> u64 {
        let blocks = |o: usize| {
            let end = self.orders.get(o + 1).map_or(self.words.len(), |next| next.levels[0]);
            let first = self.orders[o].levels[0];
            let above = if self.orders[o].depth > 1 { self.orders[o].levels[1] } else { end };
            self.words[first..above].iter().map(|w| u64::from(w.count_ones())).sum::<u64>()
        };
        (0..ORDERS).map(|o| blocks(o) << o).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use racewalk_sched::controlled::Rng;
    use std::collections::BTreeSet;

    /// The lists as sets, for comparison: the lowest block that is large enough goes out, its rest is free.
    #[derive(Default)]
    struct Sets([BTreeSet<u64>; ORDERS]);

    impl Sets {
        fn take(&mut self, order: u32) -> Option<u64> {
            let found = (order..=MAX_ORDER).find(|&o| !self.0[o as usize].is_empty())?;
            let block = self.0[found as usize].pop_first()?;
            (order..found).for_each(|o| assert!(self.0[o as usize].insert(block + (1 << o))));
            Some(block)
        }
        fn give(&mut self, mut block: u64, mut order: u32) {
            while order < MAX_ORDER && self.0[order as usize].remove(&(block ^ 1 << order)) {
                (block, order) = (block & !(1 << order), order + 1);
            }
            self.0[order as usize].insert(block);
        }
    }

    /// Seen to fail with summaries that are not cleared.
    #[test]
    fn agrees_with_sets() {
        for (seed, end) in [(1, 700), (2, 1 << 13), (3, 300_000)] {
            let mut rng = Rng(seed);
            let (mut lists, mut sets) = (FreeLists::new(end), Sets::default());
            lists.add_range(3, end);
            let mut at = 3;
            while at < end {
                let fits = |o: &u32| at.is_multiple_of(1 << o) && at + (1 << o) <= end;
                let order = (0..=MAX_ORDER).rev().find(fits).unwrap();
                sets.0[order as usize].insert(at);
                at += 1 << order;
            }
            let mut out = Vec::new();
            for _ in 0..4000 {
                if rng.below(100) < 55 {
                    let order = rng.below(11) as u32;
                    let block = lists.take(order);
                    assert_eq!(block, sets.take(order));
                    out.extend(block.map(|b| (b, order)));
                } else if !out.is_empty() {
                    let (b, order) = out.swap_remove(rng.below(out.len() as u64) as usize);
                    lists.give(b, order);
                    sets.give(b, order);
                }
                let free = sets.0.iter().enumerate().map(|(o, s)| (s.len() as u64) << o).sum::<u64>();
                assert_eq!(lists.frames(), free);
            }
            out.into_iter().for_each(|(b, order)| lists.give(b, order));
            let mut fresh = FreeLists::new(end);
            fresh.add_range(3, end);
            assert_eq!(lists, fresh, "everything merged again");
        }
    }
}
