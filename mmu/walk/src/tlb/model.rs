//! A finite TLB: levels of arrays.
//!
//! A lookup asks the levels in turn, all arrays of a level that serve the side at once; it ends at the first level that
//! has something, from where the entry also enters the levels above. Several different entries that serve one key are
//! seen as such only if they are in one level, as in hardware.
//!
//! Copies of a translation agree: a fill writes over those that any array holds, as an infinite TLB would. So a hit never
//! gives anything that an infinite TLB, told the same, would not give.

use super::array::{Array, Found, Placed};
use super::config::{Hierarchy, LevelConfig, TlbConfig};
use super::stats::Stats;
use super::{Entry, Key, Lookup, Purge, Side, Tag};
use racewalk_ram::{Asid, Vaddr};

/// A finite TLB.
#[derive(Clone, Debug)]
pub struct FiniteTlb<L> {
    hierarchy: Hierarchy,
    levels: Vec<Level<L>>,
    /// What the last lookup or fill drove out.
    evicted: Vec<Entry<L>>,
}

/// One level.
#[derive(Clone, Debug)]
pub struct Level<L> {
    arrays: Vec<Array<L>>,
    /// Lookups only.
    stats: Stats,
}

/// Where a level has what serves a key.
#[derive(Clone, Copy)]
enum Place {
    Nowhere,
    /// In this array and slot.
    At((usize, u32)),
    Several,
}

/// What became of a fill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// Some array that serves the side holds the entry.
    Entered,
    /// The arrays that could hold it have only locked entries in its set; the translation is used without being kept.
    Refused,
    /// No array of that side holds pages of this size, or locked entries if it is locked.
    Unheld,
}

impl<L: Copy> Level<L> {
    fn new(config: &LevelConfig) -> Level<L> {
        Level { arrays: config.arrays.iter().map(Array::new).collect(), stats: Stats::default() }
    }

    /// Its arrays, in the order of the configuration.
    pub fn arrays(&self) -> &[Array<L>] {
        &self.arrays
    }

    /// What it counted.
    pub fn stats(&self) -> Stats {
        let s: Stats = self.arrays.iter().map(|a| a.stats).sum();
        let Stats { accesses, hits, misses, multiple, .. } = self.stats;
        Stats { accesses, hits, misses, multiple, ..s }
    }

    fn admits(&self, side: Side, e: &Entry<L>) -> bool {
        self.arrays.iter().any(|a| a.serves(side) && a.admits(e))
    }

    fn entry(&self, (array, slot): (usize, u32)) -> Option<&Entry<L>> {
        self.arrays[array].entry(slot)
    }

    /// What an array found, beside what those before it did. The same translation in two arrays, by way of different
    /// sides, is one.
    #[inline]
    fn join(&self, before: Place, array: usize, found: Found) -> Place {
        match (before, found) {
            (_, Found::Nothing) => before,
            (Place::Nowhere, Found::One(slot)) => Place::At((array, slot)),
            (Place::At(a), Found::One(slot))
                if self.entry(a).map(|e| e.tag) == self.entry((array, slot)).map(|e| e.tag) =>
            {
                before
            }
            _ => Place::Several,
        }
    }

    /// Asks the arrays of a side, without counting.
    fn peek(&self, side: Side, key: &Key) -> Place {
        let arrays = self.arrays.iter().enumerate().filter(|(_, a)| a.serves(side));
        arrays.fold(Place::Nowhere, |p, (i, a)| self.join(p, i, a.find(key)))
    }

    /// Asks the arrays of a side, and counts.
    #[inline]
    fn lookup(&mut self, side: Side, key: &Key) -> Place {
        let mut place = Place::Nowhere;
        let mut asked = false;
        for i in 0..self.arrays.len() {
            let a = &mut self.arrays[i];
            if !a.serves(side) {
                continue;
            }
            asked = true;
            let found = a.find(key);
            a.stats.accesses += 1;
            match found {
                Found::Nothing => {
                    a.stats.misses += 1;
                    continue;
                }
                Found::One(slot) => a.touch(slot),
                Found::Several => a.stats.multiple += 1,
            }
            a.stats.hits += 1;
            place = self.join(place, i, found);
        }
        let s = &mut self.stats;
        s.accesses += u64::from(asked);
        match place {
            Place::Nowhere => s.misses += u64::from(asked),
            Place::At(_) => s.hits += 1,
            Place::Several => {
                s.hits += 1;
                s.multiple += 1;
            }
        }
        place
    }
}

