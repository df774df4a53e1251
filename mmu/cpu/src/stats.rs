//! Counters of one CPU. Written by whoever acts for the CPU, read by anyone at any time.

use racewalk_walk::tlb::{LevelStats, Stats};
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    #[inline]
    pub fn bump(&self) {
        self.add(1)
    }
    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

/// Counters of one CPU.
#[derive(Debug, Default)]
pub struct CpuStats {
    /// Lookups of the model TLB.
    pub lookups: Counter,
    /// Lookups that hit.
    pub hits: Counter,
    /// Walks begun.
    pub walks: Counter,
    /// Table entries fetched by walks.
    pub steps: Counter,
    /// Exceptions, from walks and from protected TLB entries.
    pub faults: Counter,
    /// Translations taken in.
    pub fills: Counter,
    /// Translations lost to purges.
    pub purged: Counter,
    /// Purges of all CPUs that this CPU asked for.
    pub purges_sent: Counter,
    /// Times this CPU waited for another to pass a boundary.
    pub waits: Counter,
    /// Cross calls sent.
    pub ipis_sent: Counter,
}

/// How many counters a CPU has.
pub(crate) const COUNTERS: usize = 10;

impl CpuStats {
    fn all(&self) -> [&Counter; COUNTERS] {
        let CpuStats { lookups, hits, walks, steps, faults, fills, purged, purges_sent, waits, ipis_sent } =
            self;
        [lookups, hits, walks, steps, faults, fills, purged, purges_sent, waits, ipis_sent]
    }
    pub(crate) fn values(&self) -> [u64; COUNTERS] {
        self.all().map(Counter::get)
    }
    pub(crate) fn set(&self, values: &[u64; COUNTERS]) {
        self.all().iter().zip(values).for_each(|(c, &v)| c.set(v));
    }
}

/// Counters of one CPU's TLB and walk caches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlbStats {
    /// The levels, the one that is asked first at the front.
    pub levels: Vec<LevelStats>,
    /// The walk caches, by name. All are asked at the beginning of a walk.
    pub walk_caches: Vec<(String, Stats)>,
}
