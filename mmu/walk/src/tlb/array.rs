//! One array of a finite TLB: sets of ways, or one set that is fully associative.
//!
//! A page's set is its page number, at its own size, modulo the number of sets. An array that holds several sizes is
//! asked at each of them. Lookups go by a hash of page number and space instead of comparing the ways of a set: what
//! they find is the same, and a large fully associative array costs what a small one does.

use super::config::{ArrayConfig, Serves};
use super::index::Index;
use super::replace::Policy;
use super::stats::Stats;
use super::{Entry, Key, Purge, Side, Tag};
use racewalk_ram::{Asid, Paddr};

/// An array.
#[derive(Clone, Debug)]
pub struct Array<L> {
    config: ArrayConfig,
    ways: u32,
    sets: u32,
    /// log2 of each size it holds, and how many entries of that size there are.
    sizes: Vec<(u8, u32)>,
    /// By set, then way.
    slots: Vec<Option<Entry<L>>>,
    /// A bit for each invalid way, so many words a set.
    free: Vec<u64>,
    by_page: Index,
    /// By the address that the leaf was fetched from. Leaves that no memory describes are not in it.
    by_from: Index,
    globals: u32,
    policy: Policy,
    pub(super) stats: Stats,
}

/// What a lookup of one array found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    Nothing,
    /// In this slot.
    One(u32),
    Several,
}

/// What became of a new entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Placed<L> {
    /// It took an invalid way.
    Free,
    /// It replaced this one.
    Replaced(Entry<L>),
    /// Every way of its set is locked.
    Refused,
}

/// What the index knows a page by. Global entries are found under one name, whatever their space.
#[inline]
fn page_key(number: u64, shift: u8, space: Option<Asid>) -> u64 {
    let space = match space {
        Some(s) => s.0.wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(32),
        None => u64::MAX,
    };
    number ^ space ^ u64::from(shift) << 56
}

fn key_of(t: &Tag) -> u64 {
    page_key(t.page.0 >> t.shift, t.shift, (!t.global).then_some(t.space))
}

fn from_key(from: Paddr) -> u64 {
    from.0 >> 3
}

impl<L: Copy> Array<L> {
    pub(super) fn new(config: &ArrayConfig) -> Array<L> {
        let ways = config.ways.of(config.entries);
        let sets = config.entries / ways;
        let words = ways.div_ceil(64);
        let free = (0..sets).flat_map(|_| (0..words).map(|w| u64::MAX >> (64 - (ways - w * 64).min(64))));
        Array {
            ways,
            sets,
            sizes: config.sizes.iter().map(|s| (s.0, 0)).collect(),
            slots: vec![None; config.entries as usize],
            free: free.collect(),
            by_page: Index::new(config.entries),
            by_from: Index::new(config.entries),
            globals: 0,
            policy: Policy::new(config.replacement, sets, ways, config.seed),
            stats: Stats::default(),
            config: config.clone(),
        }
    }

    /// How it was made.
    pub fn config(&self) -> &ArrayConfig {
        &self.config
    }