impl<L: Copy> FiniteTlb<L> {
    /// An empty TLB. The configuration is one that [`TlbConfig::parse`] gave, of a finite kind.
    pub fn new(config: &TlbConfig) -> FiniteTlb<L> {
        let levels = config.levels.iter().map(Level::new).collect();
        FiniteTlb { hierarchy: config.hierarchy, levels, evicted: Vec::new() }
    }

    /// The levels, the one that is asked first at the front.
    pub fn levels(&self) -> &[Level<L>] {
        &self.levels
    }

    /// What serves `key`, as an access of `side` finds it. Counts, and moves entries between levels; what is driven out
    /// by that is in [`evicted`](Self::evicted).
    #[inline]
    pub fn lookup(&mut self, side: Side, key: &Key) -> Lookup<L> {
        self.evicted.clear();
        for at in 0..self.levels.len() {
            match self.levels[at].lookup(side, key) {
                Place::Nowhere => {}
                Place::At(place) => {
                    let Some(&e) = self.levels[at].entry(place) else { continue };
                    if at > 0 {
                        self.promote(at, side, e);
                    }
                    return Lookup::Hit(e);
                }
                Place::Several => return Lookup::Multiple,
            }
        }
        Lookup::Miss
    }

    /// What a lookup would find, without counting or moving anything: for speculation and tests.
    pub fn peek(&self, side: Side, key: &Key) -> Lookup<L> {
        for l in &self.levels {
            match l.peek(side, key) {
                Place::Nowhere => {}
                Place::At(place) => return l.entry(place).map_or(Lookup::Miss, |e| Lookup::Hit(*e)),
                Place::Several => return Lookup::Multiple,
            }
        }
        Lookup::Miss
    }

    /// What left the TLB altogether in the last lookup or fill.
    pub fn evicted(&self) -> &[Entry<L>] {
        &self.evicted
    }

    /// Enters a translation for `side`, in place of the one with the same tag. What is driven out by it is in
    /// [`evicted`](Self::evicted): perhaps the translation itself, if it was held before and now cannot be, since it has
    /// become a locked one.
    pub fn fill(&mut self, side: Side, e: Entry<L>) -> Fill {
        self.evicted.clear();
        let was_held = self.refresh(&e);
        if self.hierarchy == Hierarchy::Exclusive {
            self.remove_from(0, side, &e.tag);
        }
        let fill = if self.enter(0..self.levels.len(), side, e) {
            return Fill::Entered;
        } else if self.arrays().any(|a| a.serves(side) && a.slot_of(&e.tag).is_some()) {
            // A level that both sides share may have had it, by way of a level below that they do not share.
            Fill::Entered
        } else if self.levels.iter().any(|l| l.admits(side, &e)) {
            Fill::Refused
        } else {
            Fill::Unheld
        };
        if was_held && !self.holds(&e.tag) {
            self.evicted.push(e);
        }
        fill
    }

    /// Writes an entry over the copies of it that there are; whether there are any.
    fn refresh(&mut self, e: &Entry<L>) -> bool {
        let mut any = false;
        for a in self.levels.iter_mut().flat_map(|l| &mut l.arrays) {
            let Some(slot) = a.slot_of(&e.tag) else { continue };
            any = true;
            if a.admits(e) {
                a.update(slot, *e);
            } else {
                // It has become locked, in an array that locks nothing.
                a.take(slot);
                a.stats.moved += 1;
            }
        }
        any
    }

    /// An entry that level `at` has enters the levels above.
    fn promote(&mut self, at: usize, side: Side, e: Entry<L>) {
        if !self.levels[..at].iter().any(|l| l.admits(side, &e)) {
            return;
        }
        if self.hierarchy == Hierarchy::Exclusive {
            self.remove_from(at, side, &e.tag);
            // Where every way above is locked it goes back into the way that it had.
            self.enter(0..at + 1, side, e);
        } else {
            self.enter(0..at, side, e);
        }
    }

    fn remove_from(&mut self, first: usize, side: Side, tag: &Tag) {
        for a in self.levels[first..].iter_mut().flat_map(|l| &mut l.arrays).filter(|a| a.serves(side)) {
            if let Some(slot) = a.slot_of(tag) {
                a.take(slot);
                a.stats.moved += 1;
            }
        }
    }

