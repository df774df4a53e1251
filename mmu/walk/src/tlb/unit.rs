//! Any model behind one face: what a CPU has.

use super::config::{Kind, TlbConfig};
use super::{Entry, Fill, FiniteTlb, InfiniteTlb, Key, Lookup, Purge, Side, Stats};
use racewalk_ram::{Asid, Vaddr};

/// A TLB of any kind. All kinds give the same results for the same fills and purges, except for misses (and for
/// [`Lookup::Multiple`], which a finite TLB notices only within a level).
#[derive(Clone, Debug)]
pub enum Tlb<L> {
    /// None: every lookup misses.
    None(Stats),
    /// Entries go only when they are invalidated.
    Infinite(InfiniteTlb<L>, Stats),
    /// Levels of arrays.
    Finite(FiniteTlb<L>),
}

/// What a level counted, and each of its arrays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LevelStats {
    /// The level.
    pub total: Stats,
    /// Its arrays, by name.
    pub arrays: Vec<(String, Stats)>,
}

impl<L: Copy> Tlb<L> {
    /// An empty TLB of the kind that the configuration says.
    pub fn new(config: &TlbConfig) -> Tlb<L> {
        match config.kind {
            Kind::None => Tlb::None(Stats::default()),
            Kind::Infinite => Tlb::Infinite(InfiniteTlb::new(), Stats::default()),
            Kind::Finite => Tlb::Finite(FiniteTlb::new(config)),
        }
    }

    /// What serves `key`, as an access of `side` finds it; counts. What a finite TLB loses by it is in
    /// [`evicted`](Self::evicted).
    #[inline]
    pub fn lookup(&mut self, side: Side, key: &Key) -> Lookup<L> {
        let (found, stats) = match self {
            Tlb::Finite(t) => return t.lookup(side, key),
            Tlb::None(stats) => (Lookup::Miss, stats),
            Tlb::Infinite(t, stats) => (t.lookup(key), stats),
        };
        stats.accesses += 1;
        match found {
            Lookup::Miss => stats.misses += 1,
            Lookup::Hit(_) => stats.hits += 1,
            Lookup::Multiple => {
                stats.hits += 1;
                stats.multiple += 1;
            }
        }
        found
    }

    /// What a lookup would find, without any effect.
    pub fn peek(&self, side: Side, key: &Key) -> Lookup<L> {
        match self {
            Tlb::None(_) => Lookup::Miss,
            Tlb::Infinite(t, _) => t.lookup(key),
            Tlb::Finite(t) => t.peek(side, key),
        }
    }

    /// Enters a translation, in place of the one with the same tag. What it drove out is in
    /// [`evicted`](Self::evicted).
    pub fn fill(&mut self, side: Side, e: Entry<L>) -> Fill {
        match self {
            Tlb::None(_) => Fill::Unheld,
            Tlb::Infinite(t, stats) => {
                let before = t.len();
                t.fill(e);
                *(if t.len() > before { &mut stats.fills } else { &mut stats.updates }) += 1;
                Fill::Entered
            }
            Tlb::Finite(t) => t.fill(side, e),
        }
    }

    /// What the last lookup or fill drove out of the TLB altogether: whoever keeps translations that the TLB must have
    /// too drops these.
    pub fn evicted(&self) -> &[Entry<L>] {
        match self {
            Tlb::None(_) | Tlb::Infinite(..) => &[],
            Tlb::Finite(t) => t.evicted(),
        }
    }

    /// Removes exactly what `purge` names; tells `gone` of each translation once, and returns how many.
    pub fn purge(&mut self, purge: &Purge, gone: impl FnMut(&Entry<L>)) -> usize {
        match self {
            Tlb::None(_) => 0,
            Tlb::Infinite(t, stats) => {
                let n = t.purge(purge, gone);
                stats.purged += n as u64;
                n
            }
            Tlb::Finite(t) => t.purge(purge, gone),
        }
    }

    /// The entry for exactly this space, size and page.
    pub fn get(&self, space: Asid, shift: u8, page: Vaddr) -> Option<&Entry<L>> {
        match self {
            Tlb::None(_) => None,
            Tlb::Infinite(t, _) => t.get(space, shift, page),
            Tlb::Finite(t) => t.get(space, shift, page),
        }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        match self {
            Tlb::None(_) => true,
            Tlb::Infinite(t, _) => t.is_empty(),
            Tlb::Finite(t) => t.is_empty(),
        }
    }

    /// What was counted, level by level. No TLB and the infinite one count as one level without arrays.
    pub fn stats(&self) -> Vec<LevelStats> {
        match self {
            Tlb::None(s) | Tlb::Infinite(_, s) => vec![LevelStats { total: *s, arrays: Vec::new() }],
            Tlb::Finite(t) => {
                let arrays = |l: &super::Level<L>| {
                    l.arrays().iter().map(|a| (a.config().name.clone(), a.stats())).collect()
                };
                t.levels().iter().map(|l| LevelStats { total: l.stats(), arrays: arrays(l) }).collect()
            }
        }
    }
}
