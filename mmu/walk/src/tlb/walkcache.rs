//! Caches of upper parts of walks: they shorten walks, and feed no lookup.

use super::array::Array;
use super::config::{ArrayConfig, Serves, TlbConfig, WalkCacheConfig};
use super::{Entry, Purge, Stats, Tag};
use crate::event::WalkEvent;
use crate::{EntryStop, TableMemory, Upper};
use racewalk_ram::{Asid, Paddr, Vaddr};
use std::cell::RefCell;

/// The walk caches of one CPU. An upper part is found by the space and the part of the address that led to it.
#[derive(Clone, Debug)]
pub struct WalkCache {
    arrays: Vec<Array<Upper>>,
    /// How much each array's entries cover, with the array, smallest first: the deepest upper part saves the most.
    order: Vec<(u8, usize)>,
}

impl WalkCache {
    /// Empty caches. The configuration is one that [`TlbConfig::parse`] gave; it may have none.
    pub fn new(config: &TlbConfig) -> WalkCache {
        let arrays: Vec<_> = config.walk_cache.iter().map(|c| Array::new(&array(c))).collect();
        let covers =
            |(i, c): (usize, &WalkCacheConfig)| c.covers.iter().map(move |s| (s.0, i)).collect::<Vec<_>>();
        let mut order: Vec<_> = config.walk_cache.iter().enumerate().flat_map(covers).collect();
        order.sort();
        WalkCache { arrays, order }
    }

    /// Whether there is none, so that walks need not ask.
    pub fn is_absent(&self) -> bool {
        self.arrays.is_empty()
    }

    /// The deepest upper part of a walk to `va` that is held.
    pub fn resume(&mut self, space: Asid, va: Vaddr) -> Option<Upper> {
        let mut deepest: Option<Entry<Upper>> = None;
        for a in &mut self.arrays {
            a.stats.accesses += 1;
        }
        // Each array's deepest part counts as used.
        let mut hit = 0u64;
        for &(shift, i) in &self.order {
            let tag = Tag { space, global: false, page: Vaddr(va.0 >> shift << shift), shift };
            let a = &mut self.arrays[i];
            if hit >> i & 1 == 0
                && let Some(slot) = a.slot_of(&tag)
            {
                hit |= 1 << i;
                a.stats.hits += 1;
                a.touch(slot);
                deepest = deepest.or(a.entry(slot).copied());
            }
        }
        for (i, a) in self.arrays.iter_mut().enumerate() {
            a.stats.misses += u64::from(hit >> i & 1 == 0);
        }
        deepest.map(|e| e.leaf)
    }

    /// Takes an upper part of a walk, which covers the `1 << shift` bytes around `va`, in the first cache that is for such.
    pub fn remember(&mut self, space: Asid, va: Vaddr, shift: u8, upper: Upper) {
        let Some(&(_, i)) = self.order.iter().find(|(s, _)| *s == shift) else { return };
        let a = &mut self.arrays[i];
        let tag = Tag { space, global: false, page: Vaddr(va.0 >> shift << shift), shift };
        let e = Entry { tag, frame: Paddr(0), from: Paddr(0), locked: false, leaf: upper };
        match a.slot_of(&tag) {
            Some(slot) => {
                a.update(slot, e);
                a.touch(slot);
            }
            None => {
                a.place(e);
            }
        }
    }

    /// Removes the upper parts that `purge` reaches; returns how many.
    pub fn purge(&mut self, purge: &Purge) -> usize {
        let mut gone = Vec::new();
        for a in &mut self.arrays {
            // Page sizes are those of translations.
            let range = Purge { shift: None, ..*purge };
            a.purge(&range, |e| purge.removes_upper(&e.tag), &mut gone);
        }
        gone.len()
    }

    /// Name and counters of each cache. A lookup asks all of them.
    pub fn stats(&self) -> impl Iterator<Item = (&str, Stats)> {
        self.arrays.iter().map(|a| (a.config().name.as_str(), a.stats()))
    }

    /// Upper parts held.
    pub fn len(&self) -> usize {
        self.arrays.iter().map(Array::len).sum()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn array(c: &WalkCacheConfig) -> ArrayConfig {
    ArrayConfig {
        name: c.name.clone(),
        side: Serves::Unified,
        entries: c.entries,
        ways: c.ways,
        sizes: c.covers.clone(),
        replacement: c.replacement,
        seed: c.seed,
        locks: false,
        source: c.source.clone(),
    }
}

/// Memory with walk caches before it: what a walk in `space` is given.
#[derive(Debug)]
pub struct Cached<'a, M> {
    /// The memory.
    pub memory: &'a M,
    /// The caches of the CPU that walks.
    pub cache: &'a RefCell<WalkCache>,
    /// The space that the walk is in.
    pub space: Asid,
}

impl<M: TableMemory> TableMemory for Cached<'_, M> {
    fn load_entry(&self, addr: Paddr) -> Result<u64, EntryStop> {
        self.memory.load_entry(addr)
    }
    fn cas_entry(&self, addr: Paddr, expected: u64, new: u64) -> Result<u64, EntryStop> {
        self.memory.cas_entry(addr, expected, new)
    }
    fn load_pair(&self, addr: Paddr) -> Result<[u64; 2], EntryStop> {
        self.memory.load_pair(addr)
    }
    fn load_word(&self, addr: Paddr) -> Result<u32, EntryStop> {
        self.memory.load_word(addr)
    }
    fn store_byte(&self, addr: Paddr, byte: u8) -> Result<(), EntryStop> {
        self.memory.store_byte(addr, byte)
    }
    fn resume(&self, va: Vaddr) -> Option<Upper> {
        self.cache.borrow_mut().resume(self.space, va)
    }
    fn remember(&self, va: Vaddr, shift: u8, upper: Upper) {
        self.cache.borrow_mut().remember(self.space, va, shift, upper);
    }
    fn event(&self, event: WalkEvent) {
        self.memory.event(event);
    }
}