    /// What it counted.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Its entries, by set and way.
    pub fn entries(&self) -> impl Iterator<Item = &Entry<L>> {
        self.slots.iter().flatten()
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.sizes.iter().map(|s| s.1 as usize).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether accesses of this side ask it.
    pub fn serves(&self, side: Side) -> bool {
        match self.config.side {
            Serves::Instruction => side == Side::Instruction,
            Serves::Data => side == Side::Data,
            Serves::Unified => true,
        }
    }

    /// Whether an entry may be in it at all: its size, and its lock.
    pub(super) fn admits(&self, e: &Entry<L>) -> bool {
        (self.config.locks || !e.locked) && self.sizes.iter().any(|s| s.0 == e.tag.shift)
    }

    /// The entry in a slot that [`find`](Self::find) or [`slot_of`](Self::slot_of) gave.
    #[inline]
    pub(super) fn entry(&self, slot: u32) -> Option<&Entry<L>> {
        self.slots[slot as usize].as_ref()
    }

    /// Which entries serve `key`.
    #[inline]
    pub(super) fn find(&self, key: &Key) -> Found {
        let mut found = Found::Nothing;
        for &(shift, held) in &self.sizes {
            if held == 0 {
                continue;
            }
            let number = key.va.0 >> shift;
            self.follow(page_key(number, shift, Some(key.space)), key, &mut found);
            if let Some(other) = key.other
                && other != key.space
            {
                self.follow(page_key(number, shift, Some(other)), key, &mut found);
            }
            if self.globals != 0 {
                self.follow(page_key(number, shift, None), key, &mut found);
            }
        }
        found
    }

    /// The same slot may turn up in several chains; that is one entry still.
    #[inline]
    fn follow(&self, hashed: u64, key: &Key, found: &mut Found) {
        for slot in self.by_page.find(hashed) {
            if self.slots[slot as usize].as_ref().is_some_and(|e| e.tag.serves(key)) {
                match *found {
                    Found::Nothing => *found = Found::One(slot),
                    Found::One(same) if same == slot => {}
                    _ => *found = Found::Several,
                }
            }
        }
    }

    /// The slot of the entry with exactly this tag.
    pub(super) fn slot_of(&self, tag: &Tag) -> Option<u32> {
        let is = |&slot: &u32| self.slots[slot as usize].as_ref().is_some_and(|e| e.tag == *tag);
        self.by_page.find(key_of(tag)).find(is)
    }

    /// The entry in `slot` was used.
    #[inline]
    pub(super) fn touch(&mut self, slot: u32) {
        self.policy.touch(slot);
    }

    /// Writes an entry over the one with the same tag. Not a use.
    pub(super) fn update(&mut self, slot: u32, e: Entry<L>) {
        let Some(old) = self.slots[slot as usize].replace(e) else { return };
        debug_assert_eq!(old.tag, e.tag);
        self.stats.updates += 1;
        self.unlink_from(&old, slot);
        self.link_from(&e, slot);
    }

    /// Enters an entry whose tag it does not hold.
    pub(super) fn place(&mut self, e: Entry<L>) -> Placed<L> {
        let set = ((e.tag.page.0 >> e.tag.shift) % u64::from(self.sets)) as u32;
        let (way, gone) = match self.free_way(set) {
            Some(way) => (way, None),
            None => {
                let first = (set * self.ways) as usize;
                let ways = &self.slots[first..first + self.ways as usize];
                let locked = |w: u32| ways[w as usize].as_ref().is_some_and(|e| e.locked);
                let Some(way) = self.policy.victim(set, locked) else {
                    self.stats.refused += 1;
                    return Placed::Refused;
                };
                self.stats.evictions += 1;
                (way, self.take(set * self.ways + way))
            }
        };
        let slot = set * self.ways + way;
        let word = set * self.ways.div_ceil(64) + way / 64;
        self.free[word as usize] &= !(1 << (way % 64));
        self.slots[slot as usize] = Some(e);
        self.by_page.insert(key_of(&e.tag), slot);
        self.link_from(&e, slot);
        self.globals += u32::from(e.tag.global);
        self.count(e.tag.shift, 1);
        self.policy.touch(slot);
        self.stats.fills += 1;
        gone.map_or(Placed::Free, Placed::Replaced)
    }

    fn free_way(&self, set: u32) -> Option<u32> {
        let words = self.ways.div_ceil(64);
        let of_set = &self.free[(set * words) as usize..((set + 1) * words) as usize];
        let (i, word) = of_set.iter().enumerate().find(|(_, w)| **w != 0)?;
        Some(i as u32 * 64 + word.trailing_zeros())
    }

    /// Invalidates a slot and gives what it held.
    pub(super) fn take(&mut self, slot: u32) -> Option<Entry<L>> {
        let e = self.slots[slot as usize].take()?;
        let (set, way) = (slot / self.ways, slot % self.ways);
        self.free[(set * self.ways.div_ceil(64) + way / 64) as usize] |= 1 << (way % 64);
        self.by_page.remove(key_of(&e.tag), slot);
        self.unlink_from(&e, slot);
        self.globals -= u32::from(e.tag.global);
        self.count(e.tag.shift, u32::MAX);
        Some(e)
    }

    fn count(&mut self, shift: u8, by: u32) {
        if let Some(s) = self.sizes.iter_mut().find(|s| s.0 == shift) {
            s.1 = s.1.wrapping_add(by);
        }
    }

    fn link_from(&mut self, e: &Entry<L>, slot: u32) {
        if e.from.0 != 0 {
            self.by_from.insert(from_key(e.from), slot);
        }
    }

    fn unlink_from(&mut self, e: &Entry<L>, slot: u32) {
        if e.from.0 != 0 {
            self.by_from.remove(from_key(e.from), slot);
        }
    }

    /// Removes what `removes` says among the entries that `purge` can concern; adds them to `gone`.
    pub(super) fn purge(
        &mut self,
        purge: &Purge,
        removes: impl Fn(&Entry<L>) -> bool,
        gone: &mut Vec<Entry<L>>,
    ) {
        let slots = self.candidates(purge).unwrap_or_else(|| (0..self.slots.len() as u32).collect());
        for slot in slots {
            if self.slots[slot as usize].as_ref().is_some_and(&removes)
                && let Some(e) = self.take(slot)
            {
                self.stats.purged += 1;
                gone.push(e);
            }
        }
    }

    /// The only slots that a purge can concern, where they are fewer than all.
    fn candidates(&self, purge: &Purge) -> Option<Vec<u32>> {
        if let Some((first, last)) = purge.from
            && first.0 >> 3 != 0
        {
            let (first, last) = (from_key(first), from_key(last));
            if last < first {
                return Some(Vec::new());
            }
            if last - first < u64::from(self.sets * self.ways) {
                return Some((first..=last).flat_map(|k| self.by_from.find(k)).collect());
            }
        }
        let (first, last) = purge.one_range()?;
        if last < first {
            return Some(Vec::new());
        }
        let mut slots = Vec::new();
        for &(shift, held) in &self.sizes {
            if held == 0 || purge.shift.is_some_and(|s| s != shift) {
                continue;
            }
            let (first, last) = (first.0 >> shift, last.0 >> shift);
            if last - first >= u64::from(self.sets) {
                return None;
            }
            for number in first..=last {
                let set = (number % u64::from(self.sets)) as u32;
                slots.extend(set * self.ways..(set + 1) * self.ways);
            }
        }
        Some(slots)
    }
}
