//! What arrays and levels count.

use std::iter::Sum;
use std::ops::Add;

/// Counters of an array, or of a level: there `accesses`, `hits`, `misses` and `multiple` count lookups of the level,
/// whose arrays are all asked at once, and the rest is the sum over its arrays.
///
/// `hits + misses == accesses`; entries held are `fills - evictions - purged - moved`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Lookups.
    pub accesses: u64,
    /// Lookups that found something.
    pub hits: u64,
    /// Lookups that found nothing.
    pub misses: u64,
    /// Hits that found several different entries.
    pub multiple: u64,
    /// Entries that took a way, from a fill, another level or a victim from above.
    pub fills: u64,
    /// Entries written over one with the same tag.
    pub updates: u64,
    /// Entries replaced by others.
    pub evictions: u64,
    /// Entries that a purge removed.
    pub purged: u64,
    /// Entries that left for another level (exclusive), or because that level lost them (inclusive).
    pub moved: u64,
    /// Entries not taken because every way of their set was locked.
    pub refused: u64,
}

impl Add for Stats {
    type Output = Stats;
    fn add(self, o: Stats) -> Stats {
        Stats {
            accesses: self.accesses + o.accesses,
            hits: self.hits + o.hits,
            misses: self.misses + o.misses,
            multiple: self.multiple + o.multiple,
            fills: self.fills + o.fills,
            updates: self.updates + o.updates,
            evictions: self.evictions + o.evictions,
            purged: self.purged + o.purged,
            moved: self.moved + o.moved,
            refused: self.refused + o.refused,
        }
    }
}

impl Sum for Stats {
    fn sum<I: Iterator<Item = Stats>>(i: I) -> Stats {
        i.fold(Stats::default(), Add::add)
    }
}