    /// Enters `e` into these levels, none of which has it in an exclusive hierarchy, as the hierarchy has it; whether any took it.
    fn enter(&mut self, levels: std::ops::Range<usize>, side: Side, e: Entry<L>) -> bool {
        if self.hierarchy == Hierarchy::Exclusive {
            return levels.into_iter().any(|at| self.enter_level(at, side, e) == Some(true));
        }
        let mut entered = false;
        // From below, so that an inclusive level has the entry before those above it.
        for at in levels.rev() {
            match self.enter_level(at, side, e) {
                Some(true) => entered = true,
                Some(false) if self.hierarchy == Hierarchy::Inclusive => return entered,
                _ => {}
            }
        }
        entered
    }

    /// Enters `e` into one level. `None`: no array of it admits the entry.
    fn enter_level(&mut self, at: usize, side: Side, e: Entry<L>) -> Option<bool> {
        let mut admitted = None;
        for i in 0..self.levels[at].arrays.len() {
            let a = &mut self.levels[at].arrays[i];
            if a.serves(side)
                && let Some(slot) = a.slot_of(&e.tag)
            {
                a.touch(slot);
                return Some(true);
            }
        }
        for i in 0..self.levels[at].arrays.len() {
            let a = &mut self.levels[at].arrays[i];
            if !a.serves(side) || !a.admits(&e) {
                continue;
            }
            match a.place(e) {
                Placed::Free => return Some(true),
                Placed::Replaced(victim) => {
                    self.lost(at, side, victim);
                    return Some(true);
                }
                Placed::Refused => admitted = Some(false),
            }
        }
        admitted
    }

    /// Level `at` replaced `victim`.
    fn lost(&mut self, at: usize, side: Side, victim: Entry<L>) {
        match self.hierarchy {
            Hierarchy::Independent => {}
            Hierarchy::Inclusive => self.remove_above(at, &victim.tag),
            Hierarchy::Exclusive => {
                if at + 1 < self.levels.len() && self.enter(at + 1..self.levels.len(), side, victim) {
                    return;
                }
            }
        }
        if !self.holds(&victim.tag) {
            self.evicted.push(victim);
        }
    }

    /// Arrays above level `at` lose the entry, unless this level still has it for a side that they serve.
    fn remove_above(&mut self, at: usize, tag: &Tag) {
        let (above, below) = self.levels.split_at_mut(at);
        let kept = |side| below[0].arrays.iter().any(|b| b.serves(side) && b.slot_of(tag).is_some());
        let kept = [Side::Instruction, Side::Data].map(|s| (s, kept(s)));
        for a in above.iter_mut().flat_map(|l| &mut l.arrays) {
            if let Some(slot) = a.slot_of(tag)
                && !kept.iter().any(|&(s, kept)| kept && a.serves(s))
            {
                a.take(slot);
                a.stats.moved += 1;
            }
        }
    }

    fn holds(&self, tag: &Tag) -> bool {
        self.arrays().any(|a| a.slot_of(tag).is_some())
    }

    fn arrays(&self) -> impl Iterator<Item = &Array<L>> {
        self.levels.iter().flat_map(|l| &l.arrays)
    }

    /// Removes exactly what `purge` names from every array; tells `gone` of each translation once, and returns how many.
    pub fn purge(&mut self, purge: &Purge, mut gone: impl FnMut(&Entry<L>)) -> usize {
        let mut n = 0;
        let mut removed = Vec::new();
        for at in 0..self.levels.len() {
            for i in 0..self.levels[at].arrays.len() {
                self.levels[at].arrays[i].purge(purge, |e| purge.removes(e), &mut removed);
                for e in removed.drain(..) {
                    // The last copy speaks for all.
                    if !self.holds(&e.tag) {
                        gone(&e);
                        n += 1;
                    }
                }
            }
        }
        n
    }

    /// The entry for exactly this space, size and page, if some array holds it.
    pub fn get(&self, space: Asid, shift: u8, page: Vaddr) -> Option<&Entry<L>> {
        let tag = |global| Tag { space, global, page: Vaddr(page.0 >> shift << shift), shift };
        self.arrays()
            .find_map(|a| a.slot_of(&tag(false)).or_else(|| a.slot_of(&tag(true))).and_then(|s| a.entry(s)))
    }

    /// Whether no array holds anything.
    pub fn is_empty(&self) -> bool {
        self.arrays().all(Array::is_empty)
    }
}
